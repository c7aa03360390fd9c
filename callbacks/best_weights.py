"""Keep the best weights and stop when they no longer get better."""

import logging
import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from callbacks.epoch_metrics import EpochMetricsCallback
from harness.annotations import PositiveInt
from harness.errors import UserError, nearest

log = logging.getLogger("tenfold")


class BestWeights(EpochMetricsCallback):
    """Remembers the weights of the best epoch in memory and ends the phase when patience runs out.

    The phase stops after the first epoch at which ``patience`` epochs have passed without a new best value
    and more than ``trainer.min_epochs`` epochs are done: the rule of GAT's and SPAGAN's code, with equal
    values not counted as better. Lightning's EarlyStopping and ModelCheckpoint do the same for one epoch a
    ``training_step``; they see neither the epochs that share one nor weights that were never written.

    Data without a validation set keeps the last weights too, and says so.

    Args:
        monitor: the metric that decides, such as ``val/loss``; None keeps the last weights and never stops.
        mode: ``min`` if lower is better, ``max`` if higher.
        patience: epochs without a new best value before the phase stops, >= 1; None never stops.
    """

    def __init__(
        self, monitor: str | None, mode: Literal["min", "max"], patience: PositiveInt | None
    ) -> None:
        self.monitor = monitor
        self.mode = mode
        self.patience = patience
        self.best_value = math.nan
        self.best_epoch = -1
        self._weights: dict[str, Tensor] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        # Here and not in on_fit_start: a fit that resumes restores the callback's state in between.
        if stage != "fit":
            return
        self.best_value, self.best_epoch, self._weights = math.nan, -1, {}

    def on_epoch_metrics(
        self, trainer: Trainer, pl_module: LightningModule, epoch: int, metrics: Mapping[str, float]
    ) -> None:
        if self.monitor is None:
            return
        if self.monitor.startswith("val/") and not any(name.startswith("val/") for name in metrics):
            if epoch == 0 and trainer.check_val_every_n_epoch == 1:
                log.warning(
                    "no validation data: the last weights are tested, and patience never ends a phase"
                )
            return
        if self.monitor not in metrics:
            raise UserError(
                f"callbacks.best_weights.monitor must be one of {sorted(metrics)}, got {self.monitor!r}."
                f"{nearest(self.monitor, metrics)}"
            )
        value = metrics[self.monitor]
        if self._is_better(value):
            self.best_value, self.best_epoch = value, epoch
            self._keep(pl_module)
        elif self.patience is not None:
            waited = epoch - max(self.best_epoch, 0)
            if waited >= self.patience and epoch + 1 > (trainer.min_epochs or 0):
                trainer.should_stop = True

    def _is_better(self, value: float) -> bool:
        if math.isnan(self.best_value):
            return not math.isnan(value)
        return value < self.best_value if self.mode == "min" else value > self.best_value

    def _keep(self, pl_module: LightningModule) -> None:
        # written into the same memory each time: allocating anew costs more than the copy
        current = {name: tensor.detach() for name, tensor in pl_module.state_dict().items()}
        if not self._weights:
            self._weights = {name: tensor.clone() for name, tensor in current.items()}
        else:
            torch._foreach_copy_(list(self._weights.values()), list(current.values()))

    def restore(self, pl_module: LightningModule) -> bool:
        """Puts the best weights back into ``pl_module``; False where none were kept."""
        if not self._weights:
            return False
        pl_module.load_state_dict(self._weights)
        return True

    def state_dict(self) -> dict[str, Any]:
        return {"best_value": self.best_value, "best_epoch": self.best_epoch, "weights": self._weights}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_value = state_dict["best_value"]
        self.best_epoch = state_dict["best_epoch"]
        self._weights = state_dict["weights"]
