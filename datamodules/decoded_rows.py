"""Decoded files of a folder that grows: one array of them is kept, and rows of unchanged files are copied.

The arrays of one folder, kind and size are a series, of which the newest alone stays on disk. Beside an array
lie its SHA-256 and a record of the file that each row came from. One lock serves a whole series and is never
deleted: whoever waits for it would hold a file that is no longer there. Who has mapped an array that another
process replaces keeps what it has mapped.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray
from torch import Tensor

from datamodules.decoded import DECODERS, fill, loaded, made_in_memory
from datamodules.kept_arrays import intact, write_array

Decode = Callable[[int], NDArray[np.uint8]]
"""Row number i, decoded."""


def cached_rows(
    name: str,
    stem: str,
    facts: list[Any],
    rows: list[Any],
    shape: tuple[int, ...],
    cache: str,
    decoder: Callable[[], Decode],
) -> Tensor:
    """An array of decoded rows, from the cache or made into it from what is there and the files that are new.

    Args:
        name: the ``data=`` choice, for messages.
        stem: what the names of this series' files begin with; another folder, kind or size has another one.
        facts: what every row follows from beside its files; plain data.
        rows: for each of the N rows what tells its files from any others; plain data.
        shape: of a row.
        cache: ``paths.cache``.
        decoder: called once if anything has to be made; what it gives is called from several threads.

    Returns:
        ``[N, *shape]`` uint8; mapped from a file if large.

    Raises:
        UserError: a file cannot be read, or an array too large for memory cannot be cached.
    """
    folder = Path(cache).expanduser() / "decoded"
    record = json.dumps([[*facts, *DECODERS], rows])
    path = folder / f"{stem}_{_key(record)}.npy"
    whole = (len(rows), *shape)

    def decode_all(array: NDArray[np.uint8]) -> None:
        fill(array, decoder(), list(range(len(rows))))

    def make(array: NDArray[np.uint8]) -> None:
        _fill(array, path, stem, record, decoder)

    try:
        folder.mkdir(parents=True, exist_ok=True)
        # loaded before it is left: another process may replace the array right after
        with FileLock(folder / f"{stem}.lock"):
            if not intact(path, np.dtype(np.uint8), whole):
                path.with_suffix(".json").write_text(record, encoding="utf-8")
                write_array(path, np.dtype(np.uint8), whole, make)
            _delete_older(path, stem)
            return loaded(path)
    except OSError as error:
        return made_in_memory(name, path, whole, decode_all, error)


def _fill(
    array: NDArray[np.uint8], path: Path, stem: str, record: str, decoder: Callable[[], Decode]
) -> None:
    """Copies what an older array has and decodes the rest."""
    facts, rows = json.loads(record)
    older, places = _older(path, stem, facts, array.shape[1:])
    decode = decoder()

    def row(number: int) -> NDArray[np.uint8]:
        place = places.get(json.dumps(rows[number]))
        if older is None or place is None:
            return decode(number)
        copied: NDArray[np.uint8] = older[place]
        return copied

    fill(array, row, list(range(len(rows))))


def _older(
    path: Path, stem: str, facts: list[Any], shape: tuple[int, ...]
) -> tuple[NDArray[np.uint8] | None, dict[str, int]]:
    """An array of the series that holds rows of the same facts, mapped, and the row of each file."""
    for other in _others(path, stem):
        if other.suffix != ".npy":
            continue
        try:
            record = other.with_suffix(".json").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        # named after its record: a damaged one is noticed
        if f"{stem}_{_key(record)}" != other.stem:
            continue
        older_facts, older_rows = json.loads(record)
        if older_facts == facts and intact(other, np.dtype(np.uint8), (len(older_rows), *shape)):
            places = {json.dumps(row): place for place, row in enumerate(older_rows)}
            return np.load(other, mmap_mode="r"), places
    return None, {}


def _delete_older(path: Path, stem: str) -> None:
    for other in list(_others(path, stem)):
        # where files that are in use cannot be deleted the next run does it
        with contextlib.suppress(OSError):
            other.unlink()


def _others(path: Path, stem: str) -> Iterator[Path]:
    """Files of the series' other arrays."""
    pattern = re.compile(re.escape(stem) + r"_[0-9a-f]{16}\.(npy|sha256|json|part)")
    for other in sorted(path.parent.iterdir()):
        if pattern.fullmatch(other.name) and other.stem != path.stem:
            yield other


def _key(record: str) -> str:
    return hashlib.sha256(record.encode()).hexdigest()[:16]
