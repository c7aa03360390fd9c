"""The selection of nearest neighbours as compiled loops; importing this module imports numba.

A list of the k best so far is kept in order. After the first few dozen points hardly any enters it, so that a
row costs little more than reading it once (``python -m benchmarks.edge_conv``).
"""

import numpy as np

from lightning_modules.compiled import compiled


@compiled
def _select(scores: np.ndarray, own: int, best: np.ndarray, found: np.ndarray) -> None:
    """Numbers of the smallest ``scores`` ``[n]`` in order, ``own`` first, into ``found`` ``[k]``.

    A score that is not a number never enters; places that stay free are given to ``own``. ``best`` ``[k]`` is
    room to work in.
    """
    k = found.size
    best[:] = np.inf
    found[:] = own
    for j in range(scores.size):
        score = scores[j]
        # the last place decides; an equal score behind it has the higher number
        if k > 1 and score < best[k - 1] and j != own:
            place = k - 1
            while place > 1 and score < best[place - 1]:
                best[place] = best[place - 1]
                found[place] = found[place - 1]
                place -= 1
            best[place] = score
            found[place] = j


@compiled
def smallest(scores: np.ndarray, first: int, found: np.ndarray) -> None:
    """For rows ``scores`` ``[B, r, n]`` of points ``first``, ``first + 1``, ...: ``found`` ``[B, r, k]``."""
    best = np.empty(found.shape[2], scores.dtype)
    for b in range(scores.shape[0]):
        for i in range(scores.shape[1]):
            _select(scores[b, i], first + i, best, found[b, i])


@compiled
def nearest_points(x: np.ndarray, found: np.ndarray) -> None:
    """For points ``x`` ``[B, n, D]`` of few features into ``found`` ``[B, n, k]``, by summed differences."""
    points, width = x.shape[1], x.shape[2]
    best = np.empty(found.shape[2], x.dtype)
    scores = np.empty(points, x.dtype)
    columns = np.empty((width, points), x.dtype)
    for b in range(x.shape[0]):
        for j in range(points):
            for d in range(width):
                columns[d, j] = x[b, j, d]
        for i in range(points):
            scores[:] = 0
            for d in range(width):
                centre = columns[d, i]
                for j in range(points):
                    difference = centre - columns[d, j]
                    scores[j] += difference * difference
            _select(scores, i, best, found[b, i])
