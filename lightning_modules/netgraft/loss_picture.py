"""The picture of all phases' losses on one axis of epochs."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.curves import epoch_series
from harness.figures import FAINT, MUTED, PALETTE, WIDTH_INCHES, in_house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLOCK_COLOURS = (PALETTE[0], PALETTE[1], PALETTE[2], PALETTE[3], PALETTE[4], PALETTE[6], PALETTE[5])
JOINED_COLOUR = PALETTE[7]
BANDS = ("#eef3f8", "#ffffff")
BLOCKS_ALONE = "stage1"
# Losses further below the largest than this are rounding of float32: they would only stretch the axis.
SMALLEST_SHARE = 1e-8
THREE_TICKS_BELOW = 500.0  # ratio of the axis' ends up to which a decade has three ticks

Series = tuple[np.ndarray, np.ndarray]


@in_house_style
def draw_phase_losses(
    rows: Sequence[Mapping[str, Any]],
    phases: Sequence[tuple[str, int, int]],
    joins: Mapping[str, Sequence[int]],
) -> "Figure":
    """Loss of every block alone, then of the joined network, on one axis of epochs; a band per phase.

    A loss of 0 has no place on a logarithmic axis: it is drawn on the lower edge and marked.

    Args:
        rows: one mapping an epoch: ``epoch``, counted across phases, and any of ``train/loss_block<l>`` (mean
            loss per image of the graft of block l) and ``train/loss`` (of the joined network; ignored in
            phase ``stage1``). Numbers or text as read from a CSV file; what is missing is bridged.
        phases: (name, first epoch, epoch after the last) in order; ``stage1`` and any others.
        joins: the blocks that stand together in each of the others.
    """
    blocks = _block_numbers(rows)
    lines = [
        (f"block {block}", BLOCK_COLOURS[place % len(BLOCK_COLOURS)], epoch_series(rows, _key(block)))
        for place, block in enumerate(blocks)
    ]
    joined = _joined_series(rows, phases)
    lines += [("joined blocks", JOINED_COLOUR, series) for series in joined]
    figure, (axes,) = new_figure(_title([line[2] for line in lines[: len(blocks)]], joined), height=4.9)
    values = np.concatenate([series[1] for _, _, series in lines] or [np.empty(0)])
    if not values.size:
        axes.text(0.5, 0.5, "no loss logged", transform=axes.transAxes, ha="center", color=MUTED)
        axes.set_yticks([])
    else:
        floor = _set_log_scale(axes, values)
        for name, colour, series in lines:
            _draw_line(axes, name, colour, series, floor)
        _label_edge(axes, values, floor)
    _draw_bands(axes, phases, joins, [series[0] for _, _, series in lines])
    axes.set_ylabel("Mean loss per image (log scale)")
    axes.set_xlabel("Epoch, counted across phases")
    handles, labels = axes.get_legend_handles_labels()
    once = dict(zip(labels, handles, strict=True))
    if once:
        figure.legend(once.values(), once.keys(), loc="outside lower left", ncols=6)
    return figure


def _key(block: int) -> str:
    return f"train/loss_block{block}"


def _block_numbers(rows: Sequence[Mapping[str, Any]]) -> list[int]:
    """Blocks that have at least one loss, in order."""
    matches = (re.fullmatch(r"train/loss_block(\d+)", key) for key in {key for row in rows for key in row})
    return [
        block for block in sorted(int(m[1]) for m in matches if m) if epoch_series(rows, _key(block))[0].size
    ]


def _joined_series(rows: Sequence[Mapping[str, Any]], phases: Sequence[tuple[str, int, int]]) -> list[Series]:
    """``train/loss`` of each phase but stage 1, cut at the phases: nothing was trained in between."""
    epochs, values = epoch_series(rows, "train/loss")
    found = []
    for name, first, end in phases:
        inside = (epochs >= first) & (epochs < end)
        if name != BLOCKS_ALONE and inside.any():
            found.append((epochs[inside], values[inside]))
    return found


def _title(blocks: Sequence[Series], joined: Sequence[Series]) -> str:
    ends = sorted(float(values[-1]) for _, values in blocks)
    alone = ""
    if ends:
        low, high = _in_words(ends[0]), _in_words(ends[-1])
        alone = low if low == high else f"{low} to {high}"
    if joined:
        title = f"Joined, the blocks end at a loss of {_in_words(float(joined[-1][1][-1]))}"
        return title + (f"; alone, at {alone}" if alone else "")
    return f"Alone, the blocks end at a loss of {alone}" if alone else "Loss of the blocks, alone and joined"


def _in_words(loss: float) -> str:
    return "<0.0001" if 0 < loss < 1e-4 else f"{loss:.2g}"


def _set_log_scale(axes: "Axes", values: np.ndarray) -> float:
    """A logarithmic axis around the losses with plain ticks; returns its lower end."""
    from matplotlib.ticker import LogLocator, NullLocator

    top = float(values.max()) if values.max() > 0 else 1.0
    shown = values[values >= SMALLEST_SHARE * top]
    low = float(shown.min()) if shown.size else 1e-2
    low /= 3.0 if len(shown) < len(values) else 1.4
    high = 1.4 * top
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(
        LogLocator(subs=(1.0, 2.0, 5.0) if high < THREE_TICKS_BELOW * low else (1.0,))
    )
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:g}")
    return low


def _draw_line(axes: "Axes", name: str, colour: str, series: Series, floor: float) -> None:
    epochs, values = series
    marker: dict[str, Any] = {"marker": "o", "markersize": 4} if len(epochs) < 3 else {}
    axes.plot(epochs, np.maximum(values, floor), color=colour, label=name, zorder=3, **marker)
    below = values < floor
    if below.any():
        triangle: dict[str, Any] = {"marker": "v", "markersize": 5, "linestyle": "none", "clip_on": False}
        axes.plot(epochs[below], np.full(below.sum(), floor), color=colour, zorder=4, **triangle)


def _label_edge(axes: "Axes", values: np.ndarray, floor: float) -> None:
    below = values[values < floor]
    if below.size:
        label = "0 or below the axis" if below.any() else "exactly 0"
        axes.plot([], [], "v", color=MUTED, markersize=5, label=label)


def _draw_bands(
    axes: "Axes",
    phases: Sequence[tuple[str, int, int]],
    joins: Mapping[str, Sequence[int]],
    epochs: Sequence[np.ndarray],
) -> None:
    """A band behind each phase and its name above, in as many rows as keep the names apart."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    ends = [end for _, first, last in phases for end in (first - 0.5, last - 0.5)]
    ends += [float(end) for some in epochs if some.size for end in (some.min() - 0.5, some.max() + 0.5)]
    if not ends:
        return
    low, high = min(ends), max(ends)
    axes.set_xlim(low, high)
    axes.grid(visible=False, axis="x")
    starts = []
    for place, (_, first, end) in enumerate(phases):
        axes.axvspan(first - 0.5, end - 0.5, color=BANDS[place % 2], linewidth=0, zorder=0)
        if first - 0.5 > low:
            axes.axvline(first - 0.5, color=FAINT, linewidth=1.0, zorder=1)
        starts.append((first - 0.5 - low) / (high - low))
    texts = [_phase_label(name, joins.get(name, ())) for name, _, _ in phases]
    places = _places(texts, starts)
    if any(row for _, row in places):
        texts = [text.removeprefix("blocks ") if text.endswith(" joined") else text for text in texts]
        places = _places(texts, starts)
    for text, (left, row) in zip(texts, places, strict=True):
        axes.annotate(
            text,
            (left, 1.0),
            xycoords="axes fraction",
            xytext=(3, 5 + 15 * row),
            textcoords="offset points",
            fontsize=9.5,
            color=MUTED,
        )


def _places(texts: Sequence[str], starts: Sequence[float]) -> list[tuple[float, int]]:
    """Left edge (a share of the width) and row of each text: the lowest row where nothing is in its way."""
    occupied: list[float] = []
    places = []
    for text, start in zip(texts, starts, strict=True):
        # A letter of 9.5 points is 0.072 inch wide on average; labels and ticks take 0.9 inch from the width.
        reach = (len(text) * 0.072 + 0.08) / (WIDTH_INCHES - 0.9)
        left = min(start, max(1.0 - reach, 0.0))
        row = next((i for i, end in enumerate(occupied) if end <= left), len(occupied))
        occupied[row : row + 1] = [left + reach]
        places.append((left, row))
    return places


def _phase_label(name: str, joined: Sequence[int]) -> str:
    if name == BLOCKS_ALONE:
        return "blocks alone"
    if not joined:
        return name.replace("_", " ")
    if len(joined) == 1:
        return f"block {joined[0]}"
    first, last = joined[0], joined[-1]
    whole = [*joined] == [*range(first, last + 1)]
    return f"blocks {f'{first}–{last}' if whole else ', '.join(map(str, joined))} joined"
