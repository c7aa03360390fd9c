"""Small image sets as files, in the forms that the data modules read."""

import gzip
import hashlib
import pickle
import struct
import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def idx(array: NDArray[np.uint8]) -> bytes:
    """The bytes of an idx file."""
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


def gzipped(content: bytes) -> bytes:
    return gzip.compress(content, mtime=0)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def photograph(path: Path, colour: tuple[int, int, int], size: tuple[int, int] = (20, 16)) -> None:
    """An image of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


class _Python2Pickler(pickle._Pickler):  # type: ignore[name-defined, misc]
    """Writes bytes and words alike as the byte strings of Python 2, which the C version could not be told."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_string(self, value: bytes | str) -> None:
        content = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(value)

    dispatch[bytes] = dispatch[str] = save_string


def pickled(value: dict[str, Any]) -> bytes:
    """As Python 2 wrote it."""
    sink = BytesIO()
    _Python2Pickler(sink, protocol=2).dump(value)
    return sink.getvalue()


def tar_gz(members: dict[str, bytes]) -> bytes:
    sink = BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, BytesIO(content))
    return sink.getvalue()
