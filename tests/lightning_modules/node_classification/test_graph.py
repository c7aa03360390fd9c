"""Preparing a graph for the networks."""

import pytest
import torch
from torch_geometric.data import Data

from lightning_modules.node_classification.graph import prepare


def data(edge_index: list[list[int]], num_nodes: int = 4) -> Data:
    return Data(x=torch.randn(num_nodes, 3), edge_index=torch.tensor(edge_index))


def test_edges_and_self_loops_can_be_told_apart() -> None:
    graph = prepare(data([[0, 1, 1, 2], [1, 0, 2, 1]]))
    row, col = graph.edges.row, graph.edges.col
    assert row[graph.edge_rows].tolist() == [0, 1, 1, 2]
    assert col[graph.edge_rows].tolist() == [1, 0, 2, 1]
    assert row[graph.loop_rows].tolist() == col[graph.loop_rows].tolist() == [0, 1, 2, 3]


def test_normalised_adjacency_has_the_inverse_root_of_both_degrees() -> None:
    graph = prepare(data([[0, 1, 1, 2], [1, 0, 2, 1]]))
    degree = torch.tensor([2.0, 3.0, 2.0, 1.0])
    expected = (degree[graph.edges.row] * degree[graph.edges.col]).rsqrt()
    torch.testing.assert_close(graph.gcn_weights, expected)


@pytest.mark.parametrize("edge_index", [[[0, 0], [0, 1]], [[1, 0], [0, 1]], [[0, 0], [1, 1]]])
def test_loops_disorder_and_duplicates_are_refused(edge_index: list[list[int]]) -> None:
    with pytest.raises(ValueError, match="without duplicates and self-loops"):
        prepare(data(edge_index))
