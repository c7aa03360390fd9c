"""Training: every phase of a method as one ``fit`` of a fresh Trainer."""

import signal
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from pytorch_lightning import seed_everything

from callbacks.best_weights import BestWeights
from callbacks.savepoints import Savepoints
from harness.build import Run, build_trainer
from harness.checkpoints import verify_archive
from harness.files import write_atomically
from harness.metrics_csv import MetricsCSV
from harness.savepoints import PREVIOUS, Savepoint
from harness.stopping import STOP, StoppedTogether

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

T = TypeVar("T")


def phase_seed(seed: int, phase_index: int) -> int:
    """The seed of one phase's dropout and orders.

    Independent of how many random numbers the constructor or the phases before have drawn: SPAGAN's
    attention phase is, number for number, the run of ``model=gat`` with the same seed.

    Args:
        seed: the run's seed, >= 0.
        phase_index: 0 for the first phase.

    Returns:
        A seed in ``[0, 2**32)``.
    """
    return int(np.random.SeedSequence([seed, phase_index]).generate_state(1)[0])


@dataclass
class Record:
    """What the phases of a run report; by phase but for ``metrics`` and ``timings``.

    Attributes:
        seconds: of training, and of what followed it (``after <phase>``).
        epochs: epochs trained.
        best_epochs: epoch whose weights the phase ended with.
        best_values: value of ``callbacks.best_weights.monitor`` in that epoch.
        metrics: numbers that the phases reported, by name.
        timings: seconds of parts of the above that the method tells of, by name; a speed where the name ends
            in ``_per_second``.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    best_epochs: dict[str, int] = field(default_factory=dict)
    best_values: dict[str, float] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)


def fit_phases(run: Run, savepoint: Savepoint | None = None) -> Record:
    """Runs all phases of ``run.module`` and leaves it with its best weights.

    Writes ``checkpoints/last.ckpt`` (the complete state, see ``harness/savepoints.py``) now and then and at
    the end of each phase, and ``checkpoints/best.ckpt`` (the weights to test and to share) after each phase.

    Args:
        run: what to train.
        savepoint: where an earlier session of the run was; None begins at the beginning.
    """
    return _Phases(run).go_through(savepoint)


class _Phases:
    """One pass through the phases of a run, and what its savepoints say of it."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.module = run.module
        self.record = Record()
        self.checkpoints = run.folder / "checkpoints"
        self.best = _one(run.callbacks, BestWeights)
        self.savepoints = _one(run.callbacks, Savepoints) or Savepoints(None)
        if self.savepoints not in run.callbacks:
            run.callbacks = [*run.callbacks, self.savepoints]
        self.savepoints.checkpoints = self.checkpoints
        self.savepoints.describe = self._describe
        self.metrics_csv = _one(run.loggers, MetricsCSV)
        self.started = time.perf_counter()  # of the phase; moved back by the seconds of earlier sessions

    def go_through(self, savepoint: Savepoint | None) -> Record:
        first = 0
        if savepoint is not None:
            first = self._take_up(savepoint)
            if savepoint.stage == "done":
                savepoint = None
        for index in range(first, len(self.module.phases)):
            self._run_phase(index, savepoint)
            savepoint = None
        (self.checkpoints / PREVIOUS).unlink(missing_ok=True)
        return self.record

    def _take_up(self, savepoint: Savepoint) -> int:
        """Restores what outlives a phase, and returns the index of the phase to run next."""
        module, content, note = self.module, savepoint.content, savepoint.note
        module.on_load_checkpoint(content)
        self.record = Record(**note["record"])
        module.epochs_before, module.steps_before = note["epochs_before"], note["steps_before"]
        module.timings = dict(self.record.timings)
        if savepoint.stage != "done":
            return int(note["phase_index"])
        module.load_state_dict(content["state_dict"])
        for callback in self.run.callbacks:
            if callback.state_key in content["callbacks"]:
                callback.load_state_dict(content["callbacks"][callback.state_key])
        datamodule = self.run.datamodule
        if type(datamodule).__qualname__ in content:
            datamodule.load_state_dict(content[type(datamodule).__qualname__])
        return int(note["phase_index"]) + 1

    def _run_phase(self, index: int, savepoint: Savepoint | None) -> None:
        run, module, record, best = self.run, self.module, self.record, self.best
        name = module.phases[index]
        self.started = time.perf_counter() - (savepoint.note["seconds"] if savepoint else 0.0)
        seed_everything(phase_seed(run.config["seed"], index), workers=True, verbose=False)
        module.phase_index = index
        module.on_phase_start(run.datamodule)
        module.train()
        trained = savepoint is not None and savepoint.stage == "trained"
        # a fit that was over is only taken up: with no epoch left to run, Lightning restores and returns
        limits = (
            {"max_epochs": savepoint.content["epoch"], "min_epochs": None} if savepoint and trained else {}
        )
        trainer = build_trainer(run, **limits)
        with STOP.deferred():
            self._fit(trainer, savepoint)
            if trained:
                self.savepoints.restore(trainer, module)
            else:
                self.savepoints.save(trainer, "trained")
        if STOP.requested_of_any(trainer):
            raise StoppedTogether
        if best is not None and best.restore(module):
            record.best_epochs[name] = best.best_epoch
            record.best_values[name] = best.best_value
        record.seconds[name] = time.perf_counter() - self.started

        started = time.perf_counter()
        reported = module.on_phase_end(trainer, run.datamodule)
        record.metrics.update(reported)
        if reported:
            record.seconds[f"after {name}"] = time.perf_counter() - started
        save_checkpoint(trainer, self.checkpoints / "best.ckpt")
        record.epochs[name] = trainer.current_epoch
        module.epochs_before += trainer.current_epoch
        module.steps_before += trainer.global_step
        record.timings |= module.timings
        if index + 1 < len(module.phases):  # else last.ckpt stays what its name says, with the last weights
            self.savepoints.save(trainer, "done")
        for logger in run.loggers:
            logger.save()

    def _fit(self, trainer: "Trainer", savepoint: Savepoint | None) -> None:
        """``trainer.fit``, out of which the keyboard's interrupt comes as what it is."""
        path = None if savepoint is None else savepoint.path
        try:
            trainer.fit(self.module, datamodule=self.run.datamodule, ckpt_path=path, weights_only=True)
        except SystemExit as stopped:
            # Lightning ignores further interrupts and exits with 1, as if the run had crashed
            if isinstance(stopped.__context__, KeyboardInterrupt):
                signal.signal(signal.SIGINT, signal.default_int_handler)
                raise KeyboardInterrupt from stopped
            raise

    def _describe(self) -> dict[str, Any]:
        """What a savepoint says of the run as a whole."""
        return {
            "phase_index": self.module.phase_index,
            "epochs_before": self.module.epochs_before,
            "steps_before": self.module.steps_before,
            "record": asdict(self.record),
            "seconds": time.perf_counter() - self.started,
            "rows": self.metrics_csv.rows if self.metrics_csv else 0,
        }


def save_checkpoint(trainer: "Trainer", path: Path) -> None:
    """Writes weights and constructor arguments atomically.

    Args:
        trainer: after its ``fit``.
        path: where to.
    """

    def write(temporary: Path) -> None:
        trainer.save_checkpoint(temporary, weights_only=True)
        verify_archive(temporary)

    # every rank must call it (a collective under DDP); only rank 0 writes
    if trainer.is_global_zero:
        write_atomically(path, write)
    else:
        trainer.save_checkpoint(path, weights_only=True)


def _one(items: Sequence[Any], kind: type[T]) -> T | None:
    return next((item for item in items if isinstance(item, kind)), None)
