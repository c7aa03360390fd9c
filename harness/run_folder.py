"""One run, one folder."""

import os
import re
import secrets
import shutil
from collections.abc import Collection
from datetime import datetime
from pathlib import Path
from typing import Any

from harness.errors import UserError
from harness.files import write_text
from harness.launch import from_first_process, launched

_SECRET = re.compile(
    r"(^|[._-])(api_?key|access_?key|private_?key|token|password|passwd|secret|credential)s?($|[._-])",
    re.IGNORECASE,
)
JOB_RECORD = "TENFOLD_JOB_RECORD"
"""Environment variable: a file into which a run writes the path of its folder, for the sweep around it."""

UNREACHED = "unreached.txt"
"""Beside the job record: why the dashboard of the job's run could not be reached."""

_USER = re.compile(r"(?<=://)[^/\s@'\"]+(?=@)")  # user:password or a token in an address
SWEEP = "TENFOLD_SWEEP"
"""Environment variable with the name of the sweep that a run is a job of."""

_SHARED = "TENFOLD_RUN_FOLDER"
_ATTEMPTS = 100  # names tried before a folder that cannot be made is reported
_made: dict[Path, list[Path]] = {}  # run folders of this process, and the folders above made for each


def check_writable(runs: Path) -> None:
    """Refuses a ``paths.runs`` in which no folder could be made, before any work is done.

    Raises:
        UserError: if it, or the nearest folder above it that exists, is no writable folder.
    """
    existing = runs.absolute()
    try:
        while not existing.exists():
            existing = existing.parent
    except OSError as error:  # a name that is too long, a loop of links
        raise UserError(
            f"paths.runs={runs}: {error.strerror}. Give another place, such as paths.runs=/tmp/runs."
        ) from error
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        kind = "not writable" if existing.is_dir() else "no folder"
        raise UserError(
            f"paths.runs={runs}: {existing} is {kind}, so no run folder can be made there."
            " Give another place, such as paths.runs=/tmp/runs."
        )


def create_run_folder(runs: Path, name: str, continued: Path | None = None) -> Path:
    """Makes ``<runs>/<name>/<time>_<short id>``, unique even for two runs started in the same second.

    Processes that another process of the same run has started get the folder of the first.

    Args:
        runs: ``paths.runs``.
        name: ``<model>_<data>``.
        continued: the folder of a run that goes on, in place of a new one.

    Raises:
        UserError: if the folder cannot be made.
    """
    return _with_subfolders(Path(from_first_process(lambda: str(_create(runs, name, continued)))))


def _create(runs: Path, name: str, continued: Path | None) -> Path:
    shared = os.environ.get(_SHARED)
    if continued is not None:
        os.environ[_SHARED] = str(continued.absolute())
        _made[continued] = []
        _note(continued)
        return _with_subfolders(continued)
    if shared:
        try:
            return _with_subfolders(Path(shared))
        except OSError as error:
            raise UserError(
                f"{_SHARED}={shared}: {error.strerror}. Name a folder that can be written."
            ) from error
    if launched() is None and int(os.environ.get("RANK", "0")) > 0:
        raise UserError(
            f"This process is rank {os.environ['RANK']} and does not know the run folder of rank 0."
            f" Set {_SHARED} to one folder for all ranks, such as {_SHARED}={runs / name / 'shared'}."
        )
    for _ in range(_ATTEMPTS):
        folder = runs / name / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(2)}"
        above = [parent for parent in folder.absolute().parents if not parent.exists()]
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
        except OSError as error:
            # another run took the name, or, ending, removed the empty folder above it: try the next name
            fault = error
            continue
        os.environ[_SHARED] = str(folder.absolute())
        _made[folder] = above
        _note(folder)
        return _with_subfolders(folder)
    raise UserError(
        f"paths.runs={runs}: cannot make {folder}: {fault.strerror}. Give another place."
    ) from fault


def _note(folder: Path) -> None:
    if JOB_RECORD in os.environ:
        write_text(Path(os.environ[JOB_RECORD]), f"{folder.absolute()}\n")


def note_unreached(why: str) -> None:
    """Lets the sweep around this run know that its other jobs need not wait for the dashboard."""
    if JOB_RECORD in os.environ:
        write_text(Path(os.environ[JOB_RECORD]).with_name(UNREACHED), f"{why}\n")


def _with_subfolders(folder: Path) -> Path:
    for name in ("checkpoints", "figures"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return folder


def leave_run_folder(folder: Path, keep: bool) -> None:
    """Ends this process's claim on ``folder``; removes it where a mistake left nothing worth keeping.

    Nothing is removed that this process has not made: not the folder of rank 0, nor one named by the user.
    """
    if folder not in _made:
        return
    above = _made.pop(folder)
    os.environ.pop(_SHARED, None)
    if not keep:
        shutil.rmtree(folder, ignore_errors=True)
        for parent in above:
            try:
                parent.rmdir()
            except OSError:  # another run has begun in it
                break


def is_secret(key: object) -> bool:
    """Whether a key sounds like one of a secret: ``api_key``, ``hf.token``, ``password``."""
    return bool(_SECRET.search(str(key)))


def masked(config: Any) -> Any:
    """``config`` with ``***`` for every value whose key sounds like a secret, and for users in addresses."""
    if isinstance(config, dict):
        return {
            key: "***" if is_secret(key) and value is not None else masked(value)
            for key, value in config.items()
        }
    if isinstance(config, list):
        return [masked(value) for value in config]
    return _USER.sub("***", config) if isinstance(config, str) else config


def masked_command(command: list[str]) -> list[str]:
    """``command`` with ``***`` for the value of each ``key=value`` that holds a secret.

    A value in braces that names a secret somewhere is masked as a whole.
    """
    words = []
    for word in command:
        key, equals, value = word.partition("=")
        inner = re.findall(r"[\w.-]+(?=['\"]?\s*:)", value) if "{" in value else []
        secret = equals and any(is_secret(name) for name in (key, *inner))
        words.append(f"{key}=***" if secret else _USER.sub("***", word))
    return words


def is_masked(word: str) -> bool:
    """Whether :func:`masked_command` has taken a secret out of ``word``."""
    return word.endswith("=***") or "://***@" in word


def without_secrets(text: str, secrets: Collection[str]) -> str:
    """``text`` with ``***`` for each of ``secrets``, the longest first."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def secret_values(config: Any) -> set[str]:
    """The texts that :func:`masked` hides, of a length that occurs nowhere by chance."""
    found: set[str] = set()
    if isinstance(config, dict):
        for key, value in config.items():
            found |= _texts(value) if is_secret(key) else secret_values(value)
    elif isinstance(config, list):
        found = set().union(*map(secret_values, config))
    elif isinstance(config, str):
        found = set(_USER.findall(config))
    return {text for text in found if len(text) >= 4}


def _texts(value: Any) -> set[str]:
    if isinstance(value, dict | list):
        return set().union(*map(_texts, value.values() if isinstance(value, dict) else value))
    return set() if value is None or isinstance(value, bool) else {str(value)}


def write_config(folder: Path, config: dict[str, Any]) -> None:
    """Writes the resolved configuration, secrets masked, to ``config.yaml``."""
    from omegaconf import OmegaConf

    write_text(folder / "config.yaml", OmegaConf.to_yaml(OmegaConf.create(masked(config))))
