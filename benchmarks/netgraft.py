"""Time a whole NetGraft run at K = 10 against its authors' procedure, and what makes the difference.

    python -m benchmarks.netgraft
    python -m benchmarks.netgraft --settings shapes --rounds 1

Theirs is ``benchmarks/authors_grafting.py``: separate blocks, a test pass after every epoch, no shared
prefix. Ours is what a run does in all its phases, with Trainer, log, savepoints and the tests after each.
Before anything is timed, both must have the same losses and gradients of the same weights and images.

- ``shapes`` has the settings of ``model=netgraft data=shapes``; both are run to their end. Beside it stands
  the whole ``python run.py`` command with imports, final test and pictures, the teacher being there.
- ``published`` has the authors' networks and settings for CIFAR-10 with 10,000 test images; the teacher's
  weights are random and the images generated, as only time matters. Of each phase a few epochs are measured
  and multiplied by its number of epochs. Tests look at 500 images, and their time is multiplied by 20, with
  what in ours does not grow with the images, to our disadvantage.

One thread. A ratio is the median over rounds in which both take their turns, theirs first and ours first by
turns; of wall-clock time, and beside it of CPU time, which what else the machine does changes less.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.grafting_runs import SETTINGS, Candidates, Whole, check, median_of, run_authors, run_ours
from benchmarks.report import ROOT, Table, add_arguments, write_report
from harness.run_log import quieten_libraries


def run_command(words: list[str], teacher: str) -> float:
    """Wall-clock seconds of the whole ``python run.py`` command with a teacher that is there.

    Raises:
        subprocess.CalledProcessError: if it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = [f"model.requires.teacher={teacher}", f"paths.runs={folder}"]
        started = time.perf_counter()
        subprocess.run(
            [sys.executable, str(ROOT / "run.py"), *words, *given], check=True, cwd=ROOT, capture_output=True
        )
        return time.perf_counter() - started


def whole_tables(candidates: Candidates, rounds: int) -> tuple[list[Table], Whole]:
    """A table of whole runs and one of their phases, and the last round of theirs."""
    setting = candidates.setting
    pairs: list[dict[str, Whole]] = []
    for number in range(rounds):
        turns: list[tuple[str, Callable[[Candidates], Whole]]] = [
            ("theirs", run_authors),
            ("ours", run_ours),
        ]
        pairs.append({name: turn(candidates) for name, turn in turns[:: -1 if number % 2 else 1]})
    theirs, ours = ([pair[name] for pair in pairs] for name in ("theirs", "ours"))
    row: dict[str, Any] = {
        "setting": setting.name,
        "authors' s": median_of([one.seconds for one in theirs])[0],
        "ours s": median_of([one.seconds for one in ours])[0],
        "ratio": statistics.median(a.seconds[0] / b.seconds[0] for a, b in zip(theirs, ours, strict=True)),
        "ratio of CPU time": statistics.median(
            a.seconds[1] / b.seconds[1] for a, b in zip(theirs, ours, strict=True)
        ),
        "of it measured, authors' s": median_of([one.measured for one in theirs])[0],
        "of it measured, ours s": median_of([one.measured for one in ours])[0],
    }
    if theirs[-1].accuracy is not None:
        row["authors' accuracy (%)"] = 100 * statistics.mean(one.accuracy or 0.0 for one in theirs)
        row["our accuracy (%)"] = 100 * statistics.mean(one.accuracy or 0.0 for one in ours)
    if candidates.teacher_folder is not None:
        commands = [run_command(setting.command, candidates.teacher_folder) for _ in range(rounds)]
        row["ours with run.py s"] = statistics.median(commands)
    rows = [
        {
            "who": name,
            "phase": phase,
            "an epoch's steps s": median_of([one.train_epoch[phase] for one in found])[0],
            "a test s": median_of([one.test[phase] for one in found])[0],
            "whole phase s": median_of([one.phases[phase] for one in found])[0],
        }
        for name, found in (("authors'", theirs), ("ours", ours))
        for phase in found[0].phases
    ]
    return [
        Table(f"Whole run, K = 10, {_manner(candidates)}, one thread, medians of {rounds} round(s)", [row]),
        Table(
            f"Its phases, {setting.name}; of ours a test is all that follows the training of a phase", rows
        ),
    ], theirs[-1]


def _manner(candidates: Candidates) -> str:
    """What was measured and what was extrapolated."""
    setting = candidates.setting
    if candidates.is_complete:
        return f"both complete, {candidates.num_test:,} test images"
    return (
        f"both extrapolated from {setting.epochs} epochs of each phase and {candidates.num_test:,} of"
        f" {setting.num_test:,} test images"
    )


def technique_table(candidates: Candidates, rounds: int, theirs: Whole) -> Table:
    """What each thing that we do differently is worth by itself."""
    module, x = candidates.module(), candidates.images()
    module.train()
    authors = candidates.authors()
    joined = module.blocks

    def separate() -> None:
        for block in module.blocks:
            cuts = module.grafting.cuts(x)
            module.loss(module.grafting.lone_logits(cuts, [block])[0], cuts[-1]).backward()

    def together() -> None:
        cuts = module.grafting.cuts(x)
        losses = [
            module.loss(logits, cuts[-1]) for logits in module.grafting.lone_logits(cuts, module.blocks)
        ]
        torch.stack(losses).sum().backward()

    def shared() -> None:
        cuts = module.grafting.cuts(x)
        module.loss(module.grafting.logits(cuts, joined), cuts[-1]).backward()

    def twice() -> None:
        cuts = module.grafting.cuts(x)
        with torch.no_grad():
            again = x
            for block in module.grafting.teacher[: joined[0]]:
                again = block(again)
        module.loss(module.grafting.logits([*cuts[: joined[0]], again], joined), cuts[-1]).backward()

    def unfrozen() -> None:
        authors.loss(x, joined).backward()

    comparisons = [
        ("stage 1: blocks together, not one by one", together, separate),
        ("last join: one prefix pass, not two without a graph", shared, twice),
        ("last join: prefix frozen and shared, not with a graph", shared, unfrozen),
    ]
    rows: list[dict[str, Any]] = []
    for name, ours, other in comparisons:
        ours(), other()
        pairs = [(_cpu(ours), _cpu(other)) for _ in range(rounds)]
        rows.append(
            {
                "what": name,
                "with ms": 1e3 * statistics.median(one for one, _ in pairs),
                "without ms": 1e3 * statistics.median(two for _, two in pairs),
                "ratio": statistics.median(two / one for one, two in pairs),
            }
        )
    epochs = {phase.name: phase.epochs for phase in authors.phases}
    train = sum(epochs[name] * seconds[1] for name, seconds in theirs.train_epoch.items())
    every = sum(epochs[name] * seconds[1] for name, seconds in theirs.test.items())
    once = sum(seconds[1] for seconds in theirs.test.values())
    rows.append(
        {
            "what": "theirs: a test a phase, not one an epoch (the whole run)",
            "with ms": 1e3 * (train + once),
            "without ms": 1e3 * (train + every),
            "ratio": (train + every) / (train + once),
        }
    )
    title = (
        f"Each by itself, {candidates.setting.name}, forward and backward of a batch of {len(x)}, CPU time of"
        f" one thread, medians of {rounds} rounds"
    )
    return Table(title, rows)


def _cpu(job: Callable[[], None]) -> float:
    started = time.process_time()
    job()
    return time.process_time() - started


def main() -> None:
    """Check, measure, print, write ``netgraft.json``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=3, help="pairs of whole runs (default 3)")
    parser.add_argument("--steps", type=int, default=15, help="turns of each technique (default 15)")
    parser.add_argument("--settings", nargs="+", choices=SETTINGS, default=[*SETTINGS])
    parser.add_argument(
        "--runs",
        type=Path,
        default=ROOT / "runs" / "benchmark_netgraft",
        help="folder in which the trained teacher is kept",
    )
    arguments = parser.parse_args()
    quieten_libraries(Path(tempfile.gettempdir()) / "tenfold-benchmarks")
    torch.set_num_threads(1)
    tables: list[Table] = []
    for name in arguments.settings:
        candidates = Candidates(SETTINGS[name], arguments.runs)
        check(candidates)
        whole, theirs = whole_tables(candidates, arguments.rounds)
        tables += [*whole, technique_table(candidates, arguments.steps, theirs)]
    write_report("netgraft", tables, arguments.output)


if __name__ == "__main__":
    main()
