"""The part of RESULTS.md about which images to label next, from the finished runs."""

import json
import shlex
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import ROOT
from benchmarks.structure_page import spread, values
from harness.figures import INK, MARKERS, PALETTE, in_house_style, new_figure, save_png
from lightning_modules.deal.pictures import WORDS

FILE = "acquisition.json"
SCENES, JPEG = "street_scenes", "camvid_jpeg"
FULL = "full"
TITLES = WORDS | {FULL: "all images labelled"}
"""Strategies as a reader knows them."""

NOTE = (
    "Mean IoU (%) on the test images after each round, by the images labelled so far; each round begins anew."
    "\nAll: full supervision of the same network. ± is the standard deviation over seeds. Hard: share of the"
    " acquired\nimages that have poles. Spearman: of 1 - IoU and mean difficulty over the classes, mean over"
    " the rounds of a run.\nThe preset's learning rate and `att_stride` were tuned on seeds 0 to 2, so these"
    " are not independent of that choice.\nMeans over different numbers of seeds are no comparison; the"
    " sentences below compare over shared seeds. Seconds\nare of the wall clock, whatever else the machine"
    " did. Run by `python -m benchmarks.acquisition_sweeps`."
)
REDUCED = (
    "CamVid (JPEG 95), a lossy copy, in a reduced preset: 90 x 120 pixels in place of 360 x 480, 20 epochs a"
    " round in\nplace of 100, four rounds in place of seven, and the backbone from random weights in place of"
    " ImageNet's. Not comparable\nwith the paper's numbers."
)
ASKED_SEEDS = 3
"""Seeds over whose mean the specification asks."""

PUBLISHED = {
    # preset: its data, what full supervision reaches (about)
    "deal_camvid": ("CamVid", "64.9"),
    "deal_cityscapes": ("Cityscapes", "66.0"),
}
ELSEWHERE = {"vaal": "VAAL"}
"""Strategies of the paper's charts that are not in Tenfold."""
PAPER = "Xie et al., ACCV 2020, arXiv 2010.08705"


def grouped(rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows by strategy, in the order in which strategies come."""
    names = dict.fromkeys(row["acquisition"] for row in rows)
    return {name: [row for row in rows if row["acquisition"] == name] for name in names}


def rounds_of(row: Mapping[str, Any]) -> dict[int, float]:
    """Mean IoU in percent by labelled images; empty of full supervision."""
    metrics = row["metrics"]
    found: dict[int, float] = {}
    while (name := f"round_{len(found) + 1}") + "/labelled" in metrics:
        found[int(metrics[f"{name}/labelled"])] = 100 * metrics[f"{name}/miou"]
    return found


def correlations(row: Mapping[str, Any]) -> list[float]:
    """Spearman's of each round that has it."""
    return [value for name, value in row["metrics"].items() if name.endswith("/spearman")]


# Tables


def acquisition_table(rows: Sequence[dict[str, Any]]) -> str:
    """Mean IoU by round and strategy, of one data set; a note where nothing has been run."""
    if not rows:
        return "Not run."
    steps = sorted({labelled for row in rows for labelled in rounds_of(row)})
    heads = [*map(str, steps), "all", "hard", "Spearman", "seeds", "seconds a run", "command"]
    lines = [f"| labels chosen by | {' | '.join(heads)} |", f"|{'---|' * (1 + len(heads))}"]
    for name, own in grouped(rows).items():
        curves = [rounds_of(row) for row in own]
        means = [statistics.mean(found) for found in map(correlations, own) if found]
        seconds = [sum(s for part, s in row["seconds"].items() if part != "setup") for row in own]
        cells = [
            TITLES[name],
            *(spread([curve[step] for curve in curves if step in curve], 1) for step in steps),
            spread(values(own, "test/miou", 100) if name == FULL else [], 1),
            spread(values(own, "queries/hard_share", 1), 2),
            spread(means, 2),
            str(len(own)),
            f"{statistics.median(seconds):.0f}",
            _command(own),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _command(rows: Sequence[dict[str, Any]]) -> str:
    """The command of one seed, N in the place of its number where there are several."""
    words, first = list(rows[0]["command"]), rows[0]["seed"]
    if len(rows) == 1:
        return f"`{shlex.join(words)}`"
    text = shlex.join([word.replace(f"seed={first}", "seed=N") for word in words])
    return f"`{text}` N = {', '.join(str(row['seed']) for row in rows)}"


def last_on_shared_seeds(
    rows: Sequence[dict[str, Any]], first: str, second: str
) -> tuple[list[float], list[float]]:
    """Mean IoU in percent of the last round of two strategies, over the seeds that both have."""
    found = {name: {row["seed"]: row for row in own} for name, own in grouped(rows).items()}
    ours, theirs = found.get(first, {}), found.get(second, {})
    seeds = sorted(set(ours) & set(theirs))
    return (
        [100 * ours[seed]["metrics"]["test/miou"] for seed in seeds],
        [100 * theirs[seed]["metrics"]["test/miou"] for seed in seeds],
    )


def acceptance(rows: Sequence[dict[str, Any]]) -> str:
    """What was asked of the street scenes, and whether it was reached; empty where a row is missing."""
    own = [row for row in rows if row["data"] == SCENES]
    ours = grouped(own).get("deal_ds", [])
    ds, chance = last_on_shared_seeds(own, "deal_ds", "random")
    if not ds:
        return ""
    hard = statistics.mean(values(ours, "queries/hard_share", 1))
    pool = statistics.mean(values(ours, "queries/hard_share_of_pool", 1))
    gain = statistics.mean(ds) - statistics.mean(chance)
    every = [value for row in ours for value in correlations(row)]
    spearman = statistics.mean(every)
    few = f"\nAsked of the mean of {ASKED_SEEDS} seeds: there are fewer." if len(ds) < ASKED_SEEDS else ""
    # the shares were float32: a difference of exactly 0.1 must count
    return (
        "Asked of the street scenes: queries of the difficulty score hold a share of hard images at least 0.1"
        f" above the pool's\n({hard:.2f}, the pool {pool:.2f}, {_seeds(len(ours))}:"
        f" {_met(hard - pool >= 0.1 - 1e-6)}), its last mean IoU is at least that of random images\n"
        f"({statistics.mean(ds):.1f} against {statistics.mean(chance):.1f} %, {gain:+.1f} over"
        f" {_seeds(len(ds))}: {_met(gain >= 0)}), and Spearman is at least 0.5\n({spearman:.2f}, lowest round"
        f" {min(every):.2f}: {_met(spearman >= 0.5)}).{few}"
    )


def ranking(rows: Sequence[dict[str, Any]]) -> str:
    """Last mean IoU of all strategies, best first, over the seeds that all have; empty without any."""
    groups = {name: own for name, own in grouped(rows).items() if name != FULL}
    shared = set.intersection(*({row["seed"] for row in own} for own in groups.values())) if groups else set()
    if not shared or len(groups) < 2:
        return ""
    means = {
        name: statistics.mean(values([row for row in own if row["seed"] in shared], "test/miou", 100))
        for name, own in groups.items()
    }
    best = sorted(means, key=lambda name: -means[name])
    told = "; ".join(f"{TITLES[name]} {means[name]:.1f}" for name in best)
    return f"Last round over the {_seeds(len(shared))} that all strategies share, best first (%):\n{told}."


def _seeds(count: int) -> str:
    return f"{count} seed" if count == 1 else f"{count} seeds"


def _met(reached: bool) -> str:
    return "reached" if reached else "not reached"


def acquisition_section(folder: Path) -> str:
    """Tables, notes and picture; a note where ``benchmarks.acquisition_sweeps`` has not been run."""
    file = folder / FILE
    rows = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    scenes = [row for row in rows if row["data"] == SCENES]
    reduced = [row for row in rows if row["data"] == JPEG]
    parts = ["Generated street scenes, 15 of 120 images labelled first:", acquisition_table(scenes)]
    if scenes:
        parts += [f"{NOTE}\n{_provenance(scenes)}", acceptance(scenes), ranking(scenes)]
    if (folder / PICTURE).exists():
        parts.append(f"![Mean IoU against labelled images](benchmarks/results/{PICTURE})")
    command = f"`python run.py model=deal data={JPEG}`"
    if reduced:
        parts += [
            f"{REDUCED} {_provenance(reduced)}",
            acquisition_table(reduced),
        ]
    else:
        parts.append(f"CamVid (JPEG 95), a lossy copy: reduced preset, not run ({command}).")
    parts += [
        "Published: mean IoU in percent by labelled images. This needs the data and a GPU, which were not at"
        " hand, so\nnothing is measured.",
        *(published_table(preset) for preset in PUBLISHED),
        f"From {PAPER}, read off its charts to about 0.15 points, where some markers hide\nothers; averages"
        f" of five runs, quoted from memory. With all images labelled about {_full()}.\nVAAL is not in"
        " Tenfold.",
    ]
    return "\n\n".join(part for part in parts if part)


def _provenance(rows: Sequence[dict[str, Any]]) -> str:
    dates = sorted({row["date"] for row in rows})
    machines = sorted({row["hardware"]["cpu"] for row in rows})
    commits = sorted(
        {(row["commit"] or "unknown")[:12] + (" with changes" if row["dirty"] else "") for row in rows}
    )
    days = " to ".join(dict.fromkeys((dates[0], dates[-1])))
    return f"{days}, {'; '.join(machines)}, source {', '.join(commits)}."


def _full() -> str:
    return " and ".join(f"{full} % ({title})" for title, full in PUBLISHED.values())


def published_table(preset: str) -> str:
    """The paper's curves as the preset holds them, and the command that would measure each.

    Args:
        preset: a key of :data:`PUBLISHED`.
    """
    from omegaconf import OmegaConf

    title, _ = PUBLISHED[preset]
    content: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / "experiment" / f"{preset}.yaml"))
    curves = dict(content["model"]["published_curves"])
    steps = curves.pop("labelled")
    heads = [title, "measured", *map(str, steps), "command"]
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for name, curve in curves.items():
        words = f"`python run.py model=deal data={preset.removeprefix('deal_')} model.acquisition={name}`"
        cells = [(WORDS | ELSEWHERE)[name], "–", *(f"{value:.1f}" for value in curve)]
        lines.append(f"| {' | '.join([*cells, words if name in WORDS else '–'])} |")
    return "\n".join(lines)


# Pictures

PICTURE = f"acquisition_{SCENES}.png"
LOUD = ("deal_ds", "random")


def draw_pictures(rows: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """The picture of the street scenes, once there are rounds; its file."""
    own = [row for row in rows if row["data"] == SCENES]
    return [save_png(draw_curves(own), folder / PICTURE)] if any(map(rounds_of, own)) else []


def on_shared_seeds(rows: Sequence[dict[str, Any]]) -> tuple[dict[str, list[dict[str, Any]]], list[int]]:
    """Rows by strategy over the seeds that all of these have, and those seeds: means that can be compared.

    A strategy that shares no seed with those before it is left out.
    """
    kept: dict[str, list[dict[str, Any]]] = {}
    seeds: set[int] = set()
    for name, own in grouped(rows).items():
        mine = {row["seed"] for row in own}
        if not kept or mine & seeds:
            kept[name], seeds = own, mine & seeds if kept else mine
    return {name: [row for row in own if row["seed"] in seeds] for name, own in kept.items()}, sorted(seeds)


@in_house_style
def draw_curves(rows: Sequence[dict[str, Any]]) -> Any:
    """Mean IoU against labelled images: means over the seeds that all strategies share, deviations as bands.

    Args:
        rows: of one data set; at least one has rounds.
    """
    groups, seeds = on_shared_seeds(rows)
    title = "Mean IoU against labelled images"
    shared = [row for own in groups.values() for row in own]
    ds, chance = last_on_shared_seeds(shared, "deal_ds", "random")
    if ds:
        gain = statistics.mean(ds) - statistics.mean(chance)
        title = (
            f"Images chosen by difficulty: {gain:+.1f} points of mean IoU over random ones in the last round"
            f" ({_seeds(len(ds))})"
        )
    figure, (axes,) = new_figure(title, height=5.6)
    reference = values(groups.pop(FULL, []), "test/miou", 100)
    ticks: set[int] = set()
    for number, (name, own) in enumerate(groups.items()):
        curves = [rounds_of(row) for row in own]
        steps = sorted(curves[0])
        ticks.update(steps)
        table = np.array([[curve[step] for step in steps] for curve in curves])  # [seeds, rounds]
        mean, colour = table.mean(axis=0), PALETTE[number % len(PALETTE)]
        axes.plot(
            steps,
            mean,
            color=colour,
            marker=MARKERS[number % len(MARKERS)],
            linewidth=2.4 if name in LOUD else 1.2,
            label=TITLES[name],
            zorder=4 if name in LOUD else 3,
        )
        if len(seeds) > 1:
            sd = table.std(axis=0, ddof=1)
            axes.fill_between(steps, mean - sd, mean + sd, color=colour, alpha=0.12, linewidth=0)
    if reference:
        level = statistics.mean(reference)
        axes.axhline(level, color=INK, linestyle="--", linewidth=1.2, label=TITLES[FULL])
    axes.set_xticks(sorted(ticks))
    axes.set_xlabel("Labelled images")
    axes.set_ylabel("Mean IoU on the test images (%)")
    heading = f"Labels chosen by; means over the {_seeds(len(seeds))} that all share"
    heading += "; bands: standard deviation" if len(seeds) > 1 else ""
    figure.legend(loc="outside lower left", ncols=3, title=heading, alignment="left")
    return figure
