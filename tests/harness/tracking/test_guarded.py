"""Rows on their way to a tracker, and a tracker that breaks."""

import logging
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from harness.metrics_csv import MetricsCSV
from harness.tracking.guarded import GuardedLogger


class Notebook(Logger):
    """A tracker that writes down every call, and may break at one of them."""

    name = "notebook"
    version = ""

    def __init__(self, breaks_at: str = "") -> None:
        super().__init__()
        self.calls: list[tuple[Any, ...]] = []
        self.breaks_at = breaks_at

    def _note(self, *call: Any) -> None:
        self.calls.append(call)
        if call[0] == self.breaks_at:
            raise ConnectionResetError("the server\nis gone")

    def log_hyperparams(self, params: Any) -> None:
        self._note("config", params)

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self._note("row", step, dict(metrics))

    def log_table(self, key: str, columns: Any, data: Any, step: int | None = None) -> None:
        self._note("table", step, key)

    def save(self) -> None:
        self._note("save")

    def finalize(self, status: str) -> None:
        self._note("end", status)

    @property
    def steps(self) -> list[Any]:
        return [call[1] for call in self.calls if call[0] == "row"]


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


def guarded(tracker: Logger, first: float = 1e9, every: float = 1e9) -> GuardedLogger:
    return GuardedLogger(tracker, "notebook", first, every)


def log_rows(logger: Logger, *steps: int) -> None:
    for step in steps:
        logger.log_metrics({"loss": step / 10}, step)


def test_rows_wait_until_the_run_is_closed(notebook: Notebook, tmp_path: Path) -> None:
    logger = guarded(notebook)
    logger.log_hyperparams({"seed": 1})
    log_rows(logger, 0, 1)
    logger.finalize("success")  # a fit ends, the run does not
    assert notebook.calls == []
    logger.close(failed=False)
    assert notebook.calls == [
        ("config", {"seed": 1}),
        ("row", 0, {"loss": 0.0}),
        ("row", 1, {"loss": 0.1}),
        ("save",),
        ("end", "success"),
    ]


def test_a_failed_run_ends_as_failed(notebook: Notebook, tmp_path: Path) -> None:
    logger = guarded(notebook)
    log_rows(logger, 0)
    logger.close(failed=True)
    assert notebook.calls[-1] == ("end", "failed")


def test_a_run_that_logs_nothing_never_reaches_its_tracker(notebook: Notebook, tmp_path: Path) -> None:
    logger = guarded(notebook, first=0)
    logger.log_hyperparams({"seed": 1})
    logger.save()
    logger.close(failed=True)
    assert notebook.calls == []


def test_only_the_run_s_own_configuration_is_taken(notebook: Notebook, tmp_path: Path) -> None:
    logger = guarded(notebook)
    for params in ({"seed": 1}, {"heads": 8}):  # the second as by Lightning, at each fit
        logger.log_hyperparams(params)
    log_rows(logger, 0)
    logger.close(failed=False)
    assert [call for call in notebook.calls if call[0] == "config"] == [("config", {"seed": 1})]


def test_savepoints_do_not_start_a_tracker_before_its_time(notebook: Notebook, tmp_path: Path) -> None:
    logger = guarded(notebook)
    log_rows(logger, 0)
    logger.save()
    assert notebook.calls == []


def test_savepoints_hand_over_everything_once_it_runs(notebook: Notebook, tmp_path: Path) -> None:
    logger = guarded(notebook, first=0)
    log_rows(logger, 0)
    logger.save()
    log_rows(logger, 1, 2)
    logger.save()
    assert notebook.steps == [0, 1, 2]
    assert notebook.calls[-1] == ("save",)


def test_the_clock_hands_over_whole_steps_alone(notebook: Notebook, tmp_path: Path) -> None:
    logger = guarded(notebook, first=0, every=0)
    log_rows(logger, 0, 0, 1)
    assert notebook.steps == [0, 0], "another row of step 1 may follow"
    log_rows(logger, 1, 2)
    assert notebook.steps == [0, 0, 1, 1]


def test_the_clock_does_not_strike_for_every_row(notebook: Notebook, tmp_path: Path) -> None:
    logger = guarded(notebook, first=0)
    log_rows(logger, 0, 1, 2, 3)
    assert notebook.steps == [0]


def test_steps_never_fall(notebook: Notebook, tmp_path: Path) -> None:
    logger = guarded(notebook)
    log_rows(logger, 7)
    logger.log_table("results", ["metric"], [["acc"]])
    log_rows(logger, 3)  # an axis must not run backwards
    logger.close(failed=False)
    assert [call[:2] for call in notebook.calls[:3]] == [("row", 7), ("table", None), ("row", 7)]


def test_what_a_tracker_cannot_show_is_left_out(notebook: Notebook, tmp_path: Path) -> None:
    logger = guarded(notebook)
    logger.log_image("figures/curves", ["curves.png"])
    logger.close(failed=False)
    assert notebook.calls == []


@pytest.mark.parametrize("savepoint", [0, 2, 4])
def test_a_continued_run_gives_all_its_rows_to_a_tracker_that_knows_what_it_has(
    savepoint: int, tmp_path: Path
) -> None:
    class Knowing(Notebook):
        goes_on = True

    table = MetricsCSV(tmp_path / "metrics.csv")
    rows = [{"epoch": 0, "val/loss": 0.1 + 0.2}, {"epoch": 1, "val/loss": float("nan"), "val/acc": 1e-12}]
    rows += [{"epoch": epoch, "val/loss": 1.0} for epoch in (2, 3)]
    for step, row in enumerate(rows):
        table.log_metrics(row, step)
    table.save()
    notebook = Knowing()
    logger = guarded(notebook)
    logger.catch_up(table.go_on_after(savepoint))
    for step in range(savepoint, 4):
        logger.log_metrics(rows[step], step)
    logger.close(failed=False)
    assert notebook.steps == [0, 1, 2, 3]
    assert repr([call[2] for call in notebook.calls if call[0] == "row"]) == repr(rows)


def test_a_continued_run_gives_other_trackers_what_comes_after_its_savepoint(
    notebook: Notebook, tmp_path: Path
) -> None:
    table = MetricsCSV(tmp_path / "metrics.csv")
    log_rows(table, 0, 1, 2, 3)
    table.save()
    logger = guarded(notebook)
    logger.catch_up(table.go_on_after(2))
    log_rows(logger, 2, 3)
    logger.close(failed=False)
    assert notebook.steps == [2, 3]


@pytest.mark.parametrize("breaks_at", ["config", "row", "table", "save", "end"])
def test_a_tracker_that_breaks_costs_one_warning(
    breaks_at: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    notebook = Notebook(breaks_at)
    logger = guarded(notebook, first=0)
    logger.log_hyperparams({"seed": 1})
    for step in range(3):
        log_rows(logger, step)
        logger.log_table("results", ["metric"], [["acc"]])
        logger.save()
    logger.close(failed=False)
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == [
        "notebook is switched off and the run goes on without it: ConnectionResetError: the server is gone"
    ]
    assert not logger.is_on
    assert sum(call[0] == breaks_at for call in notebook.calls) <= 1 + (breaks_at == "end")


def test_a_broken_tracker_is_asked_nothing_more(tmp_path: Path) -> None:
    notebook = Notebook(breaks_at="row")
    logger = guarded(notebook, first=0)
    log_rows(logger, 0, 1)
    logger.save()
    log_rows(logger, 2)
    logger.log_table("results", ["metric"], [["acc"]])
    logger.save()
    logger.close(failed=False)
    assert notebook.calls == [("row", 0, {"loss": 0.0}), ("end", "failed")]


def test_the_keyboard_s_interrupt_goes_through(tmp_path: Path) -> None:
    class Slow(Notebook):
        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            raise KeyboardInterrupt

    logger = guarded(Slow())
    log_rows(logger, 0)
    with pytest.raises(KeyboardInterrupt):
        logger.close(failed=False)


def test_other_processes_track_nothing(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    logger = guarded(notebook, first=0, every=0)
    logger.log_hyperparams({"seed": 1})
    log_rows(logger, 0, 1)
    logger.log_table("results", ["metric"], [["acc"]])
    logger.save()
    logger.close(failed=False)
    assert notebook.calls == []


def test_a_row_may_be_changed_after_it_was_logged(notebook: Notebook, tmp_path: Path) -> None:
    logger = guarded(notebook)
    row = {"loss": 1.0}
    logger.log_metrics(row, 0)
    row["loss"] = 2.0
    logger.close(failed=False)
    assert notebook.calls[0] == ("row", 0, {"loss": 1.0})
