"""DEAL and what it is compared with over seeds, on generated street scenes: which images are worth a label.

    python -m benchmarks.acquisition_sweeps
    python -m benchmarks.acquisition_sweeps --only deal_ds random --seeds 3
    python -m benchmarks.acquisition_sweeps --only camvid_jpeg_deal_ds camvid_jpeg_random

The last line needs TENFOLD_DATA. Every run is the command that stands with it in
``benchmarks/results/acquisition.json``, without pictures. What is finished is not run again, so that an
interrupted call goes on where it stopped; ``--seeds 0`` runs nothing and collects. Rows that an earlier call
recorded stay until the same run is made again. Then ``python -m benchmarks.reproduce --report-only`` writes
them into RESULTS.md.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.acquisition_page import FILE, FULL, SCENES, TITLES, acquisition_table, draw_pictures
from benchmarks.report import RESULTS, ROOT
from benchmarks.reproduce import Experiment, Job, finished, kept, run_all
from harness.files import write_json

MOST_SEEDS = 20


@dataclass(frozen=True)
class Strategy:
    """A line of the table.

    Attributes:
        key: short name.
        acquisition: choice of ``model.acquisition``, or :data:`FULL` for all images labelled at once.
        data: choice of the group ``data``.
    """

    key: str
    acquisition: str
    data: str

    def experiment(self) -> Experiment:
        """What is run."""
        title = TITLES[self.acquisition]
        if self.acquisition == FULL:
            return Experiment(self.key, title, "deeplab", self.data, (), MOST_SEEDS)
        words = (f"model.acquisition={self.acquisition}",)
        return Experiment(self.key, title, "deal", self.data, words, MOST_SEEDS)


# what matters most comes first, so that an interrupted call has it
ORDER = ("deal_ds", "random", "deal_de", "entropy", "coreset", "qbc", "margin", "least_confidence", FULL)
ON_SCENES = [Strategy(name, name, SCENES) for name in ORDER]
ON_CAMVID = [Strategy(f"camvid_jpeg_{name}", name, "camvid_jpeg") for name in ("deal_ds", "random")]
STRATEGIES = [*ON_SCENES, *ON_CAMVID]


def jobs_of(strategies: Sequence[Strategy], seeds: int, runs: Path) -> list[Job]:
    """All runs, seed by seed, so that an interrupted call has all strategies over the same seeds."""
    return [
        (strategy.experiment(), seed, runs / strategy.key / f"seed_{seed}")
        for seed in range(seeds)
        for strategy in strategies
    ]


def collect(runs: Path, recorded: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each finished run of :data:`STRATEGIES`, and for each that was recorded and is not there."""
    before = {tuple(row["command"]): row for row in recorded}
    rows = []
    for strategy in STRATEGIES:
        for seed in range(MOST_SEEDS):
            command = ["python", "run.py", *strategy.experiment().command(seed)]
            results = finished(runs / strategy.key / f"seed_{seed}")
            if results is not None:
                rows.append({"acquisition": strategy.acquisition, "command": command, **kept(results)})
            elif tuple(command) in before:
                rows.append(before[tuple(command)])
    return rows


def main() -> None:
    """Runs what is missing, then writes the JSON and the pictures and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to N-1 (default 5)")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time (default 1)")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "acquisition", help="folder of the runs")
    parser.add_argument(
        "--only",
        nargs="*",
        choices=[strategy.key for strategy in STRATEGIES],
        default=[strategy.key for strategy in ON_SCENES],
        help="strategies to run (default: those that need no data); all are reported",
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of JSON and pictures")
    arguments = parser.parse_args()

    strategies = [strategy for strategy in STRATEGIES if strategy.key in arguments.only]
    jobs = jobs_of(strategies, arguments.seeds, arguments.runs.absolute())
    waiting = [job for job in jobs if finished(job[2]) is None]
    failures = []
    if waiting:
        failures = run_all(
            waiting, arguments.workers, None, len(jobs) - len(waiting), len(jobs), ("~callbacks.pictures",)
        )
    file = arguments.output / FILE
    recorded = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    rows = collect(arguments.runs.absolute(), recorded)
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_json(file, rows)
    print(acquisition_table([row for row in rows if row["data"] == SCENES]))
    for path in [file, *draw_pictures(rows, arguments.output)]:
        print(f"written: {path}")
    if failures:
        sys.exit(f"{len(failures)} runs failed: {'; '.join(failures)}")


if __name__ == "__main__":
    main()
