"""Scores from one confusion matrix."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics.functional.classification import multiclass_confusion_matrix, multiclass_jaccard_index

from lightning_modules.segmentation.metrics import (
    SegmentationScores,
    class_iou,
    confusion_counts,
    named_scores,
    pixel_loss,
)


def random_batch(seed: int, classes: int = 5, absent: int | None = None) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, classes, 6, 8, generator=generator)
    y = torch.randint(classes, (3, 6, 8), generator=generator)
    y[torch.rand(y.shape, generator=generator) < 0.2] = 255
    if absent is not None:
        logits[:, absent] = -100
        y[y == absent] = 0
    return logits, y


def test_counts_by_hand() -> None:
    predicted, y = torch.tensor([0, 0, 1, 1, 1, 0]), torch.tensor([0, 1, 1, 1, 0, 255])
    counts = confusion_counts(predicted, y, 2)
    assert counts.tolist() == [[1, 1], [1, 2]]
    assert class_iou(counts).tolist() == pytest.approx([1 / 3, 1 / 2])


@pytest.mark.parametrize("seed", range(3))
def test_counts_are_those_of_torchmetrics(seed: int) -> None:
    logits, y = random_batch(seed)
    expected = multiclass_confusion_matrix(logits, y, num_classes=5, ignore_index=255)
    assert torch.equal(confusion_counts(logits.argmax(dim=1), y, 5), expected)


def scores_of(*batches: tuple[Tensor, Tensor]) -> dict[str, Tensor]:
    scores = SegmentationScores(5)
    for logits, y in batches:
        scores.update(logits, y, pixel_loss(logits, y))
    found: dict[str, Tensor] = scores.compute()
    return found


def test_scores_are_over_all_pixels_of_a_set_and_not_over_its_batches() -> None:
    first, second = random_batch(0), random_batch(1)
    second = second[0][:1], second[1][:1]
    found = scores_of(first, second)
    logits, y = (torch.cat(parts) for parts in zip(first, second, strict=True))
    known = y != 255
    torch.testing.assert_close(found["loss"], F.cross_entropy(logits, y, ignore_index=255))
    torch.testing.assert_close(found["acc"], (logits.argmax(dim=1) == y)[known].float().mean())
    expected = multiclass_jaccard_index(logits, y, num_classes=5, average="none", ignore_index=255)
    torch.testing.assert_close(found["iou"], expected)
    torch.testing.assert_close(found["miou"], expected.mean())


def test_a_class_that_is_nowhere_is_no_part_of_the_mean_and_not_told() -> None:
    found = scores_of(random_batch(0, absent=2))
    assert found["iou"].isnan().tolist() == [False, False, True, False, False]
    torch.testing.assert_close(found["miou"], found["iou"][[0, 1, 3, 4]].mean())
    named = named_scores("test", found, ("a", "b", "c", "d", "e"))
    assert sorted(named) == [
        "test/acc",
        "test/iou_a",
        "test/iou_b",
        "test/iou_d",
        "test/iou_e",
        "test/loss",
        "test/miou",
    ]
    assert sorted(named_scores("val", found)) == ["val/acc", "val/loss", "val/miou"]


def test_a_class_that_is_predicted_though_it_is_nowhere_counts_0() -> None:
    logits, y = random_batch(0)
    y[y == 2] = 0
    found = scores_of((logits, y))
    assert float(found["iou"][2]) == 0.0
    torch.testing.assert_close(found["miou"], found["iou"].mean())


def test_void_pixels_change_nothing() -> None:
    logits, y = random_batch(0)
    changed = torch.where((y == 255)[:, None], torch.randn_like(logits), logits)
    for one, other in zip(scores_of((logits, y)).values(), scores_of((changed, y)).values(), strict=True):
        torch.testing.assert_close(one, other)
    gradient = torch.autograd.functional.jacobian(lambda x: pixel_loss(x, y), logits)
    assert not gradient.permute(0, 2, 3, 1)[y == 255].any()


def test_a_batch_of_nothing_but_void_has_no_loss_and_no_gradient() -> None:
    logits = torch.randn(2, 5, 3, 3, requires_grad=True)
    loss = pixel_loss(logits, torch.full((2, 3, 3), 255))
    loss.backward()
    assert loss.tolist() == 0.0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_shares_are_those_of_the_labels_without_void() -> None:
    y = torch.tensor([[[0, 0, 1, 255]]])
    logits = torch.zeros(1, 2, 1, 4)
    scores = SegmentationScores(2)
    scores.update(logits, y, pixel_loss(logits, y))
    assert scores.compute()["share"].tolist() == pytest.approx([2 / 3, 1 / 3])
