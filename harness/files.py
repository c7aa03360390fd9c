"""Files that are either whole or not there."""

import json
import math
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

_UNFINISHED = ".unfinished."


def write_atomically(path: Path, write: Callable[[Path], object], previous: Path | None = None) -> None:
    """Lets ``write`` fill a temporary file beside ``path``, then moves it into place.

    Args:
        path: the file to make or replace; its folder exists.
        write: called with the temporary path; what it raises is passed on and ``path`` stays as it was.
        previous: where the file that was at ``path`` goes, on the same file system; None drops it.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}{_UNFINISHED}", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp's 0600 would lock colleagues out of a shared run folder
        if previous is not None and path.exists():
            # by way of a second name, so that at no moment the file is missing
            second = temporary.with_name(f"{temporary.name}.previous")
            try:
                os.link(path, second)
            except OSError:  # a file system without links
                path.replace(previous)
            else:
                second.replace(previous)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def remove_unfinished_files(folder: Path) -> None:
    """Removes what :func:`write_atomically` could not finish in ``folder`` and below, because of a kill."""
    for path in folder.rglob(f".*{_UNFINISHED}*"):
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 ``text`` to ``path`` atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Writes ``value`` as indented JSON to ``path`` atomically; NaN and infinity, unknown there, as null."""
    write_text(path, json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
