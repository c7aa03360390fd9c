"""LSP and what it is compared with over seeds, on the generated stand-ins for PPI and ModelNet40.

    python -m benchmarks.structure_sweeps
    python -m benchmarks.structure_sweeps --only lsp_mini_ppi full_mini_ppi --seeds 2

Every run is the command that stands with it in ``benchmarks/results/structure.json``, without pictures. What
is finished is not run again, so that an interrupted call goes on where it stopped. Rows that an earlier call
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

from benchmarks.report import RESULTS, ROOT
from benchmarks.reproduce import Experiment, Job, finished, kept, run_all
from benchmarks.structure_page import (
    FILE,
    LAST_LSP,
    LAST_PLAIN,
    LAST_RELEASE,
    LAST_TEACHER,
    LSP,
    PLAIN,
    RELEASE,
    TEACHER,
    draw_pictures,
    structure_table,
)
from harness.files import write_json

MOST_SEEDS = 20


@dataclass(frozen=True)
class Method:
    """A line of the table.

    Attributes:
        key: short name.
        title: what the table calls it.
        model: choice of the group ``model``.
        data: choice of the group ``data``.
        overrides: further words of the command.
        teacher: further words of a teacher's that is fitted for the command.
    """

    key: str
    title: str
    model: str
    data: str
    overrides: tuple[str, ...] = ()
    teacher: tuple[str, ...] = ()

    def experiment(self, seed: int) -> Experiment:
        """What is run with one seed; a student of mini_ppi has a teacher of the same seed."""
        words = self.overrides
        if self.model == "lsp":
            teacher = ["model=inductive_gat", f"data={self.data}", f"seed={seed}", *self.teacher]
            words = (*words, f"model.requires.teacher={json.dumps(teacher, separators=(',', ':'))}")
        return Experiment(self.key, self.title, self.model, self.data, words, MOST_SEEDS)


MODES = (
    ("full", PLAIN, ("model.distill=full",)),
    ("kd", "KD", ("model.distill=kd",)),
    ("fitnet", "FitNet", ("model.distill=fitnet",)),
    ("at", "AT", ("model.distill=at",)),
    ("lsp", LSP, ()),
    ("lsp_kd", "LSP + KD", ("model.distill=lsp+kd",)),
)
AS_RELEASED = ("model.kernel=l1exp", "model.lsp_weight=1", "model.lsp_until=30")
ABLATIONS = (
    ("release", RELEASE, AS_RELEASED),
    ("weight_1", "LSP, lambda 1", ("model.lsp_weight=1",)),
    ("weight_100", "LSP, lambda 100", ("model.lsp_weight=100",)),
    ("reversed", "LSP, KL the other way", ("model.kl=student_teacher",)),
    ("linear", "LSP, linear", ("model.kernel=linear", "model.lsp_weight=1")),
    ("poly", "LSP, poly", ("model.kernel=poly", "model.lsp_weight=1")),
    ("l2", "LSP, l2 as published", ("model.kernel=l2", "model.lsp_weight=1")),
    ("neg_l2", "LSP, -l2", ("model.kernel=neg_l2", "model.lsp_weight=1")),
    ("two_pairs", "LSP, both hidden layers", ("model.layer_pairs=[[1,1],[2,2]]",)),
)
LAST_EPOCH = ("callbacks.best_weights.monitor=null",)
NO_LOOPS = ("data.self_loops=false",)
OTHER_TEACHERS = (
    # the authors' code keeps a copy of the best teacher, but distils the one of the last epoch
    ("last_full", LAST_PLAIN, ("model.distill=full",), LAST_EPOCH),
    ("last_lsp", LAST_LSP, (), LAST_EPOCH),
    ("last_release", LAST_RELEASE, AS_RELEASED, LAST_EPOCH),
    ("no_loops_full", f"{PLAIN}; no self-loops", ("model.distill=full", *NO_LOOPS), NO_LOOPS),
    ("no_loops_lsp", f"{LSP}; no self-loops", NO_LOOPS, NO_LOOPS),
)
EDGES = (
    ("teacher_edges", "LSP, edges of the teacher", ("model.edges=teacher",)),
    ("student_edges", "LSP, edges of the student", ("model.edges=student",)),
)
METHODS = [
    Method("teacher_mini_ppi", TEACHER, "inductive_gat", "mini_ppi"),
    *(Method(f"{key}_mini_ppi", title, "lsp", "mini_ppi", words) for key, title, words in MODES),
    *(Method(f"{key}_mini_ppi", title, "lsp", "mini_ppi", words) for key, title, words in ABLATIONS),
    Method("last_teacher_mini_ppi", LAST_TEACHER, "inductive_gat", "mini_ppi", LAST_EPOCH),
    *(
        Method(f"{key}_mini_ppi", title, "lsp", "mini_ppi", words, teacher)
        for key, title, words, teacher in OTHER_TEACHERS
    ),
    Method("teacher_mini_modelnet", TEACHER, "dgcnn", "mini_modelnet"),
    *(
        Method(f"{key}_mini_modelnet", title, "lsp_dgcnn", "mini_modelnet", words)
        for key, title, words in (*MODES, *EDGES)
    ),
]


def jobs_of(methods: Sequence[Method], seeds: int, runs: Path) -> list[Job]:
    """All runs, seed by seed, so that an interrupted call has all methods over the same seeds."""
    return [
        (method.experiment(seed), seed, runs / method.key / f"seed_{seed}")
        for seed in range(seeds)
        for method in methods
    ]


def collect(runs: Path, recorded: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each finished run of :data:`METHODS`, and for each that was recorded and is not there."""
    before = {tuple(row["command"]): row for row in recorded}
    rows = []
    for method in METHODS:
        for seed in range(MOST_SEEDS):
            experiment = method.experiment(seed)
            command = ["python", "run.py", *experiment.command(seed)]
            results = finished(runs / method.key / f"seed_{seed}")
            if results is not None:
                rows.append(
                    {"method": method.key, "title": method.title, "command": command, **kept(results)}
                )
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
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "structure", help="folder of the runs")
    keys = [method.key for method in METHODS]
    parser.add_argument(
        "--only", nargs="*", choices=keys, default=keys, help="methods to run; all are reported"
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of JSON and pictures")
    arguments = parser.parse_args()

    methods = [method for method in METHODS if method.key in arguments.only]
    jobs = jobs_of(methods, arguments.seeds, arguments.runs.absolute())
    waiting = [job for job in jobs if finished(job[2]) is None]
    failures = run_all(
        waiting, arguments.workers, None, len(jobs) - len(waiting), len(jobs), ("~callbacks.pictures",)
    )
    file = arguments.output / FILE
    recorded = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
    rows = collect(arguments.runs.absolute(), recorded)
    arguments.output.mkdir(parents=True, exist_ok=True)
    write_json(file, rows)
    print(structure_table(rows))
    for path in [file, *draw_pictures(rows, arguments.output)]:
        print(f"written: {path}")
    if failures:
        sys.exit(f"{len(failures)} runs failed: {'; '.join(failures)}")


if __name__ == "__main__":
    main()
