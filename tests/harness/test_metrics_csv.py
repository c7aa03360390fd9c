"""Rows in ``metrics.csv`` are what was logged."""

import csv
from pathlib import Path

import pytest

from harness.metrics_csv import MetricsCSV


def read(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_no_file_is_made_before_anything_is_logged(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path / "metrics.csv")
    logger.save()
    logger.finalize("success")
    assert list(tmp_path.iterdir()) == []


def test_every_value_reads_back_exactly(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path / "metrics.csv", flush_every=3)
    values = [0.1 + 0.2, 1 / 3, 1e-300, 5e-324, -0.0, float(2**53 + 2), 1.7976931348623157e308]
    for step, value in enumerate(values):
        logger.log_metrics({"val/loss": value}, step)
    logger.save()
    rows = read(tmp_path / "metrics.csv")
    assert [float(row["val/loss"]) for row in rows] == values
    assert [int(row["step"]) for row in rows] == list(range(len(values)))


def test_what_is_not_a_number_reads_back_as_such(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path / "metrics.csv")
    logger.log_metrics({"a": float("nan"), "b": float("inf")}, 0)
    logger.save()
    (row,) = read(tmp_path / "metrics.csv")
    assert (row["a"], row["b"]) == ("nan", "inf")


def test_columns_stand_in_the_order_in_which_they_were_first_logged(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path / "metrics.csv")
    logger.log_metrics({"z": 1.0, "a": 2.0}, 0)
    logger.log_metrics({"m": 3.0, "a": 4.0}, 1)
    logger.save()
    assert (tmp_path / "metrics.csv").read_text() == "step,z,a,m\n0,1.0,2.0,\n1,,4.0,3.0\n"


def test_a_new_column_keeps_every_row_written_before_it(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path / "metrics.csv", flush_every=1)
    logger.log_metrics({"a": 1.0}, 0)
    logger.log_metrics({"a": 2.0}, 1)
    logger.log_metrics({"a": 3.0, "b": 4.0}, 2)
    logger.log_metrics({"b": 5.0}, 3)
    assert (tmp_path / "metrics.csv").read_text() == "step,a,b\n0,1.0,\n1,2.0,\n2,3.0,4.0\n3,,5.0\n"
    assert list(tmp_path.iterdir()) == [tmp_path / "metrics.csv"]


def test_rows_wait_in_memory_until_enough_have_come(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path / "metrics.csv", flush_every=3)
    logger.log_metrics({"a": 1.0}, 0)
    logger.log_metrics({"a": 2.0}, 1)
    assert not (tmp_path / "metrics.csv").exists()
    logger.log_metrics({"a": 3.0}, 2)
    assert len(read(tmp_path / "metrics.csv")) == 3
    logger.log_metrics({"a": 4.0}, 3)
    assert len(read(tmp_path / "metrics.csv")) == 3
    logger.save()
    assert len(read(tmp_path / "metrics.csv")) == 4


def test_saving_twice_writes_a_row_once(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path / "metrics.csv")
    logger.log_metrics({"a": 1.0}, 0)
    logger.save()
    logger.save()
    logger.finalize("success")
    assert len(read(tmp_path / "metrics.csv")) == 1


@pytest.mark.parametrize("status", ["success", "failed"])
def test_the_end_of_a_run_writes_what_is_waiting(tmp_path: Path, status: str) -> None:
    logger = MetricsCSV(tmp_path / "metrics.csv", flush_every=50)
    logger.log_metrics({"a": 1.0}, 0)
    logger.finalize(status)
    assert len(read(tmp_path / "metrics.csv")) == 1


def test_a_second_phase_appends_to_the_rows_of_the_first(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path / "metrics.csv", flush_every=2)
    for step in range(3):
        logger.log_metrics({"train/loss": float(step)}, step)
    logger.finalize("success")  # the Trainer of the first phase ends
    for step in range(3, 5):
        logger.log_metrics({"train/loss": float(step), "val/loss": 0.5}, step)
    logger.finalize("success")
    rows = read(tmp_path / "metrics.csv")
    assert [row["step"] for row in rows] == ["0", "1", "2", "3", "4"]
    assert [row["val/loss"] for row in rows] == ["", "", "", "0.5", "0.5"]


def test_a_missing_step_is_left_blank(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path / "metrics.csv")
    logger.log_metrics({"a": 1.0})
    logger.save()
    assert read(tmp_path / "metrics.csv") == [{"step": "", "a": "1.0"}]


def test_a_name_with_a_comma_stays_one_column(tmp_path: Path) -> None:
    logger = MetricsCSV(tmp_path / "metrics.csv")
    logger.log_metrics({'acc, "top" 5': 0.5}, 0)
    logger.save()
    assert read(tmp_path / "metrics.csv") == [{"step": "0", 'acc, "top" 5': "0.5"}]
