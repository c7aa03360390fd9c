"""Epochs a second on a GPU beside the CPU, for several precisions.

    python -m benchmarks.gpu --data <folder of data sets>

Runs of the harness as ``run.py`` makes them, validation, best weights and metrics.csv included. An epoch is
one step on the whole graph for GAT and SPAGAN (the second of its phases), and a pass over the digits for the
classifier, which is wide enough here to give a GPU something to do. Wall-clock time after the first epochs;
the CPU runs with one thread.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer

from benchmarks.report import Table, add_arguments, graph_datamodule, write_report
from callbacks.best_weights import BestWeights
from callbacks.epoch_metrics import EpochMetricsCallback
from harness.build import Run, build_datamodule, build_module
from harness.configuration.compose import compose
from harness.metrics_csv import MetricsCSV
from harness.phases import fit_phases
from harness.run_log import quieten_libraries

WARM_UP = 0.2  # share of the epochs that is not timed: kernels are chosen and compiled, memory is taken
METHODS = {
    "gat": ("model=gat", "data=cora"),
    "spagan": ("model=spagan", "data=cora"),
    "classifier": (
        "model=classifier",
        "data=digits",
        "model.network.width=64",
        "model.network.depth=3",
        "data.batch_size=256",
    ),
}
SETTINGS: dict[str, tuple[dict[str, Any], ...]] = {
    "cpu": ({"precision": "32-true"}, {"precision": "bf16-mixed"}),
    "gpu": (
        {"precision": "32-true"},
        {"precision": "bf16-mixed"},
        {"precision": "16-mixed"},
        {"precision": "bf16-mixed", "channels_last": True},
    ),
}


class Stopwatch(EpochMetricsCallback):
    """When each epoch of the last phase was over."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_epoch_metrics(
        self, trainer: Trainer, pl_module: LightningModule, epoch: int, metrics: Mapping[str, float]
    ) -> None:
        # the metrics are plain numbers, so the device has done all that leads to them
        self.ends = [*(self.ends if epoch else []), time.perf_counter()]

    def epochs_per_second(self) -> float:
        """Rate after the warm-up."""
        first = int(WARM_UP * len(self.ends))
        return (len(self.ends) - 1 - first) / (self.ends[-1] - self.ends[first])


def rate(words: Sequence[str], graph: Any, hardware: Mapping[str, Any], epochs: int) -> float:
    """Epochs a second of one run.

    Args:
        words: the run's overrides.
        graph: data module for methods on graphs.
        hardware: what differs from ``hardware=cpu``.
        epochs: epochs of each phase.
    """
    limits = (f"trainer.max_epochs={epochs}", f"trainer.min_epochs={epochs}", "hardware=cpu", "logger=csv")
    config = compose([*words, *limits]).config
    config["hardware"] |= hardware
    datamodule = build_datamodule(config) if "data=digits" in words else graph
    watch = Stopwatch()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "checkpoints").mkdir()
        callbacks = [BestWeights("val/loss", "min", None), watch]
        loggers = [MetricsCSV(folder / "metrics.csv")]
        fit_phases(Run(config, folder, build_module(config), datamodule, callbacks, loggers))
    return watch.epochs_per_second()


def measure(
    methods: Sequence[str], accelerators: Sequence[str], graph: Any, epochs: int
) -> list[dict[str, Any]]:
    """One row a method and setting; ``times CPU`` compares with the CPU's 32-true where that was measured.

    Args:
        methods: keys of :data:`METHODS`.
        accelerators: ``cpu`` or ``gpu``, in the order in which they are to run.
        graph: data module for methods on graphs.
        epochs: epochs of each phase, >= 3.
    """
    rows: list[dict[str, Any]] = []
    for method in methods:
        basis = None
        for accelerator in accelerators:
            for setting in SETTINGS[accelerator]:
                if setting.get("channels_last") and method != "classifier":
                    continue
                speed = rate(METHODS[method], graph, {"accelerator": accelerator, **setting}, epochs)
                basis = speed if basis is None and accelerator == "cpu" else basis
                rows.append(
                    {
                        "method": method,
                        "on": accelerator,
                        "precision": setting["precision"],
                        "channels last": "yes" if setting.get("channels_last") else "no",
                        "epochs/s": speed,
                        "times CPU": speed / basis if basis else float("nan"),
                    }
                )
    return rows


def main() -> int:
    """Measure, print, write ``gpu.json``; 2 where there is no GPU."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--epochs", type=int, default=100, help="epochs of each phase (default: 100)")
    parser.add_argument("--on", nargs="+", choices=SETTINGS, default=["cpu", "gpu"], help="default: cpu gpu")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="default: all")
    arguments = parser.parse_args()
    if "gpu" in arguments.on and not torch.cuda.is_available():
        print(
            "error: torch sees no GPU on this machine, so there is nothing to compare."
            " --on cpu times the CPU alone.",
            file=sys.stderr,
        )
        return 2
    quieten_libraries(Path(tempfile.gettempdir()) / "tenfold-benchmarks")
    torch.set_num_threads(1)
    graph, name = graph_datamodule(arguments.data)
    rows = measure(arguments.methods, arguments.on, graph, arguments.epochs)
    device = torch.cuda.get_device_name() if "gpu" in arguments.on else "the CPU"
    title = f"Epochs a second on {device}; graph methods on {name}; {arguments.epochs} epochs a phase"
    write_report("gpu", [Table(title, rows)], arguments.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
