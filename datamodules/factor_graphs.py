"""Graphs that are sums of known graphs: the generator of FactorGCN's synthetic experiment.

Yang et al., NeurIPS 2020, arXiv 2010.05421, with the details of the authors' code. Every graph
is made of several of six small graphs, each with its nodes in a random order, laid over each other. Which
ones is what is to be predicted; where each lies is what its factor graphs should show.

20,000 graphs take less than a second (``python -m benchmarks.factorgcn``), so none are kept on disk.
"""

from typing import Annotated, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from datamodules.graph_sets import GraphSet, GraphSetDataModule, Split, make_graph_set, split_in_order
from harness.annotations import NonNegativeInt, PositiveInt

NUM_NODES = 15

BASE_GRAPHS: dict[str, tuple[tuple[int, int], ...]] = {
    "bipartite": tuple((a, b) for a in (0, 1) for b in (2, 3, 4)),  # Turan(5, 2)
    "house": (
        (0, 1),
        (1, 2),
        (2, 3),
        (3, 0),
        (0, 2),
        (1, 3),
        (2, 4),
        (3, 4),
    ),  # a square, its diagonals, a roof
    "tree": tuple((p, 3 * p + c) for p in range(4) for c in (1, 2, 3)),  # ternary, of height 2
    "grid": (
        *((3 * row + column, 3 * row + column + 1) for row in range(3) for column in range(2)),
        *((3 * row + column, 3 * row + column + 3) for row in range(2) for column in range(3)),
    ),
    "cube": tuple((a, a | bit) for bit in (1, 2, 4) for a in range(8) if not a & bit),
    "octahedron": tuple((a, b) for a in range(6) for b in range(a + 1, 6) if a + b != 5),
}
"""Undirected edges of the graphs that are laid over each other, in the authors' order."""


class FactorGraphsDataModule(GraphSetDataModule):
    """Graphs of 15 nodes, each the sum of half of the first ``num_classes`` base graphs.

    Features are the rows of the summed adjacency matrix (0, 1, or more where base graphs overlap), so that a
    node's features name its neighbours by their position: relabelling the nodes also permutes the features,
    and no network on them is indifferent to it. 70 % of the graphs are for training, 10 % for validation,
    20 % for testing, in the order in which they are generated.

    Args:
        in_channels: nodes of a graph, 15.
        num_classes: base graphs in play, 2 to 6; half of them, rounded up, are in each graph. With 2 there is
            one in each, and nothing to disentangle.
        target: several labels.
        folds: 1, there is a fixed split.
        protocol: of a cross-validation, which there is none.
        num_graphs: graphs in all.
        graph_seed: seed of the graphs, and of nothing else.
        self_loops: adds an edge from each node to itself, as the authors do; it is in no base graph.
        batch_size: graphs of one optimiser step, over all processes.
        seed: of the order of the graphs.
    """

    tasks = ("graph_prediction",)

    def __init__(
        self,
        in_channels: PositiveInt,
        num_classes: Annotated[int, Field(ge=2, le=6)],
        target: Literal["multi_label"],
        folds: Annotated[int, Field(ge=1, le=1)],
        protocol: Literal["gin"],
        num_graphs: Annotated[int, Field(ge=10)],
        graph_seed: NonNegativeInt,
        self_loops: bool,
        batch_size: PositiveInt,
        seed: NonNegativeInt,
    ) -> None:
        names = list(BASE_GRAPHS)[:num_classes]
        super().__init__(
            choice="factor_graphs",
            in_channels=in_channels,
            num_classes=num_classes,
            target="multi_label",
            batch_size=batch_size,
            seed=seed,
            class_names=names,
            factor_names=names,
        )
        self.num_graphs, self.graph_seed, self.self_loops = num_graphs, graph_seed, self_loops

    def build(self) -> dict[Split, GraphSet]:
        graphs = generate(self.num_graphs, self.num_classes, self.graph_seed, self.self_loops)
        return split_in_order(graphs, {"train": 0.7, "val": 0.1, "test": 0.2})


def base_adjacencies(count: int) -> NDArray[np.bool_]:
    """The first base graphs as symmetric matrices padded to 15 nodes, ``[count, 15, 15]``."""
    matrices = np.zeros((count, NUM_NODES, NUM_NODES), dtype=bool)
    for matrix, pairs in zip(matrices, BASE_GRAPHS.values(), strict=False):
        one, other = np.array(pairs).T
        matrix[one, other] = matrix[other, one] = True
    return matrices


def generate(num_graphs: int, num_factors: int, seed: int, self_loops: bool) -> GraphSet:
    """Graphs with their labels and with the base graphs that each edge belongs to.

    Args:
        num_graphs: G.
        num_factors: C, base graphs in play.
        seed: of all draws.
        self_loops: adds one to each node.

    Returns:
        ``x`` ``[15 G, 15]``, ``y`` ``[G, C]`` of 0 and 1, ``edge_factors`` ``[m, C]``.
    """
    generator = np.random.default_rng(seed)
    chosen = (num_factors + 1) // 2
    kinds = np.argsort(generator.random((num_graphs, num_factors)), axis=1)[:, :chosen]
    orders = np.argsort(generator.random((num_graphs, chosen, NUM_NODES)), axis=2)
    bases = base_adjacencies(num_factors)
    layers = np.zeros((num_graphs, num_factors, NUM_NODES, NUM_NODES), dtype=bool)
    rows = np.arange(num_graphs)
    for place in range(chosen):
        kind, order = kinds[:, place], orders[:, place]
        layers[rows, kind] = bases[kind[:, None, None], order[:, :, None], order[:, None, :]]
    summed = layers.sum(axis=1, dtype=np.int64)  # [G, 15, 15]
    graph, target, source = np.nonzero(summed)
    y = np.zeros((num_graphs, num_factors), dtype=np.float32)
    np.put_along_axis(y, kinds, 1, axis=1)
    return make_graph_set(
        torch.from_numpy(summed.reshape(-1, NUM_NODES).astype(np.float32)),
        np.full(num_graphs, NUM_NODES),
        graph * NUM_NODES + source,
        graph * NUM_NODES + target,
        torch.from_numpy(y),
        layers[graph, :, target, source],
        self_loops=self_loops,
    )
