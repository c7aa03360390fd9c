"""How a run of rounds went: mIoU against labels, classes by round, difficulty and error, scores, shares.

Pure functions from numbers and arrays to figures.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.figures import (
    FAINT,
    INK,
    MUTED,
    PALETTE,
    class_label,
    in_house_style,
    new_figure,
    text_colour_on,
)
from lightning_modules.deal.label_places import label_places

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WORDS = {
    "deal_ds": "DEAL, difficulty score",
    "deal_de": "DEAL, difficulty entropy",
    "random": "random images",
    "entropy": "softmax entropy",
    "margin": "margin",
    "least_confidence": "least confidence",
    "qbc": "committee of dropout passes",
    "coreset": "core-set",
}
"""Acquisitions as a reader knows them."""

OWN, PUBLISHED, PUBLISHED_RANDOM = PALETTE[0], PALETTE[5], PALETTE[7]
BINS = 24
OTHERS, CHOSEN = FAINT, PALETTE[5]
MOST_ROUNDS = 9
"""Rounds whose scores fill a picture."""
RANKED = 3
"""Classes from which on a rank correlation says something: that of two is 1 or -1."""


@in_house_style
def draw_miou_by_labels(
    labelled: Sequence[int],
    miou: Sequence[float],
    acquisition: str,
    published: Mapping[str, Sequence[float]],
) -> "Figure":
    """Mean IoU on the test images against the labelled images, beside the published curves of that strategy.

    Args:
        labelled: images that each round trained on.
        miou: of each round, in [0, 1].
        acquisition: by what they were chosen.
        published: percent by acquisition, at the images in its entry ``labelled``; may be empty.
    """
    percent = 100 * np.array(miou)
    gain = f", {percent[-1] - percent[0]:+.1f} points over {labelled[0]}" if len(miou) > 1 else ""
    figure, (axes,) = new_figure(f"Mean IoU {percent[-1]:.1f} % with {labelled[-1]} labelled images{gain}")
    axes.plot(labelled, percent, color=OWN, marker="o", label=f"this run: {WORDS[acquisition]}", zorder=3)
    for number, value in zip(labelled, percent, strict=True):
        axes.annotate(
            f"{value:.1f}",
            (number, value),
            xytext=(0, 8),
            textcoords="offset points",
            ha="center",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},  # over the line
            zorder=4,
        )
    curves = {"random": (PUBLISHED_RANDOM, "^"), acquisition: (PUBLISHED, "s")}
    for name, (colour, marker) in curves.items():
        if name in published:
            axes.plot(
                published["labelled"],
                published[name],
                color=colour,
                marker=marker,
                linewidth=1.2,
                linestyle=(0, (5, 3)),
                label=f"published: {WORDS[name]}",
            )
    axes.margins(x=0.08, y=0.15)
    axes.set_xticks(sorted({*labelled, *(int(one) for one in published.get("labelled", ()))}))
    axes.set_xlabel("Labelled images")
    axes.set_ylabel("Mean IoU on the test images (%)")
    axes.legend(loc="lower right")
    return figure


@in_house_style
def draw_iou_by_round(table: np.ndarray, labelled: Sequence[int], names: Sequence[str]) -> "Figure":
    """IoU of each class in each round, as a table of colours.

    Args:
        table: ``[R, C]`` in [0, 1]; NaN of a class that is nowhere.
        labelled: images that each round trained on.
        names: C names.
    """
    import matplotlib
    from matplotlib.colors import to_hex

    percent = 100 * table.T  # [R, C] -> [C, R]
    change = percent[:, -1] - percent[:, 0]
    title = "IoU of each class, round by round"
    if np.isfinite(change).any():
        best = int(np.nanargmax(change))
        title = f"{class_label(names, best).capitalize()} gains most: {change[best]:+.1f} points of IoU"
    figure, (axes,) = new_figure(title, height=1.5 + 0.36 * len(percent))
    colours = matplotlib.colormaps["viridis"]
    image = axes.imshow(percent, vmin=0, vmax=100, cmap=colours, aspect="auto")
    for row, column in np.ndindex(*percent.shape):
        value = percent[row, column]
        known = not np.isnan(value)
        colour = text_colour_on(to_hex(colours(float(value) / 100))) if known else MUTED
        axes.text(column, row, f"{value:.1f}" if known else "none", ha="center", va="center", color=colour)
    axes.set_xticks(
        range(percent.shape[1]), [f"{number}\n({count})" for number, count in enumerate(labelled, 1)]
    )
    axes.set_yticks(range(len(percent)), [class_label(names, index) for index in range(len(percent))])
    axes.tick_params(length=0)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("Round (labelled images)")
    figure.colorbar(image, ax=axes, label="IoU (%)", fraction=0.04, pad=0.02)
    return figure


@in_house_style
def draw_class_difficulty(
    errors: np.ndarray,
    difficulty: np.ndarray,
    correlation: float,
    names: Sequence[str],
    palette: np.ndarray,
    *,
    is_calibrated: bool,
) -> "Figure":
    """Mean difficulty of each class against its error: what the branch says and what is so.

    Args:
        errors: ``[C]``, 1 - IoU; NaN of a class that is nowhere.
        difficulty: ``[C]``, mean of the map over the same pixels.
        correlation: Spearman's, of the two; NaN where it is not defined.
        names: C names.
        palette: ``[256, 3]`` in [0, 1].
        is_calibrated: whether the loss has the map estimate the chance of an error, as ``bce`` does. ``wce``
            weighs errors up, so that difficulties are above errors by far and only their order counts.
    """
    present = np.flatnonzero(~(np.isnan(errors) | np.isnan(difficulty)))
    known = "not defined" if np.isnan(correlation) else f"{correlation:.2f}"
    if len(present) < RANKED:
        known = f"not defined for fewer than {RANKED}"
    figure, (axes,) = new_figure(f"Error and difficulty of the classes: Spearman {known}", height=5.2)
    top = max([1e-3, *errors[present], *difficulty[present]]) * 1.1
    axes.set_xlim(0, max([1e-3, *errors[present]]) * 1.1)
    if is_calibrated:
        axes.set_xlim(0, top)
        axes.set_ylim(0, top)
        axes.plot([0, top], [0, top], color=FAINT, linewidth=1, zorder=1)
        axes.set_title("on the line: difficulty = error")
    elif len(present):
        room = max(0.2 * np.ptp(difficulty[present]), 0.02)
        axes.set_ylim(difficulty[present].min() - room, difficulty[present].max() + room)
        axes.set_title("trained by wce, which weighs errors up: the order counts, not the height")
    axes.scatter(
        errors[present],
        difficulty[present],
        s=70,
        color=palette[present],
        edgecolor=INK,
        linewidth=0.8,
        zorder=3,
    )
    axes.set_xlabel("1 - IoU on the test images, the mean error over the pixels of a class")
    axes.set_ylabel("Mean difficulty over the same pixels")
    words = [class_label(names, int(index)) for index in present]
    _name_dots(figure, axes, np.stack([errors, difficulty], axis=1)[present], words)
    return figure


def _name_dots(figure: "Figure", axes: "Axes", dots: np.ndarray, words: Sequence[str]) -> None:
    """Writes a word next to each dot, ``[n, 2]`` in the axes' numbers; all else must be drawn already."""
    if not len(dots):
        return
    look: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 9.5}
    drawn = [axes.annotate(word, tuple(dot), **look) for word, dot in zip(words, dots, strict=True)]
    figure.draw_without_rendering()  # which settles the layout
    boxes, room = [one.get_window_extent() for one in drawn], axes.get_window_extent()
    unit = figure.dpi / 72  # a point
    at = axes.transData.transform(dots)
    centres, is_far = label_places(
        at,
        np.array([(box.width + 2 * unit, box.height + unit) for box in boxes]),
        np.array([room.x0, room.y0]),
        np.array([room.x1, room.y1]),
        8 * unit,
    )
    for text in drawn:
        text.remove()
    for word, dot, place, shift, far in zip(words, dots, at, centres, is_far, strict=True):
        axes.annotate(
            word,
            tuple(dot),
            xytext=tuple((shift - place) / unit),
            textcoords="offset points",
            arrowprops={"arrowstyle": "-", "color": MUTED, "linewidth": 0.7, "shrinkB": 3} if far else None,
            zorder=4,
            **look,
        )


@in_house_style
def draw_scores(rounds: Mapping[int, tuple[np.ndarray, np.ndarray]], acquisition: str) -> "Figure":
    """How the scores of each round are spread, of the chosen images and of the others.

    Args:
        rounds: by number, in order, scores ``[m]`` and ``[m]`` bool, whether the image was chosen; of more
            than nine, nine that are evenly spaced are drawn, the last among them. One or more.
        acquisition: what the scores are of.
    """
    from matplotlib.patches import Patch
    from matplotlib.ticker import MaxNLocator

    numbers = list(rounds)
    picked = np.linspace(0, len(numbers) - 1, min(len(numbers), MOST_ROUNDS)).astype(int)
    last, is_query = numbers[-1], rounds[numbers[-1]][1]
    columns = 1 if len(picked) == 1 else 2 if len(picked) <= 4 else 3
    rows = -(-len(picked) // columns)
    figure, panels = new_figure(
        f"Scores{' by round' * (len(picked) > 1)}: round {last} takes the best {int(is_query.sum())} of"
        f" {len(is_query)} images",
        rows=rows,
        columns=columns,
        height=4.5 if rows == 1 else 1.2 + 2.1 * rows,
    )
    for axes, place in zip(panels, picked, strict=False):
        scores, chosen = rounds[numbers[place]]
        edges = np.histogram_bin_edges(scores, bins=BINS).tolist()
        parts = [scores[~chosen], scores[chosen]]
        axes.hist(parts, edges, stacked=True, color=[OTHERS, CHOSEN], edgecolor="white", linewidth=0.6)
        axes.set_title(f"round {numbers[place]}: {int(chosen.sum())} of {len(scores)} chosen")
        axes.xaxis.set_major_locator(MaxNLocator(5 if columns > 1 else 8))
        axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    for axes in panels[len(picked) :]:
        axes.remove()
    for place, axes in enumerate(panels[: len(picked)]):
        if place + columns >= len(picked):
            axes.set_xlabel("Score" if columns == 3 else f"Score by {WORDS[acquisition]}")
        if place % columns == 0:
            axes.set_ylabel("Images")
    handles = [Patch(color=OTHERS, label="other candidates"), Patch(color=CHOSEN, label="chosen")]
    heading = f"Scored by {WORDS[acquisition]}" if columns == 3 else None
    figure.legend(handles=handles, loc="outside lower left", ncols=2, title=heading, alignment="left")
    return figure


@in_house_style
def draw_class_shares(
    labelled: np.ndarray, pool: np.ndarray, names: Sequence[str], palette: np.ndarray
) -> "Figure":
    """Share of each class in the labelled pixels, and in the pool as the network sees it.

    Nobody may look at the pool's labels, so its shares are of predictions.

    Args:
        labelled: ``[C]``, summing to 1.
        pool: ``[C]``, or empty where no network looked at the pool.
        names: C names.
        palette: ``[256, 3]`` in [0, 1].
    """
    title = f"Entropy of the classes in the labelled pixels: {_entropy(labelled):.3f} nats"
    if len(pool):
        title += f"; in the pool {_entropy(pool):.3f}, as predicted"
    figure, (axes,) = new_figure(title, height=1.7 + 0.5 * len(names))
    places = np.arange(len(names))
    thick = 0.38 if len(pool) else 0.7
    parts = [("labelled images", labelled, 1.0, -thick / 2 if len(pool) else 0.0)]
    if len(pool):
        parts.append(("pool, as predicted", pool, 0.45, thick / 2))
    for name, shares, strength, shift in parts:
        axes.barh(
            places + shift,
            100 * shares,
            thick,
            color=palette[places],
            alpha=strength,
            edgecolor=INK,
            linewidth=0.5,
        )
        for place, share in enumerate(shares):
            axes.annotate(
                f"{100 * share:.2g} % {name}",
                (100 * share, place + shift),
                xytext=(5, 0),
                textcoords="offset points",
                va="center",
                fontsize=8,
                color=INK if strength == 1 else MUTED,
            )
    axes.set_yticks(places, [class_label(names, int(index)) for index in places])
    axes.invert_yaxis()
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 130 * max(float(part.max()) for _, part, _, _ in parts))
    axes.set_xlabel("Share of the pixels (%)")
    return figure


def _entropy(shares: np.ndarray) -> float:
    present = shares[shares > 0]
    return float(-(present * np.log(present)).sum()) + 0.0  # which is -0.0 of one class
