"""Sums of neighbours under several weights of each edge at once, and inner products along edges.

Compiled loops on CPU, torch elsewhere. Both ways are tested against a loop over the factors.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from lightning_modules.node_classification.attention import uses_kernels
from lightning_modules.segments import SegmentIndex


class _FactorSum(Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, items: Tensor, edges: SegmentIndex) -> Tensor:
        ctx.save_for_backward(weights, items)
        ctx.edges = edges
        if uses_kernels(items):
            from lightning_modules.graph_prediction import edge_sums_kernels as kernels

            out = items.new_zeros(edges.num_groups, weights.size(1), items.size(2))
            kernels.factor_sum(*_arrays(weights, items), *_structure(edges), out.numpy())
            return out
        rows = weights.unsqueeze(2) * edges.items(items)  # [m, K, d]
        return edges.sum(rows.flatten(1)).view(edges.num_groups, weights.size(1), -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        weights, items = ctx.saved_tensors
        edges: SegmentIndex = ctx.edges
        if uses_kernels(grad):
            from lightning_modules.graph_prediction import edge_sums_kernels as kernels

            d_weights, d_items = torch.empty_like(weights), torch.zeros_like(items)
            kernels.factor_sum_backward(
                grad.contiguous().numpy(),
                *_arrays(weights, items),
                *_structure(edges),
                d_weights.numpy(),
                d_items.numpy(),
            )
            return d_weights, d_items, None
        rows = edges.centres(grad)  # [m, K, d]
        d_weights = (rows * edges.items(items)).sum(dim=2)
        d_rows = rows * weights.unsqueeze(2)
        if items.size(1) == 1:
            d_rows = d_rows.sum(dim=1, keepdim=True)
        return d_weights, edges.sum_by_item(d_rows.flatten(1)).view_as(items), None


def _arrays(*tensors: Tensor) -> tuple[Any, ...]:
    return tuple(tensor.detach().contiguous().numpy() for tensor in tensors)


def _structure(edges: SegmentIndex) -> tuple[Any, Any]:
    return edges.ptr.numpy(), (edges.count if edges.col is None else edges.col).numpy()


def factor_sum(weights: Tensor, items: Tensor, edges: SegmentIndex) -> Tensor:
    """``out[i, k] = sum over edges j -> i of weights[j -> i, k] * items[j, k]``.

    Args:
        weights: ``[m, K]``.
        items: ``[n, K, d]``, or ``[n, 1, d]`` where all factors sum the same.
        edges: the m edges, centres being their targets.

    Returns:
        ``[n, K, d]``, in at least float32.
    """
    dtype = torch.promote_types(items.dtype, torch.float32)
    out: Tensor = _FactorSum.apply(weights.to(dtype).contiguous(), items.to(dtype).contiguous(), edges)
    return out


class _EdgeDot(Function):
    @staticmethod
    def forward(ctx: Any, items: Tensor, centres: Tensor, edges: SegmentIndex) -> Tensor:
        ctx.save_for_backward(items, centres)
        ctx.edges = edges
        if uses_kernels(items):
            from lightning_modules.graph_prediction import edge_sums_kernels as kernels

            out = items.new_empty(edges.num_rows, items.size(1))
            kernels.edge_dot(*_arrays(items, centres), *_structure(edges), out.numpy())
            return out
        return (edges.items(items) * edges.centres(centres)).sum(dim=2)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        items, centres = ctx.saved_tensors
        edges: SegmentIndex = ctx.edges
        assert edges.t_perm is not None, "edges must be there in both directions"
        # the edges out of a node are the opposites of those into it
        d_items = factor_sum(grad.index_select(0, edges.t_perm), centres, edges)
        return d_items, factor_sum(grad, items, edges), None


def edge_dot(items: Tensor, centres: Tensor, edges: SegmentIndex) -> Tensor:
    """``out[j -> i, k] = <items[j, k], centres[i, k]>`` for each edge.

    Args:
        items: ``[n, K, d]``, of senders.
        centres: ``[n, K, d]``, of receivers.
        edges: the m edges in both directions, centres being their targets.

    Returns:
        ``[m, K]``, in at least float32.
    """
    dtype = torch.promote_types(items.dtype, torch.float32)
    out: Tensor = _EdgeDot.apply(items.to(dtype).contiguous(), centres.to(dtype).contiguous(), edges)
    return out
