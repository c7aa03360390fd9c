"""Every choice of ``model=`` is trained, tested again, asked for predictions and loaded in Python."""

import csv
import json
import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from pytorch_lightning import Trainer

import run
from harness.checkpoints import read_checkpoint
from harness.loading import load, load_run
from lightning_modules.experiment import ExperimentModule
from lightning_modules.osgan.generation import ImageGenerator
from tests.command_lines import command
from tests.small_runs import assert_same_weights

ROOT = Path(__file__).parents[1]
MODELS = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "conf" / "model").glob("*.yaml")}
# A small data set without network for each task; a method for a new task adds one.
DATA = {
    "node_classification": "mini_citation",
    "image_classification": "digits",
    "image_generation": "bumps16",
    "graph_prediction": "mini_factor_graphs",
    "inductive_node_classification": "mini_ppi",
    "point_cloud_classification": "mini_modelnet",
    "semantic_segmentation": "street_scenes",
}
FEW = {  # less of what costs time
    "semantic_segmentation": ("model.network=small_unet", "model.weights=null"),
    "image_generation": ("model.num_samples=50", "model.num_predicted=7"),
    "graph_prediction": ("data.num_graphs=200", "data.batch_size=50"),
    "point_cloud_classification": ("data.num_points=64", "data.train_per_class=8", "data.batch_size=16"),
}
README = (ROOT / "README.md").read_text(encoding="utf-8")

pytestmark = pytest.mark.usefixtures("as_before")


@dataclass
class TrainedRun:
    """A finished run of two epochs.

    Attributes:
        place: the folder that its command was given for runs, data and cache.
        model: the choice of ``model=``.
        data: the choice of ``data=``.
        folder: its run folder.
    """

    place: Path
    model: str
    data: str
    folder: Path

    @property
    def best(self) -> Path:
        return self.folder / "checkpoints" / "best.ckpt"

    @property
    def metrics(self) -> dict[str, float]:
        """What the test of the run found."""
        return reported(results(self.folder))

    def command(self, *words: str) -> Path:
        """The run folder of a good command for the same model and data."""
        before = set(self.folder.parent.iterdir())
        few = [word for word in FEW.get(task_of(self.model), ()) if word.startswith("data.")]
        assert command(self.place, f"model={self.model}", f"data={self.data}", *few, *words) == 0
        (made,) = set(self.folder.parent.iterdir()) - before
        return made


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return found


def reported(found: dict[str, Any]) -> dict[str, float]:
    """What the test found, without what training had to say about its phases."""
    metrics = found["metrics"].items()
    return {name: value for name, value in metrics if name.startswith("test/") and "acc_" not in name}


def task_of(model: str) -> str:
    from harness.configuration.signatures import read_class

    task: str = read_class(MODELS[model]["_target_"]).attributes["task"]
    return task


class Trainings:
    """Runs by model, each trained when it is first asked for."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.runs: dict[str, TrainedRun] = {}

    def of(self, model: str) -> TrainedRun:
        if model not in self.runs:
            if task_of(model) not in DATA:
                pytest.skip(f"no data set for {task_of(model)} yet")
            # bumps16 knows by itself how good its copies are
            requires = {} if task_of(model) == "image_generation" else MODELS[model].get("requires") or {}
            given = [
                f"model.requires.{name}={self.of(shlex.split(' '.join(words))[0].partition('=')[2]).folder}"
                for name, words in requires.items()
            ]
            data = DATA[task_of(model)]
            given += FEW.get(task_of(model), ())
            folder = self.place / "runs" / f"{model}_{data}"
            words = ("trainer.max_epochs=2", "seed=4", "~callbacks.pictures", *given)
            assert command(self.place, f"model={model}", f"data={data}", *words) == 0
            (made,) = folder.iterdir()
            self.runs[model] = TrainedRun(self.place, model, data, made)
        return self.runs[model]


@pytest.fixture(scope="module")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainings]:
    threads = torch.get_num_threads()
    with mock.patch.dict(os.environ):
        yield Trainings(tmp_path_factory.mktemp("models"))
    torch.set_num_threads(threads)


@pytest.fixture(params=sorted(MODELS))
def trained(request: pytest.FixtureRequest, trainings: Trainings) -> TrainedRun:
    return trainings.of(request.param)


def test_testing_again_gives_the_very_metrics_of_the_run(trained: TrainedRun) -> None:
    for given in (trained.folder, trained.best):
        again = results(trained.command("mode=test", f"ckpt={given}", "seed=9", "~callbacks.pictures"))
        assert reported(again) == trained.metrics, "bit for bit"
        assert (again["mode"], again["ckpt"]) == ("test", str(trained.best))
        assert again["best_checkpoint"] == str(trained.best)
    assert trained.metrics


def test_predictions_agree_with_the_test(trained: TrainedRun) -> None:
    if task_of(trained.model) == "image_generation":
        pytest.skip("what a generator predicts has no truth to agree with")
    folder = trained.command("mode=predict", f"ckpt={trained.folder}")
    found = results(folder)
    assert found["predictions"] == str(folder / "predictions.csv")
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("split", "test") == "test"]
    if task_of(trained.model) == "semantic_segmentation":
        right = sum(int(row["right"]) for row in rows) / sum(int(row["pixels"]) for row in rows)
    else:
        right = sum(row["true"] == row["predicted"] for row in rows) / len(rows)
    assert right == pytest.approx(trained.metrics["test/acc"])
    assert not list(folder.rglob("*.unfinished*"))
    if trained.data in ("digits", "mini_modelnet"):
        assert (folder / "figures" / "predictions.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_predictions_of_a_generator_are_its_samples(trainings: Trainings) -> None:
    trained = trainings.of("osgan")
    folder = trained.command("mode=predict", f"ckpt={trained.folder}", "model.num_predicted=5", "seed=9")
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [f"samples/{number:06d}.png" for number in range(5)]
    module = load(trained.folder)
    assert isinstance(module, ImageGenerator)
    pixels = (module.sample(5) * 255).round().to(torch.uint8)
    written = [np.asarray(Image.open(folder / row["file"])) for row in rows]
    assert np.array_equal(np.stack(written), pixels[:, 0].numpy())
    logits = module.logits(module.sample(5), None)
    assert [float(row["logit"]) for row in rows] == pytest.approx(logits.tolist(), abs=1e-6)
    assert (folder / "figures" / "samples.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_a_loaded_model_has_the_run_s_weights_and_state(trained: TrainedRun) -> None:
    random = torch.get_rng_state()
    module = load(trained.folder)
    assert torch.equal(torch.get_rng_state(), random), "nothing is drawn from the global generator"
    content = read_checkpoint(trained.best)
    assert_same_weights(module.state_dict(), content["state_dict"])
    assert not module.training
    assert module.phase == module.phases[-1]
    assert dict(module.hparams) == content["hyper_parameters"]
    assert_same_weights(load(str(trained.best)).state_dict(), content["state_dict"])


def test_a_loaded_run_is_tested_to_the_very_metrics(
    trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module, datamodule = load_run(trained.folder)
    trainer = Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    trainer.test(module, datamodule=datamodule, verbose=False)
    assert {name: float(trainer.callback_metrics[name]) for name in trained.metrics} == trained.metrics
    assert list(tmp_path.iterdir()) == []


def test_a_loaded_model_lies_where_it_was_wanted(trainings: Trainings) -> None:
    module = load(trainings.of("gat").folder, map_location="meta")
    assert {parameter.device.type for parameter in module.parameters()} == {"meta"}


def test_loading_needs_no_hydra(trainings: Trainings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "hydra"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "hydra", None)  # importing it is an error now
    assert load_run(trainings.of("gat").folder)[1].graph.num_nodes == 600


def test_a_run_s_data_are_found_from_elsewhere_and_may_have_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_data: Path
) -> None:
    if not (shared_data / "planetoid" / "Cora" / "raw").is_dir():
        pytest.skip(f"Cora is not in {shared_data}")
    (tmp_path / "sets").symlink_to(shared_data)
    monkeypatch.chdir(tmp_path)
    words = ["model=gcn", "data=cora", "trainer.max_epochs=2", "hardware=cpu", "logger=csv"]
    assert run.run([*words, "paths.runs=some/runs", "paths.data=sets", "~callbacks.pictures"]) == 0
    (folder,) = (tmp_path / "some" / "runs" / "gcn_cora").iterdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert load_run(folder)[1].graph.num_nodes == 2708
    (tmp_path / "sets").unlink()
    assert load_run(folder, data=shared_data)[1].graph.num_nodes == 2708


def section(heading: str) -> str:
    return README.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def test_the_readme_s_commands_and_lines_of_python_work_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = section("Using a trained model")
    commands = [line for line in text.splitlines() if line.startswith("python run.py ") and " ckpt=" in line]
    assert len(commands) == 2
    (named,) = {word for line in commands for word in line.split() if word.startswith("ckpt=")}
    (python,) = (block.split("```", 1)[0] for block in text.split("```python\n")[1:])
    assert len([line for line in python.splitlines() if line]) == 3
    folder = Path(named.removeprefix("ckpt="))
    assert str(folder) in python
    monkeypatch.chdir(tmp_path)
    words = ["model=spagan", "data=digits_graph", "trainer.max_epochs=2", "hardware=cpu", "logger=csv"]
    assert run.run([*words, "~callbacks.pictures"]) == 0
    (made,) = folder.parent.iterdir()
    made.rename(folder)
    for line in commands:
        assert run.run([*shlex.split(line)[2:], "hardware=cpu", "logger=csv"]) == 0
    assert "predictions" in capsys.readouterr().out
    found: dict[str, Any] = {}
    exec(compile(python, "README.md", "exec"), found)
    assert isinstance(found["model"], ExperimentModule)
    labels = found["data"].graph.y[found["data"].graph.test_mask]
    right = (found["digits"][found["data"].graph.test_mask] == labels).float().mean()
    assert float(right) == pytest.approx(results(folder)["metrics"]["test/acc"])
