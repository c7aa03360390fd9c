"""A small generated citation network: a degree-corrected block model with topical words.

Source: the stand-in of the SPAGAN specification; the block model is that of Karrer and Newman, "Stochastic
blockmodels and community structure in networks", 2011. The specification leaves the distribution of
degrees open; ours has a power-law tail, as citations have.
"""

import numpy as np
import scipy.sparse
from numpy.random import Generator
from numpy.typing import NDArray
from torch_geometric.data import Data

from datamodules.graph import (
    GraphDataModule,
    make_graph,
    pick_per_class,
    row_normalised,
    undirected_edge_index,
)
from harness.annotations import NonNegativeInt, PositiveInt

_NUM_NODES, _NUM_CLASSES = 600, 4
_MEAN_DEGREE, _WITHIN = 4, 0.8  # edges per node; share of edges inside a class
_NUM_WORDS, _TOPICAL = 120, 24  # vocabulary; words that belong to each class, 24 more belong to none
_P_TOPICAL, _P_OTHER = 0.08, 0.02  # probability of a word of the own topic, of any other
_TRAIN_PER_CLASS, _NUM_VAL, _NUM_TEST = 10, 100, 300
_TAIL, _LARGEST_PROPENSITY = 2.0, 10.0  # propensities: Pareto on [1, 10], density falling as w^-3


class MiniCitationDataModule(GraphDataModule):
    """600 papers in 4 equal classes, mean degree exactly 4, exactly 80 % of the edges within a class.

    Ten training nodes per class, 100 for validation, 300 for testing; the others are unlabelled.

    Args:
        in_channels: words in the vocabulary, 120.
        num_classes: 4.
        graph_seed: seed of edges, words and split, and of nothing else.
    """

    tasks = ("node_classification",)

    def __init__(
        self, in_channels: PositiveInt, num_classes: PositiveInt, graph_seed: NonNegativeInt
    ) -> None:
        super().__init__("mini_citation", in_channels, num_classes)
        self.graph_seed = graph_seed

    def build(self) -> Data:
        generator = np.random.default_rng(self.graph_seed)
        y = generator.permutation(np.arange(_NUM_NODES) % _NUM_CLASSES)
        num_edges = _NUM_NODES * _MEAN_DEGREE // 2
        num_within = round(_WITHIN * num_edges)
        propensity = np.minimum(1.0 + generator.pareto(_TAIL, _NUM_NODES), _LARGEST_PROPENSITY)
        within = draw_edges(y, propensity, num_within, True, generator)
        between = draw_edges(y, propensity, num_edges - num_within, False, generator)
        row, col = np.concatenate([within, between], axis=1)  # [2, edges]
        topic = np.arange(_NUM_WORDS) // _TOPICAL  # [words]; those of topic 4 belong to no class
        chance = np.where(topic[None, :] == y[:, None], _P_TOPICAL, _P_OTHER)  # [N, words]
        words = scipy.sparse.csr_matrix(generator.random(chance.shape) < chance, dtype=np.float32)
        train, others = pick_per_class(y, generator.permutation(_NUM_NODES), _TRAIN_PER_CLASS, "train")
        val, test = others[:_NUM_VAL], others[_NUM_VAL : _NUM_VAL + _NUM_TEST]
        return make_graph(
            row_normalised(words), undirected_edge_index(row, col, _NUM_NODES), y, train, val, test
        )


def draw_edges(
    y: NDArray[np.int64], propensity: NDArray[np.float64], count: int, within: bool, generator: Generator
) -> NDArray[np.int64]:
    """``count`` distinct undirected edges, ends chosen in proportion to ``propensity``.

    Args:
        y: ``[N]`` classes.
        propensity: ``[N]``, positive; expected degrees are proportional to it.
        count: edges to draw.
        within: both ends of one class, or of two different ones.
        generator: where draws come from.

    Returns:
        ``[2, count]``, smaller node id first.
    """
    share = propensity / propensity.sum()
    edges = np.empty((2, 0), dtype=np.int64)
    while edges.shape[1] < count:
        ends = np.sort(generator.choice(len(y), (2, 4 * count), p=share), axis=0)
        fits = (ends[0] != ends[1]) & ((y[ends[0]] == y[ends[1]]) == within)
        edges = np.concatenate([edges, ends[:, fits]], axis=1)
        # The first of each pair of equals stays, in the order drawn: a sorted set would favour small ids.
        _, first = np.unique(edges, axis=1, return_index=True)
        edges = edges[:, np.sort(first)]
    return edges[:, :count]
