"""What benchmarks share that run methods over seeds."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.reproduce import Experiment
from benchmarks.sweeps import Line, always, collect, jobs_of, run_sweep, sweep_parser

GCN = ("trainer.min_epochs=1", "trainer.max_epochs=1")


def line(key: str, method: str = "gcn", seeds: int = 20, words: tuple[str, ...] = ()) -> Line:
    experiment = Experiment(key, key.upper(), "gcn", "digits_graph", words)
    return Line(key, method, always(experiment), {"title": key.upper()}, seeds)


def row(one: Line, seed: int) -> dict[str, Any]:
    return {**one.facts, "command": one.command(seed), "seed": seed}


def test_all_lines_come_over_one_seed_before_the_next(tmp_path: Path) -> None:
    jobs = jobs_of([line("a"), line("b", seeds=1)], 2, tmp_path)
    assert [(experiment.key, seed) for experiment, seed, _ in jobs] == [("a", 0), ("b", 0), ("a", 1)]
    assert jobs[2][2] == tmp_path / "a" / "seed_1"
    assert jobs_of([line("a")], 0, tmp_path) == []


def test_what_was_recorded_stays_as_long_as_its_command_does(tmp_path: Path) -> None:
    one = line("a")
    recorded = [row(one, 0), row(one, 7)]
    assert collect([one], tmp_path, recorded) == recorded
    assert collect([line("a", words=("model.dropout=0.1",))], tmp_path, recorded) == []


def test_a_line_may_run_another_command_with_every_seed() -> None:
    one = Line("a", "a", lambda seed: Experiment("a", "A", "gcn", "cora", (f"data.split_seed={seed}",)))
    assert one.command(3) == ["python", "run.py", "model=gcn", "data=cora", "data.split_seed=3", "seed=3"]


def test_a_method_is_named_once_however_many_lines_it_has(capsys: pytest.CaptureFixture[str]) -> None:
    parser = sweep_parser("what", [line("a", "m"), line("b", "m"), line("c", "n")], "folder")
    assert parser.parse_args([]).only == ["m", "n"]
    assert parser.parse_args(["--only", "n"]).only == ["n"]
    with pytest.raises(SystemExit):
        parser.parse_args(["--only", "a"])
    assert "choose from" in capsys.readouterr().err


def test_a_run_is_made_once_and_written_with_its_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = line("a", words=GCN), line("b", "other")
    old = {"title": "OLD", "command": other.command(4)}
    (tmp_path / "rows.json").write_text(json.dumps([old]), encoding="utf-8")
    words = ["--seeds", "1", "--runs", str(tmp_path / "runs"), "--output", str(tmp_path), "--only", "gcn"]
    monkeypatch.setattr(sys, "argv", ["x", *words])
    lines = [one, other]
    drawn: list[int] = []

    def draw(rows: list[dict[str, Any]], folder: Path) -> list[Path]:
        drawn.append(len(rows))
        return [folder / "picture.png"]

    for _ in range(2):
        arguments = sweep_parser("what", lines, "folder").parse_args()
        run_sweep(arguments, lines, lines, "rows.json", lambda rows: f"{len(rows)} rows", draw)
        told = capsys.readouterr().out
        assert "2 rows" in told
        assert f"written: {tmp_path / 'picture.png'}" in told
    assert "[1/1]" not in told, "it was made again"
    assert drawn == [2, 2]
    rows = json.loads((tmp_path / "rows.json").read_text(encoding="utf-8"))
    assert rows[0]["command"] == one.command(0)
    assert rows[0]["metrics"]["test/acc"] > 0
    assert rows[1] == old


def test_a_failure_is_told_and_ends_the_call_with_an_error(tmp_path: Path) -> None:
    wrong = line("a", words=("model.widht=3",))
    words = ["--seeds", "1", "--runs", str(tmp_path / "runs"), "--output", str(tmp_path)]
    arguments = sweep_parser("what", [wrong], "folder").parse_args(words)
    with pytest.raises(SystemExit, match="1 runs failed: a seed 0: exit 2"):
        run_sweep(arguments, [wrong], [wrong], "rows.json", lambda rows: "", lambda rows, folder: [])
