"""Where the names of dots go, so that each stands next to its own dot and over nothing else."""

import numpy as np

# right, left, above, below, then between them: the order in which places are tried
_SIDES = np.array([(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)], dtype=float)
_RINGS = (1.0, 2.0, 3.5, 5.0)
"""Distances that are tried, in gaps."""


def label_places(
    dots: np.ndarray, sizes: np.ndarray, low: np.ndarray, high: np.ndarray, gap: float
) -> tuple[np.ndarray, np.ndarray]:
    """Centres of labels beside their dots; the most crowded dot chooses first.

    A place costs what it covers of other labels and dots, what of it lies outside, and how much nearer some
    other dot is than the label's own; the cheapest is taken, of equals the nearest.

    Args:
        dots: ``[n, 2]``.
        sizes: ``[n, 2]``, widths and heights of the labels, in the unit of the dots.
        low: ``[2]``, lower left corner of where labels may be.
        high: ``[2]``, upper right corner.
        gap: between a dot's centre and its label.

    Returns:
        Centres ``[n, 2]``; ``[n]`` bool, whether a label lies so far off that a line should lead to it.
    """
    centres, is_far = np.zeros_like(dots, dtype=float), np.zeros(len(dots), dtype=bool)
    distances = np.linalg.norm(dots[:, None] - dots, axis=2)  # [n, n]
    crowd = np.exp(-distances / (6 * gap)).sum(axis=1)
    placed: list[int] = []
    for index in np.argsort(-crowd, kind="stable"):
        best = np.inf
        for ring in _RINGS:
            for side in _SIDES:
                reach = ring * gap / (np.abs(side).sum() ** 0.5)
                centre = dots[index] + side * (reach + sizes[index] / 2)
                cost = _cost(centre, int(index), dots, sizes, centres, placed, low, high, gap)
                if cost < best - 1e-9:
                    best, centres[index], is_far[index] = cost, centre, ring > 1
        placed.append(int(index))
    return centres, is_far


def _cost(
    centre: np.ndarray,
    index: int,
    dots: np.ndarray,
    sizes: np.ndarray,
    centres: np.ndarray,
    placed: list[int],
    low: np.ndarray,
    high: np.ndarray,
    gap: float,
) -> float:
    half = sizes[index] / 2
    outside = np.clip(low - (centre - half), 0, None).sum() + np.clip(centre + half - high, 0, None).sum()
    cost = 10 * outside
    for other in placed:
        cover = half + sizes[other] / 2 - np.abs(centre - centres[other])
        cost += 10 * max(float(cover.min()), 0.0)
    # from the label's edge to every dot
    away = np.linalg.norm(np.clip(np.abs(dots - centre) - half, 0, None), axis=1)
    others = np.linalg.norm(dots - dots[index], axis=1) > 0.2 * gap  # a dot that hides this one is no other
    cost += 3 * np.clip(0.8 * gap - away[others], 0, None).sum()
    cost += np.clip(away[index] + 0.3 * gap - away[others], 0, None).sum()
    return float(cost)
