"""What all benchmarks share."""

import json
from pathlib import Path

import pytest

from benchmarks.report import Table, asked, graph_datamodule, write_report


def test_figures_have_three_significant_digits() -> None:
    table = Table("times", [{"method": "ours", "ms": 1.23456, "speed-up": 1250.4, "runs": 12000}])
    assert table.texts()[1] == ["ours", "1.23", "1,250", "12,000"]


def test_a_table_becomes_markdown_under_its_title() -> None:
    lines = Table("times", [{"method": "ours", "ms": 1.0}]).markdown().splitlines()
    assert lines == ["times:", "", "| method | ms |", "|---|---|", "| ours | 1.00 |"]


def test_what_was_asked_stands_below_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert asked("2 times", 3.0 >= 2) == "Asked: 2 times; reached."
    table = Table("times", [{"ratio": 1.0}], asked("2 times", 1.0 >= 2))
    assert table.markdown().endswith("| 1.00 |\n\nAsked: 2 times; not reached.")
    table.print()
    assert capsys.readouterr().out.endswith("Asked: 2 times; not reached.\n")


def test_a_report_says_what_it_ran_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_report("timing", [Table("times", [{"method": "ours", "ms": 1.0}])], tmp_path / "new")
    report = json.loads((tmp_path / "new" / "timing.json").read_text(encoding="utf-8"))
    assert report["tables"] == [{"title": "times", "rows": [{"method": "ours", "ms": 1.0}], "note": ""}]
    assert report["hardware"]["cores"] >= 1
    assert "torch" in report["versions"]
    assert "ours" in capsys.readouterr().out


def test_without_data_benchmarks_run_on_a_graph_of_cora_s_size() -> None:
    datamodule, name = graph_datamodule(None)
    graph = datamodule.graph
    assert "generated" in name
    assert graph.x.shape == (2708, 1433)
    assert int(graph.train_mask.sum()) == 140
    assert 9000 < graph.edge_index.size(1) < 11500
