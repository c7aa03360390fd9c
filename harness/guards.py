"""What is looked at before the first epoch, and what is said when training diverges."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import UserError

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

# A savepoint holds the weights, two moments of them in Adam, and the best weights so far. The last one, the
# one before and one that is being written lie beside each other, and best.ckpt in the same way.
_COPIES = 3 * 4 + 2

_RUN_FLOOR = 100 * 10**6  # bytes: logs, pictures, a dashboard's files, and states that are no parameters
_CACHE_FLOOR = 20 * 10**6  # bytes: compiled code and font lists; data sets are checked when they are fetched


def free_bytes(folder: Path) -> int:
    """Bytes that this user may still write on the file system of ``folder``; 0 where no file can be made."""
    state = os.statvfs(folder)
    full = state.f_files > 0 and state.f_favail == 0  # some file systems count no files
    return 0 if full else state.f_bavail * state.f_frsize


def needed_bytes(module: "LightningModule", mode: str) -> int:
    """What a run's folder will hold, from the sizes of the module's parameters and buffers.

    Args:
        module: as built, before training.
        mode: ``fit``, ``test`` or ``predict``; only the first writes checkpoints.
    """
    if mode != "fit":
        return _RUN_FLOOR // 10
    held = [*module.parameters(), *module.buffers()]
    return _RUN_FLOOR + _COPIES * sum(tensor.numel() * tensor.element_size() for tensor in held)


def check_space(paths: Mapping[str, str], needed: int, free: Callable[[Path], int] = free_bytes) -> None:
    """Refuses places that are too full, before any data is fetched.

    Args:
        paths: ``paths`` of the configuration; ``runs`` takes the run and its checkpoints, ``cache`` is used
            only where it can be written.
        needed: bytes of the run folder.
        free: bytes left on the file system of an existing folder.

    Raises:
        UserError: place, free and needed bytes, and the fix.
    """
    runs, cache = (_existing(Path(paths[key]).expanduser()) for key in ("runs", "cache"))
    wanted = [("runs", runs, needed)]
    if os.access(cache, os.W_OK):
        shared = needed if cache.stat().st_dev == runs.stat().st_dev else 0
        wanted.append(("cache", cache, _CACHE_FLOOR + shared))
    for key, folder, size in wanted:
        left = free(folder)
        if left < size:
            raise UserError(
                f"paths.{key}={paths[key]}: {left // 10**6:,} MB are free there, and this run needs about"
                f" {-(-size // 10**6):,} MB. Free some, or give another place with paths.{key}=<folder>."
            )


def _existing(folder: Path) -> Path:
    folder = folder.absolute()
    while not folder.is_dir():
        folder = folder.parent
    return folder


def diverged(trainer: "Trainer", module: "LightningModule", what: str, epoch: int, step: int) -> UserError:
    """The error for a training that produces no numbers any more.

    Args:
        trainer: the phase's.
        module: its module.
        what: ``train/loss is nan``.
        epoch: index of the epoch in its phase.
        step: optimiser steps of the phase at that moment.
    """
    phase = f" of phase {module.phase}" if hasattr(module, "phase") else ""
    folder = Path(trainer.default_root_dir) / "checkpoints"
    good = next((folder / name for name in ("last.ckpt", "best.ckpt") if (folder / name).is_file()), None)
    kept = f"The last good checkpoint is {good}." if good else "No checkpoint had been written before."
    return UserError(
        f"training diverged: {what} in epoch {epoch}, step {step}{phase}. {kept} Lower model.optimizer.lr."
    )
