"""Run the published comparisons over many seeds and write RESULTS.md.

Every run is the command that stands in the table, as a user would type it. What is finished is not run again,
so an interrupted call goes on where it stopped. Rows that an earlier call recorded in ``benchmarks/results``,
here or on another machine, stay until the same run is made again or its command changes.

    python -m benchmarks.reproduce --data <folder of data sets>
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.generation_page import distance_curve
from benchmarks.report import RESULTS, ROOT
from benchmarks.results_page import write_page
from harness.files import write_json
from harness.prerequisites import FOLDER as PREREQUISITES


@dataclass(frozen=True)
class Experiment:
    """One row of the table.

    Attributes:
        key: short name, also the folder of its runs.
        title: what the table calls it.
        model: choice of the group ``model``.
        data: choice of the group ``data``.
        overrides: further words of the command.
        seeds: how many of the asked seeds it runs at most.
    """

    key: str
    title: str
    model: str
    data: str
    overrides: tuple[str, ...] = ()
    seeds: int = 1000

    def command(self, seed: int | str) -> list[str]:
        """The words after ``python run.py``."""
        return [f"model={self.model}", f"data={self.data}", *self.overrides, f"seed={seed}"]


AUTHORS = ("model.init=authors", "trainer.min_epochs=500", "trainer.max_epochs=3000")
# The authors' biases can hold training at chance for longer than their rule waits: the same with more time.
AUTHORS_LONG = ("model.init=authors", "trainer.min_epochs=1500", "trainer.max_epochs=3000")
EXPERIMENTS = [
    *(Experiment(f"gcn_{d}", "GCN", "gcn", d) for d in ("cora", "citeseer")),
    *(Experiment(f"spagan_{d}", "SPAGAN", "spagan", d) for d in ("cora", "citeseer")),
    *(
        Experiment(f"spagan_authors_{d}", "SPAGAN, authors' initialisation", "spagan", d, AUTHORS)
        for d in ("cora", "citeseer")
    ),
    *(
        Experiment(
            f"spagan_authors_long_{d}",
            "SPAGAN, authors' initialisation, more epochs",
            "spagan",
            d,
            AUTHORS_LONG,
        )
        for d in ("cora", "citeseer")
    ),
    *(
        Experiment(
            f"relay_C{c}", f"SPAGAN, C={c}", "spagan", "relay_graph", (f"model.max_path_nodes={c}",), 5
        )
        for c in (2, 3)
    ),
    *(
        Experiment(f"{m}_mini_citation", m.upper(), m, "mini_citation", (), 5)
        for m in ("mlp", "gcn", "gat", "spagan")
    ),
    Experiment("dfkd_one_stage", "distillation without data, one stage", "osgan_dfkd", "digits", (), 3),
    Experiment(
        "dfkd_two_stage",
        "distillation without data, two stages, as many updates of the student",
        "osgan_dfkd",
        "digits",
        ("model.scheme=two_stage", "trainer.max_epochs=60", "model.scheduler.total_iters=60"),
        3,
    ),
]
MNIST32 = (
    "data.image_size=32",
    "data.batch_size=64",
    "model.generator_width=32",
    "model.discriminator_width=32",
    "model.num_samples=10000",
    "trainer.max_epochs=8",
    "+trainer.limit_train_batches=312",
)
"""As much of MNIST as two CPU cores can train on for every scheme: 2,496 steps, judged after every 312."""
GENERATORS = [
    *(
        Experiment(f"bumps16_{scheme}", f"{scheme}, non_saturating", "osgan", "bumps16", words, 3)
        for scheme in ("one_stage", "two_stage")
        for words in [(f"model.scheme={scheme}",)]
    ),
    *(
        Experiment(f"bumps16_{loss}", f"one_stage, {loss}", "osgan", "bumps16", (f"model.loss={loss}",), 3)
        for loss in ("minimax", "wgan", "lsgan", "hinge")
    ),
    *(
        Experiment(
            f"bumps16_two_stage_{loss}",
            f"two_stage, {loss}",
            "osgan",
            "bumps16",
            ("model.scheme=two_stage", f"model.loss={loss}"),
            3,
        )
        for loss in ("wgan", "lsgan")
    ),
    Experiment("digits_one_stage", "one_stage, non_saturating", "osgan", "digits", (), 3),
    *(
        Experiment(
            f"mnist32_{s}", f"{s}, non_saturating", "osgan", "mnist", (*MNIST32, f"model.scheme={s}"), 1
        )
        for s in ("one_stage", "two_stage", "two_stage_lean", "two_stage_reuse", "simultaneous")
    ),
]
_FACTOR_METHODS = {
    "graph_mlp": "MLP",
    "graph_gcn": "GCN",
    "graph_gat": "GAT",
    "gin": "GIN",
    "disengcn": "DisenGCN",
    "factorgcn": "FactorGCN",
}
FACTORS = [
    *(Experiment(f"{m}_factor_graphs", t, m, "factor_graphs", (), 5) for m, t in _FACTOR_METHODS.items()),
    *(
        Experiment(
            f"factorgcn_factor_graphs_lambda_{weight}",
            f"FactorGCN, λ={weight}",
            "factorgcn",
            "factor_graphs",
            (f"model.discriminator_weight={weight}",),
            5,
        )
        for weight in (0.2, 0)
    ),
]
"""FactorGCN's synthetic experiment and its comparison, with the disentanglement of what has factors."""
FOLDS = [
    *(
        Experiment(f"{m}_{d}", _FACTOR_METHODS[m], m, d, (), 1)
        for d in ("mutag", "imdb_binary")
        for m in ("factorgcn", "gin")
    ),
    Experiment(
        "factorgcn_mutag_holdout",
        "FactorGCN, holdout",
        "factorgcn",
        "mutag",
        ("data.protocol=holdout", "callbacks.best_weights.monitor=val/acc"),
        1,
    ),
]
"""Ten-fold cross-validations, each one run."""
ALL = [*EXPERIMENTS, *GENERATORS, *FACTORS, *FOLDS]


Job = tuple[Experiment, int, Path]
"""What is run, with which seed, and the folder of its run."""


def run_one(command: Sequence[str], place: Path, data: str | None, more: Sequence[str] = ()) -> str | None:
    """Runs one command in this process; returns an error line or None.

    Args:
        command: the words after ``python run.py``.
        place: folder for its run, and for what it prints.
        data: folder of data sets; handed over by the environment, as a user would set it.
        more: words that change nothing of the results.
    """
    from run import run

    if data is not None:
        os.environ["TENFOLD_DATA"] = data
    place.mkdir(parents=True, exist_ok=True)
    # what several runs start from is fitted once
    shared = place.parents[1] / PREREQUISITES
    shared.mkdir(exist_ok=True)
    if not (place / shared.name).exists():
        (place / shared.name).symlink_to(shared)
    with (
        (place / "output.txt").open("w", encoding="utf-8") as output,
        contextlib.redirect_stdout(output),
        contextlib.redirect_stderr(output),
    ):
        status = run([*command, *more, "logger=csv", f"paths.runs={place}"])
    return None if status == 0 else f"exit {status}, see {place / 'output.txt'}"


def finished(place: Path) -> dict[str, Any] | None:
    """``results.json`` of the run below ``place``, or None where none has finished."""
    found = _newest(place, "results.json")
    return json.loads(found.read_text(encoding="utf-8")) if found.is_file() else None


def _newest(place: Path, name: str) -> Path:
    """The file of that name in the newest run below ``place``, itself where there is none."""
    own = (path for path in place.glob(f"*/*/{name}") if PREREQUISITES not in path.parts)
    return max(own, default=place / name)


def main() -> None:
    """Runs what is missing, then writes reproduction.json, RESULTS.md and the table in README.md."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", default=os.environ.get("TENFOLD_DATA"), help="folder of data sets (default: TENFOLD_DATA)"
    )
    parser.add_argument(
        "--seeds", type=int, default=20, help="seeds 0 to N-1 of each experiment (default 20)"
    )
    parser.add_argument("--workers", type=int, default=2, help="runs at a time (default 2)")
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "reproduce", help="folder of the runs")
    parser.add_argument(
        "--only", nargs="*", help="keys of the experiments to run, such as spagan_cora; all are reported"
    )
    parser.add_argument("--page", type=Path, default=ROOT / "RESULTS.md", help="the page to write")
    parser.add_argument(
        "--report-only",
        action="store_true",
        help="run nothing; write the page from finished and recorded runs",
    )
    arguments = parser.parse_args()

    # seed by seed, so that an interrupted call has all experiments over the same seeds
    jobs = [
        (experiment, seed, arguments.runs / experiment.key / f"seed_{seed}")
        for seed in range(arguments.seeds)
        for experiment in ALL
        if seed < experiment.seeds and (not arguments.only or experiment.key in arguments.only)
    ]
    waiting = [] if arguments.report_only else [job for job in jobs if finished(job[2]) is None]
    failures = run_all(waiting, arguments.workers, arguments.data, len(jobs) - len(waiting), len(jobs))
    rows = _rows(arguments.runs, arguments.seeds)
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / "reproduction.json", rows)
    write_page(arguments.page, EXPERIMENTS, GENERATORS, FACTORS, FOLDS, rows)
    print(f"written: {arguments.page}")
    if failures:
        sys.exit(f"{len(failures)} runs failed: {'; '.join(failures)}")


def _rows(runs: Path, seeds: int) -> list[dict[str, Any]]:
    """What the page reports: the finished runs in ``runs``, and recorded ones that are not there."""
    file = RESULTS / "reproduction.json"
    recorded = {
        (row["experiment"], tuple(row["command"])): row
        for row in (json.loads(file.read_text()) if file.is_file() else [])
    }
    rows = []
    for experiment in ALL:
        for seed in range(max(seeds, *(row["seed"] + 1 for row in recorded.values()), 1)):
            command = ["python", "run.py", *experiment.command(seed)]
            results = finished(runs / experiment.key / f"seed_{seed}")
            if results is not None:
                row = {"experiment": experiment.key, "command": command, **kept(results)}
                if experiment in GENERATORS:
                    row["curve"] = _curve(experiment, runs / experiment.key / f"seed_{seed}", results)
                rows.append(row)
            elif (experiment.key, tuple(command)) in recorded:
                rows.append(recorded[experiment.key, tuple(command)])
    return rows


def run_all(
    waiting: Sequence[Job],
    workers: int,
    data: str | None,
    done: int,
    total: int,
    more: Sequence[str] = (),
) -> list[str]:
    """Runs jobs in processes of their own and tells of each that is over; returns a line for each failure.

    Args:
        waiting: what is to be run, in order.
        workers: jobs at a time.
        data: folder of data sets.
        done: how many of ``total`` were finished before.
        total: all jobs.
        more: words of every command that change nothing of the results.
    """
    failures = []
    # spawned, not forked: torch's threads do not survive a fork. And not for ever: what the libraries keep of
    # each run adds up. No executor of concurrent.futures: with such a limit it can wait for ever.
    with multiprocessing.get_context("spawn").Pool(workers, maxtasksperchild=20) as pool:
        tasks = [(experiment, seed, place, data, more) for experiment, seed, place in waiting]
        for name, error in pool.imap_unordered(_run_task, tasks):
            done += 1
            print(f"[{done}/{total}] {name}{f': {error}' if error else ''}", flush=True)
            if error:
                failures.append(f"{name}: {error}")
    return failures


def _run_task(task: tuple[Experiment, int, Path, str | None, Sequence[str]]) -> tuple[str, str | None]:
    experiment, seed, place, data, more = task
    return f"{experiment.key} seed {seed}", run_one(experiment.command(seed), place, data, more)


def _curve(experiment: Experiment, place: Path, results: dict[str, Any]) -> dict[str, list[float]]:
    scheme = next((w.partition("=")[2] for w in experiment.overrides if "scheme" in w), "one_stage")
    return distance_curve(_newest(place, "metrics.csv"), scheme, results["seconds"]["fit"])


def kept(results: dict[str, Any]) -> dict[str, Any]:
    """The part of ``results.json`` that the page needs and a reader may want to check."""
    keys = ("model", "data", "seed", "metrics", "published", "epochs", "seconds", "parameters")
    row = {key: results[key] for key in keys}
    row["hardware"] = {key: results["hardware"][key] for key in ("cpu", "gpus", "precision", "threads")}
    row["versions"] = {key: results["versions"][key] for key in ("python", "torch", "pytorch-lightning")}
    return row | {
        "commit": results["git"]["commit"],
        "dirty": results["git"]["dirty"],
        "date": results["finished"][:10],
    }


if __name__ == "__main__":
    main()
