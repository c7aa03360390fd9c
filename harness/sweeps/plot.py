"""The picture of a sweep: mean, deviation and single runs of every configuration, and the published value."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.figures import FAINT, MUTED, PALETTE, in_house_style, new_figure
from harness.results import is_share
from harness.sweeps.summary import Row, mean_and_std

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_ROWS = 40
"""More would make a picture that nobody can read; the table has them all."""


@in_house_style
def draw_sweep(rows: Sequence[Row]) -> "Figure":
    """Mean ± standard deviation of each row, its single runs, and the published value.

    Rows of another data set or metric have a panel of their own, as their values cannot be compared.

    Args:
        rows: those without a value are left out.
    """
    measured = [row for row in rows if row.values]
    shown = measured[:MOST_ROWS]
    panels: dict[tuple[str, str], list[Row]] = {}
    for row in shown:
        panels.setdefault((row.data, row.metric), []).append(row)
    heights = [0.75 + 0.5 * len(panel) for panel in panels.values()] or [1.5]
    figure, all_axes = new_figure(
        _title(measured, len(panels)),
        rows=max(len(panels), 1),
        height=1.3 + sum(heights),
        height_ratios=heights,
    )
    for axes, ((data, metric), panel) in zip(all_axes, panels.items(), strict=False):
        _draw_panel(axes, panel)
        axes.set_xlabel(f"{metric} on {data}" + (" (%)" if is_share(metric) else ""))
    if not panels:
        all_axes[0].text(0.5, 0.5, "no job has finished yet", ha="center", color=MUTED)
        all_axes[0].set_axis_off()
    elif len(shown) < len(measured):
        figure.text(0.99, 0.005, f"{len(shown)} of {len(measured)} configurations", ha="right", color=MUTED)
    if panels:
        _legend(figure, shown)
    return figure


def _draw_panel(axes: "Axes", rows: Sequence[Row]) -> None:
    scale = 100.0 if is_share(rows[0].metric) else 1.0
    several_models = len({row.model for row in rows}) > 1
    for height, row in enumerate(rows):
        values = [scale * value for value in row.values]
        axes.plot(values, [height] * len(values), "o", color=PALETTE[4], alpha=0.55, markersize=5, zorder=2)
        assert row.mean is not None
        spread = None if row.std is None else scale * row.std
        style = {"fmt": "o", "color": PALETTE[0], "markersize": 8, "capsize": 4, "zorder": 4}
        axes.errorbar(scale * row.mean, height, xerr=spread, elinewidth=1.6, **style)  # type: ignore[arg-type]
        if row.published:
            given = row.published.get("spread")
            axes.errorbar(
                scale * row.published["value"],
                height + 0.24,
                xerr=None if given is None else scale * given,
                fmt="D",
                color=MUTED,
                markerfacecolor="white",
                markersize=6,
                elinewidth=1.2,
                capsize=3,
                zorder=3,
            )
    for height, row in enumerate(rows):
        text = f"{mean_and_std(row)}  (n={len(row.values)})"
        axes.text(1.01, height, text, transform=axes.get_yaxis_transform(), va="center", fontsize=9.5)
    axes.set_yticks(range(len(rows)), [label(row, several_models) for row in rows])
    axes.set_ylim(len(rows) - 0.45, -0.55)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.06)


def label(row: Row, with_model: bool = True) -> str:
    """A row's name: ``gat, heads=4``; keys without their path where that leaves them apart."""
    short = [key.rpartition(".")[2] for key in row.varied]
    names = short if len(set(short)) == len(short) else list(row.varied)
    settings = [f"{name}={value}" for name, value in zip(names, row.varied.values(), strict=True)]
    return ", ".join([*([row.model] if with_model or not settings else []), *settings])


def _title(rows: Sequence[Row], panels: int) -> str:
    # settings are not to be chosen by the test, nor methods by a single run
    methods_alone = all(not row.varied and len(row.values) > 1 for row in rows)
    if panels == 1 and len(rows) > 1 and is_share(rows[0].metric) and methods_alone:
        best = max(rows, key=lambda row: row.mean or 0.0)
        return f"{label(best)} has the highest mean on {best.data}: {mean_and_std(best)}"
    return "Mean and standard deviation of each configuration"


def _legend(figure: "Figure", rows: Sequence[Row]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=PALETTE[0], marker="o", markersize=8, label="mean ± standard deviation"),
        Line2D([], [], color=PALETTE[4], marker="o", markersize=5, linestyle="none", label="single run"),
    ]
    if any(row.published for row in rows):
        style = {"marker": "D", "markerfacecolor": "white", "markersize": 6}
        handles.append(Line2D([], [], color=MUTED, label="published (± spread)", **style))  # type: ignore[arg-type]
    figure.legend(handles=handles, loc="outside lower left", ncols=3, edgecolor=FAINT)
