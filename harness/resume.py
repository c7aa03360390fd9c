"""Finding the run that a command continues, and making sure that it is the same run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from harness.claims import release_folder
from harness.errors import UserError
from harness.run_folder import is_masked, masked
from harness.run_state import (
    claim_newest_unfinished,
    difference,
    identity,
    is_finished,
    lock,
    read_state,
)
from harness.stopping import PRUNED


def continued_words(words: Sequence[str]) -> tuple[str, ...]:
    """The overrides of the run that ``resume=<folder>`` names, followed by those of this command.

    Args:
        words: the overrides of the command line. With no ``resume``, or ``resume=auto``, they are the answer.

    Raises:
        UserError: if the folder is none of a run, its run is finished, or a masked secret is not given again.
    """
    asked = [word.partition("=")[2].strip("'\"") for word in words if word.partition("=")[0] == "resume"]
    if not asked or asked[-1] in ("", "null", "auto"):
        return tuple(words)
    folder = Path(asked[-1]).expanduser()
    state = read_state(folder)
    if is_finished(folder):
        raise UserError(_ended(folder))
    given = {_key(word) for word in words}
    kept = [word for word in state.words if _key(word) not in given | {"resume"}]
    secret = next((word for word in kept if is_masked(word)), None)
    if secret:
        raise UserError(
            f"resume={folder}: {_key(secret)} is a secret, which no file keeps."
            f" Give it again: {_key(secret)}=..."
        )
    return (*kept, *words)


def claim_to_continue(
    config: Mapping[str, Any], runs: Path, name: str, configuration: str
) -> tuple[Path, FileLock] | None:
    """The run folder that ``config['resume']`` asks for, and the claim on it; None for a new run.

    Raises:
        UserError: if the folder's run was started with other settings, came to its end or is running.
    """
    resume = config["resume"]
    if resume is None:
        return None
    if resume == "auto":
        return claim_newest_unfinished(runs, name, configuration)
    folder = Path(resume).expanduser()
    check_same(config, folder)
    claim = lock(folder)
    if is_finished(folder):
        release_folder(folder, claim)
        raise UserError(_ended(folder))
    return folder, claim


def _ended(folder: Path) -> str:
    end = folder / (PRUNED if (folder / PRUNED).is_file() else "results.json")
    return (
        f"resume={folder}: this run came to its end; its results are in {end}."
        " Start a new one, or test it with mode=test ckpt=<checkpoint>."
    )


def check_same(config: Mapping[str, Any], folder: Path) -> None:
    """Compares the settings with those in the folder; only the hardware may be another.

    Raises:
        UserError: the first difference, or a folder whose settings cannot be read.
    """
    try:
        before = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(
            f"resume={folder}: config.yaml cannot be read ({error}). Start the run anew."
        ) from error
    then_all, now_all = (identity(masked(dict(one))) for one in (before, config))
    found = difference({**then_all, "hardware": None}, {**now_all, "hardware": None})
    if found:
        key, then, now = found
        raise UserError(
            f"resume={folder}: {key} was {then} when the run began and is {now} now. Take {key}=... out of"
            " the command, undo the change in conf/, or start a new run."
        )


def _key(word: str) -> str:
    return word.partition("=")[0].lstrip("+~").partition("@")[0]
