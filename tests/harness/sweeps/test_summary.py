"""Mean and deviation over seeds, and how they are told."""

import csv
import io
from pathlib import Path
from typing import Any

import pytest

from harness.sweeps.plan import read_plan
from harness.sweeps.plot import MOST_ROWS, draw_sweep, label
from harness.sweeps.state import Record, SweepState
from harness.sweeps.summary import (
    count_lines,
    how_to_go_on,
    jobs_csv,
    mean_and_std,
    printed,
    rows_of,
    summary_csv,
    summary_page,
    table,
    troubles,
)

PUBLISHED = {"metric": "test/acc", "value": 0.83, "spread": 0.007, "source": "Some Paper 2018"}


def record(index: int, model: str = "gat", seed: int = 0, acc: float | None = None, **more: Any) -> Record:
    status = more.pop("status", "finished" if acc is not None else "waiting")
    varied = {"model": model, **more.pop("varied", {}), "seed": str(seed)}
    metrics = {} if acc is None else {"val/acc": 0.0, "test/acc": acc, "test/loss": 2 * acc}
    words = [f"{key}={value}" for key, value in varied.items()]
    return Record(
        index,
        words,
        varied,
        model,
        "cora",
        seed,
        status=status,
        metrics=metrics,
        run_seconds=index + 1.0,
        **more,
    )


# mean 0.84, deviations -0.04, 0 and 0.04: variance (0.0016 + 0 + 0.0016) / 2
THREE = [
    record(0, acc=0.80, published=PUBLISHED),
    record(1, seed=1, acc=0.84, published=PUBLISHED),
    record(2, seed=2, acc=0.88, published=PUBLISHED),
]


def state(records: list[Record]) -> SweepState:
    found = SweepState.new(read_plan(["model=gcn,gat", "seed=range(0,3)", "logger.x.token=abc"]), "grid")
    found.jobs = records
    return found


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_mean_and_deviation_of_the_sample_by_hand() -> None:
    (row,) = rows_of(THREE, ["seed"])
    assert row.mean == pytest.approx(0.84)
    assert row.std == pytest.approx(0.04)
    assert (min(row.values), max(row.values), len(row.values)) == (0.80, 0.88, 3)
    assert row.seconds == pytest.approx(2.0)
    assert mean_and_std(row) == "84.0 ± 4.0 %"


def test_one_value_has_no_deviation() -> None:
    (row,) = rows_of(THREE[:1], ["seed"])
    assert row.std is None
    assert mean_and_std(row) == "80.0 %"
    assert read_csv(summary_csv([row]))[0]["std"] == ""


def test_rows_are_configurations_in_the_order_of_the_jobs() -> None:
    records = [
        record(3, "gat", 1, 0.7, varied={"model.heads": "8"}),
        record(0, "gcn", 0, 0.5),
        record(1, "gcn", 1, 0.6),
        record(2, "gat", 0, 0.6, varied={"model.heads": "8"}),
        record(4, "gat", 0, 0.9, varied={"model.heads": "4"}),
    ]
    rows = rows_of(records, ["seed"])
    assert [(row.model, row.varied, row.values) for row in rows] == [
        ("gcn", {}, (0.5, 0.6)),
        ("gat", {"model.heads": "8"}, (0.6, 0.7)),
        ("gat", {"model.heads": "4"}, (0.9,)),
    ]
    assert [row["model.heads"] for row in read_csv(summary_csv(rows))] == ["", "8", "4"]
    assert [label(row) for row in rows] == ["gcn", "gat, heads=8", "gat, heads=4"]


def test_what_is_averaged_over_is_a_choice() -> None:
    records = [record(i, acc=0.1 * i, varied={"data.split": str(i)}, seed=i) for i in range(1, 4)]
    assert len(rows_of(records, ["seed"])) == 3
    assert len(rows_of(records, ["seed", "data.split"])) == 1


def test_the_published_metric_is_summarised_unless_another_is_asked_for() -> None:
    (row,) = rows_of(THREE, ["seed"])
    assert (row.metric, row.published) == ("test/acc", PUBLISHED)
    (row,) = rows_of(THREE, ["seed"], "test/loss")
    assert row.mean == pytest.approx(1.68)
    assert row.published is None
    assert mean_and_std(row) == "1.6800 ± 0.0800"


def test_without_a_published_value_the_first_metric_of_the_test_is_summarised() -> None:
    (row,) = rows_of([record(0, acc=0.5)], ["seed"])
    assert row.metric == "test/acc"


def test_failed_stopped_and_waiting_jobs_count_in_no_mean() -> None:
    records = [
        *THREE,
        record(3, seed=3, status="failed", error="no data"),
        record(4, seed=4, status="stopped", error="by a signal"),
        record(5, seed=5),
    ]
    (row,) = rows_of(records, ["seed"])
    assert (len(row.values), row.failed) == (3, 1)
    assert count_lines(records) == "3 of 6 jobs finished, 1 failed, 1 stopped, 1 waiting"


def test_a_metric_that_is_no_number_counts_in_no_mean() -> None:
    broken = record(1, seed=1, acc=0.5)
    broken.metrics["test/acc"] = None  # NaN, as results.json writes it
    (row,) = rows_of([THREE[0], broken], ["seed"])
    assert row.values == (0.80,)


def test_the_table_has_plain_numbers_in_the_file_and_percent_on_the_page() -> None:
    rows = rows_of(THREE, ["seed"])
    (line,) = read_csv(summary_csv(rows))
    assert float(line["mean"]) == pytest.approx(0.84)
    assert (line["n"], line["failed"], line["published"], line["spread"]) == ("3", "0", "0.83", "0.007")
    assert (line["source"], line["metric"], line["seconds"]) == ("Some Paper 2018", "test/acc", "2.0")
    head, told = table(rows)
    assert dict(zip(head, told, strict=True)) == {
        "model": "gat",
        "data": "cora",
        "metric": "test/acc",
        "mean ± std": "84.0 ± 4.0 %",
        "min": "80.0 %",
        "max": "88.0 %",
        "n": "3",
        "failed": "",
        "published": "83.0 ± 0.7 %",
        "s/run": "2.0",
    }
    assert " ".join(printed(rows)[1].split()) == " ".join(cell for cell in told if cell)


def test_the_page_names_command_failures_and_how_to_go_on_but_no_secret() -> None:
    records = [*THREE, record(3, seed=3, status="failed", error="data=cora is not there.")]
    folder = Path("runs/sweeps/x")
    text = summary_page(state(records), rows_of(records, ["seed"]), folder)
    assert "python run.py -m model=gcn,gat 'seed=range(0,3)' 'logger.x.token=***'" in text
    assert "job 3 (model=gat seed=3) failed: data=cora is not there." in text
    assert "(runs/sweeps/x/jobs/0003/log.txt)" in text
    assert "python run.py -m resume=runs/sweeps/x sweep.retry=failed" in text
    assert "Some Paper 2018" in text
    assert "abc" not in text


def test_equal_errors_of_many_jobs_are_told_once() -> None:
    records = [record(i, seed=i, status="failed", error="no GPU") for i in range(30)]
    (line,) = troubles(state(records), Path("s"))
    assert line.startswith("failed: job 0 (model=gat seed=0), job 1 (model=gat seed=1), job 2")
    assert "and 27 more: no GPU" in line


def test_a_sweep_that_is_over_needs_no_going_on() -> None:
    assert how_to_go_on(state(THREE), Path("s")) is None
    assert how_to_go_on(state([*THREE, record(3)]), Path("s")) == "python run.py -m resume=s"


def test_every_job_has_a_row_with_all_it_measured() -> None:
    failed = record(3, "gcn", 3, status="failed", error="two\nlines, a comma", run_folder=None)
    lines = read_csv(jobs_csv([*THREE, failed]))
    assert [line["seed"] for line in lines] == ["0", "1", "2", "3"]
    assert lines[1]["test/loss"] == "1.68"
    assert (lines[3]["model"], lines[3]["status"], lines[3]["test/acc"]) == ("gcn", "failed", "")
    assert lines[3]["error"] == "two\nlines, a comma"


def test_a_picture_has_a_panel_for_each_data_set() -> None:
    other = record(3, acc=0.4)
    other.data = "citeseer"
    figure = draw_sweep(rows_of([*THREE, other], ["seed"]))
    assert [axes.get_xlabel() for axes in figure.axes] == ["test/acc on cora (%)", "test/acc on citeseer (%)"]


def test_a_picture_shows_every_single_run_and_the_published_value() -> None:
    figure = draw_sweep(rows_of(THREE, ["seed"]))
    (axes,) = figure.axes
    drawn = [sorted(float(x) for x in line.get_xdata()) for line in axes.lines]
    assert pytest.approx([80.0, 84.0, 88.0]) in drawn
    assert pytest.approx([83.0]) in drawn
    assert pytest.approx([84.0]) in drawn


def test_the_title_names_the_highest_mean_of_a_share_alone() -> None:
    records = [*THREE, record(3, "gcn", 0, 0.9), record(4, "gcn", 1, 0.9)]
    title = draw_sweep(rows_of(records, ["seed"])).get_suptitle()
    assert title == "gcn has the highest mean on cora: 90.0 ± 0.0 %"
    assert "highest" not in draw_sweep(rows_of(records, ["seed"], "test/loss")).get_suptitle()


def test_a_sweep_without_results_or_with_very_many_is_drawn_too() -> None:
    assert draw_sweep(rows_of([record(0)], ["seed"])).axes
    many = [record(i, acc=0.5, varied={"x": str(i)}) for i in range(MOST_ROWS + 20)]
    figure = draw_sweep(rows_of(many, ["seed"]))
    assert f"{MOST_ROWS} of {MOST_ROWS + 20} configurations" in [text.get_text() for text in figure.texts]
