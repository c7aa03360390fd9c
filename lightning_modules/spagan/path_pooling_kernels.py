"""Gradient of the path maximum as a compiled loop for the CPU; importing this module imports numba."""

import numpy as np

from lightning_modules.compiled import compiled_fast


@compiled_fast
def max_backward(
    grad: np.ndarray, features: np.ndarray, out: np.ndarray, ends: np.ndarray, d_features: np.ndarray
) -> None:
    """Add each path's gradient to its nodes that attain the maximum, in equal parts.

    ``grad`` and ``out`` are ``[P, F]``, ``features`` and ``d_features`` ``[N, F]``, ``ends`` ``[c - 1, P]``.
    """
    width = features.shape[1]
    share = np.empty(width, grad.dtype)
    for q in range(ends.shape[1]):
        share[:] = 0
        for k in range(ends.shape[0]):
            j = ends[k, q]
            for d in range(width):
                share[d] += features[j, d] == out[q, d]
        for d in range(width):
            share[d] = grad[q, d] / share[d]
        for k in range(ends.shape[0]):
            j = ends[k, q]
            for d in range(width):
                # A selected value, no conditional store: its branch could not be predicted.
                d_features[j, d] += share[d] if features[j, d] == out[q, d] else grad.dtype.type(0)
