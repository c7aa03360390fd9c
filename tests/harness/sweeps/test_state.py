"""Sweep folders: unique, claimed by one process, found again."""

import json
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.sweeps.ending import read_outcome
from harness.sweeps.job import Job, Outcome, job_folder
from harness.sweeps.plan import read_plan
from harness.sweeps.state import Record, SweepState, create_sweep_folder, lock, newest, read_state

PLAN = read_plan(["model=gcn,gat", "seed=0,1"])
CHOICES = {"model": "gat", "data": "cora"}
CONFIG = {"seed": 3, "published": None}


def job(folder: Path, *words: str) -> Job:
    made = Job(2, words or ("model=gat", "seed=1"), {"seed": "1"}, job_folder(folder, 2))
    made.folder.mkdir(parents=True)
    return made


def sweep(runs: Path, *statuses: str, started: str = "2026") -> Path:
    folder, _ = create_sweep_folder(runs)
    state = SweepState.new(PLAN, "grid")
    state.started = started
    for index, status in enumerate(statuses):
        state.jobs.append(Record(index, [], {}, "gat", "cora", index, status=status))
    state.write(folder)
    return folder


def test_two_sweeps_of_one_second_have_folders_of_their_own(tmp_path: Path) -> None:
    folders = {create_sweep_folder(tmp_path)[0] for _ in range(20)}
    assert len(folders) == 20


def test_the_folders_made_for_a_sweep_are_told_so_that_a_mistake_can_take_them_back(tmp_path: Path) -> None:
    folder, made = create_sweep_folder(tmp_path / "new")
    assert made == [folder, tmp_path / "new" / "sweeps", tmp_path / "new"]
    _, made = create_sweep_folder(tmp_path / "new")
    assert len(made) == 1


def test_a_sweep_folder_is_used_by_one_process_at_a_time(tmp_path: Path) -> None:
    claim = lock(tmp_path)
    with pytest.raises(UserError, match="running in another process"):
        lock(tmp_path)
    claim.release()
    lock(tmp_path).release()


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    state = SweepState.new(PLAN, "grid")
    state.begin_session()
    state.jobs.append(Record.of(job(tmp_path, "model=gat", "logger.a.token=b"), CHOICES, CONFIG))
    state.write(tmp_path)
    assert read_state(tmp_path) == state
    assert state.jobs[0].words == ["model=gat", "logger.a.token=***"]


def test_the_newest_sweep_of_the_words_is_found(tmp_path: Path) -> None:
    first = sweep(tmp_path, "finished", "stopped", started="2026-01")
    last = sweep(tmp_path, "finished", "failed", started="2026-02")
    (tmp_path / "sweeps" / "broken").mkdir()
    (tmp_path / "sweeps" / "broken" / "sweep.json").write_text("{")
    assert newest(tmp_path, PLAN.identity, "grid", unfinished=True) == first
    assert newest(tmp_path, PLAN.identity, "grid", unfinished=False) == last
    assert newest(tmp_path, PLAN.identity, "optuna", unfinished=False) is None
    assert newest(tmp_path, ["seed=0"], "grid", unfinished=False) is None
    assert newest(tmp_path / "nowhere", PLAN.identity, "grid", unfinished=False) is None


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"words": []}', '{"jobs": [{"index": 0}]}', "\x00"])
def test_a_damaged_file_is_told_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "sweep.json").write_text(text)
    with pytest.raises(UserError, match=r"sweep\.json cannot be read"):
        read_state(tmp_path)


def test_the_folder_of_a_run_is_no_sweep_folder(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no sweep folder"):
        read_state(tmp_path)
    with pytest.raises(UserError, match="is no folder"):
        read_state(tmp_path / "nothing")


def test_a_record_takes_over_how_its_job_ended(tmp_path: Path) -> None:
    record = Record.of(job(tmp_path), CHOICES, CONFIG)
    assert (record.status, record.seed, record.model) == ("waiting", 3, "gat")
    results = {"metrics": {"test/acc": 0.5}, "seconds": {"setup": 1.0, "fit": 2.5}}
    record.note(Outcome(job(tmp_path / "x"), "finished", Path("/runs/r"), results, None, 4.0))
    assert (record.status, record.metrics, record.run_seconds) == ("finished", {"test/acc": 0.5}, 3.5)
    assert (record.run_folder, record.seconds) == ("/runs/r", 4.0)
    record.note(Outcome(job(tmp_path / "y"), "failed", None, None, "no", 1.0))
    assert (record.metrics, record.run_folder, record.error) == ({}, None, "no")


def left_behind(folder: Path, results: str | None = None, log: str = "") -> Job:
    """A job whose run made a run folder and printed a log."""
    made = job(folder)
    run = folder / "run"
    run.mkdir()
    (made.folder / "run_folder.txt").write_text(f"{run}\n")
    (made.folder / "log.txt").write_text(log)
    if results is not None:
        (run / "results.json").write_text(results)
    return made


RESULTS = json.dumps({"metrics": {"test/acc": 0.5}, "seconds": {}})


def test_a_finished_job_has_the_results_of_its_run(tmp_path: Path) -> None:
    outcome = read_outcome(left_behind(tmp_path, RESULTS), 0, 1.5)
    assert (outcome.status, outcome.error, outcome.seconds) == ("finished", None, 1.5)
    assert outcome.run_folder == tmp_path / "run"
    assert outcome.results == {"metrics": {"test/acc": 0.5}, "seconds": {}}


@pytest.mark.parametrize("results", [None, "", "[]"])
def test_a_job_without_results_has_not_finished_whatever_its_exit_status(
    tmp_path: Path, results: str | None
) -> None:
    outcome = read_outcome(left_behind(tmp_path, results), 0, 1.0)
    assert outcome.status == "failed"
    assert "results.json" in (outcome.error or "")


@pytest.mark.parametrize(
    ("exit_status", "status", "error"),
    [
        (2, "failed", "seed is wrong."),
        (1, "failed", "seed is wrong."),
        (3, "pruned", "seed is wrong."),
        (130, "stopped", "by a signal"),
        (143, "stopped", "by a signal"),
        (-15, "stopped", "killed by SIGTERM"),
        (-9, "stopped", "killed by SIGKILL, perhaps for lack of memory"),
        (-11, "failed", "killed by SIGSEGV"),
    ],
)
def test_exit_status_tells_how_a_job_ended(tmp_path: Path, exit_status: int, status: str, error: str) -> None:
    made = left_behind(tmp_path, RESULTS, "hello\nerror: seed is wrong.\nlast words\n\n")
    outcome = read_outcome(made, exit_status, 1.0)
    assert (outcome.status, outcome.error, outcome.results) == (status, error, None)


def test_a_crash_is_told_by_its_last_line_and_a_silent_one_by_its_status(tmp_path: Path) -> None:
    made = left_behind(tmp_path, log="Traceback ...\ncrashed: KeyError: 'x' (see run.log)\n")
    assert read_outcome(made, 1, 1.0).error == "crashed: KeyError: 'x' (see run.log)"
    (made.folder / "log.txt").write_text("Segmentation fault\n")
    assert read_outcome(made, 1, 1.0).error == "Segmentation fault"
    (made.folder / "log.txt").unlink()
    assert "exit status 1" in (read_outcome(made, 1, 1.0).error or "")


def test_only_the_end_of_a_huge_log_is_read(tmp_path: Path) -> None:
    made = left_behind(tmp_path, log="error: old\n" + "x" * 70 * 1024 + "\nerror: new\n")
    assert read_outcome(made, 2, 1.0).error == "new"


def test_a_run_folder_that_is_gone_again_is_none(tmp_path: Path) -> None:
    made = left_behind(tmp_path)
    (tmp_path / "run").rmdir()
    assert read_outcome(made, 2, 1.0).run_folder is None
    (made.folder / "run_folder.txt").write_text("")
    assert read_outcome(made, 2, 1.0).run_folder is None
