"""The part of RESULTS.md about generated images, and its picture, from the finished runs."""

import csv
import statistics
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import RESULTS, ExperimentRow

PICTURE = "osgan_schemes.png"
TWO_OPTIMISERS = "two_stage"  # schemes of that beginning step twice a batch
ACCEPTED_BELOW, ACCEPTED_MODES = 3.5, 7  # what tests/lightning_modules/osgan/test_acceptance.py holds, too
TITLES = {"bumps16": "bumps16", "digits": "digits, 16 x 16", "mnist": "MNIST, 32 x 32"}


def distance_curve(metrics: Path, scheme: str, seconds: float) -> dict[str, list[float]]:
    """The distance from the validation images over training, out of a run's ``metrics.csv``.

    The file knows no times, which would make two equal runs differ. So the seconds are the share of the
    run's training time that the steps are of all steps.

    Args:
        metrics: the file.
        scheme: ``model.scheme`` of the run.
        seconds: of its training.

    Returns:
        ``steps`` of the generator, ``seconds`` and ``distance``, equally long; empty without distances.
    """
    with metrics.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    names = [name for name in (rows[0] if rows else {}) if name.startswith(("val/fd_", "val/fid"))]
    if not names:
        return {}
    last = max(int(row["step"]) + 1 for row in rows)
    judged = [row for row in rows if row[names[0]]]
    done = [int(row["step"]) + 1 for row in judged]
    a_batch = 2 if scheme.startswith(TWO_OPTIMISERS) else 1
    return {
        "steps": [step / a_batch for step in done],
        "seconds": [seconds * step / last for step in done],
        "distance": [float(row[names[0]]) for row in judged],
    }


def generation_table(experiments: Sequence[ExperimentRow], rows: Sequence[dict[str, Any]]) -> str:
    """Distances of the tests, one line an experiment; a note where none has been run."""
    lines = [
        "| data | training | distance | mean ± std | range | modes of 8 | accepted | seeds | training (s)"
        " | command |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for experiment in experiments:
        own = [row for row in rows if row["experiment"] == experiment.key]
        if not own:
            continue
        name = next(key for key in own[0]["metrics"] if key.startswith(("test/fd_", "test/fid")))
        values = [row["metrics"][name] for row in own]
        modes = [row["metrics"]["test/modes"] for row in own if "test/modes" in row["metrics"]]
        spread = f" ± {statistics.stdev(values):.2f}" if len(values) > 1 else ""
        seconds = [row["seconds"]["fit"] for row in own]
        seeds = [row["seed"] for row in own]
        words = experiment.command(f"0..{max(seeds)}" if len(seeds) > 1 else seeds[0])
        lines.append(
            f"| {TITLES.get(experiment.data, experiment.data)} | {experiment.title}"
            f" | {name.removeprefix('test/')} | {statistics.mean(values):.2f}{spread}"
            f" | {min(values):.2f} to {max(values):.2f} | {_range(modes)} | {_accepted(own) or '–'}"
            f" | {len(values)} | {statistics.median(seconds):.0f} | `python run.py {' '.join(words)}` |"
        )
    return "\n".join(lines) if len(lines) > 2 else "Not run."


def generation_notes(experiments: Sequence[ExperimentRow], rows: Sequence[dict[str, Any]]) -> str:
    """What the table and the picture mean, and what they do not."""
    return "\n\n".join(
        textwrap.fill(" ".join(note), 110, break_on_hyphens=False)
        for note in (_about_distances(experiments, rows), _about_schemes(experiments, rows))
    )


def _about_distances(experiments: Sequence[ExperimentRow], rows: Sequence[dict[str, Any]]) -> list[str]:
    notes = [
        "Fréchet distances of the test's samples from the training images, over features that the second",
        "part of their name tells: `fd_bumps` are five numbers that describe a bump, `fd_classifier` the",
        "last features of a classifier that the run trains first. Neither is an FID, and neither can be",
        "compared with the other. Settings are the same for every scheme of a data set. No published number",
        "belongs to these small sets; the paper's headline is a training 1.5 times as fast at an equal or",
        "better FID.",
        f"On bumps16 a seed is accepted whose distance is below {ACCEPTED_BELOW:g} with at least"
        f" {ACCEPTED_MODES} of the 8 modes.",
    ]
    counts = {e.title: _accepted([row for row in rows if row["experiment"] == e.key]) for e in experiments}
    missed = [f"{title} ({count})" for title, count in counts.items() if count and not _is_all(count)]
    if missed:
        notes.append(f"Not on every seed: {', '.join(missed)}.")
    return notes


def _about_schemes(experiments: Sequence[ExperimentRow], rows: Sequence[dict[str, Any]]) -> list[str]:
    notes = [
        "The seconds are those of the whole training, its judgements included, on a shared machine: which",
        "scheme takes fewer is not to be read as a measurement. The ratios of the schemes are those of",
        "`benchmarks.osgan` below. In the picture the seconds of a training are shared out evenly over its",
        "steps.",
    ]
    same = [_distances(e, rows) for s in ("simultaneous", "one_stage") for e in experiments if _is(e, s)]
    if len(same) == 2 and all(len(each) == 1 for each in same):
        ours, other = same[1][0], same[0][0]
        notes += [
            "`simultaneous` is mathematically the same update as `one_stage`, by two backward passes. What",
            f"lies between these two rows of MNIST, {other:.2f} against {ours:.2f}, grows out of rounding",
            "alone, one seed each, and is the level of noise: differences between schemes smaller than",
            f"{abs(other - ours):.2f} tell nothing.",
        ]
    return notes


def _is(experiment: ExperimentRow, scheme: str) -> bool:
    return experiment.data == "mnist" and experiment.title.startswith(f"{scheme},")


def _distances(experiment: ExperimentRow, rows: Sequence[dict[str, Any]]) -> list[float]:
    own = [row["metrics"] for row in rows if row["experiment"] == experiment.key]
    return [value for metrics in own for key, value in metrics.items() if key.startswith("test/fd_")]


def _accepted(rows: Sequence[dict[str, Any]]) -> str:
    """``k of n`` runs on bumps16; empty of other data."""
    found = [row["metrics"] for row in rows if {"test/fd_bumps", "test/modes"} <= row["metrics"].keys()]
    good = [m for m in found if m["test/fd_bumps"] < ACCEPTED_BELOW and m["test/modes"] >= ACCEPTED_MODES]
    return f"{len(good)} of {len(found)}" if found else ""


def _is_all(count: str) -> bool:
    good, _, all_of_them = count.partition(" of ")
    return good == all_of_them


def _range(modes: Sequence[float]) -> str:
    if not modes:
        return "–"
    low, high = int(min(modes)), int(max(modes))
    return str(low) if low == high else f"{low} to {high}"


def draw_curves(
    experiments: Sequence[ExperimentRow], rows: Sequence[dict[str, Any]], data: str
) -> Path | None:
    """Draws quality against time and steps for the schemes on one data set.

    Args:
        experiments: those of generators.
        rows: of finished runs; those with a ``curve`` are drawn.
        data: choice of ``data=``.

    Returns:
        The picture, or None where there is nothing to draw.
    """
    from harness.figures import save_png
    from lightning_modules.osgan.scheme_pictures import draw_schemes

    curves: dict[str, list[dict[str, list[float]]]] = {}
    for experiment in experiments:
        if experiment.data == data:
            own = [row["curve"] for row in rows if row["experiment"] == experiment.key and row.get("curve")]
            if own:
                curves[experiment.title.partition(",")[0]] = own
    if not curves:
        return None
    title = f"{TITLES.get(data, data)}: quality against time and against steps"
    path = RESULTS / PICTURE
    save_png(draw_schemes(curves, "Fréchet distance (classifier)", title), path)
    return path
