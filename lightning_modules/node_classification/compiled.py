"""How this project's numba loops are compiled; importing this module imports numba."""

from collections.abc import Callable
from typing import Any

import numba

# Everything that is fast except the promise that no NaN occurs: a diverged run must show as NaN.
FASTMATH = {"contract", "reassoc", "nsz", "arcp"}


def compiled(function: Callable[..., None]) -> Any:
    """Compile on first call, keeping the result on disk where the cache folder can be written."""
    try:
        return numba.njit(cache=True, nogil=True, fastmath=FASTMATH, error_model="numpy")(function)
    except RuntimeError:  # numba finds no writable cache folder, e.g. a read-only installation
        return numba.njit(nogil=True, fastmath=FASTMATH, error_model="numpy")(function)
