"""Runs of a few rounds on a few street scenes, through the harness."""

import csv
import shutil
from pathlib import Path
from typing import Any, cast

from callbacks.savepoints import Savepoints
from harness.build import Run, build_callbacks, build_datamodule, build_loggers, build_module
from harness.metrics_csv import MetricsCSV
from harness.phases import fit_phases
from harness.savepoints import read_savepoint
from lightning_modules.deal.module import Deal
from tests.small_runs import FittedRun, configuration

FEW = (
    "data=street_scenes",
    "data.num_train=20",
    "data.num_val=4",
    "data.num_test=6",
    "trainer.max_epochs=2",
)
"""Few scenes, two epochs."""

ROUNDS = ("model.initial=5", "model.step=3", "model.rounds=3")
"""Three rounds: 5, 8 and 11 of the 20 scenes."""


class KeepingSavepoints(Savepoints):
    """Keeps a copy of the run folder at every savepoint: what a kill right after it would leave."""

    def __init__(self, copies: Path) -> None:
        super().__init__(0.0)
        self.copies = copies

    def save(self, trainer: Any, stage: Any) -> None:
        super().save(trainer, stage)
        assert self.checkpoints is not None
        number = len([*self.copies.iterdir()]) if self.copies.is_dir() else 0
        name = f"{number:03d}_{trainer.lightning_module.phase}_{stage}"
        shutil.copytree(self.checkpoints.parent, self.copies / name)


def fitted(folder: Path, *overrides: str, model: str = "deal", savepoints: Any = None) -> FittedRun:
    """All rounds, from the beginning or from the savepoint that lies in the folder."""
    rounds = ROUNDS if model == "deal" else ()
    given = ("~callbacks.savepoints",) if savepoints else ()
    config = configuration(f"model={model}", *FEW, *rounds, *given, *overrides)
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    savepoint = read_savepoint(folder / "checkpoints")
    data, module = build_datamodule(config), build_module(config)
    loggers = build_loggers(config["logger"], folder)
    if savepoint is not None:
        cast(MetricsCSV, loggers[0]).go_on_after(savepoint.note["rows"])
    callbacks = [*build_callbacks(config["callbacks"]), *([savepoints] if savepoints else [])]
    run = Run(config, folder, module, data, callbacks, loggers)
    return FittedRun(run, fit_phases(run, savepoint))


def deal_of(run: FittedRun) -> Deal:
    assert isinstance(run.module, Deal)
    return run.module


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))
