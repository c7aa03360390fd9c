"""Rows of epochs and steps, on axes that run on."""

import csv
from pathlib import Path

import pytest

from tests.small_runs import fit

pytestmark = pytest.mark.filterwarnings("ignore:.*logging interval")


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_mini_batch_method_logs_each_epoch_and_every_nth_step(tmp_path: Path) -> None:
    run = fit(
        tmp_path, "model=classifier", "data=digits", "trainer.max_epochs=2", "trainer.log_every_n_steps=6"
    )
    assert run.module.steps_before == 32
    logged = rows(tmp_path)
    steps = [row for row in logged if row["train/loss_step"]]
    epochs = [row for row in logged if row["val/loss"]]
    assert len(steps) + len(epochs) == len(logged)
    assert [int(row["step"]) for row in steps] == [5, 11, 17, 23, 29]
    assert [int(row["epoch"]) for row in steps] == [0, 0, 1, 1, 1]
    assert [int(row["step"]) for row in epochs] == [15, 31]
    assert [int(row["epoch"]) for row in epochs] == [0, 1]
    assert all(row["train/loss"] and row["train/acc"] and row["val/acc"] for row in epochs)


def test_accumulated_batches_are_one_step(tmp_path: Path) -> None:
    fit(
        tmp_path,
        "model=classifier",
        "data=digits",
        "trainer.max_epochs=1",
        "trainer.log_every_n_steps=2",
        "trainer.accumulate_grad_batches=4",
    )
    steps = [row for row in rows(tmp_path) if row["train/loss_step"]]
    assert [int(row["step"]) for row in steps] == [1, 3]


@pytest.mark.parametrize(("every", "epochs"), [(1, [0, 1, 2, 3, 4, 5]), (3, [2, 5])])
def test_a_full_batch_method_logs_every_nth_epoch(tmp_path: Path, every: int, epochs: list[int]) -> None:
    words = ("model=mlp", "data=mini_citation", "trainer.max_epochs=6", f"trainer.log_every_n_steps={every}")
    fit(tmp_path, *words)
    logged = rows(tmp_path)
    assert [int(row["epoch"]) for row in logged] == epochs
    assert [int(row["step"]) for row in logged] == epochs
