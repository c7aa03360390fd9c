"""How well factor graphs agree with the relations that a graph was made of: GED_E and the C-Score.

FactorGCN (arXiv 2010.05421), as its authors' code computes them: predictions are compared with the truth as
0/1 matrices of a fixed node order, so no edit distance is searched for. Of a prediction for a relation of e
edges the e heaviest are taken. Everything is in float64, since a saturated sigmoid ties in float32.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class UndirectedEdges:
    """The undirected edges of B graphs without self-loops, sorted by graph.

    Attributes:
        graph: ``[u]``, graph of each edge.
        truth: ``[u, P]`` bool, the relations that each edge belongs to.
        weights: ``[u, K]``, mean of the predictions for its two directions.
        num_graphs: B.
    """

    graph: NDArray[np.int64]
    truth: NDArray[np.bool_]
    weights: Floats
    num_graphs: int


def undirected_edges(
    weights: Floats,
    truth: NDArray[np.bool_],
    edge_index: NDArray[np.int64],
    reverse: NDArray[np.int64],
    batch: NDArray[np.int64],
    num_graphs: int,
) -> UndirectedEdges:
    """One entry for the two directions of each edge.

    Args:
        weights: ``[m, K]``, predictions for directed edges.
        truth: ``[m, P]``.
        edge_index: ``[2, m]``, source and target.
        reverse: ``[m]``, the opposite edges.
        batch: ``[n]``, graph of each node, ascending.
        num_graphs: B.
    """
    kept = np.flatnonzero(edge_index[0] < edge_index[1])
    graph = batch[edge_index[0, kept]]
    mean = (weights[kept].astype(np.float64) + weights[reverse[kept]]) / 2
    return UndirectedEdges(graph, truth[kept], mean, num_graphs)


def differing_entries(edges: UndirectedEdges) -> tuple[Floats, NDArray[np.int64]]:
    """Entries in which each relation's matrix differs from each prediction's.

    Of relation t with e undirected edges, the e heaviest edges of prediction k are set to 1. What is no edge
    has weight 0 and is never among them. Equal weights are taken in the order of the edges.

    Returns:
        ``[B, P, K]``, each undirected edge counting twice, as a matrix has it; and e, ``[B, P]``.
    """
    graph, num_graphs = edges.graph, edges.num_graphs
    sizes = np.stack(
        [np.bincount(graph, weights=column, minlength=num_graphs) for column in edges.truth.T], axis=1
    ).astype(np.int64)  # [B, P]
    first = np.concatenate([[0], np.cumsum(np.bincount(graph, minlength=num_graphs))])
    places = np.arange(len(graph)) - first[graph]
    costs = np.empty((num_graphs, edges.truth.shape[1], edges.weights.shape[1]))
    rank = np.empty(len(graph), dtype=np.int64)
    for k, column in enumerate(edges.weights.T):
        rank[np.lexsort((-column, graph))] = places  # the heaviest edge of each graph has rank 0
        for t, mine in enumerate(edges.truth.T):
            hit = mine & (rank < sizes[graph, t]) & (column > 0)  # a weight of 0 is as good as no edge
            hits = np.bincount(graph, weights=hit, minlength=num_graphs)
            # e - hits were missed and as many taken in their place, each in two entries
            costs[:, t, k] = 4 * (sizes[:, t] - hits)
    return costs, sizes


@dataclass(frozen=True)
class Assigned:
    """Which prediction stands for which relation.

    Attributes:
        distance: ``[B]``, GED_E of each graph; NaN for a graph without any relation.
        by_index: ``[P, K]``, graphs in which relation t was assigned prediction k, equal costs being decided
            for the lowest k.
        at_random: ``[P, K]``, likewise with the predictions of each graph in random order.
    """

    distance: Floats
    by_index: NDArray[np.int64]
    at_random: NDArray[np.int64]


def assign(costs: Floats, sizes: NDArray[np.int64], numbers: NDArray[np.int64]) -> Assigned:
    """Assigns predictions to relations so that the sum of differing entries is least, graph by graph.

    Costs are small integers that tie often, and an assignment by index then looks consistent by itself: equal
    weights everywhere reach a C-Score of 0.5. With the predictions in random order they do not. The relations
    of a graph come in random order both times, as the authors' generator has them.

    A relation beyond the K that can be assigned is compared with no edges at all.

    Args:
        costs: ``[B, P, K]``.
        sizes: ``[B, P]``, undirected edges of each relation; 0 where a graph lacks it.
        numbers: ``[B]``, numbers of the graphs, which alone decide their random order.
    """
    from scipy.optimize import linear_sum_assignment

    num_graphs, num_relations, num_factors = costs.shape
    distance = np.full(num_graphs, np.nan)
    tables = np.zeros((2, num_relations, num_factors), dtype=np.int64)
    for b in range(num_graphs):
        present = np.flatnonzero(sizes[b])
        if not len(present):
            continue
        generator = np.random.default_rng((_TIES, numbers[b]))
        present = generator.permutation(present)
        cost = costs[b, present]
        orders = np.arange(num_factors), generator.permutation(num_factors)
        for table, order in zip(tables, orders, strict=True):
            rows, columns = linear_sum_assignment(cost[:, order])
            table[present[rows], order[columns]] += 1
        total = cost[rows, order[columns]].sum()
        if len(rows) < len(present):
            total += 2 * np.delete(sizes[b, present], rows).sum()
        distance[b] = total / len(present)
    return Assigned(distance, *tables)


_TIES, _WEIGHTS = 1, 2  # so that the two kinds of random numbers of a graph are unrelated


def matched_factors(costs: Floats, sizes: NDArray[np.int64]) -> dict[int, int]:
    """Which prediction stands for which relation of a graph, ``{t: k}``; costs ``[P, K]``, sizes ``[P]``."""
    from scipy.optimize import linear_sum_assignment

    present = np.flatnonzero(sizes)
    rows, columns = linear_sum_assignment(costs[present])
    return dict(zip(present[rows].tolist(), columns.tolist(), strict=True))


def c_score(counts: NDArray[np.int64]) -> float:
    """How consistently relations are assigned the same prediction: the C-Score.

    For every relation the share of its most frequent prediction, averaged over relations.

    Args:
        counts: ``[P, K]``, graphs in which relation t was assigned prediction k.

    Returns:
        In [1 / K, 1]; NaN where nothing was assigned.
    """
    totals = counts.sum(axis=1)
    found = totals > 0
    return float((counts[found].max(axis=1) / totals[found]).mean()) if found.any() else float("nan")


def random_weights(edges: UndirectedEdges, numbers: NDArray[np.int64]) -> Floats:
    """Uniform random weights ``[u, K]``, those of a graph following from its number alone."""
    sizes = np.bincount(edges.graph, minlength=edges.num_graphs)
    num_factors = edges.weights.shape[1]
    return np.concatenate(
        [
            np.random.default_rng((_WEIGHTS, number)).random((size, num_factors))
            for size, number in zip(sizes, numbers, strict=True)
        ]
    )
