"""What a run says before it begins."""

from pathlib import Path
from typing import Any

from harness.hardware import doubts
from harness.run_log import tell
from harness.savepoints import Savepoint
from harness.trained import Trained
from harness.words import counted


def announce(config: dict[str, Any], choices: dict[str, str], folder: Path, trained: Trained | None) -> None:
    """Says what runs, where, and what may surprise."""
    hardware = config["hardware"]
    tell(
        f"tenfold {config['mode']}: {choices['model']} on {choices['data']}, seed {config['seed']},"
        f" {hardware['accelerator']} {hardware['precision']}, {counted(hardware['threads'], 'thread')}"
    )
    tell(str(folder))
    for note in trained.notes if trained else ():
        tell(note)
    for doubt in doubts(hardware):
        tell(f"WARNING: {doubt}")


def announce_resume(resume: str | None, continued: bool, savepoint: Savepoint | None) -> None:
    """Says where a run goes on, or that there was nothing to go on with.

    Args:
        resume: the key of the configuration.
        continued: whether an earlier session's folder is used.
        savepoint: where that session was; None before its first savepoint.
    """
    if savepoint is not None:
        tell(f"going on after {_place(savepoint)}")
    elif continued:
        tell("going on from the beginning: the run was stopped before its first savepoint")
    elif resume == "auto":
        tell("resume=auto: there is no unfinished run of this configuration, so this is a new one")


def _place(savepoint: Savepoint) -> str:
    """Where a run goes on, for a person."""
    note = savepoint.note
    epochs = note["epochs_before"] + (0 if savepoint.stage == "done" else savepoint.content["epoch"])
    phase = note["phase_index"] + 1
    return {
        "epoch": f"epoch {epochs} (phase {phase})",
        "batch": f"step {savepoint.content['global_step']} of epoch {epochs + 1} (phase {phase})",
        "trained": f"the training of phase {phase}",
        "done": f"phase {phase}",
    }[savepoint.stage]
