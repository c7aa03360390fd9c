"""Training: every phase of a method as one ``fit`` of a fresh Trainer."""

import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from pytorch_lightning import seed_everything

from callbacks.best_weights import BestWeights
from harness.build import Run, build_trainer
from harness.files import write_atomically

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule, Trainer

    from lightning_modules.experiment import ExperimentModule


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
        metrics: numbers that the phases reported, by name.
        timings: seconds of parts of the above that the method tells of, by name.
    """

    seconds: dict[str, float] = field(default_factory=dict)
    epochs: dict[str, int] = field(default_factory=dict)
    best_epochs: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)


def fit_phases(run: Run) -> Record:
    """Runs all phases of ``run.module`` and leaves it with its best weights.

    Writes ``checkpoints/last.ckpt`` (the state at the end of the phase) and ``checkpoints/best.ckpt`` (the
    weights to test and to share) after each phase.
    """
    record, module, checkpoints = Record(), run.module, run.folder / "checkpoints"
    best = next((callback for callback in run.callbacks if isinstance(callback, BestWeights)), None)
    for index, name in enumerate(module.phases):
        started = time.perf_counter()
        seed_everything(phase_seed(run.config["seed"], index), workers=True, verbose=False)
        module.phase_index = index
        module.on_phase_start(run.datamodule)
        module.train()
        trainer = build_trainer(run)
        _fit(trainer, module, run.datamodule)
        save_checkpoint(trainer, checkpoints / "last.ckpt", weights_only=False)
        if best is not None and best.restore(module):
            record.best_epochs[name] = best.best_epoch
        record.seconds[name] = time.perf_counter() - started

        started = time.perf_counter()
        reported = module.on_phase_end(trainer, run.datamodule)
        record.metrics.update(reported)
        if reported:
            record.seconds[f"after {name}"] = time.perf_counter() - started
        save_checkpoint(trainer, checkpoints / "best.ckpt", weights_only=True)
        record.epochs[name] = trainer.current_epoch
        module.epochs_before += trainer.current_epoch
        record.timings |= module.timings
        for logger in run.loggers:
            logger.save()
    return record


def _fit(trainer: "Trainer", module: "ExperimentModule", datamodule: "LightningDataModule") -> None:
    """``trainer.fit``, out of which the keyboard's interrupt comes as what it is."""
    try:
        trainer.fit(module, datamodule=datamodule)
    except SystemExit as stopped:
        # Lightning ignores further interrupts and exits with 1, as if the run had crashed
        if isinstance(stopped.__context__, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.default_int_handler)
            raise KeyboardInterrupt from stopped
        raise


def save_checkpoint(trainer: "Trainer", path: Path, *, weights_only: bool) -> None:
    """Writes a checkpoint atomically.

    Args:
        trainer: after its ``fit``.
        path: where to.
        weights_only: True for weights and constructor arguments; False adds optimiser, loops and callbacks.
    """
    # every rank must call it (a collective under DDP); only rank 0 writes
    if trainer.is_global_zero:
        write_atomically(
            path, lambda temporary: trainer.save_checkpoint(temporary, weights_only=weights_only)
        )
    else:
        trainer.save_checkpoint(path, weights_only=weights_only)
