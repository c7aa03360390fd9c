"""Attention over sorted rows as compiled loops for the CPU; importing this module imports numba.

Each row is read once and no tensor of R x H x D numbers exists, which is where the torch version spends its
time: without the loops a training step on Cora takes 1.6 times as long
(``python -m benchmarks.training_step``).
"""

import numpy as np

from lightning_modules.compiled import compiled_fast


@compiled_fast
def shifted_scores(
    centre_scores: np.ndarray,
    item_scores: np.ndarray,
    ptr: np.ndarray,
    col: np.ndarray,
    negative_slope: float,
    out: np.ndarray,
) -> None:
    """Leaky ReLU of the scores minus their centre's maximum, into ``out`` ``[R, H]``.

    The exponential is left to torch, which has a vectorised one.
    """
    heads = centre_scores.shape[1]
    largest = np.empty(heads, out.dtype)
    one = out.dtype.type(1)
    for i in range(ptr.size - 1):
        largest[:] = -np.inf
        for r in range(ptr[i], ptr[i + 1]):
            j = col[r]
            for h in range(heads):
                score = centre_scores[i, h] + item_scores[j, h]
                score *= negative_slope if score <= 0 else one
                out[r, h] = score
                largest[h] = max(largest[h], score)
        for r in range(ptr[i], ptr[i + 1]):
            for h in range(heads):
                out[r, h] -= largest[h]


@compiled_fast
def normalise_and_sum(
    alpha: np.ndarray, keep: np.ndarray, items: np.ndarray, ptr: np.ndarray, col: np.ndarray, out: np.ndarray
) -> None:
    """Divide exponentials ``alpha`` ``[R, H]`` by their centre's sum, in place, and add weighted items.

    ``keep`` is ``[R, H]``, or ``[0, H]`` for no dropout; ``out`` ``[N, H, D]`` starts at zero.
    """
    heads, width = items.shape[1], items.shape[2]
    dropped = keep.shape[0] > 0
    total = np.empty(heads, alpha.dtype)
    for i in range(ptr.size - 1):
        total[:] = 0
        for r in range(ptr[i], ptr[i + 1]):
            for h in range(heads):
                total[h] += alpha[r, h]
        for r in range(ptr[i], ptr[i + 1]):
            j = col[r]
            for h in range(heads):
                weight = alpha[r, h] / total[h]
                alpha[r, h] = weight
                if dropped:
                    weight *= keep[r, h]
                for d in range(width):
                    out[i, h, d] += weight * items[j, h, d]


@compiled_fast
def attention_backward(
    grad: np.ndarray,
    centre_scores: np.ndarray,
    item_scores: np.ndarray,
    items: np.ndarray,
    alpha: np.ndarray,
    keep: np.ndarray,
    out: np.ndarray,
    ptr: np.ndarray,
    col: np.ndarray,
    negative_slope: float,
    d_centre: np.ndarray,
    d_item: np.ndarray,
    d_items: np.ndarray,
) -> None:
    """Gradients of the centre scores, item scores and items, added to three arrays that start at zero."""
    heads, width = items.shape[1], items.shape[2]
    dropped = keep.shape[0] > 0
    delta = np.empty(heads, grad.dtype)
    one = grad.dtype.type(1)
    for i in range(ptr.size - 1):
        delta[:] = 0
        for h in range(heads):
            for d in range(width):
                delta[h] += grad[i, h, d] * out[i, h, d]
        for r in range(ptr[i], ptr[i + 1]):
            j = col[r]
            for h in range(heads):
                scale = keep[r, h] if dropped else one
                share = alpha[r, h]
                weight = share * scale
                dot = grad.dtype.type(0)
                for d in range(width):
                    dot += grad[i, h, d] * items[j, h, d]
                    d_items[j, h, d] += weight * grad[i, h, d]
                d_score = share * (dot * scale - delta[h])
                # A selected factor, no branch: it could not be predicted.
                d_score *= negative_slope if centre_scores[i, h] + item_scores[j, h] <= 0 else one
                d_centre[i, h] += d_score
                d_item[j, h] += d_score
