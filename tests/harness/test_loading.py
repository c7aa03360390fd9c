"""What is no run folder is named when a run is loaded; test_every_model.py loads those that are."""

import shutil
from pathlib import Path

import pytest
import yaml

from harness.errors import UserError
from harness.loading import load, load_run
from tests.small_runs import FittedRun, assert_same_weights, fit


@pytest.fixture(scope="module")
def gat(tmp_path_factory: pytest.TempPathFactory) -> FittedRun:
    run = fit(tmp_path_factory.mktemp("gat"), "model=gat", "data=mini_citation", "trainer.max_epochs=1")
    (run.folder / "config.yaml").write_text(yaml.safe_dump(run.config), encoding="utf-8")
    return run


def test_a_run_is_loaded_with_its_data(gat: FittedRun) -> None:
    module, datamodule = load_run(str(gat.folder))
    assert_same_weights(module.state_dict(), gat.weights)
    assert datamodule.graph.num_nodes == 600
    assert module(datamodule.graph).shape == (600, 4)


def test_home_is_understood(gat: FittedRun, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(gat.folder.parent))
    assert_same_weights(load(f"~/{gat.folder.name}").state_dict(), gat.weights)
    assert load_run(f"~/{gat.folder.name}")[1].graph.num_nodes == 600


def spoilt(gat: FittedRun, folder: Path, text: str | bytes) -> str:
    """The line about the run with another ``config.yaml``."""
    shutil.copytree(gat.folder / "checkpoints", folder / "checkpoints")
    (folder / "config.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(UserError) as caught:
        load_run(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "text",
    ["", "[1, 2]", "data: 3", "data: {}", "{", "a: !!python/object/apply:os.getcwd []", b"\xff\xfe\x00"],
)
def test_a_damaged_config_is_named(gat: FittedRun, tmp_path: Path, text: str | bytes) -> None:
    assert "its config.yaml is damaged: it names no data" in spoilt(gat, tmp_path, text)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"_target_": "os.system"}, "data._target_=os.system is not allowed"),
        ({"_target_": "lightning_modules.spagan.module.SPAGAN"}, "is no LightningDataModule"),
        ({"num_classes": "four"}, "data.num_classes must be an integer > 0, got 'four'"),
        ({"num_classes": 5}, "data.num_classes=5 does not agree with the data"),
        ({"colour": "red"}, "unknown key 'data.colour'"),
    ],
)
def test_data_that_cannot_be_made_are_named(
    gat: FittedRun, tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    config = {**gat.config, "data": gat.config["data"] | changes}
    assert says in spoilt(gat, tmp_path, yaml.safe_dump(config))


def test_a_folder_without_config_is_no_run_folder(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UserError, match=r"is no run folder: its config\.yaml: No such file or directory"):
            load_run(folder)
