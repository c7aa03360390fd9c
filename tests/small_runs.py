"""Runs of a few epochs on embedded graphs, for the tests of the runtime."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningDataModule
from pytorch_lightning.loggers.logger import Logger

from callbacks.best_weights import BestWeights
from harness.build import Run, build_callbacks, build_datamodule, build_loggers, build_module, build_trainer
from harness.configuration.check import check
from harness.configuration.compose import compose
from harness.phases import Record, fit_phases
from lightning_modules.experiment import ExperimentModule


@dataclass
class FittedRun:
    """What a run leaves behind, in memory and in ``folder``."""

    built: Run
    record: Record

    @property
    def config(self) -> dict[str, Any]:
        return self.built.config

    @property
    def module(self) -> ExperimentModule:
        return self.built.module

    @property
    def datamodule(self) -> LightningDataModule:
        return self.built.datamodule

    @property
    def callbacks(self) -> Sequence[Callback]:
        return self.built.callbacks

    @property
    def loggers(self) -> Sequence[Logger]:
        return self.built.loggers

    @property
    def folder(self) -> Path:
        return self.built.folder

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return self.module.state_dict()

    @property
    def best(self) -> BestWeights:
        return next(callback for callback in self.callbacks if isinstance(callback, BestWeights))

    def test(self) -> dict[str, float]:
        trainer = build_trainer(self.built)
        trainer.test(self.module, datamodule=self.datamodule, verbose=False)
        return {name: float(value) for name, value in trainer.callback_metrics.items()}


def configuration(*overrides: str, pictures: bool = False) -> dict[str, Any]:
    """The checked configuration of a quiet run on the CPU, as a user's command would compose it."""
    words = ["hardware=cpu", "logger=csv", "trainer.min_epochs=1", *overrides]
    if not pictures:
        words.append("~callbacks.pictures")
    composed = compose(words)
    check(composed.config, composed.choices)
    return composed.config


def fit(folder: Path, *overrides: str, extra: Sequence[Callback] = (), pictures: bool = False) -> FittedRun:
    """Trains all phases of a configuration; files go below ``folder``."""
    config = configuration(*overrides, pictures=pictures)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "checkpoints").mkdir()
    datamodule = build_datamodule(config)
    module = build_module(config)
    callbacks = [*build_callbacks(config["callbacks"]), *extra]
    loggers = build_loggers(config["logger"], folder)
    built = Run(config, folder, module, datamodule, callbacks, loggers)
    return FittedRun(built, fit_phases(built))


def assert_same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Equal names and, bit for bit, equal values."""
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert different == []
