"""Training curves of a run: loss and metric against the epoch, across all its phases."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.figures import FAINT, INK, MUTED, PALETTE, WIDTH_INCHES, in_house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAIN_COLOUR, VAL_COLOUR, PUBLISHED_COLOUR = PALETTE[4], PALETTE[0], PALETTE[5]
# A loss that spans more than this factor is easier to read on a logarithmic axis.
LOG_FROM_RATIO = 30.0
# Beyond this many phases the names would fill the page: numbers must do.
NAMES_UP_TO_PHASES = 6
BEST_UP_TO_PHASES = 3


@dataclass(frozen=True)
class PhaseMark:
    """One phase on the epoch axis.

    Attributes:
        name: what the reader knows it by, ``node attention``.
        start: its first epoch, counted across phases.
        best: the epoch whose weights were restored, counted across phases; None if there is none.
        test: the metric on the test nodes with those weights, in the unit of the rows; None if not measured.
    """

    name: str
    start: float
    best: float | None = None
    test: float | None = None


@dataclass(frozen=True)
class PublishedValue:
    """A published test result, in the unit of the rows; ``spread`` is None where the source gives none."""

    value: float
    spread: float | None = None


@in_house_style
def training_curves(
    rows: Sequence[Mapping[str, Any]],
    phases: Sequence[PhaseMark] = (),
    published: PublishedValue | None = None,
    *,
    metric: str = "acc",
    metric_label: str = "Accuracy (%)",
    factor: float = 100.0,
    title: str = "Training curves",
    more: Sequence[tuple[str, str]] = (),
) -> "Figure":
    """Loss above, metric below, against the epoch; phases, best epochs and the published value marked.

    Args:
        rows: one mapping per epoch or per log line, with ``epoch`` counted across phases and any of
            ``train/loss``, ``val/loss``, ``train/<metric>``, ``val/<metric>``. Values may be numbers, None,
            NaN or text as read from a CSV file; what is missing leaves a gap.
        phases: in order; empty for a method of one phase without marks.
        published: drawn on the metric axis as a line, with a band of +- spread.
        metric: key of the metric.
        metric_label: its axis label, with the unit.
        factor: metric values are multiplied by it for display, 100 for percent.
        title: headline.
        more: key and axis label of what else is drawn, each on axes of its own below those; what has no value
            is left out.
    """
    from matplotlib.ticker import MaxNLocator

    more = [(key, label) for key, label in more if epoch_series(rows, key)[1].size]
    figure, (above, below, *others) = new_figure(
        title, rows=2 + len(more), height=5.6 + 1.6 * len(more), sharex=True
    )
    seen = [
        _draw_series(above, rows, phases, "train/loss", TRAIN_COLOUR, 1.0),
        _draw_series(above, rows, phases, "val/loss", VAL_COLOUR, 1.0),
        _draw_series(below, rows, phases, f"train/{metric}", TRAIN_COLOUR, factor),
        _draw_series(below, rows, phases, f"val/{metric}", VAL_COLOUR, factor),
    ]
    losses = np.concatenate([seen[0][1], seen[1][1]])
    if losses.size and losses.min() > 0 and losses.max() / losses.min() > LOG_FROM_RATIO:
        above.set_yscale("log")
    handles = []
    if seen[0][1].size or seen[2][1].size:
        handles.append(_line(TRAIN_COLOUR, "training"))
    if seen[1][1].size or seen[3][1].size:
        handles.append(_line(VAL_COLOUR, "validation"))
    handles += _mark_best(above, below, seen[1], seen[3], phases, factor)
    if published is not None:
        handles += _mark_published(below, published, factor)
    for axes, (key, label) in zip(others, more, strict=True):
        seen.append(_draw_series(axes, rows, phases, key, TRAIN_COLOUR, 1.0))
        axes.set_ylabel(label)
    epochs = np.concatenate([series[0] for series in seen])
    _mark_phases([above, below, *others], phases, epochs)
    for axes, is_empty in ((above, not losses.size), (below, not seen[2][1].size and not seen[3][1].size)):
        if is_empty:
            axes.text(0.5, 0.5, "not logged", transform=axes.transAxes, ha="center", color=MUTED)
        if is_empty and not axes.lines:
            axes.set_yticks([])
    lowest = (others or [below])[-1]
    lowest.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    above.set_ylabel("Loss (log scale)" if above.get_yscale() == "log" else "Loss")
    below.set_ylabel(metric_label)
    lowest.set_xlabel("Epoch, counted across phases" if len(phases) > 1 else "Epoch")
    figure.align_ylabels()
    if handles:
        figure.legend(handles=handles, loc="outside lower left", ncols=3)
    return figure


def _number(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        return math.nan
    return number if math.isfinite(number) else math.nan


def epoch_series(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    """Epochs and values of ``key``, [n] each, sorted by epoch, without the lines that miss either."""
    pairs = np.array([(_number(row.get("epoch")), _number(row.get(key))) for row in rows]).reshape(-1, 2)
    pairs = pairs[~np.isnan(pairs).any(axis=1)]
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    return pairs[:, 0], pairs[:, 1]


def _draw_series(
    axes: "Axes",
    rows: Sequence[Mapping[str, Any]],
    phases: Sequence[PhaseMark],
    key: str,
    colour: str,
    factor: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Draws one key, the line interrupted at phase switches: nothing was trained in between."""
    epochs, values = epoch_series(rows, key)
    cuts = np.searchsorted(epochs, [phase.start for phase in phases[1:]])
    is_train = key.startswith("train/")
    for part, piece in zip(np.split(epochs, cuts), np.split(values * factor, cuts), strict=True):
        if not part.size:
            continue
        axes.plot(
            part,
            piece,
            color=colour,
            linewidth=0.9 if is_train else 2.0,
            zorder=2 if is_train else 3,
            marker="o" if part.size < 3 else None,
            markersize=4,
        )
    return epochs, values


def _line(colour: str, label: str, **style: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], color=colour, label=label, **style)


def _mark_best(
    above: "Axes",
    below: "Axes",
    loss: tuple[np.ndarray, np.ndarray],
    metric: tuple[np.ndarray, np.ndarray],
    phases: Sequence[PhaseMark],
    factor: float,
) -> list[Any]:
    dot: dict[str, Any] = {
        "marker": "o",
        "markersize": 7,
        "markerfacecolor": "white",
        "markeredgewidth": 1.8,
        "linestyle": "none",
    }
    diamond: dict[str, Any] = {
        "marker": "D",
        "markersize": 7,
        "markeredgecolor": "white",
        "linestyle": "none",
    }
    handles = []
    for axes, (epochs, values), scale in ((above, loss, 1.0), (below, metric, factor)):
        for phase in phases:
            found = epochs == phase.best
            if found.any():
                axes.plot(epochs[found][-1], values[found][-1] * scale, color=VAL_COLOUR, zorder=5, **dot)
                handles = [_line(VAL_COLOUR, "best epoch, restored", **dot)]
    tested = [(p.best, p.test) for p in phases if p.best is not None and p.test is not None]
    for best, test in tested:
        below.plot(best, test * factor, color=PUBLISHED_COLOUR, zorder=6, **diamond)
    if tested:
        handles.append(_line(PUBLISHED_COLOUR, "test, restored weights", **diamond))
    return handles


def _mark_published(axes: "Axes", published: PublishedValue, factor: float) -> list[Any]:
    value = published.value * factor
    label = f"published (test): {value:.4g}"
    if published.spread is not None:
        spread = published.spread * factor
        axes.axhspan(
            value - spread, value + spread, color=PUBLISHED_COLOUR, alpha=0.15, linewidth=0, zorder=1
        )
        label += f" ± {spread:.2g}"
    axes.axhline(value, color=PUBLISHED_COLOUR, linewidth=1.3, linestyle=(0, (5, 3)), zorder=1.5)
    return [_line(PUBLISHED_COLOUR, label, linewidth=1.3, linestyle=(0, (5, 3)))]


def _mark_phases(panels: Sequence["Axes"], phases: Sequence[PhaseMark], epochs: np.ndarray) -> None:
    """A vertical line at each switch and the phases' names above, in as many rows as keep them apart."""
    if not epochs.size:
        return
    first, last = epochs.min(), epochs.max()
    margin = max(0.02 * (last - first), 0.5)
    low, high = first - margin, last + margin
    panels[-1].set_xlim(low, high)
    is_crowded = len(phases) > NAMES_UP_TO_PHASES
    for phase in phases[1:]:
        for axes in panels:
            axes.axvline(phase.start - 0.5, color=FAINT if is_crowded else INK, linewidth=1.0)
    occupied: list[float] = []
    for number, phase in enumerate(phases, start=1):
        text = str(number) if is_crowded else f"{number}: {phase.name}"
        if phase.best is not None and len(phases) <= BEST_UP_TO_PHASES:
            text += f" (best epoch {phase.best:g})"
        # A letter of 9.5 points is 0.072 inch wide on average; labels and ticks take 0.9 inch from the width.
        reach = (len(text) * 0.072 + 0.1) / (WIDTH_INCHES - 0.9)
        left = min(max((phase.start - 0.5 - low) / (high - low), 0.0), max(1.0 - reach, 0.0))
        row = next((i for i, end in enumerate(occupied) if end <= left), len(occupied))
        occupied[row : row + 1] = [left + reach]
        panels[0].annotate(
            text,
            (left, 1.0),
            xycoords="axes fraction",
            xytext=(3 if number else 0, 5 + 14 * row),
            textcoords="offset points",
            fontsize=9.5,
            color=MUTED,
        )
