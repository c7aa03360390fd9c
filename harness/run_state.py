"""What a run folder says of its run while it is not finished: ``run.json``, and a lock while it runs."""

import hashlib
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.claims import claim_folder, release_folder
from harness.errors import UserError
from harness.files import write_json
from harness.run_folder import masked_command
from harness.stopping import PRUNED

FILE = "run.json"

# What changes where a run computes, writes or reports, and nothing of what it computes.
_PLACE = ("resume", "paths", "logger", "ckpt", "published", "sweep")
_WATCHING = ("progress", "pictures", "savepoints", "finite_loss")


@dataclass
class RunState:
    """The content of ``run.json``.

    Attributes:
        words: the command's overrides, secrets masked.
        choices: the chosen option of each group.
        configuration: :func:`fingerprint` of the configuration.
        tracker_id: id of the run on a dashboard, the same for all its sessions.
        sessions: when each session began, ISO 8601; more than one once the run was continued.
    """

    words: list[str]
    choices: dict[str, str]
    configuration: str
    tracker_id: str
    sessions: list[str]

    @classmethod
    def new(cls, words: Sequence[str], choices: Mapping[str, str], config: Mapping[str, Any]) -> "RunState":
        """The state of a run that begins."""
        return cls(masked_command(list(words)), dict(choices), fingerprint(config), secrets.token_hex(4), [])

    def begin_session(self, folder: Path) -> None:
        """Notes a session that begins now, and writes the file."""
        self.sessions.append(datetime.now(UTC).isoformat(timespec="seconds"))
        write_json(folder / FILE, asdict(self))


def read_state(folder: Path) -> RunState:
    """The state in ``folder``.

    Raises:
        UserError: if it is no run folder, or its ``run.json`` cannot be read.
    """
    path = folder / FILE
    try:
        is_there = path.is_file()
    except OSError as error:  # a name that is too long
        raise UserError(f"resume={folder}: {error.strerror}. Give the folder of a run.") from error
    if not is_there:
        there = "has no run.json, so it is no run folder" if folder.is_dir() else "is no folder"
        raise UserError(
            f"resume={folder} {there}. Give the folder of a run, such as runs/spagan_cora/<time>_<id>,"
            " or resume=auto for the newest unfinished run of this configuration."
        )
    from pydantic import TypeAdapter, ValidationError

    try:
        return TypeAdapter(RunState).validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        reason = ": ".join([*map(str, first["loc"]), first["msg"]])
    except OSError as error:
        reason = str(error)
    raise UserError(f"resume={folder}: {FILE} cannot be read ({reason}). Start the run anew.")


def is_finished(folder: Path) -> bool:
    """True where the run came to its end: its results, or why it was pruned, are the last thing it writes."""
    return any((folder / name).is_file() for name in ("results.json", PRUNED))


def claim_newest_unfinished(runs: Path, name: str, configuration: str) -> tuple[Path, FileLock] | None:
    """The newest folder of ``<runs>/<name>`` whose run has this configuration, is unfinished and not running.

    Args:
        runs: ``paths.runs``.
        name: ``<model>_<data>``.
        configuration: a :func:`fingerprint`.

    Returns:
        The folder, and the claim on it: of two processes that look at the same time, one gets it.
    """
    for path in sorted((runs / name).glob(f"*/{FILE}"), reverse=True):
        folder = path.parent
        try:
            if read_state(folder).configuration != configuration or is_finished(folder):
                continue
            claim = lock(folder)
        except UserError:
            continue
        if not is_finished(folder):  # it may have come to its end before the claim
            return folder, claim
        release_folder(folder, claim)
    return None


def lock(folder: Path) -> FileLock:
    """Claims the run in ``folder`` for this process; :func:`harness.claims.release_folder` ends it.

    Raises:
        UserError: if another process runs in it.
    """
    taken = f"resume={folder}: another process is running in this folder. Wait for it, or stop it first."
    return claim_folder(folder, taken)


def is_running(folder: Path) -> bool:
    """True while a process runs in ``folder``."""
    try:
        claim = lock(folder)
    except UserError:
        return True
    release_folder(folder, claim)
    return False


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that decides what a run computes, whatever folders it uses for it."""
    kept = {key: value for key, value in config.items() if key not in _PLACE}
    callbacks = kept.get("callbacks") or {}
    kept["callbacks"] = {name: node for name, node in callbacks.items() if name not in _WATCHING}
    # of two that are the same folder the first gives the name
    folders = {value: f"paths.{key}" for key, value in reversed((config.get("paths") or {}).items())}
    placeless: dict[str, Any] = _replaced(kept, folders)
    return placeless


def _replaced(value: Any, names: Mapping[str, str]) -> Any:
    if isinstance(value, Mapping):
        return {key: _replaced(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [_replaced(inner, names) for inner in value]
    return names.get(value, value) if isinstance(value, str) else value


def fingerprint(config: Mapping[str, Any]) -> str:
    """Sixteen hexadecimal digits that two configurations share if they compute the same."""
    text = json.dumps(identity(config), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def difference(
    one: Mapping[str, Any], other: Mapping[str, Any], prefix: str = ""
) -> tuple[str, Any, Any] | None:
    """The first key in which two nodes differ, and both values; None where they are equal."""
    for key in dict.fromkeys([*one, *other]):
        full, left, right = f"{prefix}{key}", one.get(key), other.get(key)
        if isinstance(left, Mapping) and isinstance(right, Mapping):
            inner = difference(left, right, f"{full}.")
            if inner:
                return inner
        elif left != right:
            return full, left, right
    return None
