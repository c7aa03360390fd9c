"""Pictures of factors: graphs taken apart, which factor stands for which relation, what channels share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.figures import (
    FAINT,
    INK,
    MUTED,
    PALETTE,
    class_colour,
    class_label,
    in_house_style,
    new_figure,
    text_colour_on,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SHOWN_FACTORS = 6  # columns of predicted factor graphs, at most
LIGHTEST = 0.05  # weight below which an edge is not drawn


@dataclass(frozen=True)
class Example:
    """One graph with its relations and its factors.

    Attributes:
        number: of the graph in the data set.
        num_nodes: its nodes.
        edges: ``[u, 2]``, undirected, without self-loops.
        truth: ``[u, P]`` bool; no column where no relation is known.
        weights: ``[u, K]`` in [0, 1].
        matched: factor that stands for each relation of the graph, ``{t: k}``.
    """

    number: int
    num_nodes: int
    edges: np.ndarray
    truth: np.ndarray
    weights: np.ndarray
    matched: Mapping[int, int]


@in_house_style
def draw_factor_graphs(examples: Sequence[Example], names: Sequence[str]) -> "Figure":
    """Each row a graph: as it is, the known graphs it was made of, and the factor graphs that were found.

    Edges are as wide as their weight. In a factor graph that stands for a known graph the heaviest edges, as
    many as that has, are in its colour, however little they weigh: these are what GED_E compares.

    Args:
        examples: rows, at least one.
        names: of the P relations.
    """
    relations = max(int(example.truth.any(axis=0).sum()) for example in examples)
    factors = min(examples[0].weights.shape[1], SHOWN_FACTORS)
    columns = 1 + relations + factors
    figure, axes = new_figure(
        _examples_title(relations, factors),
        rows=len(examples),
        columns=columns,
        width=max(1.75 * columns, 7.0),
        height=1.95 * len(examples) + 0.9,
    )
    for row, example in enumerate(examples):
        places = _layout(example)
        mine = axes[row * columns : (row + 1) * columns]
        everything = np.ones(len(example.edges))
        _draw_graph(mine[0], places, example.edges, everything, MUTED, f"graph {example.number}")
        order = np.flatnonzero(example.truth.any(axis=0)).tolist()
        for place, t in zip(mine[1 : 1 + relations], order, strict=False):
            shown = example.truth[:, t].astype(float)
            _draw_graph(
                place, places, example.edges, shown, class_colour(t), f"true: {class_label(names, t)}"
            )
        for place in mine[1 + len(order) : 1 + relations]:
            place.set_axis_off()
        stands_for = {k: t for t, k in example.matched.items()}
        # those that stand for a relation first, in its order
        found = [example.matched[t] for t in order if t in example.matched]
        found += [k for k in range(example.weights.shape[1]) if k not in stands_for]
        for place, k in zip(mine[1 + relations :], found, strict=False):
            weights, title = example.weights[:, k], f"factor {k + 1}"
            if k not in stands_for:
                colour = FAINT if relations else class_colour(k)
                _draw_graph(place, places, example.edges, weights, colour, title)
                continue
            t = stands_for[k]
            heaviest = np.zeros(len(weights), dtype=bool)
            heaviest[np.argsort(-weights, kind="stable")[: example.truth[:, t].sum()]] = True
            right = int((heaviest & example.truth[:, t]).sum())
            title += f" ≈ {class_label(names, t)}, {right}/{heaviest.sum()}"
            _draw_edges(place, places, example.edges, np.where(heaviest, 0.0, weights), FAINT)
            shown = np.where(heaviest, np.maximum(weights, LIGHTEST), 0.0)
            _draw_graph(place, places, example.edges, shown, class_colour(t), title)
    return figure


def _examples_title(relations: int, factors: int) -> str:
    found = "factor graph" if factors == 1 else f"{factors} factor graphs"
    if relations:
        return f"Graphs, the known graphs that each is the sum of, and the {found} found in it"
    return f"Graphs and the {found} found in each"


def _layout(example: Example) -> np.ndarray:
    """Places of the nodes ``[n, 2]`` in [0, 1]: distances as in the graph, nodes without an edge below."""
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import shortest_path
    from sklearn.manifold import MDS

    n, (one, other) = example.num_nodes, example.edges.T
    links = coo_matrix((np.ones(len(one)), (one, other)), shape=(n, n))
    steps = shortest_path(links, directed=False, unweighted=True)
    joined = np.unique(example.edges)
    places = np.zeros((n, 2))
    if len(joined) > 1:
        apart = steps[np.ix_(joined, joined)]
        apart[np.isinf(apart)] = apart[np.isfinite(apart)].max() + 1
        # a power below 1 keeps near nodes apart, whose errors the stress hardly counts
        mds: Any = MDS(
            2, dissimilarity="precomputed", random_state=0, n_init=4, normalized_stress=False, init="random"
        )
        found = mds.fit_transform(apart**0.8)
        low, high = found.min(axis=0), found.max(axis=0)
        places[joined] = (found - low) / np.maximum(high - low, 1e-9)
    alone = np.setdiff1d(np.arange(n), joined)
    places[alone] = np.stack([np.linspace(0, 1, len(alone)), np.full(len(alone), -0.22)], axis=1)
    return places


def _draw_edges(
    axes: "Axes", places: np.ndarray, edges: np.ndarray, weights: np.ndarray, colour: str
) -> None:
    from matplotlib.collections import LineCollection

    shown = weights >= LIGHTEST
    widths = 0.8 + 1.8 * weights[shown]
    lines = LineCollection(list(places[edges[shown]]), linewidths=widths, colors=colour, alpha=0.95)
    axes.add_collection(lines)


def _draw_graph(
    axes: "Axes", places: np.ndarray, edges: np.ndarray, weights: np.ndarray, colour: str, title: str
) -> None:
    _draw_edges(axes, places, edges, weights, colour)
    touched = np.zeros(len(places), dtype=bool)
    touched[edges[weights >= 0.5]] = True
    for chosen, face in ((touched, INK), (~touched, FAINT)):
        x, y = places[chosen].T
        axes.scatter(x, y, s=13 if face == INK else 6, color=face, zorder=3, linewidths=0)
    axes.set_title(title, fontsize=9, color=INK if colour != FAINT else MUTED, loc="left", pad=3)
    axes.set_xlim(-0.1, 1.1)
    axes.set_ylim(-0.32, 1.1)
    axes.set_axis_off()


@in_house_style
def draw_assignment(
    counts: np.ndarray, names: Sequence[str], scores: Mapping[str, float], what: str
) -> "Figure":
    """Which factor stands for which relation how often, and both measures beside their null predictors.

    Args:
        counts: ``[P, K]``, graphs in which relation t was assigned factor k.
        names: of the relations.
        scores: ``ged``, ``c_score``, and both with ``_random`` and ``_equal``.
        what: whose factors they are, for the title.
    """
    from matplotlib.colors import LinearSegmentedColormap

    share = 100 * counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    title = (
        f"{what}: C-Score {scores['c_score']:.2f} (random weights {scores['c_score_random']:.2f}),"
        f" GED {scores['ged']:.1f} ({scores['ged_random']:.1f})"
    )
    figure, (table, left, right) = new_figure(
        title, columns=3, width=10.5, height=3.9, width_ratios=[1.7, 1.0, 1.0]
    )
    colours = LinearSegmentedColormap.from_list("share", ["#f4f7fb", PALETTE[0]])
    table.imshow(share, cmap=colours, vmin=0, vmax=100, aspect="auto")
    for (t, k), value in np.ndenumerate(share):
        colour = text_colour_on(PALETTE[0]) if value > 55 else INK
        table.text(k, t, f"{value:.0f}", ha="center", va="center", fontsize=9.5, color=colour)
    table.set_xticks(range(counts.shape[1]), [str(k + 1) for k in range(counts.shape[1])])
    table.set_yticks(range(counts.shape[0]), [class_label(names, t) for t in range(counts.shape[0])])
    table.set_xlabel("Factor")
    table.set_title("Graphs in which it stands for the relation (%)")
    table.tick_params(length=0)
    table.grid(visible=False)
    kinds = (("", "found", PALETTE[0]), ("_random", "random", FAINT), ("_equal", "all equal", FAINT))
    for axes, key, label in (
        (left, "c_score", "C-Score, higher is better"),
        (right, "ged", "GED, lower is better"),
    ):
        for place, (suffix, _, colour) in enumerate(kinds):
            value = scores[key + suffix]
            axes.bar(place, value, color=colour, width=0.7)
            axes.text(
                place, value, f"{value:.2f}" if key == "c_score" else f"{value:.1f}", ha="center", va="bottom"
            )
        axes.set_xticks(range(len(kinds)), [name for _, name, _ in kinds])
        axes.set_title(label)
        axes.margins(y=0.15)
        axes.tick_params(length=0)
        axes.grid(visible=False, axis="x")
    return figure


@in_house_style
def draw_correlation(features: np.ndarray, num_factors: int, layer: int) -> "Figure":
    """How alike the channels of a layer are: absolute correlation over all nodes, factor by factor.

    Args:
        features: ``[n, H]``, a layer's output.
        num_factors: K; channels of a factor lie side by side.
        layer: its number, from 1 on.
    """
    varying = features.std(axis=0) > 0
    correlation = np.zeros((features.shape[1],) * 2)
    correlation[np.ix_(varying, varying)] = np.abs(np.corrcoef(features[:, varying], rowvar=False))
    width = features.shape[1] // num_factors
    block = np.arange(features.shape[1]) // width
    same = (block[:, None] == block) & ~np.eye(len(block), dtype=bool)
    other = block[:, None] != block
    title = f"Correlation of the channels of layer {layer}"
    if num_factors > 1:
        within = f"{correlation[same].mean():.2f} within" if same.any() else "one channel to"
        title += f": {within} a factor, {correlation[other].mean():.2f} between factors"
    figure, (axes,) = new_figure(title, width=6.6, height=6.0)
    image = axes.imshow(correlation, cmap="Blues", vmin=0, vmax=1)
    for edge in range(width, features.shape[1], width):
        axes.axhline(edge - 0.5, color="white", linewidth=1.6)
        axes.axvline(edge - 0.5, color="white", linewidth=1.6)
    middles = [width * k + (width - 1) / 2 for k in range(num_factors)]
    names = [f"factor {k + 1}" if num_factors <= 5 else str(k + 1) for k in range(num_factors)]
    axes.set_xticks(middles, names)
    axes.set_yticks(middles, names, rotation=90 if num_factors <= 5 else 0, va="center")
    axes.tick_params(length=0)
    axes.grid(visible=False)
    bar = figure.colorbar(image, ax=axes, shrink=0.7)
    bar.set_label("|Pearson correlation|")
    bar.outline.set_visible(False)
    return figure


@in_house_style
def draw_weights(layers: Sequence[np.ndarray]) -> "Figure":
    """How edges are shared out: a histogram of the weights in each factor of each layer.

    Args:
        layers: ``[m, K]`` in [0, 1] of each layer that has factors.
    """
    together = np.concatenate([weights.ravel() for weights in layers])
    extreme = 100 * ((together < 1e-3) | (together > 1 - 1e-3)).mean()
    figure, axes = new_figure(
        f"Weights of edges in factors: {extreme:.0f} % are saturated, within 0.001 of 0 or 1",
        rows=len(layers),
        height=1.9 * len(layers) + 1.2,
        sharex=True,
    )
    bins = np.linspace(0, 1, 41)
    for number, (place, weights) in enumerate(zip(axes, layers, strict=True), start=1):
        for k, column in enumerate(weights.T):
            shares = 100 * np.histogram(column, bins)[0] / max(len(column), 1)
            label = f"{k + 1}: mean {column.mean():.2f}"
            place.stairs(shares, bins, color=class_colour(k), linewidth=1.6, label=label)
        place.set_title(f"Layer {number}")
        place.set_ylabel("Edges (%)")
        place.legend(loc="upper center", ncols=4, fontsize=8.5)
    axes[-1].set_xlabel("Weight")
    return figure
