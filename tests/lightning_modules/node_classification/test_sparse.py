"""Sparse features give what dense ones give."""

import pytest
import torch
from torch import Tensor

from lightning_modules.node_classification.sparse import SparseFeatures, SparseLinear, sparse_matmul

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")


def features(dtype: torch.dtype = torch.float32) -> tuple[SparseFeatures, Tensor]:
    generator = torch.Generator().manual_seed(0)
    dense = torch.rand(7, 11, generator=generator, dtype=dtype) * (
        torch.rand(7, 11, generator=generator) < 0.3
    )
    dense[2] = 0  # a node without features
    dense[:, 4] = 0  # a feature nobody has
    return SparseFeatures.from_csr(dense.to_sparse_csr()), dense


def test_sparse_and_dense_features_give_equal_outputs_and_gradients() -> None:
    sparse, dense = features()
    layer = SparseLinear(11, 3, dropout=0.0)
    results = []
    for x in (sparse, dense):
        layer.zero_grad()
        out = layer(x)
        (out**2).sum().backward()
        results.append((out.detach(), layer.weight.grad.clone(), layer.bias.grad.clone()))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_sparse_product_passes_gradcheck() -> None:
    sparse, _ = features(torch.float64)
    weight = torch.randn(11, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda w: sparse_matmul(sparse, w), weight)


def test_dropout_touches_non_zeros_only_and_keeps_the_mean() -> None:
    sparse, dense = features(torch.float64)
    torch.manual_seed(0)
    mean = sum(sparse_matmul(sparse, torch.eye(11, dtype=torch.float64), 0.6) for _ in range(4000)) / 4000
    assert (mean[dense == 0] == 0).all()
    torch.testing.assert_close(mean, dense, rtol=0.15, atol=0.02)


def test_evaluation_drops_nothing() -> None:
    sparse, dense = features()
    layer = SparseLinear(11, 3, dropout=0.9).eval()
    torch.testing.assert_close(layer(sparse), dense @ layer.weight + layer.bias)


def test_a_dense_matrix_is_refused_as_sparse_features() -> None:
    with pytest.raises(ValueError, match="sparse_csr"):
        SparseFeatures.from_csr(torch.ones(2, 2))
