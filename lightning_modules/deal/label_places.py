"""Where the names of dots go, so that each stands next to its own dot and over nothing else."""

import numpy as np

# right, left, above, below, then between them: the order in which places are tried
_SIDES = [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1)]
_BETWEEN = [(x, y) for x in (1.0, 0.5, -0.5, -1.0) for y in (1.0, 0.5, -0.5, -1.0) if abs(x) != abs(y)]
_DIRECTIONS = [np.array(side, float) / np.hypot(*side) for side in [*_SIDES, *_BETWEEN]]
_RINGS = (1.0, 2.0, 3.0, 4.5, 6.0, 8.0, 10.0, 13.0)
"""Distances that are tried, in gaps; from the second on a line leads from the dot to the label."""


def label_places(
    dots: np.ndarray, sizes: np.ndarray, low: np.ndarray, high: np.ndarray, gap: float
) -> tuple[np.ndarray, np.ndarray]:
    """Centres of labels beside their dots; the most crowded dot chooses first.

    A place costs what it covers of other labels, dots and lines, what of it lies outside and, where no line
    leads to it, how much nearer some other dot is than the label's own; the cheapest is taken, of equals the
    nearest.

    Args:
        dots: ``[n, 2]``.
        sizes: ``[n, 2]``, widths and heights of the labels, in the unit of the dots.
        low: ``[2]``, lower left corner of where labels may be.
        high: ``[2]``, upper right corner.
        gap: between a dot's centre and its label.

    Returns:
        Centres ``[n, 2]``; ``[n]`` bool, whether a label lies so far off that a line should lead to it.
    """
    centres, is_far = np.zeros(dots.shape), np.zeros(len(dots), dtype=bool)
    distances = np.linalg.norm(dots[:, None] - dots, axis=2)  # [n, n]
    crowd = np.exp(-distances / (6 * gap)).sum(axis=1)
    placed: list[int] = []
    for index in np.argsort(-crowd, kind="stable"):
        half, best = sizes[index] / 2, np.inf
        others = distances[index] > 0.2 * gap  # a dot that hides this one is no other
        for ring in _RINGS:
            if best <= 0.1 * ring:  # the least that a place farther off costs
                break
            for direction in _DIRECTIONS:
                centre = dots[index] + ring * gap * direction + np.sign(direction) * half
                cost = 0.1 * ring + _covered(centre, half, dots[others], 0.8 * gap)
                cost += _outside(centre, half, low, high)
                for other in placed:
                    cost += _shared(centre - centres[other], half + sizes[other] / 2)
                    if is_far[other]:
                        cost += _crossed(dots[other], centres[other], centre, half)
                if ring > 1:
                    cost += sum(
                        _crossed(dots[index], centre, centres[other], sizes[other] / 2) for other in placed
                    )
                else:
                    away = _away(centre, half, dots)
                    cost += np.clip(away[index] + 0.3 * gap - away[others], 0, None).sum()
                if cost < best - 1e-9:
                    best, centres[index], is_far[index] = cost, centre, ring > 1
        placed.append(int(index))
    return centres, is_far


def _away(centre: np.ndarray, half: np.ndarray, dots: np.ndarray) -> np.ndarray:
    """From the edge of a label to each dot."""
    return np.linalg.norm(np.clip(np.abs(dots - centre) - half, 0, None), axis=1)


def _covered(centre: np.ndarray, half: np.ndarray, dots: np.ndarray, reach: float) -> float:
    return 40 * float(np.clip(reach - _away(centre, half, dots), 0, None).sum())


def _outside(centre: np.ndarray, half: np.ndarray, low: np.ndarray, high: np.ndarray) -> float:
    return 50 * float(np.clip(np.maximum(low - centre + half, centre + half - high), 0, None).sum())


def _shared(between: np.ndarray, reach: np.ndarray) -> float:
    """What two labels have in common, by the side that is less."""
    return 20 * max(float((reach - np.abs(between)).min()), 0.0)


def _crossed(start: np.ndarray, end: np.ndarray, centre: np.ndarray, half: np.ndarray) -> float:
    """How much of a line lies in a label."""
    points = start + np.linspace(0, 1, 24)[:, None] * (end - start)
    inside = float((np.abs(points - centre) < half).all(axis=1).mean())
    return 2 * inside * float(np.linalg.norm(end - start))
