"""What every method of this project offers the harness: a task, phases, pictures."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from pytorch_lightning import LightningDataModule, LightningModule, Trainer

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

    def __init__(self) -> None:
        super().__init__()
        self.phase_index = 0
        self.epochs_before = 0  # epochs of the earlier phases: logged epochs run on
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
        """Prepares the module for :attr:`phase` before its Trainer is made."""

    def on_phase_end(self, trainer: Trainer, datamodule: LightningDataModule) -> dict[str, float]:
        """Does what follows the phase (build paths, score a pool), on its best weights.

        Args:
            trainer: the Trainer that ran the phase.
            datamodule: the run's data.

        Returns:
            Numbers for ``results.json``, by name; may be empty.
        """
        return {}

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
