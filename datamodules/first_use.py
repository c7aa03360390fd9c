"""Files whose SHA-256 is published nowhere: the hash found on first use is kept and compared from then on.

Nobody vouches for such a file when it is first read, which is why it is told once and why only readers that
cannot run code may open it. What a record rules out is that the data change unnoticed between two runs.

Records lie in ``<cache>/hashes/<path>.sha256``, one for each file whatever folder it lies in, so that a
folder of data sets may be read-only, and so that two folders with different files of one name are noticed.
"""

import logging
from pathlib import Path

from filelock import FileLock

from harness.errors import UserError

log = logging.getLogger("tenfold")


def record_of(path: str, cache: str) -> Path:
    """Where the hash of a file is kept.

    Args:
        path: of the file below the folder of data sets.
        cache: folder of derived files (``paths.cache``).
    """
    return Path(cache).expanduser() / "hashes" / f"{path}.sha256"


def confirm(name: str, source: str, path: str, found: str, cache: str) -> None:
    """Compares ``found`` with the recorded hash, or records it where there is none yet.

    Args:
        name: the ``data=`` choice, or the key that asks for the file, ``model.weights``; for messages.
        source: where the content came from, a file or an address, for messages.
        path: of the file below the folder of data sets.
        found: its SHA-256, lower-case hexadecimal.
        cache: folder of derived files.

    Raises:
        UserError: the recorded hash is another one, or nothing can be recorded.
    """
    record = record_of(path, cache)
    name = name if "." in name else f"data={name}"
    try:
        if not record.is_file():
            record.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(record.with_name(".hashes.lock")):
                if not record.is_file():  # else another process was faster
                    part = record.with_name(record.name + ".part")
                    part.write_text(found + "\n", encoding="ascii")
                    part.replace(record)
                    log.warning(
                        f"{name}: took {source} on trust, for its SHA-256 is published nowhere. It is "
                        f"{found}, kept in {record} and compared from now on."
                    )
                    return
        recorded = record.read_text(encoding="ascii", errors="replace").strip()
    except OSError as error:
        raise UserError(
            f"{name}: the SHA-256 of {path} is published nowhere, and the one found cannot be kept in "
            f"{record} ({error.strerror or error}). Set paths.cache to a folder you can write to."
        ) from error
    if found != recorded:
        raise UserError(
            f"{name}: {source} is not the file that was used first: SHA-256 recorded {recorded}, found "
            f"{found}. It was not opened. Put the first file back; or, if you trust the new one, delete "
            f"{record} and run again."
        )
