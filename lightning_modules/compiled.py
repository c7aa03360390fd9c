"""How this project's numba loops are compiled; importing this module imports numba."""

from collections.abc import Callable
from typing import Any

import numba

# Everything that is fast except the promise that no NaN occurs: a diverged run must show as NaN.
FASTMATH = {"contract", "reassoc", "nsz", "arcp"}


def compiled(function: Callable[..., Any]) -> Any:
    """Compile exactly as written on first call, keeping the result on disk where that can be done."""
    return _compile(function)


def compiled_fast(function: Callable[..., Any]) -> Any:
    """As :func:`compiled`, with sums in whatever order is fastest."""
    return _compile(function, fastmath=FASTMATH, error_model="numpy")


def _compile(function: Callable[..., Any], **options: Any) -> Any:
    try:
        return numba.njit(cache=True, nogil=True, **options)(function)
    except RuntimeError:  # numba finds no writable cache folder, e.g. a read-only installation
        return numba.njit(nogil=True, **options)(function)
