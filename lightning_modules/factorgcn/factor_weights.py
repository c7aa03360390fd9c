"""How much each edge belongs to each factor."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from lightning_modules.segments import SegmentIndex


class _FactorWeights(Function):
    @staticmethod
    def forward(ctx: Any, source: Tensor, target: Tensor, temperature: float, edges: SegmentIndex) -> Tensor:
        weights = edges.items(source).add_(edges.centres(target)).mul_(temperature).sigmoid_()
        ctx.save_for_backward(weights)
        ctx.temperature, ctx.edges = temperature, edges
        return weights

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        (weights,) = ctx.saved_tensors
        edges: SegmentIndex = ctx.edges
        d_logit = grad * weights * (1 - weights) * ctx.temperature  # [m, K]
        return edges.sum_by_item(d_logit), edges.sum(d_logit), None, None


def factor_weights(source: Tensor, target: Tensor, temperature: float, edges: SegmentIndex) -> Tensor:
    """``E[j -> i, k] = sigmoid(temperature * (source[j, k] + target[i, k]))``.

    FactorGCN (arXiv 2010.05421), its factorising step, with the authors' code's temperature.
    No softmax: an edge may belong to several factors, or to none.

    Args:
        source: ``[n, K]``, scores of nodes as senders.
        target: ``[n, K]``, scores of nodes as receivers.
        temperature: what the sum is multiplied by, above 0.
        edges: the m edges, centres being their targets.

    Returns:
        ``[m, K]`` in (0, 1), in at least float32: half precision rounds most of it to 0 or 1.
    """
    dtype = torch.promote_types(source.dtype, torch.float32)
    weights: Tensor = _FactorWeights.apply(source.to(dtype), target.to(dtype), temperature, edges)
    return weights
