"""Processes of jobs: started, waited for, stopped, and never left behind.

The jobs here are stand-ins of a few milliseconds: forks of a small process in which ``run.run`` is another
function. Real runs in a real sweep are in test_sweep.py.
"""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from harness.sweeps.child import job_environment, prepare_folder, spawn_job
from harness.sweeps.ending import read_outcome
from harness.sweeps.job import Job, job_folder
from harness.sweeps.local import gpu_of_slot

ROOT = Path(__file__).parents[3]

LAUNCHER = """
import json, os, signal, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
import run
from harness.sweeps.job import Job, job_folder
from harness.sweeps.local import LocalLauncher, can_fork

sweep = Path({sweep!r})

def job(index, *words):
    return Job(index, words, {{}}, job_folder(sweep, index))

def launcher(slots=2, seconds=5.0):
    return LocalLauncher(slots, seconds, lambda job: False, lambda: None)

def all_of(launcher, jobs, seconds=20.0):
    jobs, running, ended = list(jobs), 0, []
    while jobs or running:
        while jobs and running < launcher.slots:
            launcher.start(jobs.pop(0))
            running += 1
        outcome = launcher.wait(seconds)
        assert outcome is not None
        ended.append(outcome)
        running -= 1
    return ended
"""


def script(sweep: Path, body: str) -> list[str]:
    return [sys.executable, "-c", LAUNCHER.format(root=str(ROOT), sweep=str(sweep)) + textwrap.dedent(body)]


def output(sweep: Path, body: str) -> str:
    done = subprocess.run(script(sweep, body), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def appears(path: Path) -> bool:
    """Waits for a file with something in it."""
    return wait_for(lambda: path.is_file() and path.stat().st_size > 0)


def wait_for(claim: Callable[[], bool]) -> bool:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if claim():
            return True
        time.sleep(0.02)
    return False


def is_gone(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    return "Z" in Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


needs_fork = pytest.mark.skipif(sys.platform != "linux", reason="jobs are forked on Linux alone")


@needs_fork
def test_a_job_is_a_process_with_its_own_words_streams_and_environment(tmp_path: Path) -> None:
    told = output(
        tmp_path,
        """
        os.environ["LOCAL_RANK"] = "1"
        os.environ["KEPT"] = "yes"
        def pretend(words):
            print("out", words, sys.argv, flush=True)
            print("err", file=sys.stderr)
            os.system("echo from a child of the child")
            print({key: os.environ.get(key) for key in ("LOCAL_RANK", "KEPT", "TENFOLD_SWEEP")})
            print(sys.stdin.read() == "", os.getpgid(0) == os.getpid())
            Path(os.environ["TENFOLD_JOB_RECORD"]).write_text(str(sweep))
            (sweep / "results.json").write_text("{}")
            return 0
        run.run = pretend
        (outcome,) = all_of(launcher(), [job(0, "seed=1")])
        print(outcome.status, outcome.run_folder == sweep, sys.argv[0])
        """,
    )
    assert told.split() == ["finished", "True", "-c"]
    log = (tmp_path / "jobs" / "0000" / "log.txt").read_text().splitlines()
    assert log[0] == f"out ['seed=1'] ['{ROOT / 'run.py'}', 'seed=1']"
    assert log[1:3] == ["err", "from a child of the child"]
    assert log[3] == str({"LOCAL_RANK": None, "KEPT": "yes", "TENFOLD_SWEEP": tmp_path.name})
    assert log[4] == "True True"


@needs_fork
def test_as_many_jobs_run_at_a_time_as_there_are_slots(tmp_path: Path) -> None:
    told = output(
        tmp_path,
        """
        def pretend(words):
            with (sweep / "marks").open("a") as marks:
                marks.write("+")
                marks.flush()
                time.sleep(0.15)
                marks.write("-")
            return 2
        run.run = pretend
        ended = all_of(launcher(2), [job(i) for i in range(5)])
        print(sorted(outcome.job.index for outcome in ended), (sweep / "marks").read_text())
        """,
    )
    indices, marks = told.rsplit(maxsplit=1)
    assert indices == "[0, 1, 2, 3, 4]"
    running = [marks[: end + 1].count("+") - marks[: end + 1].count("-") for end in range(len(marks))]
    assert max(running) == 2


@needs_fork
def test_what_happens_in_a_job_stays_there(tmp_path: Path) -> None:
    told = output(
        tmp_path,
        """
        import atexit
        atexit.register(lambda: print("parent's farewell"))
        def pretend(words):
            atexit.register(lambda: print("job's farewell"))
            if words == ["raises"]:
                raise RuntimeError("boom")
            if words == ["exits"]:
                sys.exit(7)
            if words == ["dies"]:
                os.abort()
            return 2
        run.run = pretend
        for word in ("raises", "exits", "dies", "returns"):
            (outcome,) = all_of(launcher(), [job(0, word)])
            print(word, outcome.status, outcome.error)
        """,
    )
    lines = told.splitlines()
    assert lines[0] == "raises failed RuntimeError: boom"
    assert lines[2] == "dies failed killed by SIGABRT"
    assert lines[4:] == ["parent's farewell"]
    log = (tmp_path / "jobs" / "0000" / "log.txt").read_text()
    assert "job's farewell" in log
    assert "parent's" not in log


@needs_fork
def test_stopped_jobs_have_time_to_save_and_the_deaf_are_killed(tmp_path: Path) -> None:
    told = output(
        tmp_path,
        """
        def saves(*_):
            time.sleep(0.3)
            print("saved", flush=True)
            os._exit(143)
        def pretend(words):
            signal.signal(signal.SIGTERM, saves if words == ["hears"] else signal.SIG_IGN)
            if words == ["deaf"] and os.fork() == 0:
                (sweep / "grandchild").write_text(str(os.getpid()))
            (sweep / f"{words[0]}_is_ready").touch()
            time.sleep(60)
        run.run = pretend
        pool = launcher(2, seconds=1.0)
        for index, word in enumerate(("hears", "deaf")):
            pool.start(job(index, word))
            while not (sweep / f"{word}_is_ready").exists():
                time.sleep(0.01)
        assert pool.wait(0.05) is None
        for outcome in pool.stop():
            print(outcome.job.words[0], outcome.status, outcome.error)
        """,
    )
    assert told.splitlines() == [
        "hears stopped by a signal",
        "deaf stopped killed by SIGKILL, perhaps for lack of memory",
    ]
    assert (tmp_path / "jobs" / "0000" / "log.txt").read_text() == "saved\n"
    assert wait_for(lambda: is_gone(int((tmp_path / "grandchild").read_text())))


@needs_fork
def test_jobs_hear_of_the_death_of_a_killed_sweep(tmp_path: Path) -> None:
    body = """
        def saves(*_):
            (sweep / "saved").write_text("state")
            os._exit(143)
        def pretend(words):
            signal.signal(signal.SIGTERM, saves)
            (sweep / "ready").write_text(str(os.getpid()))
            time.sleep(60)
        run.run = pretend
        all_of(launcher(), [job(0)])
        """
    process = subprocess.Popen(script(tmp_path, body))
    assert appears(tmp_path / "ready")
    process.kill()
    process.wait()
    assert appears(tmp_path / "saved")
    assert wait_for(lambda: is_gone(int((tmp_path / "ready").read_text())))


@needs_fork
def test_the_interrupt_of_the_keyboard_reaches_the_sweep_alone(tmp_path: Path) -> None:
    body = """
        def pretend(words):
            (sweep / "ready").write_text("x")
            time.sleep(0.5)
            print("undisturbed", flush=True)
            return 2
        run.run = pretend
        pool = launcher()
        pool.start(job(0))
        try:
            pool.wait(30.0)
        except KeyboardInterrupt:
            print(pool.wait(10.0).status)
        """
    process = subprocess.Popen(script(tmp_path, body), stdout=subprocess.PIPE, text=True, process_group=0)
    assert appears(tmp_path / "ready")
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.communicate(timeout=30)[0] == "failed\n"
    assert (tmp_path / "jobs" / "0000" / "log.txt").read_text() == "undisturbed\n"


@needs_fork
@pytest.mark.parametrize(
    ("before", "forks"),
    [
        ("", True),
        ("import threading; threading.Thread(target=time.sleep, args=(5,), daemon=True).start()", False),
        ("import numpy; x = numpy.ones((500, 500)); x @ x", True),
    ],
)
def test_a_process_is_forked_only_while_it_would_lose_no_thread(
    tmp_path: Path, before: str, forks: bool
) -> None:
    assert output(tmp_path, f"{before}\nprint(can_fork())") == f"{forks}\n"


@needs_fork
@pytest.mark.slow
def test_a_process_that_has_asked_for_gpus_is_not_forked(tmp_path: Path) -> None:
    if torch.version.cuda is None:
        pytest.skip("this build of torch has no CUDA")
    told = output(tmp_path, "import torch; print(can_fork()); torch.cuda.is_available(); print(can_fork())")
    assert told.split() == ["True", "False"]


def test_where_forking_is_unsafe_a_fresh_interpreter_runs_the_command(tmp_path: Path) -> None:
    job = Job(0, ("model=gatt",), {}, job_folder(tmp_path, 0))
    prepare_folder(job)
    process = spawn_job(job, job_environment(job))
    assert os.getpgid(process) == process
    _, status = os.waitpid(process, 0)
    outcome = read_outcome(job, os.waitstatus_to_exitcode(status), 1.0)
    assert outcome.status == "failed"
    assert (outcome.error or "").startswith("there is no model=gatt. Did you mean 'gat'?")


def test_the_note_of_a_run_folder_goes_unless_the_job_goes_on_in_it(tmp_path: Path) -> None:
    note = tmp_path / "jobs" / "0000" / "run_folder.txt"
    prepare_folder(Job(0, ("seed=1",), {}, note.parent))
    note.write_text("/runs/r")
    prepare_folder(Job(0, ("seed=1", "resume=/runs/r"), {}, note.parent))
    assert note.exists()
    prepare_folder(Job(0, ("seed=1",), {}, note.parent))
    assert not note.exists()


@pytest.mark.parametrize(
    ("slot", "gpus", "visible", "expected"),
    [
        (0, 0, None, None),
        (1, 1, None, None),
        (0, 2, None, "0"),
        (1, 2, None, "1"),
        (2, 2, None, "0"),
        (1, 2, "3,5", "5"),
        (1, 2, "GPU-a, GPU-b", "GPU-b"),
        (3, 4, "", "3"),
    ],
)
def test_each_slot_has_a_gpu_of_its_own(
    slot: int, gpus: int, visible: str | None, expected: str | None
) -> None:
    assert gpu_of_slot(slot, gpus, visible) == expected


def test_a_job_sees_the_gpu_of_its_slot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = Job(0, (), {}, job_folder(tmp_path, 0))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert job_environment(job, "5")["CUDA_VISIBLE_DEVICES"] == "5"
    assert job_environment(job)["CUDA_VISIBLE_DEVICES"] == "3,5"
