"""The check of a composed configuration, on toy classes and on the project's own choices."""

import copy
import re
from pathlib import Path
from typing import Any, Literal

import pytest

from harness.annotations import PositiveInt, Probability
from harness.configuration import targets
from harness.configuration.agreement import data_for_task
from harness.configuration.check import check
from harness.configuration.check_values import check_value, describe
from harness.configuration.compose import compose
from harness.configuration.help import CONF, groups, preset_pair
from harness.configuration.signatures import read_class
from harness.configuration.targets import read_target, resolve_class
from harness.errors import UserError

PARTS = """
import os
from typing import Literal

from pytorch_lightning import Callback, LightningDataModule, LightningModule
from pytorch_lightning.loggers import Logger

from harness.annotations import ClassSpec, PositiveInt, Probability


class Net(LightningModule):
    task = "sorting"

    def __init__(
        self,
        heads: PositiveInt,
        dropout: Probability,
        pool: Literal["max", "mean"],
        sizes: list[PositiveInt],
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
    ) -> None: ...


class Numbers(LightningDataModule):
    tasks = ("sorting", "counting")

    def __init__(self, size: int) -> None: ...


class Words(LightningDataModule):
    tasks = ("reading",)

    def __init__(self, size: int) -> None: ...


class Watch(Callback):
    def __init__(self, patience: PositiveInt | None) -> None: ...


class NoTask(Net):
    task = None
"""

GOOD: dict[str, Any] = {
    "seed": 0,
    "mode": "fit",
    "ckpt": None,
    "paths": {"data": "data", "runs": "runs", "cache": ".cache"},
    "published": {"metric": "test/acc", "value": 0.8, "spread": None, "source": "somewhere"},
    "model": {
        "_target_": "toy_check.Net",
        "heads": 2,
        "dropout": 0,
        "pool": "max",
        "sizes": [1, 2],
        "optimizer": {"name": "Adam", "lr": 0.01, "weight_decay": 5e-4, "betas": [0.5, 0.9]},
        "scheduler": {"name": "StepLR", "step_size": 10},
    },
    "data": {"_target_": "toy_check.Numbers", "size": 3},
    "trainer": {"max_epochs": 10, "min_epochs": 1, "deterministic": "warn", "enable_model_summary": False},
    "hardware": {
        "accelerator": "cpu",
        "devices": "auto",
        "num_nodes": 1,
        "strategy": "auto",
        "precision": "32-true",
        "sync_batchnorm": False,
        "compile": False,
        "channels_last": False,
        "threads": 1,
    },
    "callbacks": {"watch": {"_target_": "toy_check.Watch", "patience": None}},
    "logger": {},
}
CHOICES = {"model": "net", "data": "numbers"}


@pytest.fixture(autouse=True, scope="module")
def conf(tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("check")
    (root / "toy_check.py").write_text(PARTS, encoding="utf-8")
    folder = root / "conf"
    (folder / "data").mkdir(parents=True)
    for name in ("Numbers", "Words"):
        (folder / "data" / f"{name.lower()}.yaml").write_text(f"# {name}\n_target_: toy_check.{name}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(root))
        patch.setattr(targets, "OWN_PACKAGES", (*targets.OWN_PACKAGES, "toy_check"))
        yield folder


def changed(key: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(GOOD)
    node = config
    *parents, last = key.split(".")
    for parent in parents:
        node = node[parent]
    node[last] = value
    return config


def without(key: str) -> dict[str, Any]:
    config = copy.deepcopy(GOOD)
    node = config
    *parents, last = key.split(".")
    for parent in parents:
        node = node[parent]
    del node[last]
    return config


def mistake(config: dict[str, Any], conf: Path) -> str:
    with pytest.raises(UserError) as caught:
        check(config, CHOICES, conf)
    return str(caught.value)


def test_good_configuration_passes(conf: Path) -> None:
    check(GOOD, CHOICES, conf)


@pytest.mark.parametrize(
    ("key", "value", "parts"),
    [
        ("seed", -1, ["seed must be an integer in [0, 4294967296), got -1"]),
        ("seed", True, ["seed must be an integer"]),
        ("mode", "train", ["mode must be one of fit, test, predict, got 'train'"]),
        ("mode", "test", ["mode=test needs a checkpoint", "ckpt="]),
        ("sed", 1, ["unknown key 'sed'", "Did you mean 'seed'?"]),
        ("paths.data", "", ["paths.data must be"]),
        ("paths.dat", "x", ["unknown key 'paths.dat'", "'data'"]),
        ("published.valu", 3, ["unknown key 'published.valu'", "'value'"]),
        ("model.heads", "abc", ["model.heads must be an integer > 0, got 'abc'"]),
        ("model.heads", "3", ["got '3'"]),
        ("model.heads", 3.0, ["got 3.0", "Write 3."]),
        ("model.heads", True, ["got True"]),
        ("model.heads", 0, ["> 0, got 0"]),
        ("model.dropout", 1.0, ["model.dropout must be a number in [0, 1), got 1.0"]),
        ("model.pool", "maximum", ["one of max, mean", "Did you mean 'max'?"]),
        ("model.sizes", [1, "a"], ["model.sizes must be a list of integers > 0"]),
        (
            "model.head",
            3,
            ["unknown key 'model.head' of Net", "Did you mean 'heads'?", "Allowed: heads, dropout"],
        ),
        ("model.optimizer", {"lr": 0.1}, ["{name: <class of torch.optim>"]),
        ("model.optimizer.name", "Adm", ["class of torch.optim", "Did you mean 'Adam'?"]),
        ("model.optimizer.name", "Optimizer", ["class of torch.optim"]),
        ("model.optimizer.lr", -1, ["model.optimizer.lr must be a number > 0"]),
        ("model.optimizer.lr", "fast", ["got 'fast'"]),
        (
            "model.optimizer.betas",
            [0.5, 1.5],
            ["model.optimizer.betas must be a list of 2 numbers in [0, 1)"],
        ),
        ("model.optimizer.momentum", 0.9, ["unknown key", "torch.optim.Adam", "~model.optimizer.momentum"]),
        ("model.optimizer.params", [], ["unknown key 'model.optimizer.params'"]),
        ("model.scheduler.name", "StepLr", ["Did you mean 'StepLR'?"]),
        ("model.scheduler.name", "LambdaLR", ["model.scheduler.name must be"]),
        ("model.scheduler", {"name": "StepLR"}, ["missing model.scheduler.step_size"]),
        ("model._target_", "toy_check.Nett", ["no 'Nett'", "Did you mean 'Net'?"]),
        ("model._target_", "toy_check.os.system", ["leads to os", "not allowed"]),
        ("model._target_", "torch.os.system", ["leads to os", "not allowed"]),
        ("model._target_", "pytorch_lightning.trainer.trainer.os.system", ["leads to os"]),
        ("model._target_", "builtins.eval", ["not allowed", "torch_geometric"]),
        ("model._target_", "subprocess.Popen", ["not allowed"]),
        ("model._target_", "torch.load", ["is a function; it must be a LightningModule"]),
        ("model._target_", "torch.hub.load", ["is a function"]),
        ("model._target_", "toy_check.Watch", ["is no LightningModule"]),
        ("model._target_", "toy_check.NoTask", ["must state its task"]),
        ("model._target_", 3, ["dotted path"]),
        ("model.optimizer._target_", "torch.optim.Adam", ["model.optimizer._target_"]),
        ("model.sizes", [{"_target_": "os.system"}], ["model.sizes"]),
        ("data.size", "many", ["data.size must be an integer, got 'many'"]),
        ("callbacks.watch.patienc", 3, ["unknown key 'callbacks.watch.patienc'"]),
        ("callbacks.watch", None, ["callbacks.watch must be a group of keys"]),
        ("callbacks", [], ["callbacks must be a group"]),
        (
            "logger",
            {"w": {"_target_": "pytorch_lightning.loggers.WandbLogger", "projct": "x"}},
            ["'project'"],
        ),
        ("trainer.max_epoch", 3, ["Did you mean 'max_epochs'?"]),
        ("trainer.max_epochs", 0, ["trainer.max_epochs must be an integer > 0"]),
        ("trainer.min_epochs", 11, ["trainer.min_epochs=11", "trainer.max_epochs=10"]),
        ("trainer.accelerator", "gpu", ["hardware.accelerator"]),
        ("trainer.default_root_dir", "x", ["paths.runs"]),
        ("trainer.enable_model_summary", "no", ["must be true or false or null"]),
        ("hardware.precision", "16", ["hardware.precision must be one of 32-true"]),
        ("hardware.devices", 0, ["hardware.devices must be"]),
        ("hardware.gpus", 1, ["unknown key 'hardware.gpus'"]),
    ],
)
def test_wrong_value_is_named_with_what_is_allowed(
    key: str, value: Any, parts: list[str], conf: Path
) -> None:
    message = mistake(changed(key, value), conf)
    for part in parts:
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "key", ["model.heads", "data.size", "hardware.threads", "paths.runs", "trainer.max_epochs"]
)
def test_missing_key_is_named(key: str, conf: Path) -> None:
    assert f"missing {key}" in mistake(without(key), conf)


def test_missing_target_is_named(conf: Path) -> None:
    assert "model has no _target_" in mistake(without("model._target_"), conf)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model.dropout", 0.3),
        ("hardware.devices", [0, 1]),
        ("trainer.gradient_clip_val", 1),
        ("published", None),
        ("model.scheduler", None),
        ("model.optimizer", {"name": "SGD", "lr": 1, "momentum": 0.9}),
        (
            "logger",
            {"w": {"_target_": "pytorch_lightning.loggers.WandbLogger", "project": "x", "group": "y"}},
        ),
    ],
)
def test_unusual_but_right_value_passes(key: str, value: Any, conf: Path) -> None:
    check(changed(key, value), CHOICES, conf)


def test_several_mistakes_are_told_at_once(conf: Path) -> None:
    config = changed("model.heads", "abc")
    config["model"]["dropout"] = 7
    config["trainer"]["max_epochs"] = -3
    assert mistake(config, conf).endswith("(and 2 more: model.dropout, trainer.max_epochs)")


def test_task_mismatch_lists_the_data_that_serve_it(conf: Path) -> None:
    message = mistake(changed("data._target_", "toy_check.Words"), conf)
    assert "model=net does sorting" in message
    assert "Data for it: numbers." in message
    assert data_for_task("reading", conf) == ["words"]
    assert data_for_task("flying", conf) == []


def test_description_is_what_a_reader_would_say() -> None:
    assert describe(PositiveInt | None) == "an integer > 0 or null"
    assert describe(list[Probability]) == "a list of numbers in [0, 1)"
    assert describe(tuple[float, float]) == "a list of 2 numbers"
    assert describe(dict[str, int] | Literal["all"]) == "a group of keys or all"


def test_unreadable_type_refuses_nothing() -> None:
    assert check_value("key", object, Any) == []


def test_class_is_imported_only_from_where_it_is_allowed() -> None:
    assert resolve_class("pytorch_lightning.callbacks.EarlyStopping", "Callback").__name__ == "EarlyStopping"
    with pytest.raises(UserError, match="is no Logger"):
        resolve_class("pytorch_lightning.callbacks.EarlyStopping", "Logger", "logger.x")
    with pytest.raises(UserError, match="not allowed"):
        resolve_class("os.system", "Callback")


def test_reexported_class_of_a_library_keeps_its_home() -> None:
    info = read_target("logger.csv", "pytorch_lightning.loggers.CSVLogger", "Logger")
    assert info.path == "pytorch_lightning.loggers.csv_logs.CSVLogger"


@pytest.mark.parametrize("model", groups()["model"])
def test_every_model_of_the_project_passes_the_check_with_all_data_that_serve_it(model: str) -> None:
    target = re.search(r"^_target_: (\S+)", (CONF / "model" / f"{model}.yaml").read_text(), re.MULTILINE)
    assert target
    serving = data_for_task(str(read_class(target[1]).attributes["task"]))
    assert serving
    for data in serving:
        composed = compose((f"model={model}", f"data={data}"))
        check(composed.config, composed.choices)


@pytest.mark.parametrize("group", ["trainer", "hardware", "callbacks", "logger"])
def test_every_other_choice_of_the_project_passes_the_check(group: str) -> None:
    for choice in groups()[group]:
        composed = compose((f"{group}={choice}",))
        check(composed.config, composed.choices)


@pytest.mark.parametrize("preset", groups()["experiment"])
def test_every_preset_of_the_project_passes_with_its_pair(preset: str) -> None:
    model, data = preset_pair(preset, groups()["model"])
    composed = compose((f"model={model}", f"data={data}"))
    assert composed.choices["experiment"] == preset
    check(composed.config, composed.choices)
