"""Core-set selection: images that leave no other one far from all that are annotated."""

import torch
import torch.nn.functional as F
from torch import Tensor

_BLOCK = 1 << 22  # entries of the distances to the labelled images that are there at a time


def k_centre_scores(features: Tensor, labelled: Tensor, number: int) -> Tensor:
    """The order of :func:`k_centre_greedy` as numbers, ``[n]`` float64, higher picked first.

    The picks have 1, ``1 - 1 / n``, and so on: a distance would mean something else for each of them. What is
    not picked lies below, the farthest from all centres first.

    Args:
        features: ``[n, d]`` of the candidates.
        labelled: ``[m, d]``, the first centres.
        number: picks, at most n.

    Raises:
        ValueError: there are too few candidates, or widths differ.
    """
    picks, nearest = _picked(features, labelled, number)
    count = max(len(features), 1)
    scores = (1 - nearest.double()).clamp(0.0, 2.0) / 2 * (1 - number / count)
    scores[picks] = 1 - torch.arange(number, dtype=torch.float64, device=scores.device) / count
    return scores


def k_centre_greedy(features: Tensor, labelled: Tensor, number: int) -> Tensor:
    """Greedy k-centre (Sener and Savarese, ICLR 2018) with cosine distance, as DEAL's baseline has it.

    Each pick is the candidate that is farthest from its nearest centre, and becomes a centre. Distances to
    the nearest centre are kept and lowered by one product of matrix and vector a pick: O(number n d), where
    DEAL's authors compute all distances anew for every pick.

    Args:
        features: ``[n, d]`` of the candidates; of a scene the spatial mean of the features.
        labelled: ``[m, d]``, the first centres; may be none, and the first candidate is picked first then.
        number: picks, at most n.

    Returns:
        ``[number]`` long, rows of ``features`` in the order of picking; of equal distances the lower row.

    Raises:
        ValueError: there are too few candidates, or widths differ.
    """
    return _picked(features, labelled, number)[0]


@torch.no_grad()
def _picked(features: Tensor, labelled: Tensor, number: int) -> tuple[Tensor, Tensor]:
    """The picks, and the cosine ``[n]`` of each candidate with its nearest centre, inf for a pick."""
    if features.ndim != 2 or labelled.ndim != 2 or features.shape[1] != labelled.shape[1]:
        raise ValueError(f"features {list(features.shape)} and {list(labelled.shape)} must have one width")
    if not 0 <= number <= len(features):
        raise ValueError(f"{number} picks are wanted of {len(features)} candidates")
    x, centres = F.normalize(features, dim=1), F.normalize(labelled, dim=1)
    # the nearest centre has the largest cosine; -inf: farther from none than any distance
    nearest = x.new_full((len(x),), -torch.inf)
    blocks = centres.split(max(_BLOCK // max(len(x), 1), 1)) if len(centres) else ()
    for block in blocks:
        nearest = torch.maximum(nearest, (x @ block.T).amax(dim=1))
    picks = torch.empty(number, dtype=torch.long, device=x.device)
    for pick in range(number):
        # a tensor of one index, so that a GPU is not waited for
        row = nearest.argmin(dim=0, keepdim=True)
        picks[pick : pick + 1] = row
        torch.maximum(nearest, (x @ x[row].T).squeeze(1), out=nearest)
        nearest[row] = torch.inf  # never again, even if its twin is as far
    return picks, nearest
