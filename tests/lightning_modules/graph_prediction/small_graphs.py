"""Small batches of graphs for tests."""

import numpy as np
import torch
from torch import Tensor

from datamodules.graph_sets import GraphSet, make_graph_set


def graph_set(
    sizes: list[int], edges: list[tuple[int, int]], x: Tensor | None = None, *, self_loops: bool = False
) -> GraphSet:
    """Graphs of given sizes with undirected ``edges``, numbered over all graphs."""
    one, other = np.array(edges, dtype=np.int64).reshape(-1, 2).T
    total = sum(sizes)
    return make_graph_set(
        torch.ones(total, 1) if x is None else x,
        np.array(sizes),
        np.concatenate([one, other]),
        np.concatenate([other, one]),
        torch.zeros(len(sizes), dtype=torch.long),
        self_loops=self_loops,
    )


def whole(graphs: GraphSet) -> dict[str, Tensor]:
    """All graphs as one batch."""
    return graphs.batch(torch.arange(len(graphs)))


def random_graphs(seed: int, count: int = 4, width: int = 5, *, self_loops: bool = True) -> GraphSet:
    """Graphs of 3 to 8 nodes with float64 features; some nodes have no neighbour."""
    generator = np.random.default_rng(seed)
    sizes = generator.integers(3, 9, count)
    first = np.concatenate([[0], np.cumsum(sizes)])
    edges = [
        (int(first[g] + i), int(first[g] + j))
        for g, size in enumerate(sizes)
        for i in range(size)
        for j in range(i + 1, size)
        if generator.random() < 0.4
    ]
    x = torch.from_numpy(generator.normal(size=(int(sizes.sum()), width)))
    return graph_set(sizes.tolist(), edges, x, self_loops=self_loops)
