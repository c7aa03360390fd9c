"""Checkpoints are plain data, and whatever else is given for one ends in one clear line."""

import os
import random
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pytorch_lightning import Callback, LightningModule, Trainer

from harness.build import build_module
from harness.checkpoints import (
    FORMAT,
    STAMP,
    find_checkpoint,
    load_checkpoint,
    read_checkpoint,
    verify_archive,
)
from harness.errors import UserError
from harness.loading import load
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
    """Calls something when unpickled without care."""

    def __init__(self, call: Callable[..., Any], *arguments: Any) -> None:
        self.call = call
        self.arguments = arguments

    def __reduce__(self) -> Any:
        return self.call, self.arguments


def altered(run: FittedRun, path: Path, **changes: Any) -> Path:
    """A checkpoint of ``run`` in which some keys have another value, or none where that is ``...``."""
    content = read_checkpoint(run.folder / "checkpoints" / "best.ckpt") | changes
    torch.save({key: value for key, value in content.items() if value is not ...}, path)
    return path


def refused(path: Path | str) -> str:
    """The one line with which ``load`` refuses a file."""
    with pytest.raises(UserError) as caught:
        load(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


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


def test_the_stamp_says_what_a_checkpoint_is(spagan: FittedRun) -> None:
    for name, phase_index in (("best", 1), ("last", 1)):
        content = read_checkpoint(spagan.folder / "checkpoints" / f"{name}.ckpt")
        assert content[STAMP] == {
            "format": FORMAT,
            "version": version("tenfold"),
            "class": "lightning_modules.spagan.module.SPAGAN",
            "phase_index": phase_index,
        }


@pytest.mark.parametrize("name", [".", "checkpoints", "checkpoints/best.ckpt"])
def test_a_run_folder_stands_for_its_best_checkpoint(gat: FittedRun, name: str) -> None:
    best = gat.folder / "checkpoints" / "best.ckpt"
    assert find_checkpoint(str(gat.folder / name)) == best
    assert read_checkpoint(gat.folder / name)[STAMP] == read_checkpoint(best)[STAMP]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("nowhere.ckpt", "there is no such file"),
        ("nowhere/best.ckpt", "there is no such file"),
        ("x" * 5000, "File name too long"),
        ("~nobody_at_all/best.ckpt", "home directory"),
        ("a\0b", "there is no such file"),
        ("/dev/null", "it is no regular file"),
        ("https://example.org/best.ckpt", "is an address; only files are read"),
        ("s3://bucket/best.ckpt", "is an address; only files are read"),
        (".", "is a folder without checkpoints/best.ckpt"),
    ],
)
def test_what_is_no_file_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"^ckpt=") as caught:
        read_checkpoint(given)  # type: ignore[arg-type]
    assert says in str(caught.value)
    assert "Give a run folder" in str(caught.value)
    assert says in refused(given)


def test_a_folder_of_runs_names_the_newest_of_them(tmp_path: Path) -> None:
    for name in ("2026-01-01_00-00-00_aaaa", "2026-02-01_00-00-00_aaaa", "2026-03-01_00-00-00_unfinished"):
        (tmp_path / name / "checkpoints").mkdir(parents=True)
        if "unfinished" not in name:
            (tmp_path / name / "checkpoints" / "best.ckpt").touch()
    newest = tmp_path / "2026-02-01_00-00-00_aaaa"
    assert refused(tmp_path).endswith(f"is a folder of runs. The newest of them: ckpt={newest}")


def test_a_run_that_finished_no_phase_is_to_be_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    assert f"Go on with it: python run.py resume={tmp_path}" in refused(tmp_path)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that even root cannot read")
def test_an_unreadable_file_is_named() -> None:
    assert "/proc/self/mem cannot be read: Input/output error" in refused("/proc/self/mem")


@pytest.mark.skipif(os.geteuid() == 0, reason="a superuser may read everything")
def test_a_file_without_permission_is_named(gat: FittedRun, tmp_path: Path) -> None:
    path = altered(gat, tmp_path / "locked.ckpt")
    path.chmod(0o000)
    assert "cannot be read: Permission denied" in refused(path)


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "empty.ckpt").touch()
    assert "empty.ckpt is damaged: it is empty." in refused(tmp_path / "empty.ckpt")


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the property tests write their file."""
    return tmp_path_factory.mktemp("spoilt") / "spoilt.ckpt"


thorough = hypothesis.settings(max_examples=250, deadline=None, derandomize=True, database=None)


@thorough
@given(data=st.data())
def test_a_checkpoint_truncated_anywhere_is_refused(
    gat: FittedRun, spoilt: Path, data: st.DataObject
) -> None:
    whole = (gat.folder / "checkpoints" / "best.ckpt").read_bytes()
    near_the_end = st.integers(len(whole) - 2000, len(whole) - 1)
    spoilt.write_bytes(
        whole[: data.draw(st.integers(0, 300) | st.integers(0, len(whole) - 1) | near_the_end)]
    )
    with pytest.raises(UserError, match=r"spoilt\.ckpt is damaged"):
        read_checkpoint(spoilt)


@thorough
@given(data=st.data())
def test_altered_bytes_change_nothing_or_are_noticed(
    gat: FittedRun, spoilt: Path, data: st.DataObject
) -> None:
    path = gat.folder / "checkpoints" / "best.ckpt"
    content = bytearray(path.read_bytes())
    directory = st.integers(len(content) - 1500, len(content) - 1)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1) | directory | directory)] ^= data.draw(
            st.sampled_from([1, 2, 4, 8, 16, 32, 64, 128]) | st.integers(1, 255)
        )
    spoilt.write_bytes(content)
    try:
        found = read_checkpoint(spoilt)
    except UserError as error:
        message = str(error)
    else:
        message = "is damaged" if equal(found, read_checkpoint(path)) else "read with other values"
    assert "is damaged" in message


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[key], other[key]) for key in one)
    return bool(one == other)


def test_a_part_that_passes_for_a_folder_is_refused(gat: FittedRun, tmp_path: Path) -> None:
    # torch would skip its bytes and give a tensor of whatever the memory held before
    path = tmp_path / "folder.ckpt"
    content = bytearray((gat.folder / "checkpoints" / "best.ckpt").read_bytes())
    entry = [match.start() for match in re.finditer(b"PK\x01\x02", content)][4]
    content[entry + 38] = 0x10
    path.write_bytes(content)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert [part.external_attr for part in archive.infolist()].count(0x10) == 1
    assert "not packed as torch packs a checkpoint" in refused(path)


def repacked(run: FittedRun, path: Path, compression: int = zipfile.ZIP_STORED, copies: int = 1) -> Path:
    """The checkpoint of ``run`` in an archive that lists each of its parts several times."""
    with (
        zipfile.ZipFile(run.folder / "checkpoints" / "best.ckpt") as best,
        zipfile.ZipFile(path, "w", compression) as archive,
    ):
        for part in best.infolist():
            archive.writestr(part.filename, best.read(part))
        for part in archive.filelist:
            part.external_attr = 0
        archive.filelist *= copies
    return path


def test_what_unfolds_to_more_than_it_holds_is_refused(gat: FittedRun, tmp_path: Path) -> None:
    load(repacked(gat, tmp_path / "whole.ckpt"))
    assert "its parts overlap" in refused(repacked(gat, tmp_path / "shared.ckpt", copies=20))
    compressed = repacked(gat, tmp_path / "bomb.ckpt", zipfile.ZIP_DEFLATED)
    assert "not packed as torch packs a checkpoint" in refused(compressed)


def test_a_tensor_of_more_numbers_than_memory_holds_is_no_crash(gat: FittedRun, tmp_path: Path) -> None:
    weights = {name: torch.zeros(1).expand(2**45) for name in gat.weights}
    assert "does not fit the configured model" in refused(
        altered(gat, tmp_path / "wide.ckpt", state_dict=weights)
    )
    wide = read_checkpoint(gat.folder)["hyper_parameters"] | {"hidden_channels": 2**45}
    assert "no module can be built" in refused(altered(gat, tmp_path / "wide.ckpt", hyper_parameters=wide))


def test_a_checkpoint_is_verified_as_a_whole(gat: FittedRun, tmp_path: Path) -> None:
    verify_archive(gat.folder / "checkpoints" / "last.ckpt")
    path = tmp_path / "cut.ckpt"
    path.write_bytes((gat.folder / "checkpoints" / "last.ckpt").read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"cut\.ckpt is damaged: its end is missing"):
        verify_archive(path)


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
@pytest.mark.parametrize(
    ("attack", "named"),
    [
        (lambda target: Attack(os.mkdir, target), "mkdir"),
        (lambda target: Attack(os.system, f"mkdir {target}"), "system"),
        (lambda target: Attack(eval, f"__import__('os').mkdir({target!r})"), "eval"),
        (lambda target: Attack(exec, f"import os; os.mkdir({target!r})"), "exec"),
        (lambda target: Attack(subprocess.check_call, ["mkdir", target]), "check_call"),
    ],
    ids=["mkdir", "system", "eval", "exec", "subprocess"],
)
@pytest.mark.parametrize("place", ["state_dict", "hyper_parameters", STAMP, "other"])
def test_a_hostile_checkpoint_never_runs(
    gat: FittedRun, tmp_path: Path, zipped: bool, attack: Callable[[str], Attack], named: str, place: str
) -> None:
    path, target = tmp_path / "evil.ckpt", tmp_path / "made"
    content = read_checkpoint(gat.folder) | {place: {"x": attack(str(target))}}
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    message = refused(path)
    assert re.search(rf"holds more than plain data \((\w+\.)?{named}\)", message)
    assert "no unsafe fallback" in message
    assert not target.exists()
    with pytest.raises(UserError, match="holds more than plain data"):
        load_checkpoint(fresh(*GAT), path)
    assert not target.exists()


def test_the_attacks_of_these_tests_would_work(tmp_path: Path) -> None:
    torch.save({"x": Attack(os.mkdir, str(tmp_path / "made"))}, tmp_path / "evil.ckpt")
    torch.load(tmp_path / "evil.ckpt", weights_only=False)
    assert (tmp_path / "made").is_dir()


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("os.system", "is not allowed"),
        ("torch.os.system", "is not allowed"),
        ("torch.load", "it must be a LightningModule"),
        ("builtins.eval", "is not allowed"),
        ("lightning_modules.spagan.module.Nothing", "there is no 'Nothing'"),
        ("torch.nn.Linear", "is no LightningModule"),
        ("pytorch_lightning.demos.boring_classes.BoringModel", "is no method of this project"),
        ("", "no module can be built"),
    ],
)
def test_a_checkpoint_can_name_no_class_but_a_method(
    gat: FittedRun, tmp_path: Path, path: str, says: str
) -> None:
    stamp = read_checkpoint(gat.folder)[STAMP] | {"class": path}
    settings = {} if "Boring" in path else read_checkpoint(gat.folder)["hyper_parameters"]
    checkpoint = altered(gat, tmp_path / "class.ckpt", **{STAMP: stamp}, hyper_parameters=settings)
    assert says in refused(checkpoint)


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


def test_a_file_of_torchscript_is_refused(tmp_path: Path) -> None:
    # written by hand: torch's own writer is deprecated, and warns
    with zipfile.ZipFile(tmp_path / "script.ckpt", "w") as archive:
        for name in ("constants.pkl", "data.pkl", "version", "code/x.py"):
            archive.writestr(f"script/{name}", b"3\n")
    assert "is damaged or no checkpoint" in refused(tmp_path / "script.ckpt")


def test_a_checkpoint_from_the_midst_of_the_last_phase_is_refused(gat: FittedRun, tmp_path: Path) -> None:
    for stage in ("epoch", "batch"):
        path = altered(gat, tmp_path / "amid.ckpt", savepoint={"stage": stage})
        assert "unfinished run: it is from the midst of phase 1 of 1" in refused(path)
    load(gat.folder / "checkpoints" / "last.ckpt")


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({STAMP: ..., "phase_index": 0}, "has format 0 of an earlier Tenfold"),
        ({STAMP: ...}, "is a checkpoint of plain Lightning, not of this project"),
        ({STAMP: ..., "pytorch-lightning_version": ...}, "is a checkpoint of another program"),
        ({STAMP: None}, "is damaged: what it says of itself"),
        ({STAMP: {"format": FORMAT}}, "is damaged: what it says of itself"),
        ({STAMP: {"format": "1", "version": "1", "class": "x", "phase_index": 0}}, "is damaged"),
        (
            {STAMP: {"format": FORMAT + 1, "version": "9.0.0", "class": "x", "phase_index": 0}},
            f"has format {FORMAT + 1}, written by Tenfold 9.0.0; this is Tenfold",
        ),
        ({STAMP: {"format": -3, "version": "0", "class": "x", "phase_index": 0}}, "there was no such format"),
        ({"hyper_parameters": [1]}, "its settings (hyper_parameters) are no plain values"),
        (
            {"hyper_parameters": {"heads": torch.zeros(2)}},
            "its settings (hyper_parameters) are no plain values",
        ),
        ({"hyper_parameters": {1: 2}}, "its settings (hyper_parameters) are no plain values"),
        ({"hyper_parameters": ...}, "no module can be built from its settings: missing"),
        ({"state_dict": {}}, "does not fit the configured model: Missing key"),
        ({"state_dict": {"network.hidden.weight": 1.0}}, "does not fit the configured model"),
        ({"state_dict": [1, 2]}, "does not fit the configured model"),
        ({"state_dict": None}, "does not fit the configured model"),
        ({"state_dict": {3: torch.zeros(1)}}, "does not fit the configured model"),
    ],
)
def test_what_a_checkpoint_lacks_is_named(
    gat: FittedRun, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    assert says in refused(altered(gat, tmp_path / "other.ckpt", **changes))


def test_settings_without_end_are_no_settings(gat: FittedRun, tmp_path: Path) -> None:
    endless: list[Any] = []
    for _ in range(5000):
        endless = [endless]
    nested = read_checkpoint(gat.folder)["hyper_parameters"] | {"optimizer": endless}
    recursion = sys.getrecursionlimit()
    sys.setrecursionlimit(50_000)  # for torch.save
    try:
        path = altered(gat, tmp_path / "endless.ckpt", hyper_parameters=nested)
    finally:
        sys.setrecursionlimit(recursion)
    assert "are no plain values" in refused(path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"heads": "many"}, "model.heads must be an integer > 0, got 'many'"),
        ({"heads": 0}, "model.heads must be an integer > 0, got 0"),
        ({"head": 8}, "unknown key 'model.head'"),
        ({"init": "zeros"}, "model.init must be one of zero_bias, authors"),
        ({"optimizer": {"name": "Adm"}}, "model.optimizer.name must be a class of torch.optim"),
        ({"_target_": "os.system"}, "model._target_ is os.system in the checkpoint and not there here"),
    ],
)
def test_settings_that_the_class_would_not_take_are_named(
    gat: FittedRun, tmp_path: Path, changes: dict[str, Any], says: str
) -> None:
    settings = read_checkpoint(gat.folder)["hyper_parameters"] | changes
    assert says in refused(altered(gat, tmp_path / "settings.ckpt", hyper_parameters=settings))


@pytest.mark.parametrize(
    "state", [None, [], "paths", {}, {"paths": 3}, {"paths": {"nodes": 1}, "costs": None}]
)
def test_foreign_method_state_does_not_fit(spagan: FittedRun, tmp_path: Path, state: Any) -> None:
    content = read_checkpoint(spagan.folder / "checkpoints" / "best.ckpt")
    path = tmp_path / "foreign.ckpt"
    torch.save(content | {"spagan": state}, path)
    with pytest.raises(UserError, match="does not fit the configured model"):
        load_checkpoint(fresh(*SPAGAN), path)


def test_paths_of_another_length_or_number_do_not_fit(spagan: FittedRun, tmp_path: Path) -> None:
    content = read_checkpoint(spagan.folder)
    for costs in (None, 3, torch.zeros(3, 2), "costs"):
        path = altered(spagan, tmp_path / "costs.ckpt", spagan=content["spagan"] | {"costs": costs})
        assert "its edge costs are damaged" in refused(path)
    paths = content["spagan"]["paths"]
    shorter = paths | {key: {2: paths[key][2]} for key in ("nodes", "cost", "found")}
    path = altered(spagan, tmp_path / "paths.ckpt", spagan=content["spagan"] | {"paths": shorter})
    assert "its paths are not of model.max_path_nodes" in refused(path)


def test_every_message_is_one_line(gat: FittedRun) -> None:
    with pytest.raises(UserError) as caught:
        load_checkpoint(fresh(*GAT, "model.heads=4"), gat.folder / "checkpoints" / "best.ckpt")
    assert "\n" not in str(caught.value)
