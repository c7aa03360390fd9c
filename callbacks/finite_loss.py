"""Stop a training in mini-batches whose loss is no number any more."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from callbacks.epoch_metrics import EpochMetricsCallback
from harness.annotations import PositiveInt
from harness.guards import diverged

_NEVER = 2**62  # a step that no run reaches


class FiniteLoss(EpochMetricsCallback):
    """Ends the run at the first NaN or infinite loss, with epoch, step and the last good checkpoint.

    Reading a value from a GPU waits for all work that is queued there. So the first bad step is noted on the
    device, and the note is read every ``every_n_steps`` batches, at the end of an epoch and before a
    savepoint is written: no savepoint holds weights that a bad loss has spoilt. On the CPU every step is
    read. Several processes look together, so that none waits for one that has ended.

    Looked at are what ``training_step`` returns (the loss, or of a dict its entries ``loss`` and
    ``..._loss``) and the losses that are logged for each epoch, of validation too. Full-batch modules look at
    every epoch themselves.

    Args:
        every_n_steps: batches between two readings from a device, >= 1.
    """

    def __init__(self, every_n_steps: PositiveInt) -> None:
        self.every_n_steps = every_n_steps
        self._bad_step: Tensor | None = (
            None  # the first with a bad loss, on the device; _NEVER if there is none
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._bad_step = None

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        losses = _losses(outputs)
        if losses:
            finite = torch.stack([torch.isfinite(loss.detach()).all() for loss in losses]).all()
            step = torch.where(finite, _NEVER, trainer.global_step)
            self._bad_step = step if self._bad_step is None else torch.minimum(self._bad_step, step)
        is_free = (
            trainer.world_size == 1 and self._bad_step is not None and self._bad_step.device.type == "cpu"
        )
        if is_free or (batch_idx + 1) % self.every_n_steps == 0:
            self._look(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._look(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._look(trainer, pl_module)

    def on_epoch_metrics(
        self, trainer: Trainer, pl_module: LightningModule, epoch: int, metrics: Mapping[str, float]
    ) -> None:
        for name, value in metrics.items():
            if name.endswith("loss") and not math.isfinite(value):
                raise diverged(trainer, pl_module, f"{name} is {value}", epoch, trainer.global_step)

    def _look(self, trainer: Trainer, pl_module: LightningModule) -> None:
        step = _NEVER if self._bad_step is None else int(self._bad_step)
        bad = step < _NEVER
        if trainer.world_size > 1:
            bad = trainer.strategy.reduce_boolean_decision(bad, all=False)
        if bad:
            step = min(step, trainer.global_step)  # of another process, whose step is not known here
            raise diverged(trainer, pl_module, "train/loss is NaN or infinite", trainer.current_epoch, step)


def _losses(outputs: Any) -> list[Tensor]:
    if isinstance(outputs, Tensor):
        return [outputs]
    if not isinstance(outputs, Mapping):
        return []
    named = [value for name, value in outputs.items() if str(name) == "loss" or str(name).endswith("_loss")]
    return [value for value in named if isinstance(value, Tensor)]
