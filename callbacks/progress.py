"""How far a phase is, on a terminal and in a log file."""

import sys
import time
from collections.abc import Mapping

from pytorch_lightning import LightningModule, Trainer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import (
    Progress as Bar,
)

from callbacks.epoch_metrics import EpochMetricsCallback
from harness.annotations import NonNegativeFloat
from harness.run_log import tell
from harness.words import counted


class Progress(EpochMetricsCallback):
    """A bar on a terminal, else a line now and then.

    Lightning's bars count batches; where an epoch is one batch they say nothing.

    Args:
        every_seconds: without a terminal, the time between two lines; 0 prints every epoch.
    """

    def __init__(self, every_seconds: NonNegativeFloat) -> None:
        self.every_seconds = every_seconds
        self._bar: Bar | None = None
        self._last_print = 0.0
        self._last_epoch = 0
        self._metrics: Mapping[str, float] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not trainer.is_global_zero:
            return
        self._last_print, self._last_epoch = time.monotonic(), 0
        title = _title(pl_module)
        console = Console(file=sys.stderr)
        if not console.is_terminal:
            tell(f"{title}: up to {counted(trainer.max_epochs or 0, 'epoch')}")
            return
        self._bar = Bar(
            TextColumn(title),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[metrics]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._bar.start()
        self._task = self._bar.add_task("", total=trainer.max_epochs, metrics="")

    def on_epoch_metrics(
        self, trainer: Trainer, pl_module: LightningModule, epoch: int, metrics: Mapping[str, float]
    ) -> None:
        if not trainer.is_global_zero:
            return
        chosen = getattr(pl_module, "progress_metrics", ())
        shown = {name: metrics[name] for name in chosen if name in metrics} or metrics
        self._last_epoch, self._metrics = epoch + 1, shown
        now = time.monotonic()
        if self._bar is not None:
            # drawing each epoch would cost more than the epoch
            if now - self._last_print >= 0.1 or epoch == 0:
                self._bar.update(self._task, completed=epoch + 1, metrics=_format(shown))
                self._last_print = now
            return
        if now - self._last_print >= self.every_seconds:
            self._print_line(pl_module)
            self._last_print = now

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._bar is not None and self._last_epoch:
            self._bar.update(self._task, completed=self._last_epoch, metrics=_format(self._metrics))
        self._close()
        if trainer.is_global_zero and self._last_epoch:
            why = "patience ended it" if trainer.should_stop else "all its epochs"
            tell(f"{_title(pl_module)}: {counted(self._last_epoch, 'epoch')}, {why}")

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._close()  # else the terminal stays without a cursor

    def _print_line(self, pl_module: LightningModule) -> None:
        line = f"{_title(pl_module)}: epoch {self._last_epoch}  {_format(self._metrics)}"
        tell(line)

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _title(pl_module: LightningModule) -> str:
    phases = getattr(pl_module, "phases", ("fit",))
    if len(phases) == 1:
        return str(phases[0])
    index: int = pl_module.phase_index  # type: ignore[assignment]
    return f"phase {index + 1}/{len(phases)} {phases[index]}"


def _format(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.3f}" for name, value in metrics.items())
