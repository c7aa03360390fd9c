"""Training on one batch that is the whole data set, without paying a framework's price for it.

Where an epoch is one step, Lightning's own bookkeeping can cost several times the step
(``python -m benchmarks.harness_overhead`` measures it). So one ``training_step`` runs several epochs. Nothing
else changes: every epoch is one optimiser step and one validation, patience and the number of epochs keep
their published meaning, and ``current_epoch`` and ``global_step`` count true epochs and steps.
"""

import math
from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor

from harness.annotations import ClassSpec
from harness.guards import diverged
from lightning_modules.experiment import ExperimentModule
from lightning_modules.optimizers import build_optimizer, build_scheduler


class FullBatchModule(ExperimentModule):
    """A module whose only batch is the whole data set.

    Subclasses give :meth:`training_loss` and :meth:`validation_metrics`.

    Args:
        optimizer: ``{name: class of torch.optim, **keywords}``.
        scheduler: ``{name: class of torch.optim.lr_scheduler, **keywords}``, stepped once an epoch, or None.
        epochs_per_call: epochs in one ``training_step``, >= 1. Speed only: results do not depend on it.
    """

    validates_itself: ClassVar[bool] = True
    training_only: ClassVar[tuple[str, ...]] = ("epochs_per_call",)

    def __init__(self, optimizer: ClassSpec, scheduler: ClassSpec | None, epochs_per_call: int) -> None:
        super().__init__()
        self.automatic_optimization = False
        self._optimizer_spec = optimizer
        self._scheduler_spec = scheduler
        self.epochs_per_call = epochs_per_call
        self._watchers: list[Any] = []

    @abstractmethod
    def training_loss(self, batch: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise, and scalars to log beside it (``train/acc``)."""

    @abstractmethod
    def validation_metrics(self, batch: Any) -> dict[str, Tensor]:
        """Scalars of the validation set, called in eval mode without gradients; empty where there is none."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Groups for the optimiser; a group's own keys go before those of the configuration."""
        return [{"params": list(self.parameters())}]

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer(self.parameter_groups(), self._optimizer_spec)
        if self._scheduler_spec is None:
            return optimizer
        return [optimizer], [build_scheduler(optimizer, self._scheduler_spec, self.planned_epochs)]

    def on_train_start(self) -> None:
        # those of callbacks/epoch_metrics.py: told of every epoch, also of those that share a training_step
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]
        self._watchers = [callback for callback in callbacks if hasattr(callback, "on_epoch_metrics")]

    def training_step(self, batch: Any, batch_idx: int) -> None:
        trainer = self.trainer
        first = self.current_epoch
        last = first + self.epochs_per_call
        if trainer.max_epochs not in (None, -1):
            last = min(last, trainer.max_epochs)
        if trainer.max_steps != -1:
            last = min(last, first + trainer.max_steps - self.global_step)
        optimizer, scheduler = self.optimizers(), self.lr_schedulers()
        rows: list[dict[str, float]] = []
        for epoch in range(first, last):
            metrics = self._run_epoch(batch, optimizer, scheduler)
            for name in ("train/loss", "val/loss"):
                if not math.isfinite(metrics.get(name, 0.0)):
                    step = self.global_step  # the optimiser has counted this epoch's already
                    raise diverged(trainer, self, f"{name} is {metrics[name]}", epoch, step)
            rows.append(metrics)
            for watcher in self._watchers:
                watcher.on_epoch_metrics(trainer, self, epoch, metrics)
            if trainer.should_stop and epoch + 1 >= (trainer.min_epochs or 0):
                break
        # Lightning counts one epoch a call by itself; the others are added, so that its counters,
        # its limits and the epoch written into checkpoints tell the truth.
        trainer.fit_loop.epoch_progress.increment_by(len(rows) - 1)
        # What self.log would do for Lightning's own callbacks (a third-party checkpoint), which costs more
        # than a small model's epoch.
        trainer.callback_metrics.update({name: torch.tensor(value) for name, value in rows[-1].items()})

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """For a Trainer that validates by itself; the harness leaves that loop out."""
        self.log_dict(self.validation_metrics(batch), batch_size=1)

    def _run_epoch(self, batch: Any, optimizer: Any, scheduler: Any) -> dict[str, float]:
        self.train()
        loss, logged = self.training_loss(batch)
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        self.eval()
        with torch.no_grad():
            logged = {"train/loss": loss.detach(), **logged, **self.validation_metrics(batch)}
            # one transfer for all scalars: on a GPU each would wait for the device by itself
            values = torch.stack([value.float() for value in logged.values()]).tolist()
        return dict(zip(logged, values, strict=True))
