"""Phases of one run: seeds, steps that run on, best weights, checkpoints."""

import csv
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer

from callbacks.epoch_metrics import EpochMetricsCallback
from harness.build import Run, build_datamodule, build_module, build_trainer
from harness.checkpoints import load_checkpoint, read_checkpoint
from harness.errors import UserError
from harness.phases import fit_phases, phase_seed
from lightning_modules.image_classification.classifier import ImageClassifier
from tests.small_runs import FittedRun, assert_same_weights, configuration, fit

SPAGAN = ("model=spagan", "data=mini_citation", "trainer.max_epochs=12", "model.epochs_per_call=5")


class Recorder(EpochMetricsCallback):
    """Weights and metrics after every epoch of every phase."""

    def __init__(self) -> None:
        self.phases: list[list[tuple[dict[str, float], dict[str, torch.Tensor]]]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.phases.append([])

    def on_epoch_metrics(
        self, trainer: Trainer, pl_module: LightningModule, epoch: int, metrics: Mapping[str, float]
    ) -> None:
        weights = {name: value.clone() for name, value in pl_module.state_dict().items()}
        self.phases[-1].append((dict(metrics), weights))


class AtPhaseEnd(Callback):
    """What is in the module when a phase's ``fit`` has ended."""

    def __init__(self) -> None:
        self.trainers: list[int] = []

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.trainers.append(id(trainer))


@pytest.fixture(scope="module")
def recorder() -> Recorder:
    return Recorder()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, recorder: Recorder) -> FittedRun:
    return fit(tmp_path_factory.mktemp("run"), *SPAGAN, extra=[recorder])


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_seeds_of_phases_and_runs_are_all_different() -> None:
    seeds = [phase_seed(seed, phase) for seed in range(50) for phase in range(10)]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**32 for seed in seeds)


def test_the_seed_of_a_phase_is_fixed_for_good() -> None:
    # Numbers that were published with it must stay reproducible.
    seeds = [phase_seed(0, 0), phase_seed(0, 1), phase_seed(2**32 - 1, 3)]
    assert seeds == [2968811710, 3964924996, 817018528]


def test_steps_run_on_across_phases(run: FittedRun) -> None:
    logged = rows(run.folder)
    assert [int(row["step"]) for row in logged] == list(range(24))
    assert [int(row["epoch"]) for row in logged] == list(range(24))
    assert [int(row["phase"]) for row in logged] == [0] * 12 + [1] * 12


def test_the_file_holds_exactly_what_every_epoch_measured(run: FittedRun, recorder: Recorder) -> None:
    measured = [metrics for phase in recorder.phases for metrics, _ in phase]
    written = [
        {name: float(value) for name, value in row.items() if name not in ("step", "epoch", "phase")}
        for row in rows(run.folder)
    ]
    assert written == measured


def test_each_phase_ends_with_its_best_weights(run: FittedRun, recorder: Recorder) -> None:
    for index, (name, trained) in enumerate(
        zip(("attention", "paths"), ("network.gat.", "network.hidden."), strict=True)
    ):
        losses = [metrics["val/loss"] for metrics, _ in recorder.phases[index]]
        best = losses.index(min(losses))
        assert run.record.best_epochs[name] == best
        kept = recorder.phases[index][best][1]
        for key, value in run.weights.items():
            if key.startswith(trained):
                assert torch.equal(value, kept[key]), key


def test_later_and_worse_weights_are_in_the_last_checkpoint_only(tmp_path: Path) -> None:
    watch = Recorder()
    run = fit(
        tmp_path,
        "model=mlp",
        "data=mini_citation",
        "trainer.max_epochs=20",
        "model.optimizer.lr=0.5",
        "callbacks.best_weights.patience=null",
        extra=[watch],
    )
    best = run.record.best_epochs["fit"]
    assert best < 19
    assert_same_weights(run.weights, watch.phases[0][best][1])
    last = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["state_dict"]
    assert_same_weights(last, watch.phases[0][19][1])


def test_without_a_monitor_the_last_weights_are_kept(tmp_path: Path) -> None:
    watch = Recorder()
    run = fit(
        tmp_path,
        "model=mlp",
        "data=mini_citation",
        "trainer.max_epochs=4",
        "model.optimizer.lr=30",
        "callbacks.best_weights.monitor=null",
        extra=[watch],
    )
    assert run.record.best_epochs == {}
    assert_same_weights(run.weights, watch.phases[0][3][1])


def test_a_phase_without_the_callback_keeps_its_last_weights(tmp_path: Path) -> None:
    watch = Recorder()
    run = fit(
        tmp_path,
        "model=mlp",
        "data=mini_citation",
        "trainer.max_epochs=2",
        "~callbacks.best_weights",
        extra=[watch],
    )
    assert_same_weights(run.weights, watch.phases[0][1][1])


def test_every_phase_has_a_trainer_of_its_own(tmp_path: Path) -> None:
    watch = AtPhaseEnd()
    fit(tmp_path, "model=spagan", "data=mini_citation", "trainer.max_epochs=1", extra=[watch])
    assert len(watch.trainers) == 2


def test_the_record_tells_epochs_seconds_and_what_phases_reported(run: FittedRun) -> None:
    assert run.record.epochs == {"attention": 12, "paths": 12}
    assert list(run.record.seconds) == ["attention", "after attention", "paths", "after paths"]
    assert all(seconds > 0 for seconds in run.record.seconds.values())
    assert 0 <= run.record.metrics["test/acc_gat"] <= 1
    assert run.record.timings["path search"] > 0


def test_the_best_checkpoint_gives_the_same_test_in_a_fresh_module(run: FittedRun) -> None:
    expected = run.test()
    config = configuration(*SPAGAN, "seed=9")
    module = build_module(config)
    load_checkpoint(module, run.folder / "checkpoints" / "best.ckpt")
    trainer = build_trainer(Run(config, run.folder, module, run.datamodule))
    trainer.test(module, datamodule=build_datamodule(config), verbose=False)
    assert {name: float(value) for name, value in trainer.callback_metrics.items()} == expected


def test_the_last_checkpoint_tells_true_epochs_and_steps(run: FittedRun) -> None:
    last = read_checkpoint(run.folder / "checkpoints" / "last.ckpt")
    assert last["epoch"] == 12
    assert last["global_step"] == 12


def test_the_same_seed_gives_the_same_numbers_bit_for_bit(run: FittedRun, tmp_path: Path) -> None:
    torch.manual_seed(12345)  # what a process did before must not matter
    again = fit(tmp_path, *SPAGAN)
    assert_same_weights(again.weights, run.weights)
    assert rows(tmp_path) == rows(run.folder)
    ours, theirs = again.record.metrics, run.record.metrics
    assert {k: v for k, v in ours.items() if "seconds" not in k} == {
        k: v for k, v in theirs.items() if "seconds" not in k
    }


def test_another_seed_gives_other_numbers(run: FittedRun, tmp_path: Path) -> None:
    other = fit(tmp_path, *SPAGAN, "seed=1")
    assert not torch.equal(
        other.weights["network.gat.hidden.weight"], run.weights["network.gat.hidden.weight"]
    )
    assert [row["train/loss"] for row in rows(tmp_path)] != [row["train/loss"] for row in rows(run.folder)]


class Fails(Callback):
    """Ends training with an exception in its first epoch."""

    def __init__(self, exception: BaseException) -> None:
        self.exception = exception

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        raise self.exception


def test_the_keyboard_s_interrupt_stays_one(tmp_path: Path) -> None:
    handler = signal.getsignal(signal.SIGINT)
    try:
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path, "model=mlp", "data=mini_citation", extra=[Fails(KeyboardInterrupt())])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, handler)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_an_exit_that_a_method_asks_for_stays_one(tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        fit(tmp_path, "model=mlp", "data=mini_citation", extra=[Fails(SystemExit(3))])


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("trainer.accumulate_grad_batches=2", r"trainer\.accumulate_grad_batches=2: .*the whole data set"),
        ("hardware.devices=[0]", r"trainer or hardware: .*int > 0"),
    ],
)
def test_what_the_trainer_cannot_do_is_a_user_s_mistake(tmp_path: Path, override: str, says: str) -> None:
    with pytest.raises(UserError, match=says):
        fit(tmp_path, "model=mlp", "data=mini_citation", override)


@pytest.mark.parametrize(
    "override",
    [
        "+trainer.num_sanity_val_steps=2",
        "+trainer.enable_model_summary=false",
        "trainer.accumulate_grad_batches=1",
        "+trainer.fast_dev_run=true",
        "trainer.deterministic=true",
    ],
)
def test_the_trainer_s_own_keys_can_be_set(tmp_path: Path, override: str) -> None:
    run = fit(tmp_path, "model=mlp", "data=mini_citation", "trainer.max_epochs=1", override)
    assert run.record.epochs == {"fit": 1}


@pytest.mark.filterwarnings("ignore:.*smaller than the logging interval")
def test_rows_are_logged_every_nth_step(tmp_path: Path) -> None:
    fit(tmp_path, "model=mlp", "data=mini_citation", "trainer.max_epochs=10", "trainer.log_every_n_steps=4")
    assert [int(row["step"]) for row in rows(tmp_path)] == [3, 7]


def test_nothing_is_written_outside_the_run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fit(tmp_path / "run", "model=mlp", "data=mini_citation", "trainer.max_epochs=1")
    assert list(tmp_path.iterdir()) == [tmp_path / "run"]
    names = {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()}
    assert names == {"metrics.csv", "best.ckpt", "last.ckpt"}


def test_fit_phases_takes_no_loggers_at_all(tmp_path: Path) -> None:
    config: dict[str, Any] = configuration("model=mlp", "data=mini_citation", "trainer.max_epochs=1")
    (tmp_path / "checkpoints").mkdir()
    record = fit_phases(Run(config, tmp_path, build_module(config), build_datamodule(config)))
    assert record.epochs == {"fit": 1}


IMAGES = ("model=classifier", "data=digits", "model.network.width=4", "trainer.max_epochs=3")


@pytest.mark.parametrize(
    ("own", "words", "epochs", "minimum"),
    [
        (2, (), 2, 2),  # of the Trainer's minimum of 3
        (7, (), 3, 3),  # a short trial is one word
        (0, (), 0, 0),
        (2, ("trainer.min_epochs=1",), 2, 1),
        (None, (), 3, 3),
    ],
)
def test_the_method_says_how_long_a_phase_is_and_the_command_bounds_it(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    own: int | None,
    words: tuple[str, ...],
    epochs: int,
    minimum: int,
) -> None:
    monkeypatch.setattr(ImageClassifier, "phase_epochs", own)
    run = fit(tmp_path, *IMAGES, "trainer.min_epochs=3", *words)
    assert run.record.epochs == {"fit": epochs}
    trainer = build_trainer(run.built)
    assert (trainer.max_epochs, trainer.min_epochs or 0) == (epochs, minimum)


def test_patience_ends_no_phase_before_its_own_minimum(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ImageClassifier, "phase_epochs", 2)
    words = ("trainer.min_epochs=3", "callbacks.best_weights.patience=1", "model.optimizer.lr=1e-12")
    assert fit(tmp_path, *IMAGES, *words).record.epochs == {"fit": 2}


def test_a_method_that_looks_at_no_validation_data_is_shown_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def never(*args: Any) -> None:
        pytest.fail("validation data were looked at")

    monkeypatch.setattr(ImageClassifier, "validates", False)
    monkeypatch.setattr(ImageClassifier, "validation_step", never)
    monkeypatch.setattr(ImageClassifier, "on_validation_epoch_start", never)
    run = fit(tmp_path, *IMAGES, "callbacks.best_weights.monitor=train/loss")
    assert run.record.epochs == {"fit": 3}
    assert {"train/loss", "train/acc"} <= set(rows(tmp_path)[0])
    assert not [name for name in rows(tmp_path)[0] if name.startswith("val/")]
