"""Training curves and the method's own pictures, in ``figures/`` and on the dashboard."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytorch_lightning import LightningModule, Trainer

from callbacks.best_weights import BestWeights
from callbacks.epoch_metrics import EpochMetricsCallback
from lightning_modules.experiment import ExperimentModule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger("tenfold")


class Pictures(EpochMetricsCallback):
    """Draws after the test: the curves of all phases, then what ``module.figures`` yields.

    After a prediction it draws what ``module.prediction_figures`` yields.

    The files lie in ``figures/`` of the run folder (``trainer.default_root_dir``); loggers that can show
    images get the same files.
    """

    def __init__(self) -> None:
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

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, BestWeights) and callback.best_epoch >= 0:
                phase = getattr(pl_module, "phase", "fit")
                self._best[phase] = self._phases[phase] + callback.best_epoch

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, self._draw(trainer, pl_module))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, self._draw_predictions(trainer, pl_module))

    def _save(self, trainer: Trainer, figures: "Iterator[tuple[str, Figure]]") -> None:
        if not trainer.is_global_zero:
            return
        from harness.figures import save_png

        folder = Path(trainer.default_root_dir) / "figures"
        folder.mkdir(exist_ok=True)
        try:
            for name, figure in figures:
                path = folder / f"{name}.png"
                save_png(figure, path)
                for logger in trainer.loggers:
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
            yield "training_curves", training_curves(self._rows, marks, published or None)
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
