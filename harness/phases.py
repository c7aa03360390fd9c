"""Training: every phase of a method as one ``fit`` of a fresh Trainer."""

import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pytorch_lightning import seed_everything

from callbacks.best_weights import BestWeights
from harness.build import build_trainer
from harness.files import write_atomically

if TYPE_CHECKING:
    from pytorch_lightning import Callback, LightningDataModule, Trainer
    from pytorch_lightning.loggers.logger import Logger

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


def fit_phases(
    config: dict[str, Any],
    module: "ExperimentModule",
    datamodule: "LightningDataModule",
    callbacks: list["Callback"],
    loggers: list["Logger"],
    folder: Path,
) -> dict[str, Any]:
    """Runs all phases of ``module`` and leaves it with its best weights.

    Writes ``checkpoints/last.ckpt`` (the state at the end of the phase) and ``checkpoints/best.ckpt`` (the
    weights to test and to share) after each phase.

    Returns:
        ``seconds`` and ``epochs`` per phase, ``best_epochs``, and ``metrics`` that the phases reported.
    """
    record: dict[str, Any] = {"seconds": {}, "epochs": {}, "best_epochs": {}, "metrics": {}}
    best = next((callback for callback in callbacks if isinstance(callback, BestWeights)), None)
    for index, name in enumerate(module.phases):
        started = time.perf_counter()
        seed_everything(phase_seed(config["seed"], index), workers=True, verbose=False)
        module.phase_index = index
        module.on_phase_start(datamodule)
        module.train()
        trainer = build_trainer(config, module, callbacks, loggers, folder)
        _fit(trainer, module, datamodule)
        save_checkpoint(trainer, folder / "checkpoints" / "last.ckpt", weights_only=False)
        if best is not None and best.restore(module):
            record["best_epochs"][name] = best.best_epoch
        record["seconds"][name] = time.perf_counter() - started

        started = time.perf_counter()
        reported = module.on_phase_end(trainer, datamodule)
        record["metrics"].update(reported)
        if reported:
            record["seconds"][f"after {name}"] = time.perf_counter() - started
        save_checkpoint(trainer, folder / "checkpoints" / "best.ckpt", weights_only=True)
        record["epochs"][name] = trainer.current_epoch
        module.epochs_before += trainer.current_epoch
        for logger in loggers:
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
