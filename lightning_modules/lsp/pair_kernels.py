"""Distances along edges as compiled loops for the CPU; importing this module imports numba.

Each edge is read once and no tensor of edges x channels exists (``python -m benchmarks.lsp``).
"""

import numpy as np

from lightning_modules.compiled import compiled_fast


@compiled_fast
def squared_distances(z: np.ndarray, ptr: np.ndarray, col: np.ndarray, out: np.ndarray) -> None:
    """``out[r] = |z[i] - z[col[r]]|^2`` over the edges r into i."""
    width = z.shape[1]
    for i in range(ptr.size - 1):
        for r in range(ptr[i], ptr[i + 1]):
            j = col[r]
            total = z.dtype.type(0)
            for d in range(width):
                away = z[i, d] - z[j, d]
                total += away * away
            out[r] = total


@compiled_fast
def l1_distances(z: np.ndarray, ptr: np.ndarray, col: np.ndarray, out: np.ndarray) -> None:
    """``out[r] = sum over d of |z[i, d] - z[col[r], d]|`` over the edges r into i."""
    width = z.shape[1]
    for i in range(ptr.size - 1):
        for r in range(ptr[i], ptr[i + 1]):
            j = col[r]
            total = z.dtype.type(0)
            for d in range(width):
                total += abs(z[i, d] - z[j, d])
            out[r] = total


@compiled_fast
def l1_backward(
    weights: np.ndarray, z: np.ndarray, ptr: np.ndarray, col: np.ndarray, d_z: np.ndarray
) -> None:
    """Adds ``sum over edges j -> i of weights[r] * sign(z[i] - z[j])`` to each centre i."""
    width = z.shape[1]
    for i in range(ptr.size - 1):
        for r in range(ptr[i], ptr[i + 1]):
            j = col[r]
            weight = weights[r]
            for d in range(width):
                away = z[i, d] - z[j, d]
                d_z[i, d] += weight * np.sign(away)
