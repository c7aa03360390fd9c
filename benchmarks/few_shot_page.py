"""The part of RESULTS.md about students taught with few images, and its pictures, from the finished runs."""

import json
import shlex
import statistics
import textwrap
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

TITLES = {"shapes": "shapes", "cifar10_jpeg": "CIFAR-10 (JPEG q75)"}
FILE = "few_shot.json"
GRAFTED, SCRATCH = "NetGraft", "KD from scratch"
ASKED = (85, 40, 30)
"""Of K = 5 on the shapes: percent, points above distillation from scratch, points above the naive join."""


def picture(data: str) -> str:
    """Name of the picture of one data set."""
    return "netgraft_shots.png" if data == "shapes" else f"netgraft_shots_{data}.png"


def spreads(rows: Iterable[dict[str, Any]]) -> tuple[float | None, float | None]:
    """Standard deviations in percent: over seeds with the images fixed, and over draws of the images.

    The first is pooled: the root of the mean variance within a draw. The second is that of the draws' means,
    in which what is left of the training noise is contained. None where there is but one of a kind.

    Args:
        rows: of one method and number of images, each with ``sample_seed`` and ``metrics``.
    """
    by_draw: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        by_draw[row["sample_seed"]].append(100 * row["metrics"]["test/acc"])
    variances = [statistics.variance(values) for values in by_draw.values() if len(values) > 1]
    means = [statistics.mean(values) for values in by_draw.values()]
    over_seeds = statistics.mean(variances) ** 0.5 if variances else None
    return over_seeds, statistics.stdev(means) if len(means) > 1 else None


def few_shot_table(rows: Sequence[dict[str, Any]]) -> str:
    """Accuracies by data, method and number of images; a note where nothing has been run."""
    lines = [
        "| data | method | K | accuracy (%) | sd over seeds | sd over draws | draws x seeds | teacher (%)"
        " | minutes a run | command |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for own in _groups(rows):
        first = own[0]
        over_seeds, over_draws = spreads(own)
        teacher = [row["metrics"]["test/acc_teacher"] for row in own if "test/acc_teacher" in row["metrics"]]
        # what was trained before, once for all runs, is in "setup"
        seconds = [sum(s for name, s in row["seconds"].items() if name != "setup") for row in own]
        draws, seeds = ({row[key] for row in own} for key in ("sample_seed", "seed"))
        number = f"{len(draws)} x {len(seeds)}" if first["shots"] else f"– x {len(seeds)}"
        cells = [
            TITLES.get(first["data"], first["data"]),
            first["title"],
            str(first["shots"] or "all"),
            f"{_mean(own):.1f}",
            _number(over_seeds),
            _number(over_draws),
            number if len(own) == len(draws) * len(seeds) else f"{number}, {len(own)} runs",
            f"{100 * statistics.mean(teacher):.1f}" if teacher else "–",
            f"{statistics.median(seconds) / 60:.1f}",
            f"`{_command(own)}`",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 2 else "Not run."


def few_shot_section(folder: Path) -> str:
    """Table, notes and pictures; a note where ``benchmarks.few_shot_sweeps`` has not been run."""
    file = folder / FILE
    rows = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    if not rows:
        return "Not run."
    dates = sorted({row["date"] for row in rows})
    machines = sorted({row["hardware"]["cpu"] for row in rows})
    commits = sorted({(row["commit"] or "unknown")[:12] + ("+" if row["dirty"] else "") for row in rows})
    notes = (
        "K unlabelled images of each class, drawn by `model.sample_seed`; `seed` is of all else that is"
        " random."
        ' All runs of a data set have one teacher. "sd over seeds" is training noise, pooled over draws;'
        ' "sd over draws" is that of the draws\' means. A command stands for one run for each of its seeds,'
        f" run by `python -m benchmarks.few_shot_sweeps`; every single one is in `benchmarks/results/{FILE}`."
        f" {' to '.join(dict.fromkeys((dates[0], dates[-1])))}, {'; '.join(machines)}, source"
        f" {', '.join(commits)} (+: with changes). {_asked(rows)}"
    )
    parts = [few_shot_table(rows), textwrap.fill(notes.strip(), 110, break_on_hyphens=False)]
    for data in dict.fromkeys(row["data"] for row in rows):
        if (folder / picture(data)).exists():
            words = f"Accuracy against K on {TITLES.get(data, data)}"
            parts.append(f"![{words}](benchmarks/results/{picture(data)})")
    return "\n\n".join(parts)


def draw_pictures(rows: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """Accuracy against K, a picture a data set; returns what was written."""
    from harness.figures import save_png
    from lightning_modules.netgraft.pictures import draw_shots

    written = []
    for data in dict.fromkeys(row["data"] for row in rows):
        curves: dict[str, list[tuple[int, float, float, int]]] = defaultdict(list)
        teachers = set()
        for own in _groups(row for row in rows if row["data"] == data and row["shots"]):
            values = [row["metrics"]["test/acc"] for row in own]
            deviation = statistics.stdev(values) if len(values) > 1 else float("nan")
            curves[own[0]["title"]].append((own[0]["shots"], statistics.mean(values), deviation, len(values)))
            teachers |= {row["metrics"].get("test/acc_teacher") for row in own} - {None}
        if curves:
            path = folder / picture(data)
            save_png(draw_shots(curves, teachers.pop() if len(teachers) == 1 else None), path)
            written.append(path)
    return written


def _groups(rows: Iterable[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The runs that stand in one line, in the order in which the first of each comes."""
    found: dict[tuple[str, int | None], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        found[row["method"], row["shots"]].append(row)
    return list(found.values())


def _mean(rows: Iterable[dict[str, Any]], metric: str = "test/acc") -> float:
    return statistics.mean(100 * row["metrics"][metric] for row in rows)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _command(rows: Sequence[dict[str, Any]]) -> str:
    """That of all rows, with the values of what they differ in as a range."""
    ranges = {"seed": "seed", "model.sample_seed": "sample_seed"}
    words = []
    for word in rows[0]["command"]:
        key = word.partition("=")[0]
        if key in ranges:
            values = sorted({row[ranges[key]] for row in rows})
            words.append(f"{key}={values[0]}..{values[-1]}" if len(values) > 1 else word)
        else:
            words.append(shlex.quote(word) if " " in word or "{" in word else word)
    return " ".join(words)


def _asked(rows: Sequence[dict[str, Any]]) -> str:
    """How the grafted student does beside what is asked of it; empty where not all of it was run."""
    own = [row for row in rows if row["data"] == "shapes" and row["shots"] == 5]
    grafted = [row for row in own if row["title"] == GRAFTED]
    scratch = [row for row in own if row["title"] == SCRATCH]
    if not grafted or not scratch:
        return ""
    both = {(row["sample_seed"], row["seed"]) for row in scratch}
    paired = [row for row in grafted if (row["sample_seed"], row["seed"]) in both]
    reached, naive = _mean(grafted), _mean(grafted, "test/acc_naive_join")
    gain = _mean(paired or grafted) - _mean(scratch)
    return (
        f"Asked for on the shapes with K = 5: {ASKED[0]} %, {ASKED[1]} points above distillation from scratch"
        f" and {ASKED[2]} above the blocks joined without stage 2; measured: {reached:.1f} %,"
        f" {gain:.1f} (over the runs with the same images and seeds) and {reached - naive:.1f}."
    )
