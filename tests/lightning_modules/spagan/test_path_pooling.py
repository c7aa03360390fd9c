"""Pooling along paths."""

import pytest
import torch

from lightning_modules.spagan import path_pooling
from lightning_modules.spagan.path_pooling import pool_paths

ENDS = torch.tensor([[0, 1, 2, 2, 3], [1, 2, 2, 0, 1], [3, 0, 2, 1, 1]])  # [c - 1, P]


@pytest.mark.parametrize("length", [1, 2, 3])
def test_pooling_equals_a_reduction_of_gathered_nodes(length: int) -> None:
    features, ends = torch.randn(4, 6), ENDS[:length]
    gathered = features[ends]
    torch.testing.assert_close(pool_paths(features, ends, "max"), gathered.amax(0))
    torch.testing.assert_close(pool_paths(features, ends, "mean"), gathered.mean(0))


@pytest.mark.parametrize("kernels", [True, False])
def test_gradient_of_the_maximum_is_shared_among_equal_nodes(
    monkeypatch: pytest.MonkeyPatch, kernels: bool
) -> None:
    if kernels:
        pytest.importorskip("numba")
    monkeypatch.setattr(path_pooling, "uses_kernels", lambda x: kernels)
    features = torch.randn(4, 6).round().requires_grad_()  # whole numbers, so that maxima coincide
    grad = torch.randn(5, 6)
    (ours,) = torch.autograd.grad(pool_paths(features, ENDS, "max"), features, grad)
    (expected,) = torch.autograd.grad(features[ENDS].amax(0), features, grad)
    torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("path_pool", ["max", "mean"])
def test_pooling_passes_gradcheck(path_pool: str) -> None:
    features = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: pool_paths(x, ENDS, path_pool), features)


def test_half_precision_is_pooled_in_float32() -> None:
    assert pool_paths(torch.randn(4, 3).bfloat16(), ENDS, "max").dtype == torch.float32
