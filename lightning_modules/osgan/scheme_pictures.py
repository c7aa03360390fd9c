"""Schemes of training side by side: quality against time and steps, and what a step costs.

Pure functions from arrays to figures.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.figures import FAINT, INK, PALETTE, in_house_style, new_figure
from lightning_modules.osgan.training_pictures import set_log_scale, spread_apart

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {
    "one_stage": PALETTE[0],
    "two_stage": PALETTE[5],
    "two_stage_lean": PALETTE[1],
    "two_stage_reuse": PALETTE[2],
    "simultaneous": PALETTE[3],
}
OTHERS = (PALETTE[4], PALETTE[6], PALETTE[7])
HEIGHT_INCHES = 4.2
LOG_FROM_RATIO = 8.0

Run = Mapping[str, Sequence[float]]


@in_house_style
def draw_schemes(
    curves: Mapping[str, Sequence[Run]],
    label: str = "Fréchet distance",
    title: str = "Quality against time and against steps",
) -> "Figure":
    """Quality against wall-clock and against steps, a line for each scheme: mean and range over its runs.

    Runs are compared where all of a scheme have been measured; between two measurements the line is straight.

    Args:
        curves: by scheme, its runs (one a seed): ``seconds``, ``steps`` and ``distance``, equally long and
            rising in the first two; the seconds are shares of those of the whole training.
        label: of the distance.
        title: headline.
    """
    figure, panels = new_figure(title, columns=2, width=10.5, height=HEIGHT_INCHES, sharey=True)
    unit, seconds = _unit_of_time(curves)
    values = [value for runs in curves.values() for run in runs for value in run["distance"]]
    for axes, key, scale in zip(panels, ("seconds", "steps"), (seconds, 1.0), strict=True):
        ends = []
        for place, (scheme, runs) in enumerate(curves.items()):
            colour = _colour(scheme, place)
            x, each = _on_common_places(runs, key)
            axes.plot(x / scale, each.mean(axis=0), color=colour, zorder=3)
            if len(each) > 1:
                axes.fill_between(
                    x / scale, each.min(axis=0), each.max(axis=0), color=colour, alpha=0.13, linewidth=0
                )
            ends.append((_name(scheme), float(x[-1] / scale), float(each.mean(axis=0)[-1]), colour))
        axes.set_xlim(0, 1.02 * max((x for _, x, _, _ in ends), default=1.0))
        if key == "steps":
            _name_ends(axes, ends)
        else:
            if values and min(values) > 0 and max(values) / min(values) > LOG_FROM_RATIO:
                set_log_scale(axes)
            for _, x_end, y_end, colour in ends:
                axes.plot(x_end, y_end, "o", color=colour, markersize=5, zorder=4)
    most = max((len(runs) for runs in curves.values()), default=0)
    panels[0].set_ylabel(label + (" (log scale)" if panels[0].get_yscale() == "log" else ""))
    panels[0].set_xlabel(f"Time of the whole training ({unit}),\nshared out evenly over the steps")
    panels[1].set_xlabel("Steps of the generator")
    if most > 1:
        panels[0].set_title(f"Mean and range over {most} seeds")
    return figure


@in_house_style
def draw_costs(rows: Sequence[Mapping[str, Any]], title: str | None = None) -> "Figure":
    """How many times as long as in one stage a step takes: measured as bars, modelled as marks.

    Args:
        rows: one mapping a scheme: ``scheme``, ``measured`` and ``modelled``, times of a step relative to
            ``one_stage``; ``low`` and ``high`` of the measurement if known. ``modelled`` may be None.
        title: headline; by default it states the measurement of ``two_stage``.
    """
    usual = next((row["measured"] for row in rows if row["scheme"] == "two_stage"), None)
    if title is None:
        title = "Time of a step relative to one stage"
        if usual is not None:
            title = f"The usual two stages take {usual:.2f} times as long as one stage"
    figure, (axes,) = new_figure(title, height=1.35 + 0.5 * max(len(rows), 1))
    times = [row.get(key) for row in rows for key in ("measured", "modelled", "high")]
    top = max((time for time in times if time is not None), default=1.0)
    for place, row in enumerate(rows):
        measured, modelled = row["measured"], row.get("modelled")
        axes.barh(place, measured, height=0.62, color=_colour(row["scheme"], place), zorder=2)
        if row.get("low") is not None and row.get("high") is not None:
            axes.plot([row["low"], row["high"]], [place, place], color=INK, linewidth=1.2, zorder=3)
        if modelled is not None:
            axes.plot([modelled, modelled], [place - 0.42, place + 0.42], color=INK, linewidth=2.4, zorder=4)
        text = f"{measured:.2f}" + (f"   model {modelled:.2f}" if modelled is not None else "")
        right = max(measured, modelled or 0, row.get("high") or 0)
        axes.annotate(text, (right, place), xytext=(7, 0), textcoords="offset points", va="center", color=INK)
    axes.axvline(1, color=FAINT, linewidth=1.2, zorder=1)
    axes.set_xlim(0, 1.3 * top)
    axes.set_yticks(range(len(rows)), [_name(row["scheme"]) for row in rows])
    axes.invert_yaxis()
    axes.tick_params(length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("Time of a step, one stage = 1 (bar: measured, mark: modelled)")
    return figure


def _name(scheme: str) -> str:
    return scheme.replace("_", " ")


def _colour(scheme: str, place: int) -> str:
    return COLOURS.get(scheme, OTHERS[place % len(OTHERS)])


def _unit_of_time(curves: Mapping[str, Sequence[Run]]) -> tuple[str, float]:
    """The unit that suits the longest run, and its seconds."""
    longest = max((run["seconds"][-1] for runs in curves.values() for run in runs), default=0.0)
    if longest >= 7200:
        return "h", 3600.0
    return ("min", 60.0) if longest >= 120 else ("s", 1.0)


def _on_common_places(runs: Sequence[Run], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Places ``[P]`` that every run covers, and the distance of each run there, ``[runs, P]``."""
    each = [np.asarray(run[key], dtype=float) for run in runs]
    first, last = max(x[0] for x in each), min(x[-1] for x in each)
    places = np.unique(np.concatenate([*each, [first, last]]))
    places = places[(places >= first) & (places <= last)]
    found = [np.interp(places, x, run["distance"]) for x, run in zip(each, runs, strict=True)]
    return places, np.stack(found)


def _name_ends(axes: "Axes", ends: Sequence[tuple[str, float, float, str]]) -> None:
    to_fraction = axes.transData + axes.transAxes.inverted()
    axes.set_ylim(axes.get_ylim())
    heights = [float(to_fraction.transform((x, y))[1]) for _, x, y, _ in ends]
    order = np.argsort(heights)
    gap = 13.5 / 72 / (HEIGHT_INCHES - 1.2)
    placed = spread_apart([heights[place] for place in order], gap, gap / 2, 1 - gap / 2)
    for place, height in zip(order, placed, strict=True):
        name, _, _, colour = ends[place]
        axes.annotate(
            name,
            (1.0, height),
            xycoords="axes fraction",
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=colour,
            annotation_clip=False,
        )
