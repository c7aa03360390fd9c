"""GED_E and C-Score: the specification's numbers, an exhaustive reference, and batches that do not matter."""

import itertools

import numpy as np
import pytest
import torch

from datamodules.factor_graphs import generate
from lightning_modules.graph_prediction.disentanglement import (
    UndirectedEdges,
    assign,
    c_score,
    differing_entries,
    matched_factors,
)
from lightning_modules.graph_prediction.disentanglement_metric import Disentanglement

TRIANGLE = UndirectedEdges(
    graph=np.zeros(3, dtype=np.int64),  # edges 01, 12, 02
    truth=np.array([[1, 0], [0, 1], [0, 0]], dtype=bool),
    weights=np.array([[0.9, 0.1], [0.2, 0.3], [0.5, 0.6]]),
    num_graphs=1,
)


def test_the_worked_distance_of_the_specification() -> None:
    costs, sizes = differing_entries(TRIANGLE)
    assert costs.tolist() == [[[0, 4], [4, 4]]]
    found = assign(costs, sizes, np.array([0]))
    assert found.distance.tolist() == [2.0]
    assert matched_factors(costs[0], sizes[0]) == {0: 0, 1: 1}


def test_the_worked_c_score_of_the_specification() -> None:
    assert c_score(np.array([[2, 1], [0, 3]])) == pytest.approx(0.8333, abs=5e-5)


def dense_reference(batch: dict[str, torch.Tensor], weights: torch.Tensor) -> float:
    """Mean GED_E by dense matrices and all assignments, graph by graph."""
    (source, target), distances = batch["edge_index"].numpy(), []
    for b in range(len(batch["ptr"]) - 1):
        first, size = int(batch["ptr"][b]), int(batch["ptr"].diff()[b])
        mine = batch["batch"].numpy()[source] == b
        place = (target[mine] - first, source[mine] - first)
        truths, predictions = [], []
        for t in range(batch["edge_factors"].size(1)):
            matrix = np.zeros((size, size), dtype=int)
            matrix[place] = batch["edge_factors"].numpy()[mine, t]
            if matrix.any():
                truths.append(matrix)
        for k in range(weights.size(1)):
            matrix = np.zeros((size, size))
            matrix[place] = weights.numpy()[mine, k]
            matrix = (matrix + matrix.T) / 2
            np.fill_diagonal(matrix, 0)
            predictions.append(matrix)
        costs = np.empty((len(truths), len(predictions)))
        for t, truth in enumerate(truths):
            for k, prediction in enumerate(predictions):
                heaviest = np.argsort(-prediction.ravel(), kind="stable")[: truth.sum()]
                drawn = np.zeros(size * size, dtype=int)
                drawn[heaviest] = 1
                costs[t, k] = (drawn != truth.ravel()).sum()
        ways = itertools.permutations(range(len(predictions)), len(truths))
        best = min(sum(costs[t, k] for t, k in enumerate(way)) for way in ways)
        distances.append(best / len(truths))
    return float(np.mean(distances))


def test_sorted_edges_and_the_assignment_equal_dense_matrices_and_all_permutations() -> None:
    batch = generate(30, 4, 3, self_loops=True).batch(torch.arange(30))
    weights = torch.rand(batch["edge_index"].size(1), 4, dtype=torch.float64)
    metric = Disentanglement(4, 4)
    metric.update(weights, batch)
    assert metric.compute()["ged"].item() == pytest.approx(dense_reference(batch, weights), abs=1e-12)


def test_an_oracle_is_without_fault_under_both_tie_rules() -> None:
    batch = generate(200, 4, 0, self_loops=True).batch(torch.arange(200))
    metric = Disentanglement(4, 4)
    metric.update(batch["edge_factors"].double(), batch)
    found = metric.compute()
    assert found["ged"] == 0
    assert found["c_score"] == found["c_score_index"] == 1


def test_null_predictors_score_what_the_specification_measured() -> None:
    batch = generate(1500, 4, 0, self_loops=True).batch(torch.arange(1500))
    metric = Disentanglement(4, 4)
    metric.update(torch.rand(batch["edge_index"].size(1), 4), batch)
    found = {name: value.item() for name, value in metric.compute().items()}
    assert found["ged_random"] == pytest.approx(12.92, abs=0.4)
    assert found["ged_std_random"] == pytest.approx(3.28, abs=0.4)
    assert found["c_score_index_random"] == pytest.approx(0.365, abs=0.04)
    assert found["c_score_random"] == pytest.approx(0.264, abs=0.04)
    assert found["c_score_index_equal"] == pytest.approx(0.518, abs=0.04)
    assert found["c_score_equal"] == pytest.approx(0.275, abs=0.04)


def test_batches_do_not_matter() -> None:
    graphs = generate(40, 4, 1, self_loops=True)
    weights = torch.rand(graphs.edge_index.size(1), 3, dtype=torch.float64)
    whole, parts = Disentanglement(4, 3), Disentanglement(4, 3)
    whole.update(weights, graphs.batch(torch.arange(40)))
    for rows in torch.arange(40).split(7):
        start, end = graphs.edge_ptr[rows[0]], graphs.edge_ptr[rows[-1] + 1]
        parts.update(weights[start:end], graphs.batch(rows))
    assert torch.equal(whole.assigned, parts.assigned)
    for name, value in whole.compute().items():
        torch.testing.assert_close(parts.compute()[name], value, rtol=1e-12, atol=0)


def test_a_relation_without_a_factor_is_missed_as_a_whole() -> None:
    edges = UndirectedEdges(TRIANGLE.graph, TRIANGLE.truth, TRIANGLE.weights[:, :1], 1)
    found = assign(*differing_entries(edges), np.array([0]))
    assert found.distance.tolist() == [1.0], "0 of the first, 2 entries of the second, halved"


def test_a_graph_without_relations_is_not_counted() -> None:
    edges = UndirectedEdges(TRIANGLE.graph, np.zeros((3, 2), dtype=bool), TRIANGLE.weights, 1)
    assert np.isnan(assign(*differing_entries(edges), np.array([0])).distance).all()
    assert np.isnan(c_score(np.zeros((2, 2), dtype=np.int64)))


def test_saturated_weights_are_counted() -> None:
    batch = generate(2, 4, 0, self_loops=True).batch(torch.arange(2))
    weights = torch.full((batch["edge_index"].size(1), 2), 0.5)
    weights[:, 0] = 1 - 1e-4
    metric = Disentanglement(4, 2)
    metric.update(weights, batch)
    assert metric.compute()["saturated"] == 0.5
