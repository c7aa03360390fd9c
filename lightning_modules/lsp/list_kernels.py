"""Values of points and those in their lists as compiled loops on CPU; importing this module imports numba.

Lists are ``[N, K]``, numbers of points over all clouds. Gradients ``d_z`` start at zero.
"""

import numpy as np

from lightning_modules.compiled import compiled_fast


@compiled_fast
def products(z: np.ndarray, lists: np.ndarray, out: np.ndarray) -> None:
    """``out[i, k] = <z[i], z[lists[i, k]]>``."""
    for i in range(lists.shape[0]):
        for k in range(lists.shape[1]):
            j = lists[i, k]
            total = z.dtype.type(0)
            for d in range(z.shape[1]):
                total += z[i, d] * z[j, d]
            out[i, k] = total


@compiled_fast
def products_backward(grad: np.ndarray, z: np.ndarray, lists: np.ndarray, d_z: np.ndarray) -> None:
    """Gradient of :func:`products` at both ends."""
    for i in range(lists.shape[0]):
        for k in range(lists.shape[1]):
            j, weight = lists[i, k], grad[i, k]
            for d in range(z.shape[1]):
                mine = z[i, d]
                d_z[i, d] += weight * z[j, d]
                d_z[j, d] += weight * mine


@compiled_fast
def squared_distances(z: np.ndarray, lists: np.ndarray, out: np.ndarray) -> None:
    """``out[i, k] = |z[i] - z[lists[i, k]]|^2``."""
    for i in range(lists.shape[0]):
        for k in range(lists.shape[1]):
            j = lists[i, k]
            total = z.dtype.type(0)
            for d in range(z.shape[1]):
                away = z[i, d] - z[j, d]
                total += away * away
            out[i, k] = total


@compiled_fast
def squared_distances_backward(grad: np.ndarray, z: np.ndarray, lists: np.ndarray, d_z: np.ndarray) -> None:
    """Gradient of :func:`squared_distances` at both ends."""
    for i in range(lists.shape[0]):
        for k in range(lists.shape[1]):
            j, weight = lists[i, k], 2 * grad[i, k]
            for d in range(z.shape[1]):
                change = weight * (z[i, d] - z[j, d])
                d_z[i, d] += change
                d_z[j, d] -= change


@compiled_fast
def l1_distances(z: np.ndarray, lists: np.ndarray, out: np.ndarray) -> None:
    """``out[i, k] = |z[i] - z[lists[i, k]]|_1``."""
    for i in range(lists.shape[0]):
        for k in range(lists.shape[1]):
            j = lists[i, k]
            total = z.dtype.type(0)
            for d in range(z.shape[1]):
                total += abs(z[i, d] - z[j, d])
            out[i, k] = total


@compiled_fast
def l1_distances_backward(grad: np.ndarray, z: np.ndarray, lists: np.ndarray, d_z: np.ndarray) -> None:
    """Gradient of :func:`l1_distances` at both ends; 0 where a difference is."""
    for i in range(lists.shape[0]):
        for k in range(lists.shape[1]):
            j, weight = lists[i, k], grad[i, k]
            for d in range(z.shape[1]):
                change = weight * np.sign(z[i, d] - z[j, d])
                d_z[i, d] += change
                d_z[j, d] -= change
