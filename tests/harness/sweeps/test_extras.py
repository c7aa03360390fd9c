"""A search, and jobs under a cluster's rules, as a user types them; every run trains."""

import csv
import json
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
QUICK = ["model=mlp", "data=mini_citation", "hardware=cpu", "logger=csv", "~callbacks.pictures"]

pytestmark = pytest.mark.slow


def command(runs: Path, *words: str) -> list[str]:
    return [sys.executable, str(ROOT / "run.py"), "-m", *words, *QUICK, f"paths.runs={runs}"]


def done(runs: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(runs, *words), capture_output=True, text=True, check=False, timeout=600)


def sweep_folder(runs: Path) -> Path:
    (folder,) = (runs / "sweeps").iterdir()
    return folder


def rows(runs: Path, name: str) -> list[dict[str, str]]:
    with (sweep_folder(runs) / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def content(folder: str, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((Path(folder) / name).read_text(encoding="utf-8"))
    return found


SEARCH = [
    "sweep=optuna",
    "sweep.search.trials=4",
    "sweep.search.pruner.name=median",
    "sweep.search.pruner.startup_trials=1",
    "sweep.search.pruner.warmup_epochs=5",
    "sweep.search.pruner.every_epochs=5",
    "trainer.max_epochs=30",
    "trainer.min_epochs=30",
    "model.optimizer.lr=tag(log,interval(1e-7,1e-1))",
    "model.hidden_channels=8,16",
]


def test_a_search_that_is_killed_goes_on_and_finds_what_one_finds_that_is_not(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="optuna is not installed")
    unbroken = done(tmp_path / "unbroken", *SEARCH)
    assert unbroken.returncode == 0, unbroken.stderr

    words = command(tmp_path / "killed", *SEARCH, "resume=auto")
    killed = subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    with killed:
        assert killed.stderr is not None
        while not (line := killed.stderr.readline()).startswith("[1/4]"):
            assert line, "it ended before it could be killed"
        time.sleep(1.0)  # into the second trial
        killed.kill()
    continued = subprocess.run(words, capture_output=True, text=True, check=False, timeout=600)
    assert continued.returncode == 0, continued.stderr

    expected, found = (rows(tmp_path / name, "summary.csv") for name in ("unbroken", "killed"))
    compared = ("trial", "state", "val/loss", "model.optimizer.lr", "model.hidden_channels")
    assert [[row[key] for key in compared] for row in found] == [
        [row[key] for key in compared] for row in expected
    ]

    states = [row["state"] for row in found]
    assert states[0] == "finished"
    assert "pruned" in states
    for row in found:
        folder = row["run_folder"]
        if row["state"] == "pruned":
            assert content(folder, "pruned.json")["trial"] == int(row["trial"])
            assert not (Path(folder) / "results.json").exists()
        else:
            assert content(folder, "results.json")["best_values"]["fit"] == float(row["val/loss"])

    # the printed command is an ordinary run of the best trial
    line = next(line for line in continued.stdout.splitlines() if line.startswith("run it again"))
    again = shlex.split(line)[3:]
    assert again[:2] == ["python", "run.py"]
    repeated = tmp_path / "repeated"
    ended = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *again[2:], f"paths.runs={repeated}"],
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    (results,) = repeated.glob("*/*/results.json")
    assert content(str(results.parent), "results.json")["best_values"]["fit"] == float(found[0]["val/loss"])


def test_jobs_under_a_clusters_rules_end_as_they_should(tmp_path: Path) -> None:
    pytest.importorskip("submitit", reason="submitit is not installed")
    words = ["sweep=slurm", "sweep.slurm.cluster=local", "trainer.max_epochs=2"]
    ended = done(tmp_path / "runs", *words, "model.optimizer.lr=0.01,1e30")
    assert ended.returncode == 1
    good, bad = rows(tmp_path / "runs", "jobs.csv")
    assert (good["status"], bad["status"]) == ("finished", "failed")
    assert content(good["run_folder"], "results.json")["metrics"]["test/acc"] == float(good["test/acc"])
    assert "diverged" in bad["error"]
    assert (sweep_folder(tmp_path / "runs") / "slurm").is_dir()
