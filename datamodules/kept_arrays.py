"""Arrays that are made once and kept in a file, their SHA-256 beside them: a damaged one is noticed."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datamodules.images import DEVICE_BYTES


def intact(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...] | None = None) -> bool:
    """Whether a file holds the array that :func:`write_array` made.

    Args:
        path: of the array.
        dtype: of its elements.
        shape: its shape, or None where that is not known.
    """
    recorded = path.with_suffix(".sha256")
    if not path.is_file() or not recorded.is_file():
        return False
    try:
        mapped = np.load(path, mmap_mode="r")
    except (ValueError, EOFError):
        return False
    if mapped.dtype != dtype or shape not in (None, mapped.shape):
        return False
    # a large one is not read here: a change of its length, which a full disk makes, has just been excluded
    large = path.stat().st_size > DEVICE_BYTES
    return large or _sha256(path) == recorded.read_text(encoding="ascii").strip()


def write_array(
    path: Path, dtype: np.dtype[Any], shape: tuple[int, ...], make: Callable[[NDArray[Any]], None]
) -> None:
    """Makes an array in its file, which appears when it is whole.

    Args:
        path: of the array, in a folder that is there.
        dtype: of its elements.
        shape: its shape.
        make: writes all elements.
    """
    part = path.with_suffix(".part")
    try:
        array = np.lib.format.open_memmap(part, "w+", dtype, shape)
        make(array)
        array.flush()
        del array
        path.with_suffix(".sha256").write_text(_sha256(part) + "\n", encoding="ascii")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
