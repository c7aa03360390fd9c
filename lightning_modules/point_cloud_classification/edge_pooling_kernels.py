"""Maximum and sums over the neighbours of each point as compiled loops; importing this module imports numba.

``u``, ``v`` and results are ``[N, C]``, ``index`` is ``[N, k]`` int32. A neighbour's channels are read in one
run, which the compiler turns into vector instructions (``python -m benchmarks.edge_conv``).
"""

import numpy as np

from lightning_modules.compiled import compiled_fast


@compiled_fast
def neighbour_max(u: np.ndarray, index: np.ndarray, out: np.ndarray, place: np.ndarray) -> None:
    """Maximum over neighbours, and in ``place`` (int32) the first point that has it."""
    channels = u.shape[1]
    best, where = np.empty(channels, u.dtype), np.empty(channels, np.int32)
    for i in range(index.shape[0]):
        best[:] = u[index[i, 0]]
        where[:] = index[i, 0]
        for s in range(1, index.shape[1]):
            j = index[i, s]
            for c in range(channels):
                value = u[j, c]
                # selected, no branch: it could not be predicted
                where[c] = j if value > best[c] else where[c]
                best[c] = value if value > best[c] else best[c]
        out[i] = best
        place[i] = where


@compiled_fast
def max_and_moments(
    u: np.ndarray,
    v: np.ndarray,
    index: np.ndarray,
    out: np.ndarray,
    place: np.ndarray,
    total: np.ndarray,
    squares: np.ndarray,
) -> None:
    """As :func:`neighbour_max`; also the sum of u over neighbours in ``total``.

    To ``squares`` ``[C]`` the squares of ``u_j + v_i`` over all edges are added.
    """
    channels = u.shape[1]
    best, where = np.empty(channels, u.dtype), np.empty(channels, np.int32)
    added, squared = np.empty(channels, u.dtype), np.empty(channels, u.dtype)
    centre = np.empty(channels, u.dtype)
    for i in range(index.shape[0]):
        best[:] = -np.inf
        where[:] = index[i, 0]
        added[:] = 0
        squared[:] = 0
        centre[:] = v[i]
        for s in range(index.shape[1]):
            j = index[i, s]
            for c in range(channels):
                value = u[j, c]
                where[c] = j if value > best[c] else where[c]
                best[c] = value if value > best[c] else best[c]
                added[c] += value
                squared[c] += (value + centre[c]) * (value + centre[c])
        out[i] = best
        place[i] = where
        total[i] = added
        # first within a point: sums of like sizes lose fewer bits than one of all edges
        squares += squared


@compiled_fast
def add_to_neighbours(values: np.ndarray, index: np.ndarray, out: np.ndarray) -> None:
    """``out[index[i, s]] += values[i]``."""
    channels = values.shape[1]
    own = np.empty(channels, values.dtype)
    for i in range(index.shape[0]):
        own[:] = values[i]
        for s in range(index.shape[1]):
            j = index[i, s]
            for c in range(channels):
                out[j, c] += own[c]


@compiled_fast
def scatter(values: np.ndarray, place: np.ndarray, out: np.ndarray) -> None:
    """``out[place[i, c], c] += values[i, c]``."""
    for i in range(values.shape[0]):
        for c in range(values.shape[1]):
            out[place[i, c], c] += values[i, c]
