"""One run, one folder."""

import os
import re
import secrets
import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import write_text

_SECRET = re.compile(r"(^|[._-])(api_?key|token|password|passwd|secret|credential)s?($|[._-])", re.IGNORECASE)
_SHARED = "TENFOLD_RUN_FOLDER"


def check_writable(runs: Path) -> None:
    """Refuses a ``paths.runs`` in which no folder could be made, before any work is done.

    Raises:
        UserError: if it, or the nearest folder above it that exists, is no writable folder.
    """
    existing = runs.absolute()
    while not existing.exists():
        existing = existing.parent
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        kind = "not writable" if existing.is_dir() else "no folder"
        raise UserError(
            f"paths.runs={runs}: {existing} is {kind}, so no run folder can be made there."
            " Give another place, such as paths.runs=/tmp/runs."
        )


def create_run_folder(runs: Path, name: str) -> Path:
    """Makes ``<runs>/<name>/<time>_<short id>``, unique even for two runs started in the same second.

    Processes that another process of the same run has started get the folder of the first.

    Raises:
        UserError: if the folder cannot be made.
    """
    shared = os.environ.get(_SHARED)
    if shared:
        Path(shared).mkdir(parents=True, exist_ok=True)
        return Path(shared)
    if int(os.environ.get("RANK", "0")) > 0:
        raise UserError(
            f"This process is rank {os.environ['RANK']} and does not know the run folder of rank 0."
            f" Set {_SHARED} to one folder for all ranks, such as {_SHARED}={runs / name / 'shared'}."
        )
    while True:
        folder = runs / name / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(2)}"
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(f"paths.runs={runs}: cannot make {folder}: {error.strerror}. Give another place.") from error
        os.environ[_SHARED] = str(folder.absolute())
        (folder / "checkpoints").mkdir()
        (folder / "figures").mkdir()
        return folder


def leave_run_folder(folder: Path, keep: bool) -> None:
    """Ends this process's claim on ``folder``; removes it where a mistake left nothing worth keeping."""
    os.environ.pop(_SHARED, None)
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
        for parent in (folder.parent, folder.parent.parent):
            try:
                parent.rmdir()  # only where this run made it: a folder with other runs is not empty
            except OSError:
                break


def masked(config: Any) -> Any:
    """``config`` with every value whose key sounds like a secret replaced by ``***``."""
    if isinstance(config, dict):
        return {
            key: "***" if _SECRET.search(str(key)) and value is not None else masked(value)
            for key, value in config.items()
        }
    return [masked(value) for value in config] if isinstance(config, list) else config


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Writes the resolved configuration, secrets masked, to ``config.yaml``."""
    from omegaconf import OmegaConf

    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(masked(config))))
