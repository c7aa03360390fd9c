"""One feature per path: the maximum or mean over its nodes, centre excluded."""

from functools import reduce
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import Function

PathPool = Literal["max", "mean"]


class _MaxOverNodes(Function):
    """Maximum of gathered rows; the gradient goes to the nodes that attain it, in equal parts."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, *ends: Tensor) -> Tensor:
        out = reduce(torch.maximum, (features.index_select(0, nodes) for nodes in ends))
        ctx.save_for_backward(features, out, *ends)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, out, *ends = ctx.saved_tensors
        attained = [features.index_select(0, nodes) == out for nodes in ends]
        share = grad / reduce(torch.add, (hit.to(grad.dtype) for hit in attained))
        d_features = torch.zeros_like(features)
        for nodes, hit in zip(ends, attained, strict=True):
            d_features.index_add_(0, nodes, share * hit)
        return d_features, *(None for _ in ends)


def pool_paths(features: Tensor, ends: tuple[Tensor, ...], path_pool: PathPool) -> Tensor:
    """Element-wise maximum or mean over the nodes of each path, centre excluded.

    SPAGAN (arXiv 2101.03464): its code takes the maximum and has the mean in a comment. Node by node, so
    that the tensor ``[P, c - 1, F]`` is never built.

    Args:
        features: ``[N, F]``.
        ends: ``c - 1`` tensors ``[P]`` of node ids.
        path_pool: ``"max"`` or ``"mean"``.

    Returns:
        ``[P, F]``.
    """
    if path_pool == "max":
        return _MaxOverNodes.apply(features, *ends)
    return reduce(torch.add, (features.index_select(0, nodes) for nodes in ends)) / len(ends)
