"""The last lines of a run and ``results.json``."""

import json
from pathlib import Path
from typing import Any

import pytest

from harness.results import format_published, format_value, print_summary, summary_lines, write_results


def results(**changes: Any) -> dict[str, Any]:
    return {
        "model": "spagan",
        "data": "cora",
        "metrics": {"test/acc": 0.8291, "test/loss": 0.61234, "paths/count": 3.0},
        "published": {
            "metric": "test/acc",
            "value": 0.836,
            "spread": 0.005,
            "source": "Yang et al. 2019, SPAGAN, arXiv 2101.03464",
        },
        "seconds": {"setup": 0.52, "attention": 12.345, "test": 0.04},
        "timings": {"path search": 0.0016},
    } | changes


def test_the_measured_value_stands_beside_the_published_one_with_its_source(tmp_path: Path) -> None:
    first = summary_lines(results(), tmp_path)[0]
    assert " ".join(first.split()) == (
        "test/acc 82.9 % published 83.6 ± 0.5 % (Yang et al. 2019, SPAGAN, arXiv 2101.03464)"
    )


def test_without_a_published_value_that_is_said(tmp_path: Path) -> None:
    lines = summary_lines(results(published=None), tmp_path)
    assert [line for line in lines if "no published value for spagan on cora" in line]
    assert "(" not in lines[0]


def test_a_published_value_of_another_metric_stands_nowhere_else(tmp_path: Path) -> None:
    lines = summary_lines(results(metrics={"test/loss": 0.5}), tmp_path)
    assert not any("published" in line and "0.5000" in line for line in lines)


def test_seconds_are_told_per_phase_and_the_folder_comes_last(tmp_path: Path) -> None:
    lines = summary_lines(results(), tmp_path)
    assert lines[-2].split(maxsplit=1) == [
        "seconds",
        "setup 0.5 · attention 12.3 · test 0.0 · (path search 0.0016)",
    ]
    assert lines[-1].endswith(str(tmp_path))


def test_a_speed_is_no_number_of_seconds(tmp_path: Path) -> None:
    timings = {"step": 0.0125, "images_per_second": 2560.4}
    lines = summary_lines(results(timings=timings), tmp_path)
    assert lines[-3].endswith("test 0.0 · (step 0.0125)")
    assert lines[-2].split() == ["speed", "2,560", "images", "per", "second"]


def test_pictures_are_counted_where_there_are_any(tmp_path: Path) -> None:
    without = summary_lines(results(), tmp_path)
    (tmp_path / "figures").mkdir()
    assert summary_lines(results(), tmp_path) == without
    (tmp_path / "figures" / "training_curves.png").touch()
    (line,) = set(summary_lines(results(), tmp_path)) - set(without)
    assert line.split(maxsplit=1) == ["pictures", f"1 in {tmp_path / 'figures'}"]


def test_only_test_metrics_are_printed(tmp_path: Path) -> None:
    assert not any("paths/count" in line for line in summary_lines(results(), tmp_path))


def test_a_run_that_only_predicts_has_a_summary_too(tmp_path: Path) -> None:
    lines = summary_lines(results(metrics={}, published=None), tmp_path)
    assert lines[-1].endswith(str(tmp_path))


def test_values_line_up(tmp_path: Path) -> None:
    metrics = {"test/acc": 0.5, "test/a_long_name_of_a_metric": 0.25}
    columns = {line.index("  ") for line in summary_lines(results(metrics=metrics), tmp_path)[1:2]}
    assert columns == {len("test/a_long_name_of_a_metric")}


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("test/acc", 1.0, "100.0 %"),
        ("test/acc_gat", 0.8305, "83.0 %"),
        ("test/f1_macro", 0.12345, "12.3 %"),
        ("test/mIoU", 0.7, "70.0 %"),
        ("test/loss", 0.123456, "0.1235"),
        ("test/fid", 12.5, "12.5000"),
        ("test/acc", float("nan"), "nan %"),
    ],
)
def test_shares_are_printed_in_percent_and_others_as_they_are(name: str, value: float, text: str) -> None:
    assert format_value(name, value) == text


@pytest.mark.parametrize(
    ("published", "text"),
    [
        ({"metric": "test/acc", "value": 0.815, "spread": None}, "81.5 %"),
        ({"metric": "test/acc", "value": 0.83, "spread": 0.007}, "83.0 ± 0.7 %"),
        ({"metric": "test/acc", "value": 0.83, "spread": 0.0}, "83.0 ± 0.0 %"),
        ({"metric": "test/acc", "value": 0.83}, "83.0 %"),
    ],
)
def test_a_published_value_comes_with_its_spread_where_there_is_one(
    published: dict[str, Any], text: str
) -> None:
    assert format_published(published) == text


def test_results_read_back_equal(tmp_path: Path) -> None:
    write_results(tmp_path, results())
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8")) == results()


def test_the_summary_goes_to_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    print_summary(results(), tmp_path)
    out, err = capsys.readouterr()
    assert out.splitlines() == summary_lines(results(), tmp_path)
    assert err == ""
