"""Methods beside each other: what this run measured and what was published."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from harness.figures import MUTED, PALETTE, in_house_style, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Score:
    """A method's test accuracy beside the published one; all values are fractions in [0, 1].

    Attributes:
        name: the method.
        measured: of this run; None if it was not measured.
        published: None if there is no published value for this data.
        published_spread: standard deviation over the authors' runs; None if not given.
    """

    name: str
    measured: float | None
    published: float | None = None
    published_spread: float | None = None


@in_house_style
def draw_method_comparison(scores: Sequence[Score], num_test_nodes: int | None = None) -> "Figure":
    """Measured test accuracy of each method beside the published one.

    Args:
        scores: one per method, drawn from top to bottom.
        num_test_nodes: draws the standard error of the measured values, sqrt(p(1-p)/n), as a whisker.
    """
    figure, (axes,) = new_figure(_comparison_title(scores), height=1.9 + 0.8 * len(scores))
    for row, score in enumerate(scores):
        if score.published is not None:
            spread = None if score.published_spread is None else 100 * score.published_spread
            _dot(axes, 100 * score.published, row + 0.17, spread, MUTED, "D", "white")
        if score.measured is not None:
            p = score.measured
            error = 100 * np.sqrt(p * (1 - p) / num_test_nodes) if num_test_nodes else None
            _dot(axes, 100 * p, row - 0.17, error, PALETTE[0], "o", PALETTE[0])
    axes.set_yticks(range(len(scores)), [score.name for score in scores])
    axes.set_ylim(max(len(scores), 1) - 0.45, -0.55)
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.12)
    axes.set_xlabel("Test accuracy (%)")
    whisker = f" (whisker: ± one standard error, {num_test_nodes:,} test nodes)" if num_test_nodes else ""
    measured = axes.plot([], [], "o", color=PALETTE[0], markersize=9, label=f"this run{whisker}")
    published = axes.plot(
        [], [], "D", color=MUTED, markerfacecolor="white", markersize=7, label="published (± spread)"
    )
    figure.legend(handles=[*measured, *published], loc="outside lower left", ncols=2)
    return figure


def _comparison_title(scores: Sequence[Score]) -> str:
    measured = [score for score in scores if score.measured is not None]
    if len(measured) < 2:
        return "Test accuracy of this run and as published"
    first, last = measured[0], measured[-1]
    gap = round(100 * ((last.measured or 0.0) - (first.measured or 0.0)), 1)
    if gap == 0:
        return f"{last.name} and {first.name} score alike in this run"
    return f"{last.name} is {abs(gap):.1f} points {'above' if gap > 0 else 'below'} {first.name} in this run"


def _dot(
    axes: "Axes", value: float, height: float, spread: float | None, colour: str, marker: str, fill: str
) -> None:
    axes.errorbar(
        value,
        height,
        xerr=spread,
        fmt=marker,
        color=colour,
        markerfacecolor=fill,
        markersize=9 if marker == "o" else 7,
        elinewidth=1.4,
        capsize=3,
    )
    text = f"{value:.1f}" if spread is None or marker == "o" else f"{value:.1f} ± {spread:.1f}"
    axes.annotate(
        text,
        (value, height),
        xytext=(0, 7 if marker == "o" else -7),
        textcoords="offset points",
        ha="center",
        va="bottom" if marker == "o" else "top",
        fontsize=9.5,
        color=colour,
        fontweight="bold" if marker == "o" else "normal",
    )
