"""The complete state of a run, written now and then, so that a killed run goes on bit for bit."""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from harness.annotations import NonNegativeFloat
from harness.guards import diverged
from harness.randomness import random_state, restore_random_state
from harness.savepoints import Stage, metric_states, restore_metric_states, write_savepoint
from harness.stopping import STOP, StoppedTogether

_SHARE = 0.02  # of a phase's time, at most, that goes into writing savepoints


class Savepoints(Callback):
    """Saves between two epochs or two batches, when it is time or when the process is told to stop.

    Only there is the state complete: Lightning's own hooks at the end of a batch or an epoch come before the
    logging, the schedulers or the validation that belong to it.

    Args:
        every_seconds: time between two savepoints; 0 saves at every opportunity, None only between phases
            and on SIGTERM. On slow disks it is prolonged, so that writing takes at most a fiftieth of the
            time.
    """

    def __init__(self, every_seconds: NonNegativeFloat | None) -> None:
        self.every_seconds = every_seconds
        # both are filled in by the harness
        self.checkpoints: Path | None = None
        self.describe: Callable[[], dict[str, Any]] = dict
        self._stage: Stage | None = None  # while a savepoint is being written
        self._restored: dict[str, Any] | None = None  # of the savepoint that the phase goes on from
        self._validated = False  # in this epoch
        self._last = time.monotonic()
        self._cost = 0.0

    def save(self, trainer: Trainer, stage: Stage) -> None:
        """Writes a savepoint; every process must call it."""
        assert self.checkpoints is not None
        started, self._stage = time.monotonic(), stage
        try:
            for logger in trainer.loggers:
                logger.save()
            write_savepoint(trainer, self.checkpoints)
        finally:
            self._stage = None
        self._last = time.monotonic()
        self._cost = self._last - started

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._stage is None:
            return
        _refuse_diverged(pl_module, trainer)
        if self._stage in ("epoch", "batch"):
            _settle(checkpoint["loops"]["fit_loop"], self._stage)
        own = {"random": random_state(), "metrics": metric_states(pl_module)}
        checkpoint["savepoint"] = {
            "stage": self._stage,
            **self.describe(),
            "processes": _gathered(own, trainer),
        }

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._restored = checkpoint["savepoint"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._last, self._validated = time.monotonic(), False
        if self._restored is None:
            return
        # The counters in a savepoint stand exactly between two epochs or batches, so the loops have nothing
        # to make up for. Left alone, they would skip an iteration or a validation.
        trainer.fit_loop._restarting = False
        if self._restored["stage"] == "epoch":
            trainer.fit_loop.epoch_loop.restarting = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = False
        if not self.restore(trainer, pl_module) and trainer.current_epoch > 0:
            self._save_if_due(trainer, "epoch")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = True

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # gradients that are not yet stepped with, and what a validation within the epoch left, are in no
        # checkpoint
        whole = batch_idx > 0 and batch_idx % trainer.accumulate_grad_batches == 0 and not self._validated
        if not self.restore(trainer, pl_module) and whole:
            self._save_if_due(trainer, "batch")

    def restore(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        """Puts back what has to be put back last; True where the phase goes on from here."""
        if self._restored is None:
            return False
        note, self._restored = self._restored, None
        # with more processes than before, the new ones take the first one's sums and generators
        own = note["processes"][trainer.global_rank if trainer.global_rank < len(note["processes"]) else 0]
        restore_metric_states(pl_module, own["metrics"])
        restore_random_state(own["random"])
        return True

    def _is_due(self, waited: float) -> bool:
        if not self.every_seconds:
            return self.every_seconds == 0
        return waited >= max(self.every_seconds, self._cost / _SHARE)

    def _save_if_due(self, trainer: Trainer, stage: Stage) -> None:
        due = self._is_due(time.monotonic() - self._last)
        stop = STOP.requested_of_any(trainer)
        if trainer.world_size > 1:  # all processes or none
            due = trainer.strategy.reduce_boolean_decision(due, all=False)
        if due or stop:
            self.save(trainer, stage)
        if stop:
            raise StoppedTogether


def _settle(loop: dict[str, Any], stage: Stage) -> None:
    """Sets the counters of Lightning's fit loop to the moment before this epoch or batch was begun."""
    progress = loop["epoch_progress" if stage == "epoch" else "epoch_loop.batch_progress"]
    for part in ("total", "current"):
        progress[part]["ready"] = progress[part]["completed"]
    if stage == "batch":
        done = progress["current"]["completed"]
        loaders = loop["state_dict"].get("combined_loader", [])
        loop["state_dict"]["combined_loader"] = [{**state, "batch": done} for state in loaders]


def _gathered(own: dict[str, Any], trainer: Trainer) -> list[dict[str, Any]]:
    """``own`` of every process, in the order of their ranks."""
    if trainer.world_size == 1:
        return [own]
    # as bytes: between processes torch hands over plain objects, and no tensors inside them
    buffer = io.BytesIO()
    torch.save(own, buffer)
    everyone: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(everyone, buffer.getvalue())
    return [torch.load(io.BytesIO(one), map_location="cpu", weights_only=True) for one in everyone]


def _refuse_diverged(module: LightningModule, trainer: Trainer) -> None:
    broken = [name for name, value in module.named_parameters() if not torch.isfinite(value).all()]
    if broken:
        what = f"{broken[0]} holds NaN or infinity"
        raise diverged(trainer, module, what, trainer.current_epoch, trainer.global_step)
