"""Savepoints: the complete state of a run in ``checkpoints/last.ckpt``, and the one before it.

A savepoint is Lightning's full checkpoint with one key more, ``savepoint``, which holds what Lightning leaves
out: the random number generators and the metrics' sums of every process, and how far the run as a whole is.

Stages of a savepoint:

- ``epoch``: between two epochs of a phase;
- ``batch``: between two batches of an epoch;
- ``trained``: the phase's ``fit`` is over, what follows it is not;
- ``done``: the phase is over, the module holds the weights it ended with.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from harness.checkpoints import read_checkpoint, verify_archive
from harness.errors import UserError
from harness.files import write_atomically
from harness.run_log import tell

if TYPE_CHECKING:
    from pytorch_lightning import LightningModule, Trainer

Stage = Literal["epoch", "batch", "trained", "done"]

LAST = "last.ckpt"
PREVIOUS = "previous.ckpt"


@dataclass(frozen=True)
class Savepoint:
    """A savepoint that was read back and found whole.

    Attributes:
        path: its file.
        content: Lightning's checkpoint.
    """

    path: Path
    content: dict[str, Any]

    @property
    def note(self) -> dict[str, Any]:
        """What the harness wrote besides Lightning's checkpoint."""
        note: dict[str, Any] = self.content["savepoint"]
        return note

    @property
    def stage(self) -> Stage:
        """Where in its phase the run was."""
        stage: Stage = self.note["stage"]
        return stage


def read_savepoint(checkpoints: Path) -> Savepoint | None:
    """The newest whole savepoint of a run's ``checkpoints`` folder, or None where none was written yet.

    A damaged last one is passed over for the one before, in one line that says so.

    Raises:
        UserError: if there are savepoints and none of them is whole.
    """
    damages: list[str] = []
    for name in (LAST, PREVIOUS):
        path = checkpoints / name
        if not path.exists():
            continue
        try:
            verify_archive(path)
            content = read_checkpoint(path)
            if "savepoint" not in content:
                raise UserError(f"{path} is no savepoint.")
        except (UserError, ValueError) as error:
            damages.append(str(error))
            continue
        if damages:
            tell(f"{checkpoints / LAST} is damaged: going on from the savepoint before it, {name}")
        return Savepoint(path, content)
    if damages:
        raise UserError(
            f"resume={checkpoints.parent}: no savepoint of this run can be read: {damages[0]}"
            " Start the run anew."
        )
    return None


def in_last_place(savepoint: Savepoint | None) -> Savepoint | None:
    """``savepoint`` as ``last.ckpt``, so that a damaged one there never takes the place of a whole one."""
    if savepoint is None or savepoint.path.name == LAST:
        return savepoint
    return replace(savepoint, path=savepoint.path.replace(savepoint.path.with_name(LAST)))


def write_savepoint(trainer: "Trainer", checkpoints: Path) -> None:
    """Writes ``last.ckpt`` and keeps the one before as ``previous.ckpt``.

    Every process must call it. The file is whole and read back before it takes the last one's place.
    """

    def write(temporary: Path) -> None:
        trainer.save_checkpoint(temporary, weights_only=False)
        verify_archive(temporary)

    if trainer.is_global_zero:
        write_atomically(checkpoints / LAST, write, previous=checkpoints / PREVIOUS)
    else:
        trainer.save_checkpoint(checkpoints / LAST, weights_only=False)


def metric_states(module: "LightningModule") -> dict[str, dict[str, Any]]:
    """The sums so far of every torchmetrics metric inside ``module``, by name."""
    from torchmetrics import Metric

    return {
        name: {"count": metric.update_count, "state": dict(metric.metric_state)}
        for name, metric in module.named_modules()
        if isinstance(metric, Metric)
    }


def restore_metric_states(module: "LightningModule", states: dict[str, dict[str, Any]]) -> None:
    """Puts back what :func:`metric_states` gave."""
    metrics = dict(module.named_modules())
    for name, kept in states.items():
        metric: Any = metrics[name]
        for key, value in kept["state"].items():
            setattr(metric, key, _on(value, metric.device))
        metric._update_count = kept["count"]  # no public setter
        metric._computed = None


def _on(value: Any, device: Any) -> Any:
    return [item.to(device) for item in value] if isinstance(value, list) else value.to(device)
