"""What a cluster runs: begun, told to save, taken up again. The command is a stand-in of milliseconds."""

import json
import os
import pickle
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from harness.sweeps import cluster_job
from harness.sweeps.cluster_job import PROCESS, ClusterJob
from harness.sweeps.ending import LOG, RUN_FOLDER
from harness.sweeps.job import Job, job_folder

# Notes its words in its run folder, says where that is, and waits for a signal if it is told to.
RUN = """
import json, os, signal, sys, time
from pathlib import Path

words = sys.argv[1:]
folder = Path(os.environ["TENFOLD_JOB_RECORD"]).parent / "run"
folder.mkdir(exist_ok=True)
(folder / "run.json").write_text("{}")
Path(os.environ["TENFOLD_JOB_RECORD"]).write_text(f"{folder}\\n")

def save(*_):
    (folder / "saved").touch()
    sys.exit(143)

signal.signal(signal.SIGTERM, save)
with (folder / "sessions").open("a") as file:
    file.write(json.dumps(words) + "\\n")
print("working", flush=True)
while "wait" in words and not any(word.startswith("resume=") for word in words):
    time.sleep(0.01)
if "fail" in words:
    sys.exit("error: no luck")
(folder / "results.json").write_text("{}")
"""


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Job:
    script = tmp_path / "stand_in.py"
    script.write_text(RUN, encoding="utf-8")
    monkeypatch.setattr(cluster_job, "RUN", script)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    job = Job(3, ("model=gat",), {}, job_folder(tmp_path / "sweep", 3))
    job.folder.mkdir(parents=True)
    return job


def with_words(job: Job, *words: str) -> Job:
    return Job(job.index, words, {}, job.folder)


def sessions(job: Job) -> list[list[str]]:
    return [json.loads(line) for line in (job.folder / "run" / "sessions").read_text().splitlines()]


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def when_working(job: Job, act: Any) -> threading.Thread:
    """Calls ``act`` from another thread as soon as the job's process is at work."""

    def wait_and_act() -> None:
        while not (_text(job.folder / PROCESS) and "working" in _text(job.folder / LOG)):
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=wait_and_act)
    thread.start()
    return thread


def test_the_command_runs_and_its_exit_status_is_told(job: Job) -> None:
    assert ClusterJob(job, 5.0)().status == 0
    assert sessions(job) == [["model=gat"]]


def test_a_failure_is_told_and_its_line_is_in_the_log(job: Job) -> None:
    assert ClusterJob(with_words(job, "fail"), 5.0)().status == 1
    assert (job.folder / LOG).read_text() == "working\nerror: no luck\n"
    assert not (job.folder / PROCESS).exists()


def test_a_job_that_was_begun_before_goes_on_in_its_folder(job: Job) -> None:
    work = ClusterJob(with_words(job, "wait", "seed=1"), 5.0)
    thread = when_working(job, lambda: os.kill(int((job.folder / PROCESS).read_text()), signal.SIGKILL))
    assert work().status == -signal.SIGKILL
    thread.join()
    assert work().status == 0
    folder = job.folder / "run"
    assert sessions(job) == [["wait", "seed=1"], ["wait", "seed=1", f"resume={folder}"]]


@pytest.mark.parametrize(("file", "status"), [("results.json", 0), ("pruned.json", 3)])
def test_a_job_that_came_to_its_end_before_is_not_run_again(job: Job, file: str, status: int) -> None:
    folder = job.folder / "run"
    folder.mkdir()
    for name in ("run.json", file):
        (folder / name).write_text("{}")
    (job.folder / RUN_FOLDER).write_text(str(folder))
    assert ClusterJob(job, 5.0)().status == status
    assert not (job.folder / LOG).exists()


def test_a_checkpoint_lets_the_run_save_its_state_and_gives_what_goes_on_with_it(job: Job) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed")
    work = ClusterJob(with_words(job, "wait"), 5.0)
    continued: list[Any] = []
    # as submitit does it: from a signal's handler, wherever the call may be
    before = signal.signal(signal.SIGUSR1, lambda *_: continued.append(work.checkpoint()))
    try:
        thread = when_working(job, lambda: os.kill(os.getpid(), signal.SIGUSR1))
        assert work().status == 143
        thread.join()
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert (job.folder / "run" / "saved").exists()
    again = pickle.loads(pickle.dumps(continued[0]))  # noqa: S301  # made a moment ago
    assert again.function.job == work.job
    assert again.result().status == 0
    assert sessions(job)[-1][-1] == f"resume={job.folder / 'run'}"


def test_the_signal_that_slurm_sends_to_all_does_not_hurt_the_run(job: Job) -> None:
    work = ClusterJob(with_words(job, "wait"), 5.0)

    def signal_twice() -> None:
        process = int((job.folder / PROCESS).read_text())
        os.kill(process, signal.SIGUSR2)
        os.kill(process, signal.SIGTERM)

    thread = when_working(job, signal_twice)
    assert work().status == 143
    thread.join()
    assert (job.folder / "run" / "saved").exists()


def test_an_interrupted_call_leaves_no_process_behind(job: Job) -> None:
    work = ClusterJob(with_words(job, "wait"), 5.0)
    process: list[int] = []

    def interrupt() -> None:
        process.append(int((job.folder / PROCESS).read_text()))
        os.kill(os.getpid(), signal.SIGINT)

    thread = when_working(job, interrupt)
    with pytest.raises(KeyboardInterrupt):
        work()
    thread.join()
    assert (job.folder / "run" / "saved").exists()
    work._process.wait()  # type: ignore[union-attr]  # a zombie would still be there for kill
    with pytest.raises(ProcessLookupError):
        os.kill(process[0], 0)
