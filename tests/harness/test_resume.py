"""A run that goes on from any of its savepoints ends as if it had never been stopped."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer

from callbacks.epoch_metrics import EpochMetricsCallback
from callbacks.savepoints import Savepoints
from harness.build import Run, build_callbacks, build_datamodule, build_loggers, build_module
from harness.errors import UserError
from harness.metrics_csv import MetricsCSV
from harness.phases import Record, fit_phases
from harness.savepoints import LAST, PREVIOUS, Savepoint, Stage, read_savepoint
from harness.stopping import STOP, Stopped
from tests.small_runs import assert_same_weights, configuration

SPAGAN = (
    "model=spagan",
    "data=mini_citation",
    "trainer.max_epochs=12",
    "model.epochs_per_call=5",
    "model.iterations=2",
    "model.path_choice=random",
    "model.scheduler={name: StepLR, step_size: 4}",
)


class KeepingSavepoints(Savepoints):
    """Keeps a copy of the run folder at every savepoint: what a kill right after it would leave."""

    def __init__(self, copies: Path) -> None:
        super().__init__(0.0)
        self.copies = copies
        self.stages: list[Stage] = []

    def save(self, trainer: Trainer, stage: Stage) -> None:
        super().save(trainer, stage)
        assert self.checkpoints is not None
        shutil.copytree(self.checkpoints.parent, self.copies / f"{len(self.stages):03d}")
        self.stages.append(stage)


def run_in(
    folder: Path, savepoints: Savepoints, *overrides: str, savepoint: Savepoint | None = None
) -> tuple[Run, Record]:
    config = configuration(*overrides, "~callbacks.savepoints")
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    datamodule = build_datamodule(config)
    module = build_module(config)
    loggers = build_loggers(config["logger"], folder)
    if savepoint is not None:
        metrics_csv = loggers[0]
        assert isinstance(metrics_csv, MetricsCSV)
        metrics_csv.go_on_after(savepoint.note["rows"])
    callbacks = [*build_callbacks(config["callbacks"]), savepoints]
    run = Run(config, folder, module, datamodule, callbacks, loggers)
    return run, fit_phases(run, savepoint)


def clockless(record: Record) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in ("seconds", "timings")}


@pytest.fixture(scope="module", params=[SPAGAN], ids=["spagan"])
def unbroken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("unbroken")
    keeping = KeepingSavepoints(folder / "copies")
    run, record = run_in(folder / "run", keeping, *request.param)
    return request.param, run, record, keeping


def test_every_savepoint_leads_to_the_same_end(unbroken: Any) -> None:
    overrides, run, record, keeping = unbroken
    assert {"epoch", "trained", "done"} <= set(keeping.stages)
    for copy in sorted(keeping.copies.iterdir()):
        savepoint = read_savepoint(copy / "checkpoints")
        assert savepoint is not None
        # what was logged between the savepoint and the kill, and a line cut in the middle
        with (copy / "metrics.csv").open("a", encoding="utf-8") as file:
            file.write("999,999,9,0.5,0.5,0.5,0.5\n1000,10")
        again, continued = run_in(copy, Savepoints(0.0), *overrides, savepoint=savepoint)
        assert_same_weights(again.module.state_dict(), run.module.state_dict())
        assert (copy / "metrics.csv").read_bytes() == (run.folder / "metrics.csv").read_bytes(), copy
        assert clockless(continued) == clockless(record), copy
        for name in ("best.ckpt", "last.ckpt"):
            files = [torch.load(f / "checkpoints" / name, weights_only=True) for f in (copy, run.folder)]
            assert_same_weights(files[0]["state_dict"], files[1]["state_dict"])
