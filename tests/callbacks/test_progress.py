"""What a run prints while it trains."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from callbacks import progress
from callbacks.progress import Progress
from tests.small_runs import fit


def trainer(**changes: Any) -> Any:
    values = {"is_global_zero": True, "max_epochs": 10, "should_stop": False}
    return SimpleNamespace(**values | changes)


def module(phases: tuple[str, ...] = ("fit",), phase_index: int = 0) -> Any:
    return SimpleNamespace(phases=phases, phase_index=phase_index)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        progress,
        "Console",
        lambda file: Console(file=file, force_terminal=True, width=120, color_system=None),
    )


def test_without_a_terminal_a_line_tells_phase_epoch_and_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    bar, two = Progress(0.0), module(("attention", "paths"), 1)
    bar.on_train_start(trainer(), two)
    bar.on_epoch_metrics(trainer(), two, 0, {"train/loss": 1.94591, "val/acc": 0.3141})
    bar.on_train_end(trainer(), two)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "phase 2/2 paths: up to 10 epochs",
        "phase 2/2 paths: epoch 1  train/loss 1.946  val/acc 0.314",
        "phase 2/2 paths: 1 epoch, all its epochs",
    ]


def test_lines_come_no_faster_than_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, *(0.5 * step for step in range(1, 12))])
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    bar = Progress(2.0)
    bar.on_train_start(trainer(), module())
    for epoch in range(11):
        bar.on_epoch_metrics(trainer(), module(), epoch, {"loss": float(epoch)})
    epochs = [line for line in capsys.readouterr().err.splitlines() if ": epoch " in line]
    assert epochs == ["fit: epoch 4  loss 3.000", "fit: epoch 8  loss 7.000"]


def test_the_last_line_says_why_a_phase_ended(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Progress(100.0)
    bar.on_train_start(trainer(), module())
    bar.on_epoch_metrics(trainer(), module(), 4, {})
    bar.on_train_end(trainer(should_stop=True), module())
    assert capsys.readouterr().err.splitlines()[-1] == "fit: 5 epochs, patience ended it"


def test_other_ranks_print_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    bar, other = Progress(0.0), trainer(is_global_zero=False)
    bar.on_train_start(other, module())
    bar.on_epoch_metrics(other, module(), 0, {"loss": 1.0})
    bar.on_train_end(other, module())
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("terminal")
def test_on_a_terminal_a_bar_moves_and_is_closed(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Progress(0.0)
    bar.on_train_start(trainer(max_epochs=3), module())
    assert bar._bar is not None
    for epoch in range(3):
        bar.on_epoch_metrics(trainer(max_epochs=3), module(), epoch, {"val/acc": 0.5})
    bar.on_train_end(trainer(max_epochs=3), module())
    assert bar._bar is None
    out, err = capsys.readouterr()
    assert out == ""
    assert "val/acc 0.500" in err
    assert err.endswith("fit: 3 epochs, all its epochs\n")


@pytest.mark.usefixtures("terminal")
def test_the_bar_ends_at_the_last_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    bar = Progress(0.0)
    bar.on_train_start(trainer(max_epochs=3), module())
    for epoch in range(3):  # faster than the bar is drawn
        bar.on_epoch_metrics(trainer(max_epochs=3), module(), epoch, {"val/acc": epoch / 2})
    bar.on_train_end(trainer(max_epochs=3), module())
    assert "3/3" in capsys.readouterr().err


@pytest.mark.usefixtures("terminal")
def test_an_exception_closes_the_bar_and_gives_the_cursor_back(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bar = Progress(0.0)
    bar.on_train_start(trainer(), module())
    shown = "\x1b[?25h"
    assert shown not in capsys.readouterr().err
    bar.on_exception(trainer(), module(), RuntimeError("no"))
    assert bar._bar is None
    assert shown in capsys.readouterr().err


def test_an_exception_without_a_bar_is_no_second_one() -> None:
    Progress(0.0).on_exception(trainer(), module(), RuntimeError("no"))


def test_a_phase_that_ran_no_epoch_tells_nothing_of_the_one_before(
    capsys: pytest.CaptureFixture[str],
) -> None:
    bar = Progress(0.0)
    bar.on_train_start(trainer(), module())
    bar.on_epoch_metrics(trainer(), module(), 6, {})
    bar.on_train_end(trainer(), module())
    capsys.readouterr()
    bar.on_train_start(trainer(), module())
    bar.on_train_end(trainer(), module())
    assert "7 epochs" not in capsys.readouterr().err


def test_a_whole_run_prints_each_phase_and_nothing_on_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(
        tmp_path,
        "model=spagan",
        "data=mini_citation",
        "trainer.max_epochs=2",
        "callbacks.progress.every_seconds=0",
    )
    out, err = capsys.readouterr()
    assert out == ""
    lines = err.splitlines()
    assert lines[0] == "phase 1/2 attention: up to 2 epochs"
    assert lines[-1] == "phase 2/2 paths: 2 epochs, all its epochs"
    assert len([line for line in lines if ": epoch " in line]) == 4
