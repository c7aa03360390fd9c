"""What every method of this project offers the harness: a task, phases, pictures."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pytorch_lightning import LightningDataModule, LightningModule, Trainer

from harness.checkpoints import STAMP, stamp

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

    validates: ClassVar[bool] = True
    """False where the method looks at no validation data while it trains, whatever the data set has."""

    epoch_metrics: ClassVar[tuple[str, ...]] = ()
    """Names of all metrics that an epoch reports; what ``callbacks.best_weights`` monitors is looked up here
    before any work is done. Empty where they are not known before."""

    monitor: ClassVar[str | None] = "val/loss"
    """What ``callbacks.best_weights.monitor=auto`` stands for; None for a method whose last weights count."""

    monitor_mode: ClassVar[str | None] = None
    """``max`` where more of :attr:`monitor` is better: it goes before ``callbacks.best_weights.mode``. None
    leaves it to that key."""

    plateau_metric: ClassVar[str | None] = None
    """What the schedule ``ReduceLROnPlateau`` looks at; None for a method that cannot have it."""

    progress_metrics: ClassVar[tuple[str, ...]] = ()
    """Names of the metrics to show while training goes on; empty for all."""

    prerequisites: ClassVar[tuple[str, ...]] = ()
    """Names of the trained networks that the method starts from, those under ``requires:`` in its YAML."""

    optional_prerequisites: ClassVar[tuple[str, ...]] = ()
    """Those of them that may be null in the YAML; :meth:`on_prerequisites` then finds none of that name."""

    training_only: ClassVar[tuple[str, ...]] = ()
    """Constructor arguments that change nothing once trained: a checkpoint may be tested with other values of
    them, as with those named ``optimizer`` and ``scheduler``."""

    evaluation_only: ClassVar[tuple[str, ...]] = ()
    """Constructor arguments that say how a trained module is tested and what it predicts: a command that does
    so may change them, and has those of the training where it says nothing."""

    takes_images: ClassVar[bool] = False
    """True where batches hold images ``[B, C, H, W]``, so that ``hardware.channels_last`` means something."""

    not_compiled: ClassVar[str | None] = None
    """Why ``torch.compile`` is no use for the networks, which refuses ``hardware.compile``; else None."""

    def __init__(self) -> None:
        super().__init__()
        # of modules that step their optimisers themselves; the harness fills them in
        self.gradient_clip_val: float | None = None
        self.gradient_clip_algorithm: str | None = None
        # the node ``data`` of the run, or of its own run if another one starts from it; None where not known
        self.trained_on: dict[str, Any] | None = None
        self.phase_index = 0
        self.epochs_before = 0  # epochs of the earlier phases: logged epochs run on
        self.steps_before = 0  # optimiser steps of the earlier phases
        # seconds that the method wants told beside those of its phases, and what ends in _per_second
        self.timings: dict[str, float] = {}

    @property
    def phases(self) -> tuple[str, ...]:
        """Names of the phases, in order."""
        return ("fit",)

    @property
    def phase(self) -> str:
        """Name of the current phase."""
        return self.phases[self.phase_index]

    @property
    def planned_epochs(self) -> int | None:
        """Epochs that the current phase takes at most; None outside of a run."""
        return None if self._trainer is None else self._trainer.max_epochs

    @property
    def phase_epochs(self) -> int | None:
        """Epochs of the current phase, where the method says how long each is; None leaves it to the Trainer.

        ``trainer.max_epochs`` bounds it all the same, so that a short trial is one word.
        """
        return None

    def on_planned_prerequisites(self, configs: Mapping[str, Mapping[str, Any]]) -> None:
        """Refuses, before anything is fitted, trained networks that will not do.

        Args:
            configs: by name, the checked configuration of each one's run; without those that are given as
                checkpoints.

        Raises:
            UserError: naming what does not fit.
        """

    def on_prerequisites(self, modules: Mapping[str, LightningModule]) -> None:
        """Takes the trained networks that the method starts from; called before ``mode=fit`` reads any data.

        A run that continues gets them again before its state is put back, so keep them outside of the state:
        ``self._teacher = (modules["teacher"],)`` in a tuple is no submodule, and so goes neither into a
        checkpoint nor to the optimiser. Lightning then does not move them to the device of the others either.

        Args:
            modules: a module for each name of :attr:`prerequisites`, on the CPU, in evaluation mode, its
                parameters frozen.
        """

    def on_phase_start(self, datamodule: LightningDataModule) -> None:
        """Prepares the module for :attr:`phase` before its Trainer is made.

        A run that continues in the middle of the phase calls it again, after :meth:`on_load_checkpoint` and
        before the weights are put back; so it must depend on nothing but what :meth:`on_save_checkpoint`
        keeps.
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
        # here and not after the backward pass: gradients in half precision are unscaled only now
        if self.gradient_clip_val is not None:
            self.clip_gradients(optimizer, self.gradient_clip_val, self.gradient_clip_algorithm)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint[STAMP] = stamp(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.phase_index = checkpoint[STAMP]["phase_index"]

    def figures(
        self, datamodule: LightningDataModule, published: dict[str, Any] | None
    ) -> Iterator[tuple[str, "Figure"]]:
        """Pictures of the trained method as (file name without ending, figure); drawn after the test.

        Args:
            datamodule: the run's data.
            published: ``{metric, value, spread, source}`` of the preset, or None.
        """
        return iter(())

    def epoch_figures(self, datamodule: LightningDataModule) -> Iterator[tuple[str, "Figure"]]:
        """Pictures to look at while training goes on, as :meth:`figures`; drawn now and then after an epoch.

        They must draw nothing from the global random state.

        Args:
            datamodule: the run's data.
        """
        return iter(())

    def training_figure(self, rows: list[dict[str, Any]]) -> "Figure | None":
        """The picture of training; None for the usual one, of loss and accuracy.

        Args:
            rows: one an epoch, ``epoch`` counted across phases and the epoch's metrics by name.
        """
        return None

    def prediction_rows(
        self, outputs: list[Any], datamodule: LightningDataModule
    ) -> Iterable[dict[str, Any]]:
        """Rows of ``predictions.csv``, all with the same keys; empty if a table is no use.

        Args:
            outputs: what ``trainer.predict`` returned, one entry a batch.
            datamodule: the run's data.
        """
        return ()

    def prediction_files(
        self, outputs: list[Any], datamodule: LightningDataModule, folder: Path
    ) -> Iterable[dict[str, Any]]:
        """What becomes ``predictions.csv``, for a method that also writes files of what it predicts.

        Such a method yields each row once the file that it names is written, so that nothing is gathered in
        memory; ``harness.predictions.write_images`` writes pictures. The table appears when all rows are
        through: files without it are those of a run that was interrupted.

        Args:
            outputs: what ``trainer.predict`` returned, one entry a batch.
            datamodule: the run's data.
            folder: the run folder; rows name files relative to it.

        Returns:
            Rows, all with the same keys; :meth:`prediction_rows` where there are no files to write.
        """
        return self.prediction_rows(outputs, datamodule)

    def prediction_figures(
        self, outputs: list[Any], datamodule: LightningDataModule
    ) -> Iterator[tuple[str, "Figure"]]:
        """Pictures of what was predicted, as :meth:`figures`, where one says it better than the table.

        Args:
            outputs: what ``trainer.predict`` returned, one entry a batch.
            datamodule: the run's data.
        """
        return iter(())
