"""Pickles of public data sets, opened without the power to run code: plain containers and arrays only."""

import io
import pickle
from collections.abc import Mapping
from typing import Any

import numpy as np

from harness.errors import UserError


def _dtype(code: str, align: int = 0, copy: int = 1) -> np.dtype:
    # Old pickles give the flags as numbers, of which numpy 2.4 warns.
    return np.dtype(code, align=bool(align), copy=bool(copy))


ARRAYS: dict[tuple[str, str], Any] = {
    ("numpy.core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("numpy._core.multiarray", "_reconstruct"): np.zeros(0).__reduce__()[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): _dtype,
}
"""What a pickled array asks for, by module and name."""


class _RestrictedUnpickler(pickle.Unpickler):
    def __init__(self, content: bytes, admitted: Mapping[tuple[str, str], Any]) -> None:
        super().__init__(io.BytesIO(content), encoding="latin1")
        self._admitted = admitted

    def find_class(self, module: str, name: str) -> Any:
        try:
            return self._admitted[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"{module}.{name}") from None


def load_restricted(
    content: bytes,
    label: str,
    admitted: Mapping[tuple[str, str], Any] = ARRAYS,
    holds: str = "arrays, lists and words",
) -> Any:
    """The object in a pickle that may hold numbers, text, lists, dictionaries and what is admitted.

    Args:
        content: the pickle; Python 2 strings are read as latin1, as numpy needs.
        label: which file, for the message.
        admitted: classes and functions that it may ask for, by module and name.
        holds: what that means, for the message.

    Raises:
        UserError: the pickle asks for any other class or function, or is broken.
    """
    try:
        return _RestrictedUnpickler(content, admitted).load()
    except Exception as error:  # a broken pickle can raise nearly anything
        raise UserError(
            f"{label} was refused: a data set's pickle may hold {holds} only, and this one failed with "
            f"{type(error).__name__}: {error}. Delete it and run again to download it."
        ) from error
