"""How a run of rounds went: mIoU against labels, classes by round, difficulty and error, scores, shares.

Pure functions from numbers and arrays to figures.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
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
        axes.annotate(f"{value:.1f}", (number, value), xytext=(0, 8), textcoords="offset points", ha="center")
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
) -> "Figure":
    """Mean difficulty of each class against its error: what the branch says and what is so.

    Args:
        errors: ``[C]``, 1 - IoU; NaN of a class that is nowhere.
        difficulty: ``[C]``, mean of the map over the same pixels.
        correlation: Spearman's, of the two; NaN where it is not defined.
        names: C names.
        palette: ``[256, 3]`` in [0, 1].
    """
    known = "not defined" if np.isnan(correlation) else f"{correlation:.2f}"
    figure, (axes,) = new_figure(f"Error and difficulty of the classes: Spearman {known}", height=5.2)
    present = np.flatnonzero(~(np.isnan(errors) | np.isnan(difficulty)))
    top = max([1e-3, *errors[present], *difficulty[present]]) * 1.1
    axes.plot([0, top], [0, top], color=FAINT, linewidth=1, zorder=1)
    axes.annotate(
        "difficulty = error",
        (top, top),
        xytext=(-6, -22),
        textcoords="offset points",
        ha="right",
        color=MUTED,
    )
    axes.scatter(
        errors[present],
        difficulty[present],
        s=70,
        color=palette[present],
        edgecolor=INK,
        linewidth=0.8,
        zorder=3,
    )
    # labels of one side keep their distance, so that classes that are as hard as each other can be read
    for is_right in (False, True):
        side = [index for index in present if (errors[index] > 0.75 * top) == is_right]
        height = -np.inf
        for index in sorted(side, key=lambda one: difficulty[one]):
            height = max(height + 0.042 * top, difficulty[index])
            axes.annotate(
                class_label(names, int(index)),
                (errors[index], difficulty[index]),
                xytext=(errors[index] + (-0.02 if is_right else 0.02) * top, height),
                textcoords="data",
                ha="right" if is_right else "left",
                va="center",
                fontsize=9.5,
            )
    axes.set_xlim(0, top)
    axes.set_ylim(0, top)
    axes.set_xlabel("1 - IoU on the test images, the mean error over the pixels of a class")
    axes.set_ylabel("Mean difficulty over the same pixels")
    return figure


@in_house_style
def draw_scores(scores: np.ndarray, is_query: np.ndarray, acquisition: str, number: int) -> "Figure":
    """How the scores of a round are spread, of the chosen images and of the others.

    Args:
        scores: ``[m]``.
        is_query: ``[m]`` bool, whether the image was chosen.
        acquisition: what the scores are of.
        number: the round.
    """
    from matplotlib.ticker import MaxNLocator

    figure, (axes,) = new_figure(
        f"Scores of round {number}: the best {int(is_query.sum())} of {len(scores)} images are chosen"
    )
    edges = np.histogram_bin_edges(scores, bins=BINS).tolist()
    parts = [scores[~is_query], scores[is_query]]
    labels = [f"other candidates ({len(parts[0])})", f"chosen ({len(parts[1])})"]
    axes.hist(parts, edges, stacked=True, color=[FAINT, PALETTE[5]], label=labels, edgecolor="white")
    axes.set_xlabel(f"Score by {WORDS[acquisition]}")
    axes.set_ylabel("Images")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend()
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
