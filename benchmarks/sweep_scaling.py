"""What a sweep gains with a second worker, and what a job of a sweep costs beyond its own training.

Gain: the same jobs, one and two at a time; the whole command is timed, imports and summary included. Beside
it stands what two processes that only count gain over one at that time: what the machine had to give.
Cost: the time between a job's start and its end, less the seconds of training and test that its own
``results.json`` states; beside it the same command typed alone, which pays the imports itself.

    python -m benchmarks.sweep_scaling
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import ROOT, Table, add_arguments, write_report

NETWORK_FREE = ("data=mini_citation", "hardware=cpu")
LOGGERS = {"csv": ("logger=csv",), "wandb, offline": ("logger=wandb", "logger.wandb.mode=offline")}


def timed(words: Sequence[str], place: Path) -> float:
    """Seconds that ``python run.py <words>`` takes; its runs go to ``place``.

    Raises:
        RuntimeError: if it fails.
    """
    command = [sys.executable, str(ROOT / "run.py"), *words, f"paths.runs={place}"]
    started = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return seconds


def length(epochs: int) -> list[str]:
    """Words for exactly so many epochs."""
    limits = [f"trainer.max_epochs={epochs}", f"trainer.min_epochs={epochs}"]
    return [*limits, "callbacks.best_weights.patience=null"]


def own_seconds(run_folder: Path) -> float:
    """Seconds of training and test, as the run itself states them."""
    seconds: dict[str, float] = json.loads((run_folder / "results.json").read_text(encoding="utf-8"))[
        "seconds"
    ]
    return sum(value for name, value in seconds.items() if name != "setup")


def costs(place: Path) -> list[float]:
    """Seconds of each job of the one sweep in ``place`` beyond its training and test."""
    (table,) = (place / "sweeps").glob("*/jobs.csv")
    with table.open(encoding="utf-8", newline="") as file:
        return [float(row["seconds"]) - own_seconds(Path(row["run_folder"])) for row in csv.DictReader(file)]


def gain_of_counting(seconds: float = 4.0) -> float:
    """How many times further two processes count than one, in a given time."""
    code = (
        "import time; n = 0; until = time.time() + {seconds}\n"
        "while time.time() < until:\n    n += 1\nprint(n)"
    )
    counts = []
    for processes in (1, 2):
        command = [sys.executable, "-S", "-c", code.format(seconds=seconds)]
        started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
        counts.append(sum(int(process.communicate()[0]) for process in started))
    return counts[1] / counts[0]


def measure_workers(jobs: int, epochs: int, rounds: int, folder: Path) -> Table:
    """Seconds of one sweep with one and with two workers, in turn."""
    words = ["-m", "model=gat", *NETWORK_FREE, "logger=csv", *length(epochs), f"seed=range(0,{jobs})"]
    seconds: dict[int, list[float]] = {1: [], 2: []}
    possible = []
    for number in range(rounds):
        possible.append(gain_of_counting())
        for workers, found in seconds.items():
            place = folder / f"workers_{workers}_{number}"
            found.append(timed([*words, f"sweep.workers={workers}"], place))
    row: dict[str, Any] = {"jobs": jobs, "epochs each": epochs}
    row |= {f"{workers} worker(s) s": statistics.median(found) for workers, found in seconds.items()}
    row["gain"] = statistics.median(one / two for one, two in zip(seconds[1], seconds[2], strict=True))
    row["gain of counting"] = statistics.median([*possible, gain_of_counting()])
    title = f"Time of a whole sweep, GAT on an embedded graph, one thread a job, medians of {rounds} round(s)"
    return Table(title, [row])


def measure_costs(jobs: int, epochs: int, folder: Path) -> Table:
    """Seconds of a job beyond its training and test: in a sweep, and typed alone."""
    rows = []
    for name, words in LOGGERS.items():
        words = ("model=gcn", *NETWORK_FREE, *words, *length(epochs))
        place = folder / name.partition(",")[0]
        whole = timed(["-m", *words, f"seed=range(0,{jobs})"], place / "sweep")
        found = costs(place / "sweep")
        alone = timed([*words, "seed=0"], place / "alone")
        (run_folder,) = (place / "alone").glob("*/*")
        rows.append(
            {
                "logger": name,
                "jobs": jobs,
                "median s": statistics.median(found),
                "max s": max(found),
                "typed alone s": alone - own_seconds(run_folder),
                "whole sweep s": whole,
            }
        )
    return Table(f"Cost of a job beyond its training and test, GCN, {epochs} epochs, one worker", rows)


def main() -> None:
    """Measures both, prints the tables and writes the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--jobs", type=int, default=8, help="jobs of each sweep (default 8)")
    parser.add_argument("--epochs", type=int, default=1000, help="epochs of a job where workers are compared")
    parser.add_argument("--rounds", type=int, default=1, help="times that workers are compared (default 1)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        workers = measure_workers(arguments.jobs, arguments.epochs, arguments.rounds, Path(folder))
        job_costs = measure_costs(arguments.jobs, 50, Path(folder))
    write_report("sweep_scaling", [workers, job_costs], arguments.output)


if __name__ == "__main__":
    main()
