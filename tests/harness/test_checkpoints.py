"""Checkpoints are plain data, and whatever else is given for one ends in one clear line."""

import os
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from harness.build import build_module
from harness.checkpoints import load_checkpoint, read_checkpoint
from harness.errors import UserError
from lightning_modules.experiment import ExperimentModule
from tests.small_runs import FittedRun, assert_same_weights, configuration, fit

GAT = ("model=gat", "data=mini_citation", "trainer.max_epochs=2")
SPAGAN = ("model=spagan", "data=mini_citation", "trainer.max_epochs=2")


@pytest.fixture(scope="module")
def gat(tmp_path_factory: pytest.TempPathFactory) -> FittedRun:
    return fit(tmp_path_factory.mktemp("gat"), *GAT)


@pytest.fixture(scope="module")
def spagan(tmp_path_factory: pytest.TempPathFactory) -> FittedRun:
    return fit(tmp_path_factory.mktemp("spagan"), *SPAGAN)


def fresh(*overrides: str) -> ExperimentModule:
    return build_module(configuration(*overrides))


class Attack:
    """Makes a folder when unpickled without care."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def plain(value: Any) -> bool:
    """Whether a value is made of nothing but tensors, numbers, strings and containers of them."""
    if isinstance(value, dict):
        return all(plain(key) and plain(item) for key, item in value.items())
    if isinstance(value, list | tuple | set):
        return all(plain(item) for item in value)
    return value is None or isinstance(value, torch.Tensor | int | float | str | bool)


@pytest.mark.parametrize("name", ["best", "last"])
@pytest.mark.parametrize("run", ["gat", "spagan"])
def test_both_checkpoints_hold_plain_data_only(run: str, name: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(run).folder
    content = read_checkpoint(folder / "checkpoints" / f"{name}.ckpt")
    assert plain(content)


def test_best_holds_weights_and_arguments_but_no_optimiser(gat: FittedRun) -> None:
    best = read_checkpoint(gat.folder / "checkpoints" / "best.ckpt")
    last = read_checkpoint(gat.folder / "checkpoints" / "last.ckpt")
    assert "optimizer_states" not in best
    assert len(last["optimizer_states"]) == 1
    assert "callbacks" in last
    assert best["hyper_parameters"] == {k: v for k, v in gat.config["model"].items() if k != "_target_"}


def test_a_checkpoint_loads_into_a_fresh_module(gat: FittedRun) -> None:
    module = fresh(*GAT, "seed=5")
    load_checkpoint(module, gat.folder / "checkpoints" / "best.ckpt")
    assert_same_weights(module.state_dict(), gat.weights)


def test_lightning_s_own_loader_reads_a_checkpoint(spagan: FittedRun) -> None:
    module = type(spagan.module).load_from_checkpoint(
        spagan.folder / "checkpoints" / "best.ckpt", weights_only=True
    )
    assert_same_weights(module.state_dict(), spagan.weights)


def test_a_module_loaded_from_a_checkpoint_stands_in_its_last_phase(spagan: FittedRun) -> None:
    module = fresh(*SPAGAN)
    assert module.phase == "attention"
    load_checkpoint(module, spagan.folder / "checkpoints" / "best.ckpt")
    assert module.phase == "paths"


@pytest.mark.parametrize("name", ["nowhere.ckpt", "."])
def test_a_missing_checkpoint_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match=r"ckpt=.*there is no such file\. Give the path of a best\.ckpt"):
        read_checkpoint(tmp_path / name)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_damaged(gat: FittedRun, tmp_path: Path, share: float) -> None:
    whole = (gat.folder / "checkpoints" / "best.ckpt").read_bytes()
    path = tmp_path / "cut.ckpt"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"cut\.ckpt"):
        read_checkpoint(path)


def test_no_random_bytes_lead_to_a_traceback(tmp_path: Path) -> None:
    rng = random.Random(0)
    path = tmp_path / "noise.ckpt"
    for start in (
        b"",
        b"PK\x03\x04",
        b"\x80\x02",
        b"\x80\x02}q\x00",
        b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.",
    ):
        for _ in range(40):
            path.write_bytes(start + rng.randbytes(rng.randrange(200)))
            with pytest.raises(UserError, match=r"noise\.ckpt"):
                read_checkpoint(path)


def test_a_text_file_is_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("seed: 0\nmodel:\n  heads: 8\n")
    with pytest.raises(UserError, match="damaged or no checkpoint"):
        read_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_a_hostile_checkpoint_never_runs(tmp_path: Path, zipped: bool) -> None:
    path, target = tmp_path / "evil.ckpt", tmp_path / "made"
    content = {"state_dict": {}, "attack": Attack(target)}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match="holds more than plain data") as caught:
        read_checkpoint(path)
    assert "mkdir" in str(caught.value)
    assert "no unsafe fallback" in str(caught.value)
    assert not target.exists()


def test_a_checkpoint_with_a_pickled_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "network.ckpt"
    torch.save({"state_dict": {}, "network": torch.nn.Linear(2, 2)}, path)
    with pytest.raises(UserError, match="holds more than plain data"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [[1, 2], {"weights": 1}, torch.zeros(3), "text"])
def test_plain_data_without_weights_is_no_checkpoint(tmp_path: Path, content: Any) -> None:
    path = tmp_path / "other.ckpt"
    torch.save(content, path)
    with pytest.raises(UserError, match="has no state_dict"):
        read_checkpoint(path)


def test_a_checkpoint_of_an_unfinished_run_is_refused(tmp_path: Path) -> None:
    class Stop(Callback):
        def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            if pl_module.phase_index == 1:
                raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        fit(tmp_path / "run", *SPAGAN, "trainer.max_epochs=3", extra=[Stop()])
    with pytest.raises(UserError, match="unfinished run: phase 1 of 2 was its last"):
        load_checkpoint(fresh(*SPAGAN), tmp_path / "run" / "checkpoints" / "best.ckpt")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ({"state_dict": {}}, "it has no 'phase_index'"),
        ({"state_dict": {}, "phase_index": 0}, "Missing key"),
        ({"state_dict": {"network.hidden.weight": 1.0}, "phase_index": 0}, "does not fit"),
        ({"state_dict": [1, 2]}, "does not fit"),
        ({"state_dict": None}, "does not fit"),
    ],
)
def test_foreign_weights_do_not_fit(tmp_path: Path, content: Any, says: str) -> None:
    path = tmp_path / "foreign.ckpt"
    torch.save(content, path)
    with pytest.raises(UserError, match="does not fit the configured model") as caught:
        load_checkpoint(fresh(*GAT), path)
    assert says in str(caught.value)
    assert "config.yaml of its run folder" in str(caught.value)


@pytest.mark.parametrize(
    "state", [None, [], "paths", {}, {"paths": 3}, {"paths": {"nodes": 1}, "costs": None}]
)
def test_foreign_method_state_does_not_fit(spagan: FittedRun, tmp_path: Path, state: Any) -> None:
    content = read_checkpoint(spagan.folder / "checkpoints" / "best.ckpt")
    path = tmp_path / "foreign.ckpt"
    torch.save(content | {"spagan": state}, path)
    with pytest.raises(UserError, match="does not fit the configured model"):
        load_checkpoint(fresh(*SPAGAN), path)


def test_wrong_shapes_are_named(gat: FittedRun) -> None:
    with pytest.raises(UserError, match=r"does not fit .*size mismatch for network"):
        load_checkpoint(fresh(*GAT, "model.heads=4"), gat.folder / "checkpoints" / "best.ckpt")


def test_a_checkpoint_of_another_method_is_named(gat: FittedRun, spagan: FittedRun) -> None:
    with pytest.raises(UserError, match=r"does not fit the configured model: it has no 'spagan'"):
        load_checkpoint(fresh(*SPAGAN), gat.folder / "checkpoints" / "best.ckpt")
    with pytest.raises(UserError, match="does not fit the configured model"):
        load_checkpoint(fresh(*GAT), spagan.folder / "checkpoints" / "best.ckpt")


def test_every_message_is_one_line(gat: FittedRun) -> None:
    with pytest.raises(UserError) as caught:
        load_checkpoint(fresh(*GAT, "model.heads=4"), gat.folder / "checkpoints" / "best.ckpt")
    assert "\n" not in str(caught.value)
