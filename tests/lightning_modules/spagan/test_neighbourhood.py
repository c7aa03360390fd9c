"""Hand-worked on a star 0 - {1, 2, 3} with tails 1 - 4, 2 - 5 and an edge 4 - 5."""

import numpy as np
import pytest
import torch

from lightning_modules.spagan.neighbourhood import choose_node, extract_neighbourhood

PAIRS = [(0, 1), (0, 2), (0, 3), (1, 4), (2, 5), (4, 5)]
EDGES = torch.tensor(PAIRS + [(b, a) for a, b in PAIRS]).T
Y = torch.tensor([0, 1, 0, 1, 0, 1])
NODES = {
    2: torch.tensor([[0, 1], [0, 2], [0, 3], [0, 0], [1, 0], [1, 4], [1, 1]]),
    3: torch.tensor([[0, 1, 4], [0, 2, 5], [0, 0, 0], [1, 4, 5], [1, 1, 1]]),
}
WEIGHTS = {
    2: torch.tensor([0.1, 0.1, 0.05, 0.15, 0.2, 0.2, 0.1]),
    3: torch.tensor([0.3, 0.2, 0.1, 0.4, 0.1]),
}
ALL = torch.ones(6, dtype=torch.bool)


def test_node_with_most_weight_on_long_paths_is_chosen():
    assert choose_node(NODES, WEIGHTS, EDGES, ALL, degrees=(2, 3)) == 0
    assert choose_node(NODES, WEIGHTS, EDGES, ALL, degrees=(2, 2)) == 1


def test_any_degree_will_do_when_none_is_moderate():
    assert choose_node(NODES, WEIGHTS, EDGES, ALL, degrees=(7, 9)) == 0


def test_smallest_node_is_chosen_among_equals():
    weights = {c: torch.zeros_like(weight) for c, weight in WEIGHTS.items()}
    assert choose_node(NODES, weights, EDGES, torch.tensor([0, 0, 1, 0, 1, 1]).bool(), degrees=(2, 2)) == 2


def test_choice_without_candidates_is_refused():
    with pytest.raises(ValueError, match="at least one candidate"):
        choose_node(NODES, WEIGHTS, EDGES, ~ALL)


def test_neighbourhood_lists_paths_by_weight_and_every_edge_once():
    found = extract_neighbourhood(0, NODES, WEIGHTS, EDGES, Y)
    assert found.node_ids.tolist() == [0, 1, 4, 2, 5, 3]
    assert found.classes.tolist() == [0, 1, 0, 0, 1, 1]
    assert [path.nodes for path in found.paths] == [(0, 1, 2), (0, 3, 4), (0, 1), (0, 3), (0, 5)]
    assert len(found.edges) == len(PAIRS)
    assert found.hidden_nodes == found.hidden_paths == 0


def test_weights_of_a_neighbourhood_sum_to_one():
    for limit in (2, 4, 32):
        found = extract_neighbourhood(0, NODES, WEIGHTS, EDGES, Y, max_nodes=limit)
        shown = sum(path.weight for path in found.paths)
        assert shown + found.self_weight + found.hidden_weight == pytest.approx(1)


def test_full_drawing_keeps_the_heaviest_paths():
    found = extract_neighbourhood(0, NODES, WEIGHTS, EDGES, Y, max_nodes=3)
    assert found.node_ids.tolist() == [0, 1, 4]
    assert [path.nodes for path in found.paths] == [(0, 1, 2), (0, 1)]
    assert found.hidden_paths == 3
    assert found.hidden_nodes == 3


def test_isolated_node_has_itself_alone():
    nodes = {2: torch.tensor([[0, 0]]), 3: torch.tensor([[0, 0, 0]])}
    weights = {2: torch.tensor([0.4]), 3: torch.tensor([0.6])}
    found = extract_neighbourhood(0, nodes, weights, torch.empty(2, 0, dtype=torch.long), torch.tensor([2]))
    assert found.node_ids.tolist() == [0]
    assert found.edges.shape == (0, 2)
    assert found.paths == ()
    assert np.isclose(found.self_weight, 1)
