"""SPAGAN's pictures: what its paths cost, how they are sampled, and where attention goes.

Pure functions from arrays to figures; ``diagnostics.py`` makes the arrays. A length is the number of nodes of
a path, both ends included.
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
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


# Kept apart from the colours of classes, which share a drawing with them. Direct neighbours are grey: what
# the method adds stands out.
LENGTH_COLOURS = ("#9aa5b1", "#332288", "#aa4499", "#117733")


def length_label(length: int) -> str:
    """``3 nodes (2 hops)``."""
    return f"{length} nodes ({length - 1} hop{'s' if length > 2 else ''})"


def length_colour(length: int) -> str:
    """The colour of paths of ``length`` nodes in every picture."""
    return LENGTH_COLOURS[(length - 2) % len(LENGTH_COLOURS)]


@in_house_style
def draw_cost_histogram(costs: np.ndarray) -> "Figure":
    """How the costs of the edges are spread.

    Args:
        costs: ``[E]``, in [0, 1]; values that are not finite are left out.
    """
    costs = costs[np.isfinite(costs)]
    if not costs.size:
        return _nothing("Edge costs", "the graph has no edges")
    median = float(np.median(costs))
    figure, (axes,) = new_figure(f"Half of the {costs.size:,} directed edges cost less than {median:.2f}")
    axes.hist(
        costs,
        bins=np.linspace(0, 1, 41).tolist(),
        weights=np.full(costs.size, 100 / costs.size),
        color=PALETTE[0],
        edgecolor="white",
        linewidth=0.6,
    )
    axes.axvline(median, color=INK, linewidth=1.3)
    axes.annotate(
        f"median {median:.2f}",
        (median, 1.0),
        xycoords=("data", "axes fraction"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="center",
        fontsize=9.5,
    )
    axes.set_xlim(-0.01, 1.01)
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("Edge cost, 1 − mean attention / largest (0: the most attended edge)")
    axes.set_ylabel("Share of edges (%)")
    return figure


@in_house_style
def draw_path_counts(
    lengths: np.ndarray, found: np.ndarray, kept: np.ndarray, self_paths: np.ndarray
) -> "Figure":
    """Number of paths of each length before and after sampling, self paths apart.

    Args:
        lengths: ``[L]``, nodes per path.
        found: ``[L]``, before sampling, without self paths.
        kept: ``[L]``, after sampling, without self paths.
        self_paths: ``[L]``.
    """
    total = int(found.sum())
    share = f"{100 * kept.sum() / total:.0f} %" if total else "none"
    figure, (axes,) = new_figure(
        f"Sampling keeps {share} of the {total:,} cheapest paths found",
        height=2.0 + 0.95 * max(len(lengths), 1),
    )
    rows = np.arange(len(lengths))
    series = (
        (found, "found", FAINT),
        (kept, "kept", PALETTE[0]),
        (self_paths, "self paths, added", PALETTE[1]),
    )
    for offset, (values, label, colour) in zip((-0.27, 0.0, 0.27), series, strict=True):
        bars = axes.barh(rows + offset, values, height=0.25, color=colour, label=label)
        axes.bar_label(bars, labels=[f"{value:,.0f}" for value in values], padding=4, fontsize=9.5)
    axes.set_yticks(rows, [length_label(int(c)) for c in lengths])
    axes.set_ylim(max(len(lengths), 1) - 0.5, -0.5)
    axes.margins(x=0.12)
    axes.grid(visible=False, axis="y")
    axes.set_ylabel("Path length")
    axes.set_xlabel("Number of paths")
    axes.xaxis.set_major_formatter("{x:,.0f}")
    figure.legend(loc="outside lower left", ncols=3)
    return figure


@in_house_style
def draw_length_attention(
    lengths: np.ndarray, mean_beta: np.ndarray, class_names: Sequence[str], class_sizes: np.ndarray
) -> "Figure":
    """How the nodes of each class divide their attention among path lengths.

    Args:
        lengths: ``[L]``.
        mean_beta: ``[L, K]``, columns sum to 1; a column of NaN (class without nodes) stays empty.
        class_names: K names, or fewer.
        class_sizes: ``[K]``, nodes per class.
    """
    num_classes = mean_beta.shape[1]
    known = ~np.isnan(mean_beta).any(axis=0)
    # The mean over nodes, so that large classes count for more.
    weight = np.where(known, class_sizes, 0)
    overall = np.nan_to_num(mean_beta) @ weight / max(weight.sum(), 1)
    figure, (axes,) = new_figure(_length_title(lengths, overall), height=2.1 + 0.36 * (num_classes + 1))
    shares = np.concatenate([overall[:, None], mean_beta], axis=1)  # [L, 1 + K]
    rows = np.concatenate([[0.0], np.arange(num_classes) + 1.4])
    left = np.zeros(num_classes + 1)
    for length, values in zip(lengths.tolist(), np.nan_to_num(100 * shares), strict=True):
        bars = axes.barh(
            rows, values, left=left, height=0.78, color=length_colour(length), label=length_label(length)
        )
        texts = [f"{value:.0f}" if value >= 5 else "" for value in values]
        axes.bar_label(
            bars, labels=texts, label_type="center", fontsize=9.5, color=text_colour_on(length_colour(length))
        )
        left += values
    for row in rows[1:][~known]:
        axes.text(1, row, "no nodes", va="center", color=MUTED, fontsize=9.5)
    names = ["All nodes", *(class_label(class_names, index) for index in range(num_classes))]
    axes.set_yticks(rows, names)
    axes.set_ylim(rows[-1] + 0.6, -0.6)
    axes.set_xlim(0, 100)
    axes.grid(visible=False)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel("Mean attention to paths of each length (%)")
    figure.legend(loc="outside lower left", ncols=min(len(lengths), 4))
    return figure


def _length_title(lengths: np.ndarray, overall: np.ndarray) -> str:
    if len(lengths) < 2:
        return "Length attention: there is one length, which takes all of it"
    return f"Paths beyond direct neighbours take {100 * overall[1:].sum():.0f} % of length attention"


@in_house_style
def draw_attention_spread(
    self_share: Mapping[int, np.ndarray], entropy: Mapping[int, np.ndarray]
) -> "Figure":
    """Two histograms per length over nodes: attention on the self path, and entropy of path attention.

    Args:
        self_share: per length ``[N]``, in [0, 1]; NaN for nodes whose only path is the self path.
        entropy: per length ``[N]``, in [0, 1], relative to equal weights; NaN likewise.
    """
    lengths = sorted(self_share)
    if not lengths:
        return _nothing("Path attention", "there are no paths")
    figure, axes = new_figure(
        _spread_title(self_share),
        rows=len(lengths),
        columns=2,
        height=1.6 + 1.55 * len(lengths),
        sharex="col",
    )
    bins = np.linspace(0, 1, 41)
    for row, length in enumerate(lengths):
        for column, values in enumerate((self_share[length], entropy[length])):
            panel = axes[2 * row + column]
            finite = values[np.isfinite(values)]
            _draw_distribution(panel, finite, bins.tolist(), length_colour(length))
            if column == 0:
                panel.set_title(f"Paths of {length_label(length)}")
                panel.set_ylabel("Nodes (%)")
            else:
                panel.set_title(f"{finite.size:,} of {values.size:,} nodes have a choice")
    axes[-2].set_xlabel("Attention on the self path (share)")
    axes[-1].set_xlabel("Entropy of path attention (1: all paths equal)")
    for panel in axes[-2:]:
        panel.set_xlim(-0.01, 1.01)
    return figure


def _spread_title(self_share: Mapping[int, np.ndarray]) -> str:
    medians = {c: values[np.isfinite(values)] for c, values in sorted(self_share.items())}
    parts = [f"{100 * np.median(v):.0f} % ({c} nodes)" for c, v in medians.items() if v.size]
    if not parts or len(parts) > 2:
        return "Attention on the self path, and how evenly attention is spread"
    return f"Median attention on the self path: {', '.join(parts)}"


def _draw_distribution(axes: "Axes", values: np.ndarray, bins: list[float], colour: str) -> None:
    axes.grid(visible=False, axis="x")
    if not values.size:
        axes.text(0.5, 0.5, "no node has a choice", transform=axes.transAxes, ha="center", color=MUTED)
        axes.set_yticks([])
        return
    # Rounding may carry an entropy past 1 by an ulp, where the last bin would lose it.
    axes.hist(np.clip(values, 0, 1), bins=bins, weights=np.full(values.size, 100 / values.size), color=colour)
    axes.margins(y=0.3)  # room for the label above the bars
    median = float(np.median(values))
    axes.axvline(median, color=INK, linewidth=1.3)
    is_right = median > 0.6
    axes.annotate(
        f"median {median:.2f}",
        (median, 0.97),
        xycoords=("data", "axes fraction"),
        xytext=(-5 if is_right else 5, 0),
        textcoords="offset points",
        ha="right" if is_right else "left",
        va="top",
        fontsize=9.5,
    )


@in_house_style
def draw_label_agreement(
    lengths: np.ndarray,
    agreement: np.ndarray,
    weighted_agreement: np.ndarray,
    homophily: float,
    chance: float,
) -> "Figure":
    """How often the end of a kept path has the centre's class, against edges and against chance.

    Args:
        lengths: ``[L]``.
        agreement: ``[L]``, shares in [0, 1]; NaN where there is no path.
        weighted_agreement: ``[L]``, paths counted by their attention.
        homophily: share of edges within a class.
        chance: share of node pairs within a class.
    """
    figure, (axes,) = new_figure(_agreement_title(lengths, agreement))
    rows = np.arange(len(lengths))
    pairs = ((agreement, "kept paths", PALETTE[0]), (weighted_agreement, "weighted by attention", PALETTE[4]))
    for offset, (values, label, colour) in zip((-0.19, 0.19), pairs, strict=True):
        axes.bar(rows + offset, np.nan_to_num(100 * values), width=0.34, color=colour, label=label)
        for place, value in zip(rows + offset, values, strict=True):
            # At the foot, since the reference lines tend to run through the top.
            axes.text(
                place,
                1.5,
                "none" if np.isnan(value) else f"{100 * value:.1f}",
                ha="center",
                fontsize=9.5,
                color=text_colour_on(colour) if value > 0.08 else INK,
            )
    references = (
        (homophily, "all edges", (0, (6, 2)), PALETTE[5]),
        (chance, "random pairs", (0, (1, 2)), INK),
    )
    for value, name, dashes, colour in references:
        if np.isfinite(value):
            label = f"{name}: {100 * value:.1f} %"
            axes.axhline(100 * value, color=colour, linewidth=1.4, linestyle=dashes, label=label, zorder=1)
    axes.set_xticks(rows, [length_label(int(c)) for c in lengths])
    axes.set_xlim(-0.6, max(len(lengths), 1) - 0.4)
    axes.set_ylim(0, 108)
    axes.set_yticks(range(0, 101, 20))
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("Path length")
    axes.set_ylabel("Ends in the centre's class (%)")
    figure.legend(loc="outside lower left", ncols=4)
    return figure


def _agreement_title(lengths: np.ndarray, agreement: np.ndarray) -> str:
    known = np.flatnonzero(~np.isnan(agreement))
    if not known.size:
        return "Label agreement along paths: there are none"
    last = int(known[-1])
    share = f"{100 * agreement[last]:.0f} %"
    return f"{share} of kept paths of {lengths[last]} nodes end in a node of the centre's class"


@in_house_style
def draw_unchanged_paths(shares: Sequence[Mapping[int, float]]) -> "Figure":
    """Which part of each path set survives when the paths are built anew.

    Args:
        shares: item t is the share, per length, of iteration t + 1's paths found again in iteration t + 2;
            NaN where there were none. At least one item, so that a run needs two iterations for it.
    """
    if not shares:
        return _nothing("Paths that stay the same", "paths were built only once")
    lengths = sorted(shares[0])
    figure, (axes,) = new_figure("Paths that stay the same when attention is learnt anew")
    places = np.arange(len(shares))
    width = 0.8 / max(len(lengths), 1)
    for index, length in enumerate(lengths):
        values = np.array([100 * share[length] for share in shares])
        bars = axes.bar(
            places + (index - (len(lengths) - 1) / 2) * width,
            np.nan_to_num(values),
            width=0.9 * width,
            color=length_colour(length),
            label=length_label(length),
        )
        texts = ["none" if np.isnan(value) else f"{value:.1f}" for value in values]
        axes.bar_label(bars, labels=texts, padding=2, fontsize=9.5)
    axes.set_xticks(places, [f"{place + 1} → {place + 2}" for place in places])
    axes.set_xlim(-0.6, len(shares) - 0.4)
    axes.set_ylim(0, 108)
    axes.set_yticks(range(0, 101, 20))
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("From iteration to iteration")
    axes.set_ylabel("Paths unchanged (%)")
    figure.legend(loc="outside lower left", ncols=4)
    return figure


def _nothing(title: str, reason: str) -> "Figure":
    """A picture that says why it is empty; a missing file would leave the reader guessing."""
    figure, (axes,) = new_figure(title)
    axes.set_axis_off()
    axes.text(0.5, 0.5, reason, ha="center", transform=axes.transAxes, color=MUTED)
    return figure
