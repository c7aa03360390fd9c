"""One process to a folder: a lock in it, which ends with the process at the latest."""

from pathlib import Path

from filelock import FileLock, Timeout

from harness.errors import UserError

LOCK = ".lock"


def claim_folder(folder: Path, taken: str) -> FileLock:
    """Claims ``folder`` for this process, until :func:`release_folder` or its end.

    Args:
        folder: exists.
        taken: what to say if another process has it.

    Raises:
        UserError: ``taken``.
    """
    claim = FileLock(folder / LOCK, timeout=0)
    try:
        claim.acquire()
    except Timeout as error:
        raise UserError(taken) from error
    return claim


def release_folder(folder: Path, claim: FileLock) -> None:
    """Ends a claim."""
    # in this order: once released, the file may be another's claim
    (folder / LOCK).unlink(missing_ok=True)
    claim.release()
