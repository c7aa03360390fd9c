"""The mask of errors and the loss of the difficulty branch."""

import pytest
import torch
from torch import Tensor

from lightning_modules.deal.losses import DifficultyLoss, difficulty_loss, error_mask
from lightning_modules.segmentation.metrics import class_iou, confusion_counts

MAP = torch.tensor([0.1, 0.2, 0.3, 0.6]).logit().view(1, 1, 2, 2)
ERRORS = torch.tensor([0.0, 0.0, 0.0, 1.0]).view(1, 2, 2)
KNOWN = torch.zeros(1, 2, 2, dtype=torch.long)


def logits_of(predicted: Tensor, num_classes: int) -> Tensor:
    return torch.nn.functional.one_hot(predicted, num_classes).permute(0, 3, 1, 2).float()


@pytest.mark.parametrize(("kind", "expected"), [("bce", 0.299001), ("wce", 0.393838)])
def test_the_worked_example(kind: DifficultyLoss, expected: float) -> None:
    assert float(difficulty_loss(MAP, ERRORS, KNOWN, kind)) == pytest.approx(expected, abs=1e-6)


def test_the_weights_of_the_worked_example() -> None:
    # a map that costs 1 on the right pixels and 0 on the wrong one shows the weight of the former
    right = torch.tensor([1 - torch.e**-1] * 3 + [1 - 1e-7], dtype=torch.float64).logit().view(1, 1, 2, 2)
    assert float(difficulty_loss(right, ERRORS, KNOWN, "wce")) == pytest.approx(0.41421, abs=1e-5)
    wrong = torch.tensor([1e-7] * 3 + [torch.e**-1], dtype=torch.float64).logit().view(1, 1, 2, 2)
    assert float(difficulty_loss(wrong, ERRORS, KNOWN, "wce")) == pytest.approx(0.58579, abs=1e-5)


@pytest.mark.parametrize("kind", ["bce", "wce"])
def test_void_pixels_are_left_out_unless_they_shall_count_as_right(kind: DifficultyLoss) -> None:
    difficulty = torch.cat([MAP, torch.full((1, 1, 2, 2), 2.0)], dim=3)
    errors = torch.cat([ERRORS, torch.zeros(1, 2, 2)], dim=2)
    y = torch.cat([KNOWN, torch.full((1, 2, 2), 255)], dim=2)
    without = difficulty_loss(difficulty, errors, y, kind)
    torch.testing.assert_close(without, difficulty_loss(MAP, ERRORS, KNOWN, kind))
    as_right = difficulty_loss(difficulty, errors, y, kind, void_in_difficulty=True)
    torch.testing.assert_close(as_right, difficulty_loss(difficulty, errors, torch.zeros_like(y), kind))
    assert float(as_right) > float(without)


@pytest.mark.parametrize("kind", ["bce", "wce"])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_an_empty_group_counts_nothing(kind: DifficultyLoss, value: float) -> None:
    difficulty = MAP.clone().requires_grad_()
    loss = difficulty_loss(difficulty, torch.full_like(ERRORS, value), KNOWN, kind)
    (gradient,) = torch.autograd.grad(loss, difficulty)
    assert bool(loss.isfinite())
    assert bool((gradient != 0).all())


def test_nothing_but_void_is_no_loss_and_no_gradient() -> None:
    difficulty = MAP.clone().requires_grad_()
    for kind in ("bce", "wce"):
        loss = difficulty_loss(difficulty, torch.zeros_like(ERRORS), KNOWN + 255, kind)  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad(loss, difficulty)
        assert loss.tolist() == 0.0
        assert not gradient.any()


def test_the_mask_has_no_errors_at_void() -> None:
    predicted = torch.tensor([[[0, 1, 1]]])
    mask = error_mask(logits_of(predicted, 2), torch.tensor([[[0, 0, 255]]]))
    assert mask.tolist() == [[[0.0, 1.0, 0.0]]]


def difficulty_of(errors: Tensor, predicted: Tensor, y: Tensor, number: int) -> float:
    union = ((predicted == number) | (y == number)) & (y != 255)
    return float(errors[union].double().mean())


def test_the_mean_error_of_a_class_is_1_minus_its_iou_by_hand() -> None:
    predicted, y = torch.tensor([[[0, 0, 1, 1, 1]]]), torch.tensor([[[0, 1, 1, 1, 0]]])
    errors = error_mask(logits_of(predicted, 2), y)
    assert difficulty_of(errors, predicted, y, 0) == pytest.approx(2 / 3)
    assert difficulty_of(errors, predicted, y, 1) == pytest.approx(1 / 2)


@pytest.mark.parametrize("seed", range(5))
def test_the_mean_error_of_a_class_is_1_minus_its_iou_on_random_masks(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(7, (2, 20, 30), generator=generator)
    predicted = torch.where(torch.rand(y.shape, generator=generator) < 0.7, y, (y + 1) % 7)
    y[torch.rand(y.shape, generator=generator) < 0.1] = 255
    errors = error_mask(logits_of(predicted, 7), y)
    iou = class_iou(confusion_counts(predicted, y, 7).double())
    for number in range(7):
        assert difficulty_of(errors, predicted, y, number) == pytest.approx(1 - float(iou[number]))
