"""What every method of this project offers the harness: a task, phases, pictures."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from lightning_utilities.core.apply_func import apply_to_collection
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class ExperimentModule(LightningModule):
    """A LightningModule that the harness can run as one experiment of one or more phases.

    The harness runs every name of :attr:`phases` as one ``fit`` of a fresh Trainer: it sets
    :attr:`phase_index`, calls :meth:`on_phase_start`, fits, restores the phase's best weights and
    calls :meth:`on_phase_end`.
    """

    task: ClassVar[str]
    """What the method learns; must be among the ``tasks`` of the data module."""

    validates_itself: ClassVar[bool] = False
    """True where ``training_step`` includes the validation, so that Lightning's own loop is left out."""

    takes_images: ClassVar[bool] = False
    """True where batches hold images ``[B, C, H, W]``, so that ``hardware.channels_last`` means something."""

    not_compiled: ClassVar[str | None] = None
    """Why ``torch.compile`` is no use for the networks, which refuses ``hardware.compile``; None where it is."""

    def __init__(self) -> None:
        super().__init__()
        # the harness fills these in; the first two of modules that step their optimisers themselves
        self.gradient_clip_val: float | None = None
        self.gradient_clip_algorithm: str | None = None
        self.channels_last = False
        self.phase_index = 0
        self.epochs_before = 0  # epochs of the earlier phases: logged epochs run on
        self.steps_before = 0  # optimiser steps of the earlier phases
        self.timings: dict[str, float] = {}  # seconds that the method wants told beside those of its phases

    @property
    def phases(self) -> tuple[str, ...]:
        """Names of the phases, in order."""
        return ("fit",)

    @property
    def phase(self) -> str:
        """Name of the current phase."""
        return self.phases[self.phase_index]

    def on_phase_start(self, datamodule: LightningDataModule) -> None:
        """Prepares the module for :attr:`phase` before its Trainer is made.

        A run that continues in the middle of the phase calls it again, after :meth:`on_load_checkpoint` and
        before the weights are put back; so it must depend on nothing but what :meth:`on_save_checkpoint` keeps.
        """

    def on_phase_end(self, trainer: Trainer, datamodule: LightningDataModule) -> dict[str, float]:
        """Does what follows the phase (build paths, score a pool), on its best weights.

        Args:
            trainer: the Trainer that ran the phase.
            datamodule: the run's data.

        Returns:
            Numbers for ``results.json``, by name; may be empty.
        """
        return {}

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        # Here and not after the backward pass: gradients in half precision are unscaled only now.
        if self.gradient_clip_val is not None:
            self.clip_gradients(optimizer, self.gradient_clip_val, self.gradient_clip_algorithm)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        return apply_to_collection(batch, Tensor, _channels_last) if self.channels_last else batch

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["phase_index"] = self.phase_index

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.phase_index = checkpoint["phase_index"]

    def figures(
        self, datamodule: LightningDataModule, published: dict[str, Any] | None
    ) -> Iterator[tuple[str, "Figure"]]:
        """Pictures of the trained method as (file name without ending, figure); drawn after the test.

        Args:
            datamodule: the run's data.
            published: ``{metric, value, spread, source}`` of the preset, or None.
        """
        return iter(())

    def prediction_rows(self, outputs: list[Any], datamodule: LightningDataModule) -> list[dict[str, Any]]:
        """Rows of ``predictions.csv`` from what ``trainer.predict`` returned; empty if a table is no use."""
        return []


def _channels_last(values: Tensor) -> Tensor:
    """Images ``[B, C, H, W]`` in the order that convolutions read fastest; other tensors as they are."""
    is_images = values.dim() == 4 and values.is_floating_point()
    return values.contiguous(memory_format=torch.channels_last) if is_images else values
