"""What benchmarks share that run methods over seeds: jobs, rows, the command line.

A benchmark lists its lines, and says how their rows become a table and pictures. Every run is the command
that stands with it in the benchmark's JSON file, without pictures of its own. What is finished is not run
again, so that an interrupted call goes on where it stopped. Rows that an earlier call recorded, here or on
another machine, stay until the same run is made again.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.report import RESULTS, ROOT
from benchmarks.reproduce import Experiment, Job, finished, kept, run_all
from harness.files import write_json

MOST_SEEDS = 20
"""Seeds that are looked for beyond those that a line runs."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Line:
    """A line of a table: one command over seeds.

    Attributes:
        key: short name, also the folder of its runs.
        method: by what ``--only`` names it, alone or with others.
        experiment: what is run with a seed.
        facts: what stands in its rows beside the results.
        seeds: how many of the asked seeds it runs at most.
    """

    key: str
    method: str
    experiment: Callable[[int], Experiment]
    facts: dict[str, Any] = field(default_factory=dict)
    seeds: int = MOST_SEEDS

    def command(self, seed: int) -> list[str]:
        """What a user would type."""
        return ["python", "run.py", *self.experiment(seed).command(seed)]


def always(experiment: Experiment) -> Callable[[int], Experiment]:
    """The same experiment with every seed, for :attr:`Line.experiment`."""
    return lambda seed: experiment


def jobs_of(lines: Sequence[Line], seeds: int, runs: Path) -> list[Job]:
    """All runs, seed by seed, so that an interrupted call has all lines over the same seeds.

    Args:
        lines: what is run.
        seeds: 0 to N-1, as far as a line has them.
        runs: folder of the runs.
    """
    return [
        (line.experiment(seed), seed, runs / line.key / f"seed_{seed}")
        for seed in range(seeds)
        for line in lines
        if seed < line.seeds
    ]


def collect(lines: Sequence[Line], runs: Path, recorded: Sequence[dict[str, Any]]) -> Rows:
    """A row for each finished run of the lines, and for each that was recorded and is not there."""
    before = {tuple(row["command"]): row for row in recorded}
    rows: Rows = []
    for line in lines:
        for seed in range(MOST_SEEDS):
            results = finished(runs / line.key / f"seed_{seed}")
            command = line.command(seed)
            if results is not None:
                rows.append({**line.facts, "command": command, **kept(results)})
            elif tuple(command) in before:
                rows.append(before[tuple(command)])
    return rows


def sweep_parser(description: str | None, lines: Sequence[Line], folder: str) -> argparse.ArgumentParser:
    """The command line of a benchmark, to which it may add words of its own.

    Args:
        description: the benchmark's docstring.
        lines: all of them.
        folder: of its runs, below ``runs/``.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    methods = list(dict.fromkeys(line.method for line in lines))
    parser.add_argument(
        "--data", default=os.environ.get("TENFOLD_DATA"), help="folder of data sets (default: TENFOLD_DATA)"
    )
    parser.add_argument(
        "--seeds", type=int, default=5, help="seeds 0 to N-1 at most; 0 runs nothing and collects (default 5)"
    )
    parser.add_argument("--workers", type=int, default=1, help="runs at a time (default 1)")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / folder, help="folder of the runs")
    parser.add_argument(
        "--only",
        nargs="*",
        choices=methods,
        default=methods,
        metavar="METHOD",
        help=f"methods to run; all are reported: {', '.join(methods)}",
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of JSON and pictures")
    return parser


def run_sweep(
    arguments: argparse.Namespace,
    asked: Sequence[Line],
    lines: Sequence[Line],
    file: str,
    table: Callable[[Rows], str],
    draw_pictures: Callable[[Rows, Path], list[Path]],
) -> None:
    """Runs what is missing, then writes the JSON and the pictures and prints the table.

    Args:
        arguments: of :func:`sweep_parser`.
        asked: lines that are run.
        lines: lines that are reported.
        file: name of the JSON file.
        table: of the rows, as Markdown.
        draw_pictures: writes pictures of the rows into a folder; the files.
    """
    runs = arguments.runs.absolute()
    jobs = jobs_of([line for line in asked if line.method in arguments.only], arguments.seeds, runs)
    waiting = [job for job in jobs if finished(job[2]) is None]
    failures = []
    if waiting:
        done, without_pictures = len(jobs) - len(waiting), ("~callbacks.pictures",)
        failures = run_all(waiting, arguments.workers, arguments.data, done, len(jobs), without_pictures)
    path = arguments.output / file
    recorded = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    rows = collect(lines, runs, recorded)
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_json(path, rows)
    print(table(rows))
    for written in [path, *draw_pictures(rows, arguments.output)]:
        print(f"written: {written}")
    if failures:
        sys.exit(f"{len(failures)} runs failed: {'; '.join(failures)}")
