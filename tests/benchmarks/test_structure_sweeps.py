"""The runs, the table and the picture of students that copy a teacher's local structure."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import structure_sweeps
from benchmarks.structure_page import (
    LAST_LSP,
    LAST_PLAIN,
    LSP,
    PLAIN,
    RELEASE,
    TEACHER,
    acceptance,
    structure_section,
    structure_table,
)
from benchmarks.structure_sweeps import METHODS, Method
from harness.configuration.check import check
from harness.configuration.compose import compose


def row(title: str, seed: int, f1: float, ruler: float | None) -> dict[str, Any]:
    return {
        "method": title,
        "title": title,
        "command": ["python", "run.py", "model=x", "data=mini_ppi", f"seed={seed}"],
        "data": "mini_ppi",
        "seed": seed,
        "metrics": {"test/f1": f1} | ({} if ruler is None else {"lsp_ruler": ruler}),
        "seconds": {"setup": 600.0, "fit": 50.0, "test": 10.0},
        "hardware": {"cpu": "a processor"},
        "commit": "0123456789abcdef",
        "date": "2026-01-02",
    }


ROWS = [
    row(TEACHER, 0, 0.70, None),
    row(PLAIN, 0, 0.63, 0.040),
    row(PLAIN, 1, 0.65, 0.044),
    row(LSP, 0, 0.60, 0.012),
    row(RELEASE, 0, 0.62, 0.030),
    row(LAST_PLAIN, 0, 0.64, 0.06),
    row(LAST_LSP, 0, 0.55, 0.012),
]


def test_a_line_stands_for_all_seeds_of_a_method() -> None:
    lines = structure_table(ROWS).splitlines()
    assert len(lines) == 8
    assert lines[3].startswith(
        "| mini_ppi | student, labels alone | 64.0 ± 1.4 micro-F1 | 42.00 ± 2.83 | 2 | 60 |"
    )
    assert "seed=N`, N = 0 to 1 |" in lines[3]
    assert lines[2].split("|")[4].strip() == "–"
    assert structure_table([]) == "Not run."


def test_what_was_asked_is_compared_with_what_came_out() -> None:
    text = acceptance(ROWS)
    assert "3.5 times (reached)" in text
    assert "5.0 times (reached)" in text
    assert "(+6.0, reached)" in text
    assert "(-2.0, reached)" in text
    assert "it by -4.0 points, with the teacher of the last epoch by -9.0" in text.replace("\n", " ")
    assert "2.1 times (not reached)" in acceptance([*ROWS[:3], row(LSP, 0, 0.6, 0.02), *ROWS[4:]])
    assert acceptance(ROWS[:2]) == ""


def test_the_section_says_what_was_published_whether_or_not_anything_was_run(tmp_path: Path) -> None:
    assert "| LSP | – | 96.1 | 97.81 ± 0.31 | 88.37 ± 1.89 |" in structure_section(tmp_path)
    (tmp_path / "structure.json").write_text(json.dumps(ROWS), encoding="utf-8")
    assert "a processor" in structure_section(tmp_path)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.key)
def test_every_run_is_a_good_command(method: Method) -> None:
    composed = compose(method.experiment(3).command(3))
    check(composed.config, composed.choices)
    teacher = (composed.config.get("requires") or {}).get("teacher")
    assert ("seed=3" in str(teacher)) == (method.model == "lsp")


def test_a_run_ends_up_in_table_and_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "structure.json").write_text(
        json.dumps([one | {"command": _command(one)} for one in ROWS]), encoding="utf-8"
    )
    monkeypatch.setattr(sys, "argv", ["x", "--seeds", "0", "--output", str(tmp_path)])
    structure_sweeps.main()
    assert "64.0 ± 1.4" in capsys.readouterr().out
    assert (tmp_path / "structure_mini_ppi.png").stat().st_size > 10_000


def _command(one: dict[str, Any]) -> list[str]:
    keys = {TEACHER: "teacher", PLAIN: "full", LSP: "lsp", RELEASE: "release"}
    keys |= {LAST_PLAIN: "last_full", LAST_LSP: "last_lsp"}
    method = next(m for m in METHODS if m.key == f"{keys[one['title']]}_mini_ppi")
    return ["python", "run.py", *method.experiment(one["seed"]).command(one["seed"])]
