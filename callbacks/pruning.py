"""Ending the hopeless trials of a search early."""

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from pytorch_lightning import LightningModule, Trainer

from callbacks.best_weights import BestWeights
from callbacks.epoch_metrics import EpochMetricsCallback
from harness.annotations import NonNegativeInt, PositiveInt
from harness.files import write_json
from harness.stopping import PRUNED, Pruned
from harness.sweeps.study import open_study, storage_in, trial_id
from harness.words import counted

if TYPE_CHECKING:
    from optuna import Study
    from optuna.pruners import MedianPruner
    from optuna.storages import JournalStorage


class Pruning(EpochMetricsCallback):
    """Tells the search how a trial does, and ends it if it does worse than half of the others did.

    Only the last phase is told of: its best value of ``callbacks.best_weights.monitor`` is what the search
    compares, and the phases before run under other losses. A trial is pruned if its best value so far is
    worse than the median of the best values so far that the finished trials had at the same epoch (Optuna's
    MedianPruner). A search adds this callback to its trials by itself.

    Args:
        study: the file in which the search keeps its trials.
        trial: number of this trial.
        every_epochs: epochs between two reports; each takes a lock on the file that all trials share.
        warmup_epochs: epochs before the first decision.
        startup_trials: finished trials before the first decision.
    """

    def __init__(
        self,
        study: str,
        trial: NonNegativeInt,
        every_epochs: PositiveInt,
        warmup_epochs: NonNegativeInt,
        startup_trials: NonNegativeInt,
    ) -> None:
        self.study = study
        self.trial = trial
        self.every_epochs = every_epochs
        self.warmup_epochs = warmup_epochs
        self.startup_trials = startup_trials

    def on_epoch_metrics(
        self, trainer: Trainer, pl_module: LightningModule, epoch: int, metrics: Mapping[str, float]
    ) -> None:
        phases = getattr(pl_module, "phases", ("fit",))
        if (epoch + 1) % self.every_epochs or getattr(pl_module, "phase_index", 0) + 1 < len(phases):
            return
        callbacks = trainer.callbacks  # type: ignore[attr-defined]
        best = next((callback for callback in callbacks if isinstance(callback, BestWeights)), None)
        if best is None or math.isnan(best.best_value):
            return
        hopeless = trainer.is_global_zero and self._is_hopeless(epoch, best.best_value)
        if trainer.world_size > 1:  # all processes or none
            hopeless = trainer.strategy.reduce_boolean_decision(hopeless, all=False)
        if not hopeless:
            return
        reason = (
            f"{best.monitor} was at best {best.best_value:.4g} in {counted(epoch + 1, 'epoch')} of phase"
            f" {phases[-1]}, worse than the median of the other trials"
        )
        if trainer.is_global_zero:
            content = {"trial": self.trial, "epoch": epoch, "value": best.best_value, "reason": reason}
            write_json(Path(trainer.default_root_dir) / PRUNED, content)
        raise Pruned(reason)

    def _is_hopeless(self, epoch: int, value: float) -> bool:
        """Reports ``value`` and asks Optuna."""
        study, storage, pruner = self._opened
        identity = trial_id(storage, self.trial)
        # a trial that goes on after a kill comes again by epochs that it has reported
        if epoch not in storage.get_trial(identity).intermediate_values:
            storage.set_trial_intermediate_value(identity, epoch, value)
        return bool(pruner.prune(study, storage.get_trial(identity)))

    @cached_property
    def _opened(self) -> "tuple[Study, JournalStorage, MedianPruner]":
        storage = storage_in(Path(self.study))
        from optuna.pruners import MedianPruner

        return open_study(storage), storage, MedianPruner(self.startup_trials, self.warmup_epochs)
