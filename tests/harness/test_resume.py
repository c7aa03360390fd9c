"""A run that goes on from any of its savepoints ends as if it had never been stopped."""

import shutil
import signal
import zipfile
from collections.abc import Mapping
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
from harness.savepoints import LAST, PREVIOUS, Savepoint, Stage, read_savepoint, write_savepoint
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


CLASSIFIER = (
    "model=classifier",
    "data=digits",
    "data.augment=shift",
    "data.num_train=320",
    "trainer.max_epochs=3",
    "trainer.log_every_n_steps=4",
)


WITHIN_EPOCHS = (
    *CLASSIFIER,
    "+trainer.val_check_interval=3",
    "trainer.accumulate_grad_batches=2",
    "model.scheduler={name: StepLR, step_size: 2}",
    "model.scheduler_interval=step",
)
ONE_CYCLE = (
    *CLASSIFIER,
    "model.network=resnet_small_half",
    "model.scheduler={name: OneCycleLR, max_lr: 0.01}",
    "model.scheduler_interval=step",
)
CASES = {
    "spagan": SPAGAN,
    "classifier": CLASSIFIER,
    "validation within epochs": WITHIN_EPOCHS,
    "one cycle": ONE_CYCLE,
}


@pytest.fixture(scope="module", params=CASES.values(), ids=CASES)
def unbroken(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("unbroken")
    keeping = KeepingSavepoints(folder / "copies")
    run, record = run_in(folder / "run", keeping, *request.param)
    return request.param, run, record, keeping


def test_every_savepoint_leads_to_the_same_end(unbroken: Any, tmp_path: Path) -> None:
    overrides, run, record, keeping = unbroken
    several_phases = len(run.module.phases) > 1
    expected = {"epoch", "trained", "done" if several_phases else "batch"}
    assert set(keeping.stages) == expected
    for kept in sorted(keeping.copies.iterdir()):
        copy = Path(shutil.copytree(kept, tmp_path / kept.name))
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


class StopAt(EpochMetricsCallback):
    """Does at one epoch of the whole run what SIGTERM does."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_epoch_metrics(
        self, trainer: Trainer, pl_module: LightningModule, epoch: int, metrics: Mapping[str, float]
    ) -> None:
        if epoch + pl_module.epochs_before == self.epoch:
            signal.raise_signal(signal.SIGTERM)


def test_sigterm_saves_and_leaves_with_143(unbroken: Any, tmp_path: Path) -> None:
    overrides, run, _, _ = unbroken
    stops = {2: "epoch", 11: "trained", 17: "epoch"} if overrides is SPAGAN else {0: "epoch", 2: "trained"}
    for epoch, stage in stops.items():
        folder = tmp_path / str(epoch)
        (folder / "checkpoints").mkdir(parents=True)
        config = configuration(*overrides, "~callbacks.savepoints")
        datamodule, module = build_datamodule(config), build_module(config)
        loggers = build_loggers(config["logger"], folder)
        callbacks = [*build_callbacks(config["callbacks"]), StopAt(epoch)]
        with pytest.raises(Stopped) as stopped, STOP.installed():
            fit_phases(Run(config, folder, module, datamodule, callbacks, loggers))
        assert stopped.value.code == 143
        savepoint = read_savepoint(folder / "checkpoints")
        assert savepoint is not None
        assert savepoint.stage == stage
        with STOP.installed():
            again, _ = run_in(folder, Savepoints(None), *overrides, savepoint=savepoint)
        assert_same_weights(again.module.state_dict(), run.module.state_dict())
        assert (folder / "metrics.csv").read_bytes() == (run.folder / "metrics.csv").read_bytes()


def damaged(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "truncated":
        content = content[: len(content) // 2]
    elif how == "empty":
        content = bytearray()
    else:  # in the midst of the largest tensor; between the parts there is padding, which is no part of them
        with zipfile.ZipFile(path) as archive:
            largest = max(archive.infolist(), key=lambda part: part.file_size)
        start = content.index(largest.filename.encode(), largest.header_offset) + len(largest.filename)
        content[start + largest.file_size // 2 + 64] ^= 1
    path.write_bytes(bytes(content))


@pytest.fixture
def checkpoints(unbroken: Any, tmp_path: Path) -> Path:
    copies = sorted(unbroken[3].copies.iterdir())
    return Path(shutil.copytree(copies[3] / "checkpoints", tmp_path / "checkpoints"))


@pytest.mark.parametrize("how", ["truncated", "empty", "one bit"])
def test_a_damaged_savepoint_gives_way_to_the_one_before(
    checkpoints: Path, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged(checkpoints / LAST, how)
    savepoint = read_savepoint(checkpoints)
    assert savepoint is not None
    assert savepoint.path.name == PREVIOUS
    assert "last.ckpt is damaged: going on from the savepoint before it" in capsys.readouterr().err


def test_a_kill_between_the_two_renames_leaves_the_one_before(checkpoints: Path) -> None:
    (checkpoints / LAST).unlink()
    savepoint = read_savepoint(checkpoints)
    assert savepoint is not None
    assert savepoint.path.name == PREVIOUS


def test_two_damaged_savepoints_are_refused(checkpoints: Path) -> None:
    for name in (LAST, PREVIOUS):
        damaged(checkpoints / name, "truncated")
    with pytest.raises(UserError, match="no savepoint of this run can be read"):
        read_savepoint(checkpoints)


def test_a_run_without_a_savepoint_has_none(tmp_path: Path) -> None:
    assert read_savepoint(tmp_path) is None


def test_a_disk_that_damages_what_is_written_keeps_the_last_whole_one(
    checkpoints: Path,
) -> None:
    class Damaging:
        is_global_zero = True

        def save_checkpoint(self, path: Path, weights_only: bool) -> None:
            shutil.copy(checkpoints / LAST, path)
            damaged(path, "one bit")

    before = (checkpoints / LAST).read_bytes()
    trainer: Any = Damaging()
    with pytest.raises(ValueError, match="is damaged"):
        write_savepoint(trainer, checkpoints)
    assert (checkpoints / LAST).read_bytes() == before
    assert not list(checkpoints.glob(".*"))


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    class Spoil(EpochMetricsCallback):
        def on_epoch_metrics(
            self, trainer: Trainer, pl_module: LightningModule, epoch: int, metrics: Mapping[str, float]
        ) -> None:
            if epoch == 4:
                with torch.no_grad():
                    next(pl_module.parameters()).fill_(torch.nan)

    words = ("model=mlp", "data=mini_citation", "trainer.max_epochs=20", "model.epochs_per_call=5")
    config = configuration(*words, "~callbacks.savepoints")
    (tmp_path / "checkpoints").mkdir()
    callbacks = [*build_callbacks(config["callbacks"]), Spoil(), Savepoints(0.0)]
    run = Run(config, tmp_path, build_module(config), build_datamodule(config), callbacks, [])
    with pytest.raises(UserError, match=r"training diverged: .* epoch 5, step 5"):
        fit_phases(run)
    assert read_savepoint(tmp_path / "checkpoints") is None
