"""Which of a node's paths are kept."""

import math

import torch
from torch import Tensor

# Keeps floor(0.29 * 100) at 29, where the product is 28.999999999999996.
_ROUNDING = 1e-9
_ALL = 2**31  # more paths than any node has, and an integer still


def path_quota(degree: Tensor, path_ratio: float | None) -> Tensor | None:
    """Paths kept per node and length: ``k_i = floor(r * d_i)`` (SPAGAN, section on path sampling).

    Args:
        degree: ``[N]`` long, d_i without self-loops.
        path_ratio: r >= 0, or None to keep all.

    Returns:
        ``[N]`` long, or None to keep all.

    Raises:
        ValueError: if ``path_ratio`` is negative or not finite.
    """
    if path_ratio is None:
        return None
    if not (math.isfinite(path_ratio) and path_ratio >= 0):
        raise ValueError(f"path_ratio must be a finite number >= 0, or None to keep all, got {path_ratio}")
    kept = degree.double().mul_(path_ratio).add_(_ROUNDING)
    return kept.clamp_(max=_ALL).long()  # truncates, and nothing is negative


def rank_in_group(group: Tensor) -> Tensor:
    """``[M]`` long: position of each entry among the entries of its group.

    Args:
        group: ``[M]`` long, sorted.
    """
    position = torch.arange(len(group), device=group.device)
    return position - torch.searchsorted(group, group)


def cheapest(centre: Tensor, cost: Tensor, end: Tensor, quota: Tensor | None) -> Tensor:
    """Rows of the cheapest paths of each centre, ties to the smaller end node.

    Args:
        centre: ``[M]`` long.
        cost: ``[M]``.
        end: ``[M]`` long.
        quota: ``[N]`` long, paths kept of each centre, or None to keep all.

    Returns:
        Long row numbers, sorted by centre, then cost, then end.
    """
    order = torch.sort(end, stable=True).indices
    order = order[torch.sort(cost[order], stable=True).indices]
    order = order[torch.sort(centre[order], stable=True).indices]
    if quota is None:
        return order
    return order[rank_in_group(centre[order]) < quota[centre[order]]]


def random_choice(centre: Tensor, quota: Tensor, generator: torch.Generator | None) -> Tensor:
    """Rows of as many paths of each centre, drawn without replacement (an ablation).

    Args:
        centre: ``[M]`` long, sorted.
        quota: ``[N]`` long, paths kept of each centre.
        generator: a CPU generator; None draws from torch's global one.

    Returns:
        Long row numbers in ascending order.
    """
    draw = torch.rand(len(centre), dtype=torch.float64, generator=generator).to(centre.device)
    order = torch.sort(draw, stable=True).indices
    order = order[torch.sort(centre[order], stable=True).indices]
    return order[rank_in_group(centre[order]) < quota[centre[order]]].sort().values
