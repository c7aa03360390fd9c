"""What savepoints cost: the share of a run's time that goes into writing them.

Runs of a minute with the default interval, on one thread: SPAGAN in its two phases, and a classifier whose
savepoint is larger. Every call that writes a savepoint is timed, with its checking and its fsync.

    python -m benchmarks.savepoint_cost --data <folder of data sets>
"""

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pytorch_lightning import LightningModule, Trainer

from benchmarks.report import Table, add_arguments, write_report
from callbacks.epoch_metrics import EpochMetricsCallback
from callbacks.savepoints import Savepoints
from harness.build import Run, build_callbacks, build_datamodule, build_loggers, build_module
from harness.configuration.compose import compose
from harness.phases import fit_phases
from harness.savepoints import LAST, Stage

# its savepoint holds the weights four times over: as they are, the best ones, and Adam's two moments
_LARGE = (
    "model=classifier",
    "data=digits",
    "model.network.width=360",
    "data.num_train=256",
    "data.num_val=64",
)


class TimedSavepoints(Savepoints):
    """Adds up the seconds spent in saving."""

    def __init__(self, every_seconds: float | None) -> None:
        super().__init__(every_seconds)
        self.seconds, self.count = 0.0, 0

    def save(self, trainer: Trainer, stage: Stage) -> None:
        started = time.perf_counter()
        super().save(trainer, stage)
        self.seconds += time.perf_counter() - started
        self.count += 1


class StopAfter(EpochMetricsCallback):
    """Ends a phase after a number of seconds."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._end = time.monotonic() + self.seconds

    def on_epoch_metrics(
        self, trainer: Trainer, pl_module: LightningModule, epoch: int, metrics: Mapping[str, float]
    ) -> None:
        if time.monotonic() >= self._end:
            trainer.should_stop = True


def measure(name: str, words: tuple[str, ...], seconds: float, folder: Path) -> dict[str, Any]:
    """One run of about ``seconds``, in a row of the table."""
    common = ("hardware=cpu", "trainer.min_epochs=1", "trainer.max_epochs=100000", "~callbacks.pictures")
    config = compose([*words, *common, "callbacks.best_weights.patience=null"]).config
    every = config["callbacks"].pop("savepoints")["every_seconds"]
    config["callbacks"]["progress"]["every_seconds"] = 1e9
    (folder / "checkpoints").mkdir(parents=True)
    module = build_module(config)
    savepoints = TimedSavepoints(every)
    stop = StopAfter(seconds / len(module.phases))
    callbacks = [*build_callbacks(config["callbacks"]), savepoints, stop]
    run = Run(config, folder, module, build_datamodule(config), callbacks, build_loggers({}, folder))
    started = time.perf_counter()
    fit_phases(run)
    took = time.perf_counter() - started
    return {
        "run": name,
        "seconds": took,
        "savepoints": savepoints.count,
        "MB each": (folder / "checkpoints" / LAST).stat().st_size / 1e6,
        "ms each": 1000 * savepoints.seconds / savepoints.count,
        "share of the run (%)": 100 * savepoints.seconds / took,
    }


def main() -> None:
    """Runs both, prints the table and writes the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each run (default 60)")
    arguments = parser.parse_args()
    data = ("data=cora", f"paths.data={arguments.data}") if arguments.data else ("data=digits_graph",)
    runs = {
        f"spagan, {data[0][5:]}": ("model=spagan", *data),
        "classifier, digits": ("model=classifier", "data=digits"),
        "classifier, wide": _LARGE,
    }
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            measure(name, words, arguments.seconds, Path(folder) / str(index))
            for index, (name, words) in enumerate(runs.items())
        ]
    title = "Savepoints in runs of about a minute, every 30 s and after each phase, one thread"
    write_report("savepoint_cost", [Table(title, rows)], arguments.output)


if __name__ == "__main__":
    main()
