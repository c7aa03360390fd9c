"""Edge costs of SPAGAN: strongly attended edges are short."""

import torch
from torch import Tensor


@torch.no_grad()
def edge_costs(attention: Tensor) -> Tensor:
    """Cost of every edge from the attention that its centre pays to its neighbour.

    With the mean over heads ``a_ij`` and its largest value ``a_max``, ``w_ij = 1 - a_ij / a_max``: the
    negated, min-max scaled attention of the authors' code (SPAGAN, Yang et al., 2019, arXiv 2101.03464).
    The paper takes the attention itself as the cost; only negating it makes high attention near. Costs are
    directed, and the most attended edge costs exactly 0, which is a cost and not a missing edge.

    Args:
        attention: ``[E, H]``, non-negative, after softmax and without dropout, one column per head, for the
            edges *without* self-loops.

    Returns:
        ``[E]`` in ``[0, 1]``, without gradient. All ones where no edge is attended at all.

    Raises:
        ValueError: if ``attention`` is not ``[E, H]`` with H >= 1, not finite, or negative.
    """
    if attention.dim() != 2 or attention.size(1) == 0:
        raise ValueError(f"attention must be [E, H] with at least one head, got {list(attention.shape)}")
    mean = attention.mean(dim=1)
    if mean.numel() == 0:
        return mean
    if not bool((torch.isfinite(mean) & (mean >= 0)).all()):
        raise ValueError("attention must be finite and not negative; pass it after the softmax")
    largest = mean.max()
    # A softmax over very different logits can underflow to 0; without the guard 0 / 0 would give NaN costs.
    return torch.where(largest > 0, 1 - mean / largest, torch.ones_like(mean))


def unit_costs(edge_index: Tensor) -> Tensor:
    """Cost 1 for every edge, so that a path's cost is its number of hops (an ablation).

    Args:
        edge_index: ``[2, E]``.

    Returns:
        ``[E]`` float ones on the same device.
    """
    return torch.ones(edge_index.size(1), device=edge_index.device)
