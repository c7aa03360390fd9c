"""Trials that are worse than half of the others end early."""

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import nn

from callbacks.best_weights import BestWeights
from callbacks.pruning import Pruning
from harness.run_state import is_finished
from harness.stopping import PRUNED, Pruned
from harness.sweeps.study import create_study, storage_in, trial_id
from tests.small_runs import fit

pytest.importorskip("optuna", reason="optuna is not installed")


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A study with two finished trials that were at 1 and 3 after ten epochs, and one that runs."""
    path = tmp_path / "study.journal"
    storage = storage_in(path)
    study = create_study(storage, "min")
    for value in (1.0, 3.0):
        trial = study.ask()
        trial.report(value, step=9)
        study.tell(trial, value)
    study.ask()
    return path


def pruning(journal: Path, every: int = 10, warmup: int = 0, startup: int = 2) -> Pruning:
    return Pruning(str(journal), 2, every, warmup, startup)


def watch(
    callback: Pruning, values: list[float], folder: Path, mode: Any = "min", **module: Any
) -> tuple[int, str] | None:
    """At which epoch the callback ends a phase with these monitored values, and why; None if it does not."""
    best = BestWeights("val/loss", mode, None)
    trainer: Any = SimpleNamespace(
        callbacks=[best, callback],
        is_global_zero=True,
        world_size=1,
        default_root_dir=folder,
        check_val_every_n_epoch=1,
        min_epochs=1,
    )
    network: Any = nn.Linear(1, 1)
    network.phases, network.phase_index = module.get("phases", ("fit",)), module.get("phase_index", 0)
    best.setup(trainer, network, "fit")
    for epoch, value in enumerate(values):
        for each in (best, callback):
            try:
                each.on_epoch_metrics(trainer, network, epoch, {"val/loss": value})
            except Pruned as pruned:
                return epoch, pruned.reason
    return None


def reported(journal: Path) -> dict[int, float]:
    storage = storage_in(journal)
    return dict(storage.get_trial(trial_id(storage, 2)).intermediate_values)


def test_a_trial_worse_than_the_median_of_the_others_ends(journal: Path, tmp_path: Path) -> None:
    # at epoch 9 the others were at 1 and 3, so the median is 2
    ended = watch(pruning(journal), [2.5] * 20, tmp_path)
    assert ended is not None
    assert ended[0] == 9
    assert "val/loss was at best 2.5 in 10 epochs of phase fit" in ended[1]
    content = json.loads((tmp_path / PRUNED).read_text(encoding="utf-8"))
    assert content == {"trial": 2, "epoch": 9, "value": 2.5, "reason": ended[1]}
    assert is_finished(tmp_path)


def test_the_best_value_so_far_counts_and_not_the_last(journal: Path, tmp_path: Path) -> None:
    assert watch(pruning(journal), [1.5, *[9.0] * 19], tmp_path) is None
    assert reported(journal) == {9: 1.5, 19: 1.5}
    assert not (tmp_path / PRUNED).exists()


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"every": 5}, {4: 9.0, 9: 9.0}),
        ({"every": 10}, {9: 9.0}),
        ({"every": 10, "warmup": 10}, {9: 9.0, 19: 9.0}),
        ({"every": 10, "startup": 3}, {9: 9.0, 19: 9.0}),
        ({"every": 7}, {6: 9.0, 13: 9.0}),
    ],
)
def test_it_looks_and_decides_no_more_often_than_told(
    journal: Path, tmp_path: Path, settings: dict[str, int], expected: dict[int, float]
) -> None:
    watch(pruning(journal, **settings), [9.0] * 20, tmp_path)
    assert reported(journal) == expected


def test_only_the_last_phase_is_compared(journal: Path, tmp_path: Path) -> None:
    phases = ("attention", "paths")
    assert watch(pruning(journal), [9.0] * 20, tmp_path, phases=phases, phase_index=0) is None
    assert reported(journal) == {}
    assert watch(pruning(journal), [9.0] * 20, tmp_path, phases=phases, phase_index=1) is not None


def test_a_phase_without_a_number_is_left_alone(journal: Path, tmp_path: Path) -> None:
    assert watch(pruning(journal), [math.nan] * 20, tmp_path) is None
    assert reported(journal) == {}


def test_a_trial_that_goes_on_after_a_kill_may_report_an_epoch_again(journal: Path, tmp_path: Path) -> None:
    assert watch(pruning(journal), [1.5] * 10, tmp_path) is None
    assert watch(pruning(journal), [1.5] * 20, tmp_path) is None
    assert reported(journal) == {9: 1.5, 19: 1.5}


def test_a_real_training_is_ended_in_its_midst_by_its_own_callback(journal: Path, tmp_path: Path) -> None:
    storage = storage_in(journal)
    study = create_study(storage, "min")
    for _ in range(2):  # nearly perfect after three epochs
        trial = study.ask()
        trial.report(0.001, step=2)
        study.tell(trial, 0.001)
    # five epochs a training_step: the end comes in the midst of one
    words = ["model=mlp", "data=mini_citation", "trainer.max_epochs=40", "model.epochs_per_call=5"]
    with pytest.raises(Pruned) as pruned:
        fit(tmp_path / "run", *words, extra=[Pruning(str(journal), 2, 3, 0, 2)])
    assert "in 3 epochs of phase fit" in pruned.value.reason
    assert list(storage.get_trial(trial_id(storage, 2)).intermediate_values) == [2]
    assert json.loads((tmp_path / "run" / PRUNED).read_text(encoding="utf-8"))["epoch"] == 2
