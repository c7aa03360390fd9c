"""Training curves and the method's own pictures, in ``figures/`` and on the dashboard."""

import logging
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning import LightningModule, Trainer

from callbacks.best_weights import BestWeights
from callbacks.epoch_metrics import EpochMetricsCallback
from harness.annotations import NonNegativeFloat
from lightning_modules.experiment import ExperimentModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pytorch_lightning.loggers.logger import Logger

log = logging.getLogger("tenfold")


class Pictures(EpochMetricsCallback):
    """Draws after the test: the curves of all phases, then what ``module.figures`` yields.

    While training goes on it draws what ``module.epoch_figures`` yields, and after a prediction what
    ``module.prediction_figures`` yields.

    The files lie in ``figures/`` of the run folder (``trainer.default_root_dir``); loggers that can show
    images get the same files, those of training not: when one is drawn depends on the clock.

    Args:
        every_seconds: least time between two drawings while training goes on; None draws only at the end.
    """

    def __init__(self, every_seconds: NonNegativeFloat | None = 30.0) -> None:
        self.every_seconds = every_seconds
        self._drawn = -math.inf  # time of the last drawing
        self._rows: list[dict[str, Any]] = []
        self._phases: dict[str, int] = {}  # first epoch of each, counted across phases
        self._best: dict[str, int] = {}  # epoch whose weights each phase ended with
        self.published: dict[str, Any] | None = None  # the harness fills it: a line across the curves

    def on_epoch_metrics(
        self, trainer: Trainer, pl_module: LightningModule, epoch: int, metrics: Mapping[str, float]
    ) -> None:
        before = getattr(pl_module, "epochs_before", 0)
        phase = getattr(pl_module, "phase", "fit")
        self._rows.append({"epoch": before + epoch, **metrics})
        self._phases.setdefault(phase, before)
        due = self.every_seconds is not None and time.monotonic() - self._drawn >= self.every_seconds
        if due and isinstance(pl_module, ExperimentModule):
            figures = pl_module.epoch_figures(trainer.datamodule)  # type: ignore[attr-defined]
            self._save(trainer, figures, loggers=())
            self._drawn = time.monotonic()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, BestWeights) and callback.best_epoch >= 0:
                phase = getattr(pl_module, "phase", "fit")
                self._best[phase] = self._phases[phase] + callback.best_epoch

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, self._draw(trainer, pl_module))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, self._draw_predictions(trainer, pl_module))

    def _save(
        self,
        trainer: Trainer,
        figures: "Iterator[tuple[str, Figure]]",
        loggers: "Sequence[Logger] | None" = None,
    ) -> None:
        if not trainer.is_global_zero:
            return
        from harness.figures import save_png

        folder = Path(trainer.default_root_dir) / "figures"
        folder.mkdir(exist_ok=True)
        try:
            for name, figure in figures:
                path = folder / f"{name}.png"
                save_png(figure, path)
                for logger in trainer.loggers if loggers is None else loggers:
                    if hasattr(logger, "log_image"):
                        logger.log_image(key=f"figures/{name}", images=[str(path)])
        except Exception:  # a picture must not cost the results of hours
            log.warning("some pictures could not be drawn; run.log says why")
            log.info("drawing failed", exc_info=True)

    def _draw(self, trainer: Trainer, pl_module: LightningModule) -> Iterator[tuple[str, "Figure"]]:
        from harness.curves import PhaseMark, PublishedValue, training_curves

        if self._rows:
            marks = [PhaseMark(name, start, self._best.get(name)) for name, start in self._phases.items()]
            tested = trainer.callback_metrics.get("test/acc")
            if tested is not None:
                marks[-1] = replace(marks[-1], test=float(tested))
            published = self.published and PublishedValue(self.published["value"], self.published["spread"])
            own = pl_module.training_figure(self._rows) if isinstance(pl_module, ExperimentModule) else None
            yield "training_curves", own or training_curves(self._rows, marks, published or None)
        if isinstance(pl_module, ExperimentModule):
            yield from pl_module.figures(trainer.datamodule, self.published)  # type: ignore[attr-defined]

    def _draw_predictions(
        self, trainer: Trainer, pl_module: LightningModule
    ) -> Iterator[tuple[str, "Figure"]]:
        if isinstance(pl_module, ExperimentModule):
            outputs = trainer.predict_loop.predictions
            yield from pl_module.prediction_figures(outputs, trainer.datamodule)  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self._rows, "phases": self._phases, "best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._rows = state_dict["rows"]
        self._phases = state_dict["phases"]
        self._best = state_dict["best"]
