"""Where a search keeps its trials: one file that several processes may write to at the same time."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.errors import UserError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.storages import JournalStorage

NAME = "search"  # of the one study in the file


def require_optuna() -> None:
    """Makes sure that Optuna is there, and quiet.

    Raises:
        UserError: with the command that installs it.
    """
    try:
        import optuna
    except ImportError as error:
        raise UserError(
            "sweep=optuna needs the package optuna, which is not installed: pip install 'optuna>=5,<6'"
            " (make install has it)."
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def storage_in(path: Path) -> "JournalStorage":
    """The storage in ``path``, made if it is not there.

    A journal, to which each change appends a line under a lock: unlike a database it is safe on the network
    file systems of clusters.

    Raises:
        UserError: if the file holds something else, or cannot be written.
    """
    require_optuna()
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _check_journal(path)
        return JournalStorage(JournalFileBackend(str(path)))
    except OSError as error:
        raise UserError(f"sweep.search.storage={path}: {error.strerror}. Give another place.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"sweep.search.storage={path} holds no search ({error}). Give another file."
        ) from error


def _check_journal(path: Path) -> None:
    """Raises ValueError for a file of another kind, to which Optuna would add its lines."""
    if path.exists() and path.stat().st_size:
        with path.open("rb") as file:
            first = json.loads(file.readline())
        if not isinstance(first, dict) or "op_code" not in first:
            raise ValueError("its first line is no operation")


def create_study(storage: "JournalStorage", direction: Literal["min", "max"]) -> "Study":
    """The study in ``storage``, a new one if there is none."""
    import optuna

    words: dict[str, Literal["minimize", "maximize"]] = {"min": "minimize", "max": "maximize"}
    return optuna.create_study(
        storage=storage, study_name=NAME, direction=words[direction], load_if_exists=True
    )


def open_study(storage: "JournalStorage") -> "Study":
    """The study that is in ``storage``.

    Raises:
        UserError: if there is none.
    """
    import optuna

    try:
        return optuna.load_study(storage=storage, study_name=NAME)
    except KeyError as error:
        raise UserError(
            "the file holds no search; it was moved or emptied after the search began."
        ) from error


def trial_id(storage: "JournalStorage", number: int) -> int:
    """The storage's own key of trial ``number``."""
    return storage.get_trial_id_from_study_id_trial_number(storage.get_study_id_from_name(NAME), number)
