"""What a student has of its teacher's local structure, and what both cost.

Pure functions from numbers and arrays to figures, whatever kind of graph the student sees.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.figures import INK, MUTED, PALETTE, in_house_style, new_figure
from lightning_modules.lsp.training_pictures import value_in_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from lightning_modules.lsp.costs import Cost

TEACHER_COLOUR, STUDENT_COLOUR = PALETTE[7], PALETTE[2]
BINS = 40
LOG_FROM_RATIO = 30.0  # between the largest and the tenth of the smallest, from which the axis is logarithmic
SMALLEST_SHARE = 1e-6  # of the largest divergence: what is smaller is rounding
MOST_NEIGHBOURS = 16
EQUAL_LINE: dict[str, Any] = {"color": INK, "linewidth": 1.2, "linestyle": (0, (4, 3))}


@in_house_style
def draw_divergences(divergences: np.ndarray, labels: Sequence[str], what: str = "nodes") -> "Figure":
    """Histogram of S_i, on a logarithmic axis where they span much.

    Args:
        divergences: ``[N]`` S_i, >= 0 but for rounding; what is not finite is left out.
        labels: names of the nodes of the largest S_i, largest first; as many of them as are to be named.
        what: that each S_i belongs to, in the plural.
    """
    values = np.ravel(divergences).astype(float)
    values = values[np.isfinite(values)]
    if not values.size:
        figure, (axes,) = new_figure(f"No S_i of {what}")
        axes.text(0.5, 0.5, f"no {what}", transform=axes.transAxes, ha="center", color=MUTED)
        return figure
    median, high, top = (float(np.percentile(values, q)) for q in (50, 99, 100))
    title = f"Half of the {what} have an S_i below {value_in_words(median)}, one in 100 above"
    figure, (axes,) = new_figure(f"{title} {value_in_words(high)}")
    shown, bins = _bins(axes, values, top)
    weights = np.full(shown.size, 100 / values.size)
    heights, _, _ = axes.hist(shown, bins=bins.tolist(), weights=weights, color=PALETTE[2], zorder=2)
    highest = float(np.max(heights, initial=0.0)) or 1.0
    axes.set_ylim(0, 1.18 * highest)
    axes.set_xlim(bins[0], bins[-1])
    _mark_median(axes, median, bins)
    largest = np.sort(values)[::-1][: len(labels)]
    if len(labels):
        named = (f"{label} ({value_in_words(value)})" for label, value in zip(labels, largest, strict=False))
        axes.set_title(f"Largest: {', '.join(named)}", fontsize=9.5)
        style: dict[str, Any] = {"marker": "v", "markersize": 7, "linestyle": "none", "clip_on": False}
        axes.plot(largest, np.full(largest.size, 0.03 * highest), color=PALETTE[5], zorder=4, **style)
    hidden = values.size - shown.size
    note = f"; {hidden:,} of {values.size:,} are smaller or 0" if hidden else ""
    scale = ", log scale" if axes.get_xscale() == "log" else ""
    axes.set_xlabel(f"S_i, divergence of the student's local structure from its teacher's{scale}{note}")
    axes.set_ylabel(f"Share of {what} (%)")
    axes.grid(visible=False, axis="x")
    return figure


def _bins(axes: "Axes", values: np.ndarray, top: float) -> tuple[np.ndarray, np.ndarray]:
    """The values that have a place on the axis, and the edges of the bins."""
    from matplotlib.ticker import LogLocator, NullLocator

    positive = values[values > SMALLEST_SHARE * max(top, 0.0)]
    if top <= 0:
        return np.zeros(0), np.linspace(0.0, 1.0, BINS + 1)
    if top <= LOG_FROM_RATIO * float(np.percentile(positive, 10)):
        return values[values >= 0], np.linspace(0.0, 1.02 * top, BINS + 1)
    low = float(positive.min()) / 1.05
    axes.set_xscale("log")
    subs = (1.0, 2.0, 5.0) if top < 300 * low else (1.0,)
    axes.xaxis.set_major_locator(LogLocator(subs=subs, numticks=9))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda value, _: value_in_words(value))
    return positive, np.geomspace(low, 1.05 * top, BINS + 1)


def _mark_median(axes: "Axes", median: float, bins: np.ndarray) -> None:
    if not bins[0] <= median <= bins[-1]:
        return
    axes.axvline(median, color=INK, linewidth=1.2, linestyle=(0, (4, 3)), zorder=3)
    place = axes.transData.transform((median, 0.0))[0]
    start, end = axes.transData.transform([(bins[0], 0.0), (bins[-1], 0.0)])[:, 0]
    is_right = place > (start + end) / 2
    axes.annotate(
        f"median {value_in_words(median)}",
        (median, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if is_right else 5, -4),
        textcoords="offset points",
        ha="right" if is_right else "left",
        va="top",
        color=INK,
    )


@dataclass(frozen=True, eq=False)
class NodeStructure:
    """LS of one node on both sides.

    Attributes:
        name: of the node, with what it was chosen for.
        neighbours: names of its k neighbours, short.
        teacher: ``[k]`` shares in [0, 1], adding up to 1.
        student: ``[k]``, likewise.
        divergence: S_i between them.
    """

    name: str
    neighbours: Sequence[str]
    teacher: np.ndarray
    student: np.ndarray
    divergence: float


@in_house_style
def draw_structures(nodes: Sequence[NodeStructure], kernel: str, what: str = "node") -> "Figure":
    """LS of a few nodes as bars, the teacher's beside the student's.

    Most kernels give all neighbours nearly the same share: if none has more than twice the equal share 1/k,
    bars begin there and go up or down from it, else at 0. Of a node with more than 16 neighbours those are
    shown whose shares differ most.

    Args:
        nodes: from top to bottom, the headline is about the one in the middle.
        kernel: that LS is computed by, in words.
        what: is compared with its neighbours, in the singular.
    """
    figure, each = new_figure(
        _structures_title(nodes, what), rows=max(len(nodes), 1), height=1.15 + 1.9 * max(len(nodes), 1)
    )
    largest = (max(np.max(one, initial=0) for one in (node.teacher, node.student)) for node in nodes)
    is_even = all(share * len(node.teacher) <= 2 for share, node in zip(largest, nodes, strict=True))
    for axes, node in zip(each, nodes, strict=False):
        _draw_structure(axes, node, is_even)
    if not nodes:
        each[0].text(0.5, 0.5, f"no {what}s", transform=each[0].transAxes, ha="center", color=MUTED)
        return figure
    is_cut = any(len(node.teacher) > MOST_NEIGHBOURS for node in nodes)
    cut = f" (of more than {MOST_NEIGHBOURS}, those that differ most)" if is_cut else ""
    each[-1].set_xlabel(f"Neighbour{cut}; LS by {kernel}")
    label = (
        "Share of a neighbour minus the equal share (percentage points)"
        if is_even
        else "Share of a neighbour (%)"
    )
    figure.supylabel(label, fontsize=10.5, color=INK)
    handles = [_patch("teacher", TEACHER_COLOUR), _patch("student", STUDENT_COLOUR)]
    if not is_even:
        handles.append(_line("equal share", **EQUAL_LINE))
    figure.legend(handles=handles, loc="outside lower left", ncols=3)
    return figure


def _draw_structure(axes: "Axes", node: NodeStructure, is_even: bool) -> None:
    number = len(node.teacher)
    equal = 1 / max(number, 1)
    gaps = np.abs(np.asarray(node.teacher) - np.asarray(node.student))
    chosen = np.argsort(-gaps, kind="stable")[:MOST_NEIGHBOURS]
    chosen = chosen[np.argsort(-np.asarray(node.teacher)[chosen], kind="stable")]
    places = np.arange(chosen.size)
    for shift, shares, colour in (
        (-0.2, node.teacher, TEACHER_COLOUR),
        (0.2, node.student, STUDENT_COLOUR),
    ):
        heights = 100 * (np.asarray(shares, dtype=float)[chosen] - (equal if is_even else 0))
        axes.bar(places + shift, heights, width=0.4, color=colour, zorder=2)
    if is_even:
        axes.axhline(0, color=INK, linewidth=1.0, zorder=3)
    else:
        axes.axhline(100 * equal, zorder=3, **EQUAL_LINE)
    axes.set_xticks(places.tolist(), [node.neighbours[place] for place in chosen])
    axes.set_xlim(-0.6, max(chosen.size, 1) - 0.4)
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False, axis="x")
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.margins(y=0.12)
    count = "one neighbour" if number == 1 else f"{number} neighbours"
    if number > MOST_NEIGHBOURS:
        count += f" ({MOST_NEIGHBOURS} shown)"
    said = f"{count}, equal share {100 * equal:.3g} %" if number else "no neighbours"
    axes.set_title(f"{node.name}: {said}, S = {value_in_words(node.divergence)}", fontsize=9.5)


def _structures_title(nodes: Sequence[NodeStructure], what: str) -> str:
    if not nodes:
        return "Local structure of teacher and student"
    node = nodes[len(nodes) // 2]
    gap = 100 * float(np.abs(np.asarray(node.teacher) - np.asarray(node.student)).max(initial=0.0))
    points = value_in_words(gap) if gap < 0.1 else f"{gap:.1f}"
    said = f"the student's share of a neighbour is off by at most {points} percentage points"
    return f"At a typical {what}, {said}"


def _patch(label: str, colour: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=colour, label=label)


def _line(label: str, **style: Any) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], label=label, **style)


@in_house_style
def draw_costs(teacher: "Cost", student: "Cost", what: str) -> "Figure":
    """Parameters, time and memory of both networks, each pair of bars on an axis of its own.

    Args:
        teacher: the larger network, as a rule.
        student: the other.
        what: that the pass is over, and where: ``2 test graphs on the CPU``.
    """
    figure, each = new_figure(_costs_title(teacher, student), columns=3, height=2.7)
    panels = (
        ("Parameters", teacher.parameters, student.parameters),
        ("Milliseconds of a pass", teacher.milliseconds, student.milliseconds),
        ("Most megabytes in a pass", teacher.megabytes, student.megabytes),
    )
    for axes, (name, *pair) in zip(each, panels, strict=True):
        top = max(*pair, 1e-12)
        for place, (value, colour) in enumerate(zip(pair, (TEACHER_COLOUR, STUDENT_COLOUR), strict=True)):
            axes.barh(place, value, height=0.62, color=colour, zorder=2)
            text: dict[str, Any] = {
                "xytext": (4, 0),
                "textcoords": "offset points",
                "va": "center",
                "color": INK,
            }
            axes.annotate(_readable(value), (value, place), **text)
        axes.set_xlim(0, 1.4 * top)
        axes.set_ylim(1.6, -0.6)
        axes.set_yticks([0, 1], ["teacher", "student"] if axes is each[0] else ["", ""])
        axes.set_xticks([])
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
        axes.set_title(name)
    figure.supxlabel(f"Forward pass over {what}", fontsize=9.5, color=MUTED, x=0.012, ha="left")
    return figure


def _costs_title(teacher: "Cost", student: "Cost") -> str:
    time = _times(teacher.milliseconds, student.milliseconds)
    percent = round(100 * (student.parameters / teacher.parameters - 1)) if teacher.parameters else 0
    amount = f"{abs(percent)} % {'fewer' if percent < 0 else 'more'}" if percent else "as many"
    memory = round(100 * (student.megabytes / teacher.megabytes - 1)) if teacher.megabytes else 0
    needs = f"needs {abs(memory)} % {'less' if memory < 0 else 'more'}" if memory else "needs as much"
    return f"The student has {amount} parameters, {time} and {needs} memory"


def _times(teacher: float, student: float) -> str:
    if not teacher or not student or 0.95 < teacher / student < 1.05:
        return "takes as long"
    is_faster = teacher > student
    ratio = teacher / student if is_faster else student / teacher
    return f"is {ratio:.1f} times {'faster' if is_faster else 'slower'}"


def _readable(value: float) -> str:
    """``3,640,748`` or three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
