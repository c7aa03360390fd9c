"""A generated citation graph of Cora's size, for benchmarks where Cora itself is not at hand."""

import numpy as np
import scipy.sparse
from torch_geometric.data import Data

from datamodules.graph import GraphDataModule, make_graph, row_normalised, undirected_edge_index

NODES, WORDS, WORDS_PER_NODE, CLASSES, EDGES = 2708, 1433, 18, 7, 5278


class CoraSized(GraphDataModule):
    """2,708 nodes, 5,278 edges with a skewed degree, 1,433 words; features and labels are random."""

    def __init__(self) -> None:
        super().__init__("cora_sized", WORDS, CLASSES)

    def build(self) -> Data:
        rng = np.random.default_rng(0)
        columns = np.concatenate([rng.choice(WORDS, WORDS_PER_NODE, replace=False) for _ in range(NODES)])
        rows = np.repeat(np.arange(NODES), WORDS_PER_NODE)
        words = scipy.sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), (NODES, WORDS))
        popularity = rng.pareto(2.0, NODES) + 0.2
        ends = rng.choice(NODES, (2, int(EDGES * 1.05)), p=popularity / popularity.sum())
        y = rng.permutation(np.arange(NODES) % CLASSES)
        order = rng.permutation(NODES)
        edge_index = undirected_edge_index(ends[0], ends[1], NODES)
        return make_graph(row_normalised(words), edge_index, y, order[:140], order[140:640], order[-1000:])
