"""The map of channels that brings one set of feature maps as near to another as can be."""

from collections.abc import Iterable

import torch
from torch import Tensor

from lightning_modules.netgraft.folding import Pointwise


def fit_pointwise(pairs: Iterable[tuple[Tensor, Tensor]], start: Pointwise) -> Pointwise:
    """``argmin_(M, m) sum |M x + m - y|^2`` over all places of all maps, by least squares.

    Where the images are too few to determine it, it is the minimiser nearest to ``start``, so that channels
    which never respond keep what they had. In float64, on the CPU, whose LAPACK copes with any rank.

    Args:
        pairs: batches of maps x ``[B, s, H, W]`` and y ``[B, t, H, W]``.
        start: from s channels to t.

    Returns:
        The map, on the device of ``start``, in float64.
    """
    xs, ys = zip(*((_rows(x), _rows(y)) for x, y in pairs), strict=True)
    x, y = torch.cat(xs), torch.cat(ys)
    ones = x.new_ones(len(x), 1)
    weight, bias = start.weight.double(), start.bias.double()
    rest = y - (x @ weight.cpu().T + bias.cpu())
    found = torch.linalg.lstsq(torch.cat([x, ones], dim=1), rest, driver="gelsd").solution  # [s + 1, t]
    found = found.to(weight.device)
    return Pointwise(weight + found[:-1].T, bias + found[-1])


def unexplained(pairs: Iterable[tuple[Tensor, Tensor]], fitted: Pointwise) -> float:
    """The share of the variance of y that ``fitted`` leaves, 0 where nothing is left.

    Args:
        pairs: as for :func:`fit_pointwise`.
        fitted: from s channels to t.
    """
    xs, ys = zip(*((_rows(x), _rows(y)) for x, y in pairs), strict=True)
    x, y = torch.cat(xs), torch.cat(ys)
    left = (x @ fitted.weight.cpu().T + fitted.bias.cpu() - y).square().sum()
    whole = (y - y.mean(dim=0)).square().sum()
    return float(left / whole) if whole > 0 else 0.0


def _rows(maps: Tensor) -> Tensor:
    # [B, C, H, W] -> [B * H * W, C]
    return maps.detach().cpu().double().movedim(1, -1).flatten(0, -2)
