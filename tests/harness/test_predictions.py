"""Predictions reach their file row by row, whole or not at all."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning import LightningDataModule

from harness.errors import UserError
from harness.predictions import write_predictions
from lightning_modules.experiment import ExperimentModule


class Counting(ExperimentModule):
    """Predicts rows that are made while they are written."""

    def __init__(self, rows: int, fails_at: int = -1) -> None:
        super().__init__()
        self.rows = rows
        self.fails_at = fails_at
        self.alive = self.most_alive = 0

    def prediction_rows(
        self, outputs: list[Any], datamodule: LightningDataModule
    ) -> Iterator[dict[str, Any]]:
        for number in range(self.rows):
            if number == self.fails_at:
                raise ZeroDivisionError("a bug")
            row = Row(self, number=number, name='a "quoted", name')
            yield row
            del row


class Row(dict[str, Any]):
    def __init__(self, module: Counting, **values: Any) -> None:
        super().__init__(values)
        self.module = module
        module.alive += 1
        module.most_alive = max(module.most_alive, module.alive)

    def __del__(self) -> None:
        self.module.alive -= 1


def write(path: Path, module: ExperimentModule) -> None:
    write_predictions(path, module, LightningDataModule(), [])


def test_rows_are_written_as_they_come(tmp_path: Path) -> None:
    module = Counting(1000)
    write(tmp_path / "predictions.csv", module)
    with (tmp_path / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["number"]) for row in rows] == list(range(1000))
    assert rows[7]["name"] == 'a "quoted", name'
    assert module.most_alive <= 3, "they are not gathered first"


def test_a_failure_leaves_no_file_and_no_old_one_harmed(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    with pytest.raises(ZeroDivisionError):
        write(path, Counting(10, fails_at=5))
    assert list(tmp_path.iterdir()) == []
    write(path, Counting(2))
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError):
        write(path, Counting(10, fails_at=5))
    assert path.read_bytes() == before


def test_a_method_without_rows_is_a_user_s_mistake(tmp_path: Path) -> None:
    for module in (Counting(0), ExperimentModule()):
        with pytest.raises(UserError, match="no predictions to write"):
            write(tmp_path / "predictions.csv", module)
    assert list(tmp_path.iterdir()) == []
