"""Sparse input features: a linear layer whose cost follows the non-zeros, dropout included."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function

from harness.annotations import PositiveInt, Probability
from lightning_modules.node_classification.dense import dropout, dropout_mask, narrow_matmul
from lightning_modules.segments import offsets


@dataclass(frozen=True, eq=False)
class SparseFeatures:
    """A sparse feature matrix ``[N, F]`` with the index of its transpose, built once.

    Attributes:
        ptr: ``[N + 1]``, non-zeros of node i are ``ptr[i]:ptr[i + 1]``.
        col: ``[K]``, feature of each non-zero.
        values: ``[K]``.
        t_ptr: ``[F + 1]``, the same by feature.
        t_row: ``[K]``, node of each non-zero in order of feature.
        t_perm: ``[K]``, its position in ``values``.
    """

    ptr: Tensor
    col: Tensor
    values: Tensor
    t_ptr: Tensor
    t_row: Tensor
    t_perm: Tensor

    @classmethod
    def from_csr(cls, x: Tensor) -> "SparseFeatures":
        """Index a ``torch.sparse_csr`` matrix ``[N, F]``.

        Raises:
            ValueError: if ``x`` is not a matrix in CSR layout.
        """
        if x.layout != torch.sparse_csr or x.dim() != 2:
            raise ValueError(
                f"features must be a torch.sparse_csr matrix, got {x.layout} of shape {tuple(x.shape)}."
            )
        ptr, col = x.crow_indices().long(), x.col_indices().long()
        row = torch.repeat_interleave(torch.arange(x.size(0), device=x.device), ptr.diff())
        perm = torch.argsort(col, stable=True)
        t_ptr = offsets(col[perm], x.size(1))
        # 32 bits halve the index traffic; more than 2**31 non-zeros would not fit in memory beside it.
        ptr, col, t_ptr, t_row, t_perm = (i.to(torch.int32) for i in (ptr, col, t_ptr, row[perm], perm))
        return cls(ptr, col, x.values(), t_ptr, t_row, t_perm)

    @property
    def shape(self) -> tuple[int, int]:
        """(N, F)."""
        return self.ptr.numel() - 1, self.t_ptr.numel() - 1


def _bags(weight: Tensor, col: Tensor, ptr: Tensor, values: Tensor) -> Tensor:
    return F.embedding_bag(col, weight, ptr, mode="sum", per_sample_weights=values, include_last_offset=True)


class _SparseMatmul(Function):
    """``X @ W`` for constant sparse X: both directions are one pass over the non-zeros."""

    @staticmethod
    def forward(ctx: Any, x: SparseFeatures, values: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(values)
        ctx.x = x
        return _bags(weight, x.col, x.ptr, values)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None, Tensor]:
        (values,) = ctx.saved_tensors
        x: SparseFeatures = ctx.x
        return None, None, _bags(grad.contiguous(), x.t_row, x.t_ptr, values.index_select(0, x.t_perm))


def sparse_matmul(x: SparseFeatures, weight: Tensor, p: float = 0.0) -> Tensor:
    """``drop(X) W`` with dropout on the non-zeros only; zeros stay zero, so nothing is lost.

    Args:
        x: features ``[N, F]``, constants.
        weight: ``[F, K]``.
        p: dropout probability, 0 in evaluation.

    Returns:
        ``[N, K]`` in the dtype of ``weight``.
    """
    values = x.values.to(weight.dtype)
    if p > 0:
        values = values * dropout_mask(values.shape, p, values)
    return _SparseMatmul.apply(x, values, weight)


def dropped_matmul(x: SparseFeatures | Tensor, weight: Tensor, p: float) -> Tensor:
    """``drop(x) W`` for sparse or dense ``x`` ``[N, F]``; of sparse features only the non-zeros are dropped.

    Args:
        x: features or hidden values.
        weight: ``[F, K]``.
        p: dropout probability, 0 in evaluation.

    Returns:
        ``[N, K]``.
    """
    if isinstance(x, SparseFeatures):
        return sparse_matmul(x, weight, p)
    return narrow_matmul(dropout(x, p), weight)


class SparseLinear(nn.Module):
    """``drop(x) W + b`` for sparse or dense features.

    Args:
        in_channels: width F of the features.
        out_channels: width K of the result.
        dropout: probability of dropping an input entry (of sparse features: a non-zero).

    The weight is stored ``[F, K]``, the layout that sparse rows can read, and starts Glorot-uniform as in
    Kipf and Welling's GCN (arXiv 1609.02907); the bias starts at zero.

    Shapes:
        input ``SparseFeatures`` or dense ``[N, F]``; output ``[N, K]``.
    """

    def __init__(self, in_channels: PositiveInt, out_channels: PositiveInt, dropout: Probability) -> None:
        super().__init__()
        self.dropout = dropout
        self.weight = nn.Parameter(torch.empty(in_channels, out_channels))
        self.bias = nn.Parameter(torch.empty(out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Glorot-uniform weight, zero bias."""
        nn.init.xavier_uniform_(self.weight)
        nn.init.zeros_(self.bias)

    def project(self, x: SparseFeatures | Tensor) -> Tensor:
        """``drop(x) W``, without the bias: a graph convolution adds it after the sum over neighbours."""
        return dropped_matmul(x, self.weight, self.dropout if self.training else 0.0)

    def forward(self, x: SparseFeatures | Tensor) -> Tensor:
        """Apply the layer; see the class for shapes."""
        return self.project(x) + self.bias
