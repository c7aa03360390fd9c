"""One feature per path: the maximum or mean over its nodes, centre excluded."""

from functools import reduce
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import Function

from lightning_modules.node_classification.attention import uses_kernels

PathPool = Literal["max", "mean"]


def _max_backward_torch(grad: Tensor, features: Tensor, out: Tensor, ends: Tensor) -> Tensor:
    attained = [features.index_select(0, nodes) == out for nodes in ends]
    share = grad / reduce(torch.add, (hit.to(grad.dtype) for hit in attained))
    d_features = torch.zeros_like(features)
    for nodes, hit in zip(ends, attained, strict=True):
        d_features.index_add_(0, nodes, share * hit)
    return d_features


def _max_backward_kernel(grad: Tensor, features: Tensor, out: Tensor, ends: Tensor) -> Tensor:
    from lightning_modules.spagan.path_pooling_kernels import max_backward

    d_features = torch.zeros_like(features)
    max_backward(*(tensor.numpy() for tensor in (grad, features, out, ends, d_features)))
    return d_features


class _MaxOverNodes(Function):
    """Maximum of gathered rows; the gradient goes to the nodes that attain it, in equal parts."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, ends: Tensor) -> Tensor:
        out = reduce(torch.maximum, (features.index_select(0, nodes) for nodes in ends))
        ctx.save_for_backward(features, out, ends)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        backward = _max_backward_kernel if uses_kernels(grad) else _max_backward_torch
        return backward(grad.contiguous(), *ctx.saved_tensors), None


def pool_paths(features: Tensor, ends: Tensor, path_pool: PathPool) -> Tensor:
    """Element-wise maximum or mean over the nodes of each path, centre excluded.

    SPAGAN (arXiv 2101.03464): its code takes the maximum and has the mean in a comment. Node by node, so
    that the tensor ``[P, c - 1, F]`` is never built.

    Args:
        features: ``[N, F]``.
        ends: ``[c - 1, P]``, node ids.
        path_pool: ``"max"`` or ``"mean"``.

    Returns:
        ``[P, F]``, in at least float32.
    """
    features = features.to(torch.promote_types(features.dtype, torch.float32))
    if path_pool == "max":
        pooled: Tensor = _MaxOverNodes.apply(features.contiguous(), ends)
        return pooled
    return reduce(torch.add, (features.index_select(0, nodes) for nodes in ends)) / ends.size(0)
