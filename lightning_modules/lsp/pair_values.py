"""Inner products and distances of the two ends of each edge, without a tensor of edges x channels.

Compiled loops on CPU, torch in pieces elsewhere. Edges are there in both directions, so the gradient at a
node is one weighted sum over the edges into it: what it gets as a sender comes with the weights of the
opposite edges.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from lightning_modules.graph_prediction.edge_sums import edge_dot, factor_sum
from lightning_modules.node_classification.attention import uses_kernels
from lightning_modules.segments import SegmentIndex

PIECE = 2**22
"""Numbers of the largest tensor that is made while edges are gone through in pieces: 16 MiB of float32."""


def edge_products(z: Tensor, edges: SegmentIndex) -> Tensor:
    """``<z_i, z_j>`` of each edge j -> i.

    Args:
        z: ``[n, D]``.
        edges: the m edges in both directions, centres being their targets.

    Returns:
        ``[m]``, in at least float32; differentiable.
    """
    out: Tensor = _Products.apply(_at_least_single(z), edges)
    return out


def edge_squared_distances(z: Tensor, edges: SegmentIndex) -> Tensor:
    """``|z_i - z_j|^2`` of each edge j -> i; as :func:`edge_products`."""
    out: Tensor = _SquaredDistances.apply(_at_least_single(z), edges)
    return out


def edge_l1_distances(z: Tensor, edges: SegmentIndex) -> Tensor:
    """``|z_i - z_j|_1`` of each edge j -> i; as :func:`edge_products`."""
    out: Tensor = _L1Distances.apply(_at_least_single(z), edges)
    return out


def edge_log_softmax(scores: Tensor, edges: SegmentIndex) -> Tensor:
    """Log-softmax over the edges into each node; ``[m] -> [m]``, differentiable.

    A node without edges has none to normalise and costs nothing.
    """
    out: Tensor = _LogSoftmax.apply(scores, edges)
    return out


def _at_least_single(z: Tensor) -> Tensor:
    return z.to(torch.promote_types(z.dtype, torch.float32)).contiguous()


def _opposite_too(grad: Tensor, edges: SegmentIndex) -> Tensor:
    """Each edge's gradient and that of its opposite, ``[m]``."""
    assert edges.t_perm is not None, "edges must be there in both directions"
    return grad + grad.index_select(0, edges.t_perm)


def _neighbour_sum(weights: Tensor, z: Tensor, edges: SegmentIndex) -> Tensor:
    """``out[i] = sum over edges j -> i of weights[j -> i] * z[j]``, ``[m], [n, D] -> [n, D]``."""
    if uses_kernels(z):
        return factor_sum(weights.unsqueeze(1), z.unsqueeze(1), edges).squeeze(1)
    return edges.weighted_sum(weights.unsqueeze(1), z.unsqueeze(1)).squeeze(1)


def _in_pieces(z: Tensor, edges: SegmentIndex, value: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """``value`` of the two ends ``[k, D], [k, D] -> [k]`` of all edges, k at a time; ``[m]``."""
    step = max(PIECE // max(z.size(1), 1), 1)
    col = edges.count if edges.col is None else edges.col
    parts = [
        value(z.index_select(0, row), z.index_select(0, item))
        for row, item in zip(edges.row.split(step), col.split(step), strict=True)
    ]
    return torch.cat(parts) if parts else z.new_zeros(0)


def _by_kernel(name: str, z: Tensor, edges: SegmentIndex, out: Tensor, *before: Tensor) -> Tensor:
    from lightning_modules.lsp import pair_kernels

    col = edges.count if edges.col is None else edges.col
    arrays = (tensor.numpy() for tensor in (*before, z, edges.ptr, col, out))
    getattr(pair_kernels, name)(*arrays)
    return out


class _Products(Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, edges: SegmentIndex) -> Tensor:
        ctx.save_for_backward(z)
        ctx.edges = edges
        if uses_kernels(z):
            return edge_dot(z.unsqueeze(1), z.unsqueeze(1), edges).squeeze(1)
        return _in_pieces(z, edges, lambda a, b: (a * b).sum(dim=1))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (z,) = ctx.saved_tensors
        return _neighbour_sum(_opposite_too(grad, ctx.edges), z, ctx.edges), None


class _SquaredDistances(Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, edges: SegmentIndex) -> Tensor:
        ctx.save_for_backward(z)
        ctx.edges = edges
        if uses_kernels(z):
            return _by_kernel("squared_distances", z, edges, z.new_empty(edges.num_rows))
        # differences and not |a|^2 + |b|^2 - 2ab, which would cancel where neighbours are close
        return _in_pieces(z, edges, lambda a, b: (a - b).square_().sum(dim=1))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (z,) = ctx.saved_tensors
        weights = 2 * _opposite_too(grad, ctx.edges)
        total = ctx.edges.sum(weights.unsqueeze(1))  # [n, 1]
        return total * z - _neighbour_sum(weights, z, ctx.edges), None


class _L1Distances(Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, edges: SegmentIndex) -> Tensor:
        ctx.save_for_backward(z)
        ctx.edges = edges
        if uses_kernels(z):
            return _by_kernel("l1_distances", z, edges, z.new_empty(edges.num_rows))
        return _in_pieces(z, edges, lambda a, b: (a - b).abs_().sum(dim=1))

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (z,) = ctx.saved_tensors
        edges: SegmentIndex = ctx.edges
        weights = _opposite_too(grad, edges)
        if uses_kernels(z):
            return _by_kernel("l1_backward", z, edges, torch.zeros_like(z), weights), None
        out = torch.zeros_like(z)
        step = max(PIECE // max(z.size(1), 1), 1)
        col = edges.count if edges.col is None else edges.col
        for row, item, weight in zip(
            edges.row.split(step), col.split(step), weights.split(step), strict=True
        ):
            signs = (z.index_select(0, row) - z.index_select(0, item)).sign_()
            out.index_add_(0, row, signs.mul_(weight.unsqueeze(1)))
        return out, None


class _LogSoftmax(Function):
    @staticmethod
    def forward(ctx: Any, scores: Tensor, edges: SegmentIndex) -> Tensor:
        columns = scores.unsqueeze(1)
        shifted = columns - edges.centres(edges.max(columns))
        out = (shifted - edges.centres(edges.sum(shifted.exp()).log())).squeeze(1)
        ctx.save_for_backward(out)
        ctx.edges = edges
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (out,) = ctx.saved_tensors
        edges: SegmentIndex = ctx.edges
        total = edges.centres(edges.sum(grad.unsqueeze(1))).squeeze(1)
        return grad - out.exp() * total, None
