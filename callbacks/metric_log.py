"""The metrics of a run, one row an epoch, on axes that run on across phases."""

from collections.abc import Mapping
from typing import Any

from pytorch_lightning import LightningModule, Trainer

from callbacks.epoch_metrics import EpochMetricsCallback


class MetricLog(EpochMetricsCallback):
    """Writes each epoch's metrics to every logger; of mini-batch modules the loss of single steps too.

    A row has ``step`` (optimiser steps done before this row, over all phases), ``epoch`` (index over all
    phases), ``phase`` (index) and the metrics. The harness adds this callback to every run.

    Args:
        every_n_steps: steps between two logged rows, >= 1: epochs of a full-batch module, where an epoch is
            one step; rows of ``train/loss_step`` of the others, which log every epoch besides.
    """

    def __init__(self, every_n_steps: int) -> None:
        self._every = every_n_steps

    def on_epoch_metrics(
        self, trainer: Trainer, pl_module: LightningModule, epoch: int, metrics: Mapping[str, float]
    ) -> None:
        if not trainer.is_global_zero:
            return
        epoch += getattr(pl_module, "epochs_before", 0)
        if getattr(pl_module, "validates_itself", False):
            if (epoch + 1) % self._every == 0:
                self._log(trainer, pl_module, step=epoch, epoch=epoch, metrics=metrics)
        else:
            step = getattr(pl_module, "steps_before", 0) + trainer.global_step - 1
            self._log(trainer, pl_module, step, epoch, metrics)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        stepped = (batch_idx + 1) % trainer.accumulate_grad_batches == 0
        if loss is None or not stepped or trainer.global_step % self._every:
            return
        if trainer.world_size > 1:  # each process has the loss of its share of the batch
            loss = trainer.strategy.reduce(loss.detach().clone(), reduce_op="mean")
        if not trainer.is_global_zero:
            return
        step = getattr(pl_module, "steps_before", 0) + trainer.global_step - 1
        epoch = getattr(pl_module, "epochs_before", 0) + trainer.current_epoch
        self._log(trainer, pl_module, step, epoch, {"train/loss_step": float(loss)})

    def _log(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        step: int,
        epoch: int,
        metrics: Mapping[str, float],
    ) -> None:
        row = {"epoch": epoch, "phase": getattr(pl_module, "phase_index", 0), **metrics}
        for logger in trainer.loggers:
            logger.log_metrics(row, step=step)
