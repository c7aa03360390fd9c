"""One way to hear of an epoch's metrics, whichever loop ran it."""

from abc import abstractmethod
from collections.abc import Mapping

from pytorch_lightning import Callback, LightningModule, Trainer


class EpochMetricsCallback(Callback):
    """A callback with :meth:`on_epoch_metrics`, called once per true epoch.

    Full-batch modules run several epochs in one ``training_step`` and call it themselves; for all others it
    is called at Lightning's own end of an epoch, after its validation.
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

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not getattr(pl_module, "validates_itself", False):
            metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
            self.on_epoch_metrics(trainer, pl_module, trainer.current_epoch, metrics)
