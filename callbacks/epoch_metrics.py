"""One way to hear of an epoch's metrics, whichever loop ran it."""

from abc import abstractmethod
from collections.abc import Mapping

from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint


class EpochMetricsCallback(Callback):
    """A callback with :meth:`on_epoch_metrics`, called once per true epoch.

    Full-batch modules run several epochs in one ``training_step`` and call it themselves; for all others
    :class:`EpochEnd` does, after the epoch's validation.
    """

    @abstractmethod
    def on_epoch_metrics(
        self, trainer: Trainer, pl_module: LightningModule, epoch: int, metrics: Mapping[str, float]
    ) -> None:
        """Sees the metrics of one epoch.

        Args:
            trainer: the phase's Trainer; ``should_stop`` may be set.
            pl_module: the module, with the weights after this epoch.
            epoch: epochs done in this phase before this one.
            metrics: ``train/loss``, ``val/loss``, ... as plain numbers.
        """


class EpochEnd(Checkpoint):
    """Tells each :class:`EpochMetricsCallback` of an epoch in mini-batches.

    A ``Checkpoint`` only by ancestry: Lightning calls those after the module's own ``on_train_epoch_end``,
    and so after all that the epoch logs.
    """

    def __init__(self) -> None:
        self._validated = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = False
        # Lightning keeps a metric's last value; what this epoch does not log must not be told again
        for name in [name for name in trainer.callback_metrics if not name.startswith("val/")]:
            del trainer.callback_metrics[name]

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if getattr(pl_module, "validates_itself", False):
            return
        # Lightning keeps the values of the last validation; an epoch without one must not show them again
        metrics = {
            name: float(value)
            for name, value in trainer.callback_metrics.items()
            if self._validated or not name.startswith("val/")
        }
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        for callback in callbacks:
            if isinstance(callback, EpochMetricsCallback):
                callback.on_epoch_metrics(trainer, pl_module, trainer.current_epoch, metrics)
