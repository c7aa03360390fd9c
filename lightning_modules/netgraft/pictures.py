"""How well grafted networks do beside their teacher, and against the number of images.

Pure functions from numbers and arrays to figures.
"""

import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.figures import INK, MUTED, PALETTE, in_house_style, new_figure, text_colour_on

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

KINDS = {
    "graft": ("one block grafted", PALETTE[4]),
    "naive": ("joined without adaptation", PALETTE[1]),
    "joined": ("after grafting the network", PALETTE[2]),
}
TEACHER_LINE: dict[str, Any] = {"color": INK, "linewidth": 1.3, "linestyle": (0, (5, 3))}
INSIDE_FROM = 25.0  # percent from which a bar has room for its number
NUMBER_PERCENT = 18.0  # of the axis that a number takes
BINS = 40
OUTSIDE_PERCENT = 1.0  # of the cosines that may lie outside the axis
METHOD_COLOURS = (PALETTE[2], PALETTE[0], PALETTE[1], PALETTE[3], PALETTE[4], PALETTE[6], PALETTE[7])
LINES, MARKERS = ("-", "--"), ("o", "s")
PUBLISHED_COLOUR = PALETTE[5]


@in_house_style
def draw_grafted_accuracies(bars: Sequence[tuple[str, float, str]], teacher: float) -> "Figure":
    """Accuracy of every grafted network as a bar, against the teacher's line.

    Args:
        bars: (label, accuracy in [0, 1], kind) from top to bottom; kind is ``graft`` (one student block in
            the teacher), ``naive`` (blocks joined as stage 1 left them) or ``joined`` (after stage 2). The
            last of a kind is the most complete network: the headline is about it.
        teacher: accuracy in [0, 1].

    Raises:
        ValueError: if a kind is none of the three.
    """
    for label, _, kind in bars:
        if kind not in KINDS:
            raise ValueError(f"the kind of bar {label!r} must be one of {', '.join(KINDS)}, got {kind!r}")
    figure, (axes,) = new_figure(_accuracies_title(bars, teacher), height=1.9 + 0.42 * max(len(bars), 1))
    for place, (_, accuracy, kind) in enumerate(bars):
        percent, colour = 100 * accuracy, KINDS[kind][1]
        axes.barh(place, percent, height=0.68, color=colour, zorder=2)
        is_inside = percent >= INSIDE_FROM
        # the teacher's line would cross a number on its way
        beyond = percent - 100 * teacher if is_inside else 100 * teacher - percent
        edge = 100 * teacher if 0 < beyond < NUMBER_PERCENT else percent
        axes.annotate(
            f"{percent:.1f}  ({signed(percent - 100 * teacher)})",
            (edge, place),
            xytext=(-6 if is_inside else 6, 0),
            textcoords="offset points",
            ha="right" if is_inside else "left",
            va="center",
            color=text_colour_on(colour) if is_inside else INK,
            zorder=5,
        )
    if not bars:
        axes.text(0.5, 0.5, "nothing measured", transform=axes.transAxes, ha="center", color=MUTED)
    axes.axvline(100 * teacher, zorder=3, **TEACHER_LINE)
    axes.annotate(
        f"teacher {100 * teacher:.1f} %",
        (100 * teacher, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="right" if teacher > 0.5 else "left",
        color=INK,
    )
    axes.set_xlim(0, 100)
    axes.set_ylim(max(len(bars), 1) - 0.5, -0.5)
    axes.set_yticks(range(len(bars)), [textwrap.fill(label, 28) for label, _, _ in bars])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("Test accuracy (%), in brackets the points to the teacher")
    drawn = {kind for _, _, kind in bars}
    handles = [_patch(*KINDS[kind]) for kind in KINDS if kind in drawn]
    if handles:
        figure.legend(handles=handles, loc="outside lower left", ncols=3)
    return figure


def _accuracies_title(bars: Sequence[tuple[str, float, str]], teacher: float) -> str:
    last = {kind: 100 * accuracy for _, accuracy, kind in bars}
    if "naive" in last and "joined" in last:
        gain = last["joined"] - last["naive"]
        change = f"gains {gain:.1f} points over" if gain >= 0 else f"loses {-gain:.1f} points against"
        return f"Grafting the network {change} the naive join's {last['naive']:.1f} %"
    if "joined" in last:
        against = against_teacher(last["joined"], 100 * teacher)
        return f"The grafted student reaches {last['joined']:.1f} %, {against}"
    if "naive" in last:
        against = against_teacher(last["naive"], 100 * teacher)
        return f"Joined without adaptation, the blocks reach {last['naive']:.1f} %, {against}"
    grafts = [100 * accuracy for _, accuracy, _ in bars]
    if not grafts:
        return "Accuracy of the grafted networks"
    reach = f"{min(grafts):.1f} to {max(grafts):.1f} %" if len(grafts) > 1 else f"{grafts[0]:.1f} %"
    return f"With one block grafted, the teacher reaches {reach}"


def against_teacher(percent: float, teacher: float) -> str:
    """``4.8 points below its teacher``; both in percent."""
    points = round(percent - teacher, 1)
    if not points:
        return "level with its teacher"
    return f"{abs(points):.1f} points {'above' if points > 0 else 'below'} its teacher"


def signed(value: float, digits: int = 1) -> str:
    """With its sign, a typographic minus, and none where it rounds to 0."""
    rounded = round(value, digits)
    return f"{rounded:+.{digits}f}".replace("-", "−") if rounded else f"{0:.{digits}f}"


def _patch(label: str, colour: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=colour, label=label)


@in_house_style
def draw_agreement(cosines: np.ndarray, agreement: float, note: str = "") -> "Figure":
    """How close the student's logits point to the teacher's, image by image.

    Nearly all cosines are close to 1 and a few may be anywhere, so the axis begins where at most one in a
    hundred lies to the left of it, and says how many these are.

    Args:
        cosines: ``[N]`` between the two networks' logits of an image; what is not finite is left out.
        agreement: share of images in [0, 1] for which both choose the same class.
        note: what stands above the axis where no image lies outside of it.
    """
    cosines = np.ravel(cosines).astype(float)  # compared with edges that float32 would round
    cosines = np.clip(cosines[np.isfinite(cosines)], -1.0, 1.0)  # rounding may lead beyond
    same = _share_in_words(agreement)
    if not cosines.size:
        figure, (axes,) = new_figure(f"Student and teacher agree on {same} of test images")
        axes.text(0.5, 0.5, "no cosines", transform=axes.transAxes, ha="center", color=MUTED)
        return figure
    figure, (axes,) = new_figure(f"Student and teacher agree on {same} of {cosines.size:,} test images")
    low = 1.0 - _round_up(1.0 - float(np.percentile(cosines, OUTSIDE_PERCENT, method="lower")))
    outside = int((cosines < low).sum())
    bins = np.linspace(low, 1.0, BINS + 1)
    weights = np.full(cosines.size, 100 / cosines.size)
    heights, _, _ = axes.hist(cosines, bins=bins.tolist(), weights=weights, color=PALETTE[2], zorder=2)
    median = float(np.median(cosines))
    digits = 2 + math.ceil(-math.log10(1.0 - low) - 1e-6)
    axes.axvline(median, color=INK, linewidth=1.2, linestyle=(0, (4, 3)), zorder=3)
    axes.set_ylim(0, 1.15 * float(np.max(heights)))
    is_left = median > (1 + low) / 2
    axes.annotate(
        f"median {median:.{digits}f}".replace("-", "−"),
        (median, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if is_left else 5, -4),
        textcoords="offset points",
        ha="right" if is_left else "left",
        va="top",
        color=INK,
    )
    text = f"{outside:,} of {cosines.size:,} lie below {low:.6g}, the lowest at {cosines.min():.{digits}f}"
    axes.set_title(text.replace("-", "−") if outside else note)
    axes.set_xlim(low, 1.0)
    axes.ticklabel_format(axis="x", useOffset=False)
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("Cosine of the teacher's and the student's logits")
    axes.set_ylabel("Share of test images (%)")
    return figure


def _share_in_words(share: float) -> str:
    """To a tenth of a percent, but 100 % and 0 % only of all and of none."""
    if 0 < share < 0.0005:
        return "less than 0.1 %"
    if 0.9995 <= share < 1:
        return "more than 99.9 %"
    return f"{100 * share:.0f} %" if share in (0, 1) else f"{100 * share:.1f} %"


def _round_up(reach: float) -> float:
    """The next of 0.00001, 0.00002, 0.00005, 0.0001, ..., 2."""
    steps = [float(f"{digit}e{power}") for power in range(-5, 1) for digit in (1, 2, 5)]
    return next((step for step in steps if reach <= step <= 2), 2.0)


@in_house_style
def draw_shots(
    curves: Mapping[str, Sequence[tuple[int, float, float, int]]],
    teacher: float | None = None,
    published: Sequence[tuple[int, float, float]] = (),
) -> "Figure":
    """Accuracy against the number of images per class, a line a method: mean and standard deviation.

    Args:
        curves: by method, (K, mean, standard deviation, number of runs), all in [0, 1]; the deviation of one
            run may be NaN.
        teacher: accuracy in [0, 1], or None where runs had different teachers.
        published: (K, mean, standard deviation) in [0, 1], drawn apart.
    """
    from matplotlib.ticker import FixedLocator, NullLocator

    figure, (axes,) = new_figure(_shots_title(curves, teacher), height=4.9)
    axes.margins(y=0.08)
    for place, (method, points) in enumerate(curves.items()):
        label = f"{method.replace('_', ' ')} ({_runs(points)})"
        colour = METHOD_COLOURS[place % len(METHOD_COLOURS)]
        again = place // len(METHOD_COLOURS)  # the colours go round: lines and markers then tell them apart
        style: dict[str, Any] = {"linestyle": LINES[again % 2], "marker": MARKERS[again % 2]}
        _draw_points(axes, [point[:3] for point in points], label, color=colour, zorder=3, **style)
    style = {"color": PUBLISHED_COLOUR, "marker": "D", "markerfacecolor": "white", "linestyle": "none"}
    _draw_points(axes, published, "published", zorder=4, **style)
    if teacher is not None:
        axes.axhline(100 * teacher, label=f"teacher, {100 * teacher:.1f} %", zorder=2, **TEACHER_LINE)
    numbers = sorted({point[0] for points in (*curves.values(), published) for point in points})
    if numbers:
        axes.set_xscale("log")
        axes.set_xlim(numbers[0] / 1.15, numbers[-1] * 1.15)
        axes.xaxis.set_major_locator(FixedLocator(numbers))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("Images per class, K (log scale)")
    axes.set_ylabel("Test accuracy (%)")
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(handles, labels, loc="outside lower left", ncols=3)
    return figure


def _draw_points(axes: "Axes", points: Sequence[tuple[int, float, float]], label: str, **style: Any) -> None:
    if not points:
        return
    shots, means, deviations = np.array(sorted(points), dtype=float).T
    axes.errorbar(
        shots,
        100 * means,
        yerr=100 * np.nan_to_num(deviations),
        label=label,
        markersize=5,
        capsize=3,
        elinewidth=1.2,
        **style,
    )


def _runs(points: Sequence[tuple[int, float, float, int]]) -> str:
    numbers = sorted({point[3] for point in points})
    if not numbers:
        return "no run"
    if len(numbers) > 1:
        return f"{numbers[0]} to {numbers[-1]} runs each"
    return "1 run each" if numbers[0] == 1 else f"{numbers[0]} runs each"


def _shots_title(curves: Mapping[str, Sequence[tuple[int, float, float, int]]], teacher: float | None) -> str:
    points = [(point[0], point[1], method) for method, points in curves.items() for point in points]
    if not points:
        return "Accuracy against the number of images per class"
    most, mean, method = max(points)
    images = "one image" if most == 1 else f"{most} images"
    title = f"From {images} per class, {method.replace('_', ' ')} reaches {100 * mean:.1f} %"
    return title if teacher is None else f"{title} (teacher {100 * teacher:.1f} %)"
