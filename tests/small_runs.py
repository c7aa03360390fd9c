"""Runs of a few epochs on embedded graphs, for the tests of the runtime."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningDataModule
from pytorch_lightning.loggers.logger import Logger

from callbacks.best_weights import BestWeights
from harness.build import build_callbacks, build_datamodule, build_loggers, build_module, build_trainer
from harness.configuration.check import check
from harness.configuration.compose import compose
from harness.phases import fit_phases
from lightning_modules.experiment import ExperimentModule


@dataclass
class Run:
    """What a run leaves behind, in memory and in ``folder``."""

    config: dict[str, Any]
    module: ExperimentModule
    datamodule: LightningDataModule
    callbacks: list[Callback]
    loggers: list[Logger]
    record: dict[str, Any]
    folder: Path

    @property
    def weights(self) -> dict[str, torch.Tensor]:
        return self.module.state_dict()

    @property
    def best(self) -> BestWeights:
        return next(callback for callback in self.callbacks if isinstance(callback, BestWeights))

    def test(self) -> dict[str, float]:
        trainer = build_trainer(self.config, self.module, self.callbacks, self.loggers, self.folder)
        trainer.test(self.module, datamodule=self.datamodule, verbose=False)
        return {name: float(value) for name, value in trainer.callback_metrics.items()}


def configuration(*overrides: str, pictures: bool = False) -> dict[str, Any]:
    """The checked configuration of a quiet run on the CPU, as a user's command would compose it."""
    words = ["hardware=cpu", "logger=csv", *overrides]
    if not pictures:
        words.append("~callbacks.pictures")
    composed = compose(words)
    check(composed.config, composed.choices)
    return composed.config


def fit(folder: Path, *overrides: str, extra: Sequence[Callback] = (), pictures: bool = False) -> Run:
    """Trains all phases of a configuration; files go below ``folder``."""
    config = configuration(*overrides, pictures=pictures)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "checkpoints").mkdir()
    datamodule = build_datamodule(config)
    module = build_module(config)
    callbacks = [*build_callbacks(config["callbacks"]), *extra]
    loggers = build_loggers(config["logger"], folder)
    record = fit_phases(config, module, datamodule, callbacks, loggers, folder)
    return Run(config, module, datamodule, callbacks, loggers, record, folder)


def assert_same_weights(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    """Equal names and, bit for bit, equal values."""
    assert one.keys() == other.keys()
    different = [name for name in one if not torch.equal(one[name], other[name])]
    assert different == []
