"""Where an edge of a batch stands in a table of all edges."""

import pytest
import torch

from lightning_modules.graph_prediction.batch import edge_places
from tests.datamodules.graph_files import graph_set

SIZES = (4, 1, 6, 3, 5)


@pytest.mark.parametrize("self_loops", [True, False])
@pytest.mark.parametrize("chosen", [[0, 1, 2, 3, 4], [3, 0], [2, 2, 1], [1]])
def test_an_edge_finds_its_own_row_whatever_batch_it_is_in(self_loops: bool, chosen: list[int]) -> None:
    graphs = graph_set(SIZES, self_loops=self_loops)
    every = graphs.batch(torch.arange(len(SIZES)))
    # a number that no other edge has: both ends, counted over all graphs
    table = every["edge_index"][0] * 100 + every["edge_index"][1]
    batch = graphs.batch(torch.tensor(chosen))
    first_node = graphs.ptr[batch["index"]] - batch["ptr"][:-1]  # [B]
    source, target = batch["edge_index"] + first_node[batch["batch"][batch["edge_index"]]]
    places = edge_places(batch, graphs.edge_ptr[:-1])
    assert torch.equal(table[places], source * 100 + target)


def test_graphs_are_known_by_their_number_in_the_data_set() -> None:
    graphs = graph_set(SIZES)
    second = graphs.take(torch.tensor([2, 3, 4]))  # a split of its own
    batch = second.batch(torch.tensor([1]))
    first = int(graphs.edge_ptr[3])
    assert edge_places(batch, graphs.edge_ptr[:-1]).tolist() == list(range(first, int(graphs.edge_ptr[4])))
