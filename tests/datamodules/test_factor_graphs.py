"""The generator of FactorGCN's synthetic experiment: its statistics, its parts, its seeds."""

import numpy as np
import pytest
import torch

from datamodules.factor_graphs import (
    BASE_GRAPHS,
    NUM_NODES,
    FactorGraphsDataModule,
    base_adjacencies,
    generate,
)
from datamodules.graph_sets import GraphSet


def made(**changed: object) -> FactorGraphsDataModule:
    settings = {
        "in_channels": 15,
        "num_classes": 4,
        "target": "multi_label",
        "folds": 1,
        "protocol": "gin",
        "num_graphs": 100,
        "graph_seed": 0,
        "self_loops": True,
        "batch_size": 10,
        "seed": 0,
    }
    return FactorGraphsDataModule(**(settings | changed))  # type: ignore[arg-type]


def dense(graphs: GraphSet, number: int) -> np.ndarray:
    """Which relations join nodes i and j of a graph, ``[15, 15, P]``."""
    batch = graphs.batch(torch.tensor([number]))
    assert batch["edge_factors"] is not None
    found = np.zeros((NUM_NODES, NUM_NODES, batch["edge_factors"].size(1)), dtype=bool)
    source, target = batch["edge_index"].numpy()
    found[target, source] = batch["edge_factors"].numpy()
    return found


def test_the_base_graphs_are_those_of_the_specification() -> None:
    assert [len(edges) for edges in BASE_GRAPHS.values()] == [6, 8, 12, 12, 12, 12]
    degrees = [sorted(matrix.sum(0)[matrix.any(0)].tolist()) for matrix in base_adjacencies(6)]
    assert degrees[0] == [2, 2, 2, 3, 3]  # K_{2,3}
    assert degrees[1] == [2, 3, 3, 4, 4]  # a square with both diagonals, and a roof
    assert degrees[2] == [1] * 9 + [3] + [4] * 3  # a root of three children, each with three more
    assert degrees[3] == [2] * 4 + [3] * 4 + [4]
    assert degrees[4] == [3] * 8
    assert degrees[5] == [4] * 6


def test_every_relation_is_its_base_graph_with_the_nodes_in_another_order() -> None:
    graphs = generate(40, 4, 0, self_loops=True)
    bases = base_adjacencies(4)
    for number in range(40):
        relations = dense(graphs, number)
        for t, present in enumerate(graphs.y[number].bool().tolist()):
            matrix = relations[:, :, t]
            assert np.array_equal(matrix, matrix.T)
            if not present:
                assert not matrix.any()
                continue
            # spectra decide between these graphs
            spectra = [np.sort(np.linalg.eigvalsh(m.astype(float))) for m in (matrix, bases[t])]
            np.testing.assert_allclose(*spectra, atol=1e-9)


def test_features_are_rows_of_the_summed_matrix_and_edges_its_entries() -> None:
    graphs = generate(20, 4, 0, self_loops=True)
    for number in range(20):
        batch, relations = graphs.batch(torch.tensor([number])), dense(graphs, number)
        assert np.array_equal(batch["x"].numpy(), relations.sum(2))
        linked = np.zeros((NUM_NODES, NUM_NODES), dtype=bool)
        linked[batch["edge_index"][1], batch["edge_index"][0]] = True
        assert np.array_equal(linked, relations.any(2) | np.eye(NUM_NODES, dtype=bool))


def test_statistics_are_those_that_the_specification_measured() -> None:
    graphs = generate(1500, 4, 0, self_loops=False)
    edges = graphs.edge_index.size(1) / 2 / 1500
    assert edges == pytest.approx(
        18.07, abs=0.2
    )  # 19 - 88 / 105 in the limit, a sum varying by 3 from graph to graph
    alone = (graphs.in_degree == 0).sum().item() / 1500
    assert alone == pytest.approx(3.0, abs=0.15)
    overlap = (graphs.x.view(1500, -1) > 1).any(1).float().mean().item()
    assert overlap == pytest.approx(0.57, abs=0.04)
    assert (graphs.y.sum(1) == 2).all()


@pytest.mark.parametrize("count", [2, 3, 5, 6])
def test_half_of_the_base_graphs_are_in_each(count: int) -> None:
    graphs = generate(50, count, 0, self_loops=True)
    assert (graphs.y.sum(1) == (count + 1) // 2).all()
    assert graphs.y.any(0).all()


def test_graphs_follow_from_their_seed_alone() -> None:
    one, same, other = (generate(30, 4, seed, self_loops=True) for seed in (0, 0, 1))
    assert torch.equal(one.edge_index, same.edge_index)
    assert torch.equal(one.x, same.x)
    assert not torch.equal(one.x, other.x)


def test_the_split_is_in_order() -> None:
    data = made()
    data.setup()
    assert [len(data.splits[name]) for name in ("train", "val", "test")] == [70, 10, 20]  # type: ignore[index]
    assert torch.cat([s.index for s in data.splits.values()]).tolist() == list(range(100))


def test_a_run_s_seed_orders_batches_and_changes_no_graph() -> None:
    one, other = made(seed=0), made(seed=1)
    for data in (one, other):
        data.setup()
    assert torch.equal(one.splits["train"].x, other.splits["train"].x)
    first = [next(iter(data.train_dataloader()))["index"] for data in (one, other)]
    assert not torch.equal(*first)
