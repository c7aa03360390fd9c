"""NetGraft and its baselines over the number of images, seeds and draws of the images.

    python -m benchmarks.few_shot_sweeps --data <folder of data sets>
    python -m benchmarks.few_shot_sweeps --only netgraft_shapes few_shot_kd_shapes --seeds 2

Every run is the command that stands with it in ``benchmarks/results/few_shot.json``, without pictures. What
is finished is not run again, so that an interrupted call goes on where it stopped; the teacher of a data set
is trained once. Rows that an earlier call recorded stay until the same run is made again. Then
``python -m benchmarks.reproduce --report-only`` writes them into RESULTS.md.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.few_shot_page import FILE, GRAFTED, SCRATCH, draw_pictures, few_shot_table
from benchmarks.report import RESULTS, ROOT
from benchmarks.reproduce import Experiment, Job, finished, kept, run_all
from harness.files import write_json

SHOTS = (1, 5, 10)


@dataclass(frozen=True)
class Method:
    """A line of the table for each number of images.

    Attributes:
        key: short name.
        title: what the table calls it.
        model: choice of the group ``model``.
        data: choice of the group ``data``.
        overrides: further words of the command.
        seeds: how many of the asked seeds it runs at most.
        draws: likewise of the sample seeds.
        shots: images of each class; empty for a method that sees all.
    """

    key: str
    title: str
    model: str
    data: str
    overrides: tuple[str, ...] = ()
    seeds: int = 3
    draws: int = 1
    shots: tuple[int, ...] = SHOTS

    def experiments(self, draws: int) -> Iterator[tuple[int | None, int, Experiment]]:
        """Number of images, sample seed, and what is run with them over seeds."""
        if not self.shots:
            yield None, 0, Experiment(self.key, self.title, self.model, self.data, self.overrides, self.seeds)
        for draw in range(min(self.draws, draws)):
            for shots in self.shots:
                words = (*self.overrides, f"model.shots={shots}", f"model.sample_seed={draw}")
                key = f"{self.key}_K{shots}_draw{draw}"
                yield shots, draw, Experiment(key, self.title, self.model, self.data, words, self.seeds)


STUDENT_OF_JPEG = (
    "model.network=vgg_small_half",
    "model.optimizer={name: Adam, lr: 0.002}",
    "~model.scheduler",
    "+model.scheduler={name: OneCycleLR, max_lr: 0.002}",
    "model.scheduler_interval=step",
    "trainer.max_epochs=15",
    "data.num_val=0",
)
"""As conf/experiment/netgraft_cifar10_jpeg.yaml trains the teacher."""

DIRECT = (
    "model.stage1=false",
    "model.stage2=at_once",
    "model.stage2_epochs=300",
    "model.lr_stage2=1e-3",
    "trainer.max_epochs=300",
)
"""The grafted blocks at once, in as many steps as NetGraft takes, 600, as its specification tried it."""

METHODS = [
    Method("netgraft_shapes", GRAFTED, "netgraft", "shapes", (), 5, 3),
    Method("few_shot_kd_shapes", SCRATCH, "few_shot_kd", "shapes"),
    Method("few_shot_fitnet_shapes", "FitNet", "few_shot_fitnet", "shapes"),
    Method("few_shot_fskd_shapes", "FSKD-like", "few_shot_fskd", "shapes"),
    Method("stage1_shapes", "stage 1 only", "netgraft", "shapes", ("model.stage2=none",)),
    Method("random_shapes", "joined in random order", "netgraft", "shapes", ("model.stage2=random",)),
    Method("at_once_shapes", "joined at once", "netgraft", "shapes", ("model.stage2=at_once",)),
    Method("mse_shapes", "squared loss", "netgraft", "shapes", ("model.loss=mse",)),
    Method("direct_shapes", "direct suffix", "netgraft", "shapes", DIRECT),
    Method(
        "student_shapes",
        "student, all labelled images",
        "classifier",
        "shapes",
        # without normalisation, the teacher's nine epochs are too few for it
        ("model.network=vgg_small_half", "trainer.max_epochs=30"),
        3,
        shots=(),
    ),
    Method("netgraft_cifar10_jpeg", GRAFTED, "netgraft", "cifar10_jpeg"),
    Method(
        "student_cifar10_jpeg",
        "student, all labelled images",
        "classifier",
        "cifar10_jpeg",
        STUDENT_OF_JPEG,
        1,
        shots=(),
    ),
]


def jobs_of(methods: Sequence[Method], seeds: int, draws: int, runs: Path) -> list[Job]:
    """All runs, seed by seed, so that an interrupted call has all methods over the same seeds."""
    return [
        (experiment, seed, runs / experiment.key / f"seed_{seed}")
        for seed in range(seeds)
        for method in methods
        for _, _, experiment in method.experiments(draws)
        if seed < experiment.seeds
    ]


def collect(runs: Path, recorded: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each finished run of :data:`METHODS`, and for each that was recorded and is not there."""
    before = {tuple(row["command"]): row for row in recorded}
    most = max((row["seed"] + 1 for row in recorded), default=0)
    rows = []
    for method in METHODS:
        found: list[dict[str, Any]] = []
        for shots, draw, experiment in method.experiments(method.draws):
            for seed in range(max(most, experiment.seeds)):
                command = ["python", "run.py", *experiment.command(seed)]
                results = finished(runs / experiment.key / f"seed_{seed}")
                if results is not None:
                    own = {"method": method.key, "title": method.title, "shots": shots, "sample_seed": draw}
                    found.append({**own, "command": command, **kept(results)})
                elif tuple(command) in before:
                    found.append(before[tuple(command)])
        rows += sorted(found, key=lambda row: (row["shots"] or 0, row["sample_seed"], row["seed"]))
    return rows


def main() -> None:
    """Runs what is missing, then writes the JSON and the pictures and prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", default=os.environ.get("TENFOLD_DATA"), help="folder of data sets (default: TENFOLD_DATA)"
    )
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to N-1 at most (default 5)")
    parser.add_argument("--draws", type=int, default=3, help="sample seeds 0 to N-1 at most (default 3)")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time (default 1)")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "few_shot", help="folder of the runs")
    keys = [method.key for method in METHODS]
    parser.add_argument(
        "--only", nargs="*", choices=keys, default=keys, help="methods to run; all are reported"
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of JSON and pictures")
    arguments = parser.parse_args()

    methods = [method for method in METHODS if method.key in arguments.only]
    jobs = jobs_of(methods, arguments.seeds, arguments.draws, arguments.runs.absolute())
    waiting = [job for job in jobs if finished(job[2]) is None]
    failures = run_all(
        waiting,
        arguments.workers,
        arguments.data,
        len(jobs) - len(waiting),
        len(jobs),
        ("~callbacks.pictures",),
    )
    file = arguments.output / FILE
    recorded = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    rows = collect(arguments.runs.absolute(), recorded)
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_json(file, rows)
    print(few_shot_table(rows))
    for path in [file, *draw_pictures(rows, arguments.output)]:
        print(f"written: {path}")
    if failures:
        sys.exit(f"{len(failures)} runs failed: {'; '.join(failures)}")


if __name__ == "__main__":
    main()
