"""SIGTERM during a test or prediction of several processes: all of them stop, before the same batch."""

from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from harness.stopping import STOP, StoppedTogether


class StopTogether(Callback):
    """Asks before each batch whether one of several processes was told to stop.

    One that left alone would have the others wait for it in their next collective operation. Of a single
    process the signal ends a test or prediction at once. The harness adds this callback to every run.
    """

    def on_test_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        _answer(trainer)

    def on_predict_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        _answer(trainer)


def _answer(trainer: Trainer) -> None:
    if trainer.world_size > 1 and STOP.requested_of_any(trainer):
        raise StoppedTogether
