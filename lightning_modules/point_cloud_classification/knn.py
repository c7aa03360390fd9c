"""Each point's nearest neighbours within its cloud, in whatever space its features are."""

import torch
from torch import Tensor

from lightning_modules.numba_import import numba_fault

DIRECT_UP_TO = 8
"""Features of a point up to which differences are summed, and no product of matrices is asked."""

_CHUNK = {"cpu": 1 << 20}  # scores at a time; on the CPU those that its cache holds
_CHUNK_ELSEWHERE = 1 << 26


@torch.no_grad()
def knn_graph(x: Tensor, k: int) -> Tensor:
    """The k nearest points of every point, itself first, by Euclidean distance.

    With more than :data:`DIRECT_UP_TO` features points are ranked by ``|b|^2 / 2 - a.b``, half of the squared
    distance but for what a row has in common. Rounding may put a point behind its neighbours, so each is the
    first of its own row whatever its score. The others follow in the order of distance, of equal ones the
    lower index first; which ones are equal is subject to the rounding of that product.

    Scores are made for some rows at a time: no tensor of B x n x n numbers exists.

    Args:
        x: ``[B, n, D]``; half precision is widened to float32 and autocast is switched off, since ranks of
            neighbours drown in the rounding of 8 or 11 bits.
        k: neighbours of each, itself included, in ``[1, n]``.

    Returns:
        ``[B, n, k]`` long, numbers of points within their own cloud, also where features are not finite.

    Raises:
        ValueError: ``k`` is not in ``[1, n]``.
    """
    batch, points, width = x.shape
    if not 1 <= k <= points:
        raise ValueError(f"k must be from 1 to the {points} points of a cloud, got {k}")
    with torch.autocast(x.device.type, enabled=False):
        x = x.detach().to(torch.promote_types(x.dtype, torch.float32)).contiguous()
        found = torch.empty(batch, points, k, dtype=torch.long, device=x.device)
        compiled = x.device.type == "cpu" and not numba_fault()
        if compiled and width <= DIRECT_UP_TO:
            from lightning_modules.point_cloud_classification import knn_kernels

            knn_kernels.nearest_points(x.numpy(), found.numpy())
            return found
        half_norms = x.square().sum(dim=2, keepdim=True).mT / 2  # [B, 1, n]
        most = _CHUNK.get(x.device.type, _CHUNK_ELSEWHERE)
        rows = max(most // points, 1)  # of all clouds together
        clouds, within = max(rows // points, 1), min(rows, points)
        for one in range(0, batch, clouds):
            part = x[one : one + clouds]
            for first in range(0, points, within):
                own = part[:, first : first + within]
                place = found[one : one + clouds, first : first + within]
                if width <= DIRECT_UP_TO:
                    scores = _squared_distances(own, part)
                else:
                    scores = torch.baddbmm(half_norms[one : one + clouds], own, part.mT, alpha=-1)
                if compiled:
                    from lightning_modules.point_cloud_classification import knn_kernels

                    knn_kernels.smallest(scores.numpy(), first, place.numpy())
                else:
                    place.copy_(_smallest(scores, first, k))
    return found


def _squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """``[B, r, D]`` and ``[B, n, D]`` to ``[B, r, n]``, summed in the order of the features."""
    total = a.new_zeros(len(a), a.size(1), b.size(1))
    for d in range(a.size(2)):
        total += (a[:, :, d, None] - b[:, None, :, d]).square_()
    return total


def _smallest(scores: Tensor, first: int, k: int) -> Tensor:
    """Numbers of the k smallest scores of each row, its own first: ``[B, r, n] -> [B, r, k]``.

    Args:
        scores: of points ``first``, ``first + 1``, ... with all n points of their cloud.
        first: number of the first row's point.
        k: how many.
    """
    rows, points = scores.shape[1:]
    own = torch.arange(rows, device=scores.device)
    scores[:, own, own + first] = -torch.inf
    if scores.dtype == torch.float32:
        # topk breaks ties as it likes. A score's bits and its number as one integer have no ties: of a
        # negative score all bits but the sign are turned over, and integers are in the order of scores.
        bits = scores.view(torch.int32)
        bits = bits ^ ((bits >> 31) & 0x7FFFFFFF)
        keys = (bits.long() << 32) | torch.arange(points, device=scores.device)
        return keys.topk(k, dim=2, largest=False, sorted=True).values & 0xFFFFFFFF
    return scores.argsort(dim=2, stable=True)[:, :, :k]
