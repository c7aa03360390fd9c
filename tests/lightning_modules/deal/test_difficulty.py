"""Attention over class probabilities, and the branch that it is part of."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.errors import UserError
from lightning_modules.deal.difficulty import DifficultyBranch, class_attention
from lightning_modules.deal.losses import difficulty_loss, error_mask
from lightning_modules.segmentation.build import build_segmenter
from lightning_modules.segmentation.metrics import pixel_loss
from lightning_modules.segmentation.networks import resize


def one_hot(*classes: int, num_classes: int = 2) -> Tensor:
    return torch.nn.functional.one_hot(torch.tensor(classes), num_classes).float()[None]


def weights(p: Tensor) -> Tensor:
    """The matrix A of the docstring, made in full."""
    return (p @ p.transpose(1, 2)).softmax(dim=-1)


def explicit(p: Tensor, gamma: Tensor) -> Tensor:
    return p + gamma * weights(p) @ p


def probabilities(batch: int, pixels: int, classes: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return (3 * torch.randn(batch, pixels, classes, generator=generator, dtype=dtype)).softmax(dim=-1)


def test_two_pixels_of_two_classes() -> None:
    p = one_hot(0, 1)
    expected = torch.tensor([[[0.7311, 0.2689], [0.2689, 0.7311]]])
    torch.testing.assert_close(weights(p), expected, atol=5e-5, rtol=0)
    mixed = class_attention(p, torch.tensor(0.5))
    torch.testing.assert_close(mixed, torch.tensor([[[1.3655, 0.1345], [0.1345, 1.3655]]]), atol=1e-4, rtol=0)


def test_three_pixels_of_two_classes() -> None:
    p = one_hot(0, 0, 1)
    rows = torch.tensor([[0.4223, 0.4223, 0.1554], [0.4223, 0.4223, 0.1554], [0.2119, 0.2119, 0.5761]])
    torch.testing.assert_close(weights(p)[0], rows, atol=1e-4, rtol=0)
    mixed = class_attention(p, torch.ones(1))[0]
    torch.testing.assert_close(mixed[0], torch.tensor([1.8446, 0.1554]), atol=1e-4, rtol=0)
    torch.testing.assert_close(mixed[2], torch.tensor([0.4239, 1.5761]), atol=1e-4, rtol=0)


def test_the_weight_of_a_pixel_s_own_class_follows_from_its_share_of_the_image() -> None:
    classes = (0, 0, 0, 1, 1, 2, 3, 3, 3, 3)
    mixed = class_attention(one_hot(*classes, num_classes=4), torch.ones(1))[0]
    for row, of_pixel in zip(mixed, classes, strict=True):
        share = classes.count(of_pixel) / len(classes)
        own = math.e * share / (math.e * share + 1 - share)
        assert float(row[of_pixel]) == pytest.approx(1 + own, abs=1e-6)


def test_rows_sum_to_one_plus_gamma() -> None:
    mixed = class_attention(probabilities(2, 50, 11), torch.tensor(0.7))
    torch.testing.assert_close(mixed.sum(dim=-1), torch.full((2, 50), 1.7))


def test_permuted_pixels_are_permuted_in_the_result() -> None:
    p, gamma = probabilities(1, 40, 5), torch.tensor(0.6)
    order = torch.randperm(40, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(class_attention(p[:, order], gamma), class_attention(p, gamma)[:, order])


@pytest.mark.parametrize("classes", [5, 8, 11, 19])
def test_values_and_gradients_are_those_of_the_full_matrix(classes: int) -> None:
    found: list[tuple[Tensor, ...]] = []
    for form in (class_attention, explicit):
        p = probabilities(2, 63, classes).requires_grad_()
        gamma = torch.tensor([0.4], requires_grad=True)
        out = form(p, gamma)
        grad = torch.linspace(-1, 1, out.numel()).view_as(out)
        found.append((out, *torch.autograd.grad(out, (p, gamma), grad)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_finite_differences() -> None:
    p = probabilities(1, 6, 3, torch.float64).requires_grad_()
    gamma = torch.tensor([0.3], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(class_attention, (p, gamma))


def branch(**settings: Any) -> DifficultyBranch:
    torch.manual_seed(0)
    return DifficultyBranch(num_classes=5, att_stride=2, **settings)


SCORES = torch.randn(2, 5, 8, 12, generator=torch.Generator().manual_seed(2))
FEATURES = torch.randn(2, 7, 8, 12, generator=torch.Generator().manual_seed(3))
SIZE = (32, 48)


def test_where_gamma_is_0_the_branch_is_a_convolution_of_the_probabilities() -> None:
    made = branch()
    assert made.gamma.tolist() == [0.0]
    p = resize(SCORES, (16, 24)).softmax(dim=1)
    plain = (made.reduce.weight[:, :, 0, 0, None, None] * p[:, None].squeeze(1)).sum(dim=1, keepdim=True)
    expected = resize(plain + made.reduce.bias.view(1, 1, 1, 1), SIZE)
    torch.testing.assert_close(made(SCORES, FEATURES, SIZE), expected)
    without = branch(attention=False)
    torch.testing.assert_close(without(SCORES, FEATURES, SIZE), expected)
    assert not hasattr(without, "gamma")


def test_autocast_rounds_nothing_that_attention_compares(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[torch.dtype] = []
    real = torch.nn.functional.scaled_dot_product_attention

    def watched(*given: Tensor, **settings: Any) -> Tensor:
        out: Tensor = real(*given, **settings)
        seen.append(out.dtype)
        return out

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", watched)
    made = branch()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        made(SCORES.bfloat16(), FEATURES, SIZE)
    made.double()(SCORES.double(), FEATURES.double(), SIZE)
    assert seen == [torch.float32, torch.float64]


def test_gamma_is_learnt_from_its_first_step() -> None:
    made = branch()
    made(SCORES, FEATURES, SIZE).square().sum().backward()
    assert made.gamma.grad is not None
    assert float(made.gamma.grad.abs()) > 0


def test_a_gamma_above_0_changes_the_map() -> None:
    made = branch()
    before = made(SCORES, FEATURES, SIZE)
    torch.nn.init.constant_(made.gamma, 0.5)
    assert not torch.allclose(made(SCORES, FEATURES, SIZE), before)


@pytest.mark.parametrize(("stride", "size", "grid"), [(6, (360, 480), (60, 80)), (8, (688, 688), (86, 86))])
def test_the_grid_is_that_of_the_authors(stride: int, size: tuple[int, int], grid: tuple[int, int]) -> None:
    assert DifficultyBranch(11, stride).grid(size) == grid


def test_the_grid_of_an_odd_size_is_rounded_up_and_never_empty() -> None:
    assert DifficultyBranch(11, 8).grid((3, 17)) == (1, 3)


def test_a_stride_of_0_is_told_in_one_line() -> None:
    with pytest.raises(UserError, match=r"^model\.att_stride=0 must be an integer > 0.*att_stride=8\.$"):
        DifficultyBranch(11, 0)


def test_the_branch_has_13_parameters_at_11_classes_and_12_without_attention() -> None:
    def count(**settings: Any) -> int:
        return sum(p.numel() for p in DifficultyBranch(11, 6, **settings).parameters())

    assert count() == 13
    assert count(attention=False) == 12
    assert count(feature_channels=304) == 13 + 304 * 256 * 9 + 2 * 256 + 256 * 11 + 11


@pytest.mark.parametrize("feature_channels", [None, 7])
@pytest.mark.parametrize("detach", [True, False])
def test_a_detached_branch_teaches_the_segmentation_nothing(
    feature_channels: int | None, detach: bool
) -> None:
    scores, features = SCORES.clone().requires_grad_(), FEATURES.clone().requires_grad_()
    made = branch(detach=detach, feature_channels=feature_channels)
    made(scores, features, SIZE).square().sum().backward()
    given, other = (scores, features) if feature_channels is None else (features, scores)
    assert (given.grad is None) is detach
    assert other.grad is None
    assert all(parameter.grad is not None for parameter in made.parameters())


def test_deeplab_with_the_branch_has_as_many_parameters_as_the_authors_network() -> None:
    parts = (build_segmenter("deeplab_mobilenet", 11), DifficultyBranch(11, att_stride=6))
    assert sum(parameter.numel() for part in parts for parameter in part.parameters()) == 5_813_496


def train(alpha: float | None, steps: int = 3) -> dict[str, Tensor]:
    """The weights of the segmentation after a few steps; without a branch where ``alpha`` is None."""
    made = None if alpha is None else branch(detach=True)
    torch.manual_seed(0)
    network = build_segmenter("small_unet", 5)
    parameters = [*network.parameters(), *(() if made is None else made.parameters())]
    optimizer = torch.optim.SGD(parameters, lr=0.05, momentum=0.9, weight_decay=5e-4)
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(4, 3, 16, 24, generator=generator)
        y = torch.randint(5, (4, 16, 24), generator=generator)
        scores, features = network(x)
        logits = resize(scores, (16, 24))
        loss = pixel_loss(logits, y)
        if made is not None:
            difficulty = made(scores, features, (16, 24))
            loss = loss + alpha * difficulty_loss(difficulty, error_mask(logits, y), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.state_dict()


def test_without_weight_and_detached_the_branch_leaves_training_as_it_is_bit_for_bit() -> None:
    plain, with_branch = train(None), train(0.0)
    assert [name for name in plain if not torch.equal(plain[name], with_branch[name])] == []
