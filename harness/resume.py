"""Finding the run that a command continues, and making sure that it is the same run."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from harness.errors import UserError
from harness.run_folder import masked
from harness.run_state import difference, identity, is_finished, newest_unfinished, read_state
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
        end = folder / (PRUNED if (folder / PRUNED).is_file() else "results.json")
        raise UserError(
            f"resume={folder}: this run came to its end; its results are in {end}."
            " Start a new one, or test it with mode=test ckpt=<checkpoint>."
        )
    given = {_key(word) for word in words}
    kept = [word for word in state.words if _key(word) not in given | {"resume"}]
    secret = next((word for word in kept if word.endswith("=***") or "://***@" in word), None)
    if secret:
        raise UserError(
            f"resume={folder}: {_key(secret)} is a secret, which no file keeps."
            f" Give it again: {_key(secret)}=..."
        )
    return (*kept, *words)


def folder_to_continue(config: Mapping[str, Any], runs: Path, name: str, configuration: str) -> Path | None:
    """The run folder that ``config['resume']`` asks for; None for a new run.

    Raises:
        UserError: if the folder's run was started with other settings.
    """
    resume = config["resume"]
    if resume is None:
        return None
    if resume == "auto":
        return newest_unfinished(runs, name, configuration)
    folder = Path(resume).expanduser()
    _check_same(config, folder)
    return folder


def _check_same(config: Mapping[str, Any], folder: Path) -> None:
    """Compares the settings with those in the folder; only the hardware may be another."""
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
