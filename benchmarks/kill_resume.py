"""Kills runs at random moments, lets them go on, and counts the bits in which they differ from unbroken ones.

Each trial starts ``run.py`` as a process of its own, kills it with SIGKILL one to three times, each time at a
moment drawn uniformly from the time that the unbroken run took, and continues it with ``resume=<folder>``.
Compared are both checkpoints (weights, optimisers, schedulers, callbacks, random generators), ``metrics.csv``
and, but for what the clock decides, ``results.json``.

    python -m benchmarks.kill_resume --runs 20
"""

import argparse
import csv
import json
import math
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.report import RESULTS, ROOT, Table, write_report
from harness.prerequisites import FOLDER as PREREQUISITES
from harness.run_state import FILE, is_finished

CASES = {
    "spagan": (
        "model=spagan",
        "data=mini_citation",
        "trainer.max_epochs=200",
        "trainer.min_epochs=200",
    ),
    "osgan": ("model=osgan", "data=bumps16", "data.num_train=640", "trainer.max_epochs=8", "model.ema=0.9"),
    "classifier": ("model=classifier", "data=digits", "data.augment=shift", "trainer.max_epochs=6"),
    # three phases, after a teacher of two epochs, which is there before the first kill
    "netgraft": (
        "model=netgraft",
        "data=digits",
        "model.requires.teacher=['model=classifier','data=digits','trainer.max_epochs=2','~callbacks.pictures']",
        "trainer.max_epochs=12",
    ),
    "lsp": (
        "model=lsp",
        "data=mini_ppi",
        "model.requires.teacher=['model=inductive_gat','data=mini_ppi','trainer.max_epochs=2','~callbacks.pictures']",
        "model.distill=fitnet",
        "trainer.max_epochs=20",
    ),
    "lsp_dgcnn": (
        "model=lsp_dgcnn",
        "data=mini_modelnet",
        "data.num_points=64",
        "data.train_per_class=8",
        "data.batch_size=16",
        "model.requires.teacher=['model=dgcnn','data=mini_modelnet','data.num_points=64','data.train_per_class=8',"
        "'data.batch_size=16','trainer.max_epochs=1','~callbacks.pictures']",
        "trainer.max_epochs=6",
        "trainer.log_every_n_steps=1",
    ),
    # two rounds; kills hit the scoring between them too
    "deal": (
        "model=deal",
        "data=street_scenes",
        "data.num_train=60",
        "model.rounds=2",
        "trainer.max_epochs=8",
    ),
}
_COMMON = (
    "hardware=cpu",
    "logger=csv",
    "~callbacks.pictures",
    # a savepoint at every opportunity, so that kills hit the writing too
    "callbacks.savepoints.every_seconds=0",
)
_OF_THE_CLOCK = {"command", "seconds", "timings", "peak_memory_mb", "peak_gpu_memory_mb", "best_checkpoint"}
_OF_THE_CLOCK |= {"sessions", "started", "finished", "git"}
_OF_THE_CLOCK |= {"prerequisites"}  # it names a folder of the trial
_MOST_KILLS = 3
_PATIENCE = 600  # seconds after which a child is taken for hung


@dataclass
class Trial:
    """One run that was killed and continued.

    Attributes:
        kills: where each kill hit, in words.
        differences: what is not equal to the unbroken run; empty if nothing.
    """

    kills: list[str]
    differences: list[str]


def unbroken(words: tuple[str, ...], runs: Path) -> tuple[Path, float]:
    """Runs to the end; returns the folder and the seconds between its making and the end."""
    process = _start([*words, *_COMMON, f"paths.runs={runs}"])
    folder = _folder(runs, process)
    began = time.monotonic()
    _succeed(process)
    return folder, time.monotonic() - began


def kill_and_resume(
    words: tuple[str, ...],
    runs: Path,
    reference: Path,
    seconds: float,
    generator: random.Random,
    how: signal.Signals = signal.SIGKILL,
) -> Trial:
    """One trial.

    Args:
        words: overrides of the run.
        runs: an empty folder.
        reference: folder of the unbroken run.
        seconds: that it took.
        generator: draws the number and the moments of the kills.
        how: SIGKILL, or SIGTERM, at which a run saves and leaves by itself.

    Raises:
        RuntimeError: if a continued run does not come to its end.
    """
    kills: list[str] = []
    attempt = 0
    while not kills:  # where the machine was less busy, a run can end before it is killed at all
        attempt += 1
        process = _start([*words, *_COMMON, f"paths.runs={runs / str(attempt)}"])
        folder = _folder(runs / str(attempt), process)
        for _ in range(generator.randint(1, _MOST_KILLS)):
            # now and then at once, before anything but the folder is there
            moment = generator.uniform(0, seconds) if generator.random() < 0.9 else 0.0
            deadline = time.monotonic() + moment
            while time.monotonic() < deadline and process.poll() is None:
                time.sleep(0.005)
            if process.poll() is not None:
                break
            process.send_signal(how)
            process.communicate(timeout=_PATIENCE)
            ways = {0, -signal.SIGKILL if how == signal.SIGKILL else 128 + how}
            if is_finished(folder):
                ways.add(-how)  # Python was leaving, and its handlers had left
            if process.returncode not in ways:
                raise RuntimeError(f"{how.name} ended the run with {process.returncode}")
            if is_finished(folder):
                break
            kills.append(_where(folder))
            sessions = _sessions(folder)
            process = _start([f"resume={folder}"])
            while _sessions(folder) == sessions and process.poll() is None:
                time.sleep(0.005)
        assert process.stdout is not None
        if not process.stdout.closed:  # else it was waited for after the signal
            _succeed(process)
    return Trial(kills, differences(folder, reference))


def differences(one: Path, other: Path) -> list[str]:
    """Names of what differs between two run folders, bit for bit."""
    found = []
    for name in ("best.ckpt", "last.ckpt"):
        first, second = (_plain(folder / "checkpoints" / name) for folder in (one, other))
        found += [f"{name}: {key}" for key in _unequal(first, second)]
    if (one / "metrics.csv").read_bytes() != (other / "metrics.csv").read_bytes():
        found.append("metrics.csv")
    results = [json.loads((folder / "results.json").read_text(encoding="utf-8")) for folder in (one, other)]
    found += [
        f"results.json: {key}"
        for key in dict.fromkeys([*results[0], *results[1]])
        if key not in _OF_THE_CLOCK and results[0].get(key) != results[1].get(key)
    ]
    return found


def main() -> None:
    """Runs the trials of all cases, prints the table and writes the JSON; exits with 1 on any difference."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=20, help="trials of each case (default 20)")
    parser.add_argument("--case", choices=CASES, action="append", help="one case (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default 0)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the JSON")
    arguments = parser.parse_args()
    rows, bad = [], 0
    with tempfile.TemporaryDirectory() as name:
        for case in arguments.case or CASES:
            words, generator = CASES[case], random.Random(arguments.seed)
            reference, seconds = unbroken(words, Path(name) / case)
            trials = []
            for index in range(arguments.runs):
                runs = Path(name) / f"{case}{index}"
                trial = kill_and_resume(words, runs, reference, seconds, generator)
                trials.append(trial)
                outcome = "; ".join(trial.differences) or "equal"
                print(f"{case} {index + 1}/{arguments.runs}: killed {', '.join(trial.kills)}: {outcome}")
            equal = sum(not trial.differences for trial in trials)
            bad += len(trials) - equal
            where = Counter(kill for trial in trials for kill in trial.kills)
            rows.append(
                {
                    "case": case,
                    "runs": len(trials),
                    "kills": sum(where.values()),
                    "equal bit for bit": equal,
                    "killed": ", ".join(f"{place} {count}x" for place, count in where.most_common()),
                }
            )
    write_report(
        "kill_resume", [Table("Runs killed at random moments and continued", rows)], arguments.output
    )
    sys.exit(bad > 0)


def _start(words: list[str]) -> subprocess.Popen[bytes]:
    command = [sys.executable, str(ROOT / "run.py"), *words]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)


def _folder(runs: Path, process: subprocess.Popen[bytes]) -> Path:
    """The run's folder, once its ``run.json`` is there."""
    while process.poll() is None:
        found = [path for path in runs.glob(f"*/*/{FILE}") if path.parts[-3] != PREREQUISITES]
        if found:
            return found[0].parent
        time.sleep(0.005)
    _succeed(process)
    raise RuntimeError("the run left no folder")


def _succeed(process: subprocess.Popen[bytes]) -> None:
    output = process.communicate(timeout=_PATIENCE)[0].decode()
    if process.returncode != 0:
        raise RuntimeError(f"the run ended with {process.returncode}:\n{output}")


def _sessions(folder: Path) -> int:
    return len(json.loads((folder / FILE).read_text(encoding="utf-8"))["sessions"])


def _where(folder: Path) -> str:
    """Where a kill hit, as far as the folder shows it."""
    checkpoints = folder / "checkpoints"
    if any(path.name.startswith(".") for path in checkpoints.iterdir()):
        return "while writing a checkpoint"
    if not (checkpoints / "last.ckpt").exists():
        return (
            "before the first savepoint"
            if not (checkpoints / "previous.ckpt").exists()
            else "between renames"
        )
    stage = torch.load(checkpoints / "last.ckpt", weights_only=True)["savepoint"]["stage"]
    words = {
        "epoch": "between epochs",
        "batch": "within an epoch",
        "trained": "after a fit",
        "done": "between phases",
    }
    tested = stage == "trained" and _tested(folder)
    return "in the test" if tested else words[stage]


def _tested(folder: Path) -> bool:
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return any(row.get("test/acc") for row in csv.DictReader(file))


def _plain(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    plain = {
        key: content.get(key) for key in ("state_dict", "optimizer_states", "lr_schedulers", "callbacks")
    }
    return plain | {"processes": content.get("savepoint", {}).get("processes")}


def _unequal(one: Any, other: Any, prefix: str = "") -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = dict.fromkeys([*one, *other])
        return [name for key in keys for name in _unequal(one.get(key), other.get(key), f"{prefix}/{key}")]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        return [
            n
            for i, (a, b) in enumerate(zip(one, other, strict=True))
            for n in _unequal(a, b, f"{prefix}/{i}")
        ]
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return [] if torch.equal(one, other) else [prefix]
    # a value that was never measured is NaN in both, which does not equal itself
    both_nan = isinstance(one, float) and isinstance(other, float) and math.isnan(one) and math.isnan(other)
    return [] if one == other or both_nan else [prefix]


if __name__ == "__main__":
    main()
