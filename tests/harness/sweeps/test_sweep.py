"""Sweeps of real runs, as a user types them."""

import csv
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import run

ROOT = Path(__file__).parents[3]
QUICK = ["model=mlp", "data=mini_citation", "hardware=cpu", "logger=csv", "~callbacks.pictures"]


def command(tmp_path: Path, *words: str) -> list[str]:
    places = [f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'cache'}"]
    return [sys.executable, str(ROOT / "run.py"), *words, *([] if "resume=" in "".join(words) else places)]


def sweep(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(tmp_path, *words), capture_output=True, text=True, check=False, cwd=tmp_path, timeout=600
    )


def folders(tmp_path: Path) -> list[Path]:
    return sorted((tmp_path / "runs" / "sweeps").iterdir())


def rows(folder: Path, name: str) -> list[dict[str, str]]:
    with (folder / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def newest_run(tmp_path: Path) -> Path:
    return max((tmp_path / "runs" / "mlp_mini_citation").iterdir(), key=lambda path: path.stat().st_mtime)


def results(row: dict[str, str]) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((Path(row["run_folder"]) / "results.json").read_text())
    return content


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["model=gcn,gatt"], "Did you mean 'gat'?"),
        (["seed=0,-1"], "seed must be"),
        (["model.optimizer.lr=0.01,high"], "model.optimizer.lr"),
        (["model=gcn,gat", "model.heads=4"], "model.heads"),
        (["seed=0,1", "sweep.workers=0"], "sweep.workers"),
        (["seed=0,1", "sweep.wrokers=2"], "sweep.workers"),
        (["seed=0,1", "sweep=grids"], "Did you mean 'grid'?"),
        (["seed=0,1", "sweep.sampler=optuna"], "sweep=optuna"),
        (["seed=0,1", "resume=nowhere"], "resume=nowhere is no folder"),
        (["seed=0,1", "resume=''"], "names nothing"),
        (["seed=0,1", "mode=test"], "needs a checkpoint"),
        (["seed=interval(0,1)"], "sweep=optuna"),
    ],
)
def test_a_mistake_in_any_job_ends_the_sweep_before_it_begins(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], part: str
) -> None:
    assert run.run(["-m", *words, f"paths.runs={tmp_path / 'runs'}"]) == 2
    told = capsys.readouterr()
    assert told.err.startswith("error: ")
    assert told.err.count("\n") == 1
    assert part in told.err
    assert told.out == ""
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_takes_back_no_folder_of_another_sweep(tmp_path: Path) -> None:
    other = tmp_path / "runs" / "sweeps" / "other"
    other.mkdir(parents=True)
    assert run.run(["-m", "seed=0,-1", f"paths.runs={tmp_path / 'runs'}"]) == 2
    assert folders(tmp_path) == [other]


@pytest.mark.parametrize("word", ["sweep.workers=0", "sweep.retry=maybe", "sweep.average_over=seed"])
def test_a_single_run_refuses_wrong_settings_of_sweeps_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    assert run.run([word, f"paths.runs={tmp_path}"]) == 2
    assert word.partition("=")[0] in capsys.readouterr().err


def test_the_configuration_of_the_first_job_can_be_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run.run(["-m", "model=gcn,gat", "seed=3,4", "--cfg", "job"]) == 0
    told = capsys.readouterr().out
    assert "seed: 3" in told
    assert "sweep:" not in told


@pytest.mark.slow
def test_a_failing_job_is_reported_and_the_others_are_ordinary_runs(tmp_path: Path) -> None:
    words = [
        *QUICK,
        "seed=0,1",
        "hardware.precision=32-true,16-mixed",
        "trainer.max_epochs=3",
        "sweep.workers=2",
    ]
    done = sweep(tmp_path, "-m", *words)
    assert done.returncode == 1, done.stderr
    (folder,) = folders(tmp_path)
    jobs = rows(folder, "jobs.csv")
    assert [job["status"] for job in jobs] == ["finished", "failed", "finished", "failed"]
    assert "hardware.precision=16-mixed needs a GPU" in jobs[1]["error"]
    assert "2 of 4 jobs finished, 2 failed" in done.stdout
    assert "hardware.precision=16-mixed needs a GPU" in done.stderr
    assert "hardware.precision=16-mixed needs a GPU" in (folder / "summary.md").read_text()

    found = [results(job) for job in jobs if job["status"] == "finished"]
    values = [one["metrics"]["test/acc"] for one in found]
    good, bad = rows(folder, "summary.csv")
    assert float(good["mean"]) == pytest.approx(sum(values) / 2)
    assert float(good["std"]) == pytest.approx(abs(values[0] - values[1]) / 2**0.5)
    assert (good["n"], good["failed"], bad["n"], bad["failed"]) == ("2", "0", "0", "2")
    assert (folder / "summary.png").read_bytes()[:4] == b"\x89PNG"

    # forked from the sweep or typed alone: the same run, and no trace of the sweep in its configuration
    typed = [word for word in found[1]["command"][2:] if not word.startswith("paths.")]
    assert typed == [*QUICK, "seed=1", "hardware.precision=32-true", "trainer.max_epochs=3"]
    alone = sweep(tmp_path, *typed)
    assert alone.returncode == 0, alone.stderr
    again = newest_run(tmp_path)
    assert json.loads((again / "results.json").read_text())["metrics"] == found[1]["metrics"]
    assert "sweep" not in (again / "config.yaml").read_text()
    assert (Path(jobs[2]["run_folder"]) / "metrics.csv").read_bytes() == (again / "metrics.csv").read_bytes()

    retried = sweep(tmp_path, "-m", *words, "sweep.retry=failed")
    assert retried.returncode == 1
    assert folders(tmp_path) == [folder]
    assert "4 jobs, 2 of them done before" in retried.stderr
    now = rows(folder, "jobs.csv")
    assert [job["run_folder"] for job in now] == [job["run_folder"] for job in jobs]
    logs = [(folder / "jobs" / f"{index:04d}" / "log.txt").read_text() for index in range(4)]
    assert [log.count("error: ") for log in logs] == [0, 2, 0, 2]

    ended = sweep(tmp_path, "-m", *words, "resume=auto")
    assert ended.returncode == 1
    assert folders(tmp_path) == [folder]
    assert "4 jobs, 4 of them done before" in ended.stderr
    assert f"to run what is missing: python run.py -m resume={folder} sweep.retry=failed" in ended.stderr
    assert ended.stdout.splitlines()[-1] == f"sweep folder  {folder}"
    assert rows(folder, "jobs.csv") == now

    nothing_to_do = sweep(tmp_path, "-m", f"resume={folder}", "sweep.average_over=[seed,hardware.precision]")
    assert nothing_to_do.returncode == 1
    assert [row["n"] for row in rows(folder, "summary.csv")] == ["2"]


@contextmanager
def started(tmp_path: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A sweep in the background, which ends with the block at the latest."""
    with (tmp_path / "console.txt").open("a") as log:
        process = subprocess.Popen(command(tmp_path, *words), stdout=log, stderr=log, text=True, cwd=tmp_path)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def wait_until_saved(tmp_path: Path, job: int) -> None:
    """Until the run of a job has a savepoint."""
    until = time.monotonic() + 300
    while time.monotonic() < until:
        for note in (tmp_path / "runs" / "sweeps").glob(f"*/jobs/{job:04d}/run_folder.txt"):
            saved = Path(note.read_text().strip() or "none") / "checkpoints" / "last.ckpt"
            if saved.is_file():
                return
        time.sleep(0.02)
    raise AssertionError((tmp_path / "console.txt").read_text())


@pytest.mark.slow
def test_a_sweep_that_was_killed_goes_on_to_the_results_of_an_unbroken_one(tmp_path: Path) -> None:
    length = ["trainer.max_epochs=1000", "trainer.min_epochs=1000", "callbacks.savepoints.every_seconds=0.2"]
    words = [*QUICK, *length, "seed=0,1,2", "callbacks.best_weights.patience=null"]
    with started(tmp_path, "-m", *words) as process:
        wait_until_saved(tmp_path, 0)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=120) == 130
    (folder,) = folders(tmp_path)
    assert [job["status"] for job in rows(folder, "jobs.csv")] == ["stopped", "waiting", "waiting"]
    assert (folder / "summary.md").is_file()
    assert (folder / "summary.png").is_file()
    assert f"python run.py -m resume={folder}" in (tmp_path / "console.txt").read_text()

    again = [*reversed(words), "resume=auto", f"paths.runs={tmp_path / 'runs'}"]
    with started(tmp_path, "-m", *again) as process:
        wait_until_saved(tmp_path, 1)
        busy = sweep(tmp_path, "-m", f"resume={folder}")
        assert (busy.returncode, busy.stderr.count("\n")) == (2, 1)
        assert "running in another process" in busy.stderr
        process.kill()
    assert rows(folder, "jobs.csv")[0]["status"] == "finished"

    with started(tmp_path, "-m", f"resume={folder}") as process:
        wait_until_saved(tmp_path, 2)
        process.terminate()
        assert process.wait(timeout=120) == 143

    done = sweep(tmp_path, "-m", f"resume={folder}")
    assert done.returncode == 0, done.stderr
    assert folders(tmp_path) == [folder]
    jobs = rows(folder, "jobs.csv")
    assert [job["status"] for job in jobs] == ["finished"] * 3
    assert len(list((tmp_path / "runs" / "mlp_mini_citation").iterdir())) == 3
    assert "going on after" in (folder / "jobs" / "0001" / "log.txt").read_text()

    alone = sweep(tmp_path, *QUICK, *length, "seed=1", "callbacks.best_weights.patience=null")
    assert alone.returncode == 0, alone.stderr
    unbroken, continued = newest_run(tmp_path), Path(jobs[1]["run_folder"])
    assert json.loads((unbroken / "results.json").read_text())["metrics"] == results(jobs[1])["metrics"]
    assert (unbroken / "metrics.csv").read_bytes() == (continued / "metrics.csv").read_bytes()


@pytest.mark.slow
def test_one_job_finds_out_for_all_that_the_dashboard_does_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "f00d" * 10)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    words = [word for word in QUICK if word != "logger=csv"]
    done = sweep(tmp_path, "-m", *words, "seed=0,1,2", "trainer.max_epochs=2")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("W&B is not reached") == 1
    (folder,) = folders(tmp_path)
    logs = [(folder / "jobs" / f"{index:04d}" / "log.txt").read_text() for index in range(3)]
    assert ["W&B is not reached" in log for log in logs] == [True, False, False]
    assert len(list(tmp_path.glob("runs/mlp_mini_citation/*/wandb/offline-run-*"))) == 3


@pytest.mark.slow
def test_processes_of_ddp_in_a_sweep_run_their_job_and_not_the_sweep(tmp_path: Path) -> None:
    done = sweep(tmp_path, "-m", *QUICK, "hardware=ddp_cpu", "seed=0,1", "trainer.max_epochs=2")
    assert done.returncode == 0, done.stderr
    (folder,) = folders(tmp_path)
    assert [job["status"] for job in rows(folder, "jobs.csv")] == ["finished", "finished"]
    assert len(list((tmp_path / "runs" / "mlp_mini_citation").iterdir())) == 2
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["mlp_mini_citation", "sweeps"]
