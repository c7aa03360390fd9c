"""On which classes of point clouds a student's local structure is farthest from its teacher's."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.figures import INK, MUTED, PALETTE, class_label, in_house_style, new_figure
from lightning_modules.lsp.training_pictures import TEACHER_LINE, value_in_words

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AT_MOST = 40  # classes
LETTERS = 88  # of a line above the axes
NAMED = 3  # clouds of the largest mean


@in_house_style
def draw_class_divergences(
    means: np.ndarray, labels: np.ndarray, index: np.ndarray, class_names: Sequence[str]
) -> "Figure":
    """Mean S_i of each cloud as a dot and of each class as a diamond, the class of the largest on top.

    Args:
        means: ``[N]``, mean S_i over the points of each cloud; all clouds have as many. What is not finite is
            left out.
        labels: ``[N]``, classes.
        index: ``[N]``, numbers of the clouds, to find them again.
        class_names: one per class.
    """
    known = np.isfinite(means)
    means, labels, index = means[known], labels[known], index[known]
    if not means.size:
        figure, (axes,) = new_figure("No S_i of clouds")
        axes.text(0.5, 0.5, "no clouds", transform=axes.transAxes, ha="center", color=MUTED)
        return figure
    of_class = {int(label): float(means[labels == label].mean()) for label in np.unique(labels)}
    order = sorted(of_class, key=lambda label: -of_class[label])
    shown = order[:AT_MOST]
    title = _title(class_label(class_names, order[0]), of_class[order[0]], float(means.mean()), len(order))
    figure, (axes,) = new_figure(title, height=1.7 + 0.24 * max(len(shown), 4))
    for place, label in enumerate(shown):
        own = means[labels == label]
        dots: dict[str, Any] = {"s": 14, "color": PALETTE[4], "alpha": 0.6, "linewidths": 0, "zorder": 2}
        axes.scatter(own, np.full(own.size, place), label="a cloud" if place == 0 else None, **dots)
    diamonds: dict[str, Any] = {"marker": "D", "markersize": 6, "linestyle": "none", "zorder": 3}
    values = [of_class[label] for label in shown]
    axes.plot(values, range(len(shown)), color=PALETTE[2], label="mean of its class", **diamonds)
    axes.axvline(float(means.mean()), label="mean of all", zorder=1.8, **TEACHER_LINE)
    axes.set_yticks(range(len(shown)), [class_label(class_names, label) for label in shown])
    axes.set_ylim(len(shown) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    low, high = float(means.min()), float(means.max())
    axes.set_xlim(min(0.0, 1.05 * low), 1.05 * high if high > 0 else 1.0)
    axes.xaxis.set_major_formatter(lambda value, _: value_in_words(value))
    axes.locator_params(axis="x", nbins=6)  # of numbers with a power of ten
    cut = f"; {len(shown)} of {len(order)} classes" if len(order) > len(shown) else ""
    axes.set_xlabel(f"Mean S_i of a cloud's points, L_LSP by rbf, σ = 100{cut}")
    named = (
        f"{class_label(class_names, int(labels[number]))} {index[number]} ({value_in_words(means[number])})"
        for number in np.argsort(-means, kind="stable")[:NAMED]
    )
    axes.set_title(textwrap.fill(f"Largest: {', '.join(named)}", LETTERS), fontsize=9.5, color=INK)
    figure.legend(loc="outside lower left", ncols=3)
    return figure


def _title(name: str, top: float, mean: float, classes: int) -> str:
    if classes == 1:
        return f"Clouds of the one class, {name}, have a mean S_i of {value_in_words(top)}"
    title = f"Local structure differs most on the class {name}"
    return f"{title}, whose S_i is {top / mean:.1f} times the mean" if mean > 0 else title
