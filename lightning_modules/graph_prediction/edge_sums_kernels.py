"""Weighted sums over edges, all factors at once, as compiled loops; importing this module imports numba.

Each edge is read once and no tensor of m x K x d numbers exists (``python -m benchmarks.factorgcn``).
Items are ``[n, 1, d]`` where all factors share them, else ``[n, K, d]``.
"""

import numpy as np

from lightning_modules.compiled import compiled_fast


@compiled_fast
def factor_sum(
    weights: np.ndarray, items: np.ndarray, ptr: np.ndarray, col: np.ndarray, out: np.ndarray
) -> None:
    """``out[i, k] += weights[r, k] * items[col[r], k]`` over the edges r into i; ``out`` starts at zero."""
    factors, width, shared = weights.shape[1], items.shape[2], items.shape[1] == 1
    for i in range(ptr.size - 1):
        for r in range(ptr[i], ptr[i + 1]):
            j = col[r]
            for k in range(factors):
                weight = weights[r, k]
                one = 0 if shared else k
                for d in range(width):
                    out[i, k, d] += weight * items[j, one, d]


@compiled_fast
def factor_sum_backward(
    grad: np.ndarray,
    weights: np.ndarray,
    items: np.ndarray,
    ptr: np.ndarray,
    col: np.ndarray,
    d_weights: np.ndarray,
    d_items: np.ndarray,
) -> None:
    """Gradients of :func:`factor_sum`; ``d_items`` starts at zero, ``d_weights`` is overwritten."""
    factors, width, shared = weights.shape[1], items.shape[2], items.shape[1] == 1
    for i in range(ptr.size - 1):
        for r in range(ptr[i], ptr[i + 1]):
            j = col[r]
            for k in range(factors):
                weight = weights[r, k]
                one = 0 if shared else k
                product = grad.dtype.type(0)
                for d in range(width):
                    product += grad[i, k, d] * items[j, one, d]
                    d_items[j, one, d] += weight * grad[i, k, d]
                d_weights[r, k] = product


@compiled_fast
def edge_dot(
    items: np.ndarray, centres: np.ndarray, ptr: np.ndarray, col: np.ndarray, out: np.ndarray
) -> None:
    """``out[r, k] = <items[col[r], k], centres[i, k]>`` over the edges r into i."""
    factors, width = items.shape[1], items.shape[2]
    for i in range(ptr.size - 1):
        for r in range(ptr[i], ptr[i + 1]):
            j = col[r]
            for k in range(factors):
                product = items.dtype.type(0)
                for d in range(width):
                    product += items[j, k, d] * centres[i, k, d]
                out[r, k] = product
