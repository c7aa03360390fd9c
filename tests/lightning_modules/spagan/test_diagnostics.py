"""Hand-worked on the chain 0 - 1 - 2 with classes 0, 0, 1 and C = 3; node 3 stands alone, class 1."""

import math

import numpy as np
import pytest
import torch

from lightning_modules.spagan.diagnostics import (
    chance_agreement,
    diagnose,
    edge_homophily,
    is_self_path,
    label_agreement,
    mean_length_attention,
    path_entropy,
    path_weights,
    self_path_share,
)

Y = torch.tensor([0, 0, 1, 1])
EDGES = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
NODES = {
    2: torch.tensor([[0, 1], [0, 0], [1, 0], [1, 2], [1, 1], [2, 1], [2, 2], [3, 3]]),
    3: torch.tensor([[0, 1, 2], [0, 0, 0], [1, 1, 1], [2, 2, 2], [3, 3, 3]]),
}
ALPHA = {
    2: torch.tensor(
        [[0.5, 0.25], [0.5, 0.75], [0.5, 0.2], [0.25, 0.2], [0.25, 0.6], [1.0, 1.0], [0.0, 0.0], [1.0, 1.0]]
    ),
    3: torch.tensor([[0.9, 0.7], [0.1, 0.3], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0]]),
}
# [N, 2 lengths, 2 heads]
BETA = torch.tensor(
    [[[0.5, 0.1], [0.5, 0.9]], [[1, 0.8], [0, 0.2]], [[0.4, 0.4], [0.6, 0.6]], [[0, 1], [1, 0]]]
)


def test_self_paths_end_where_they_begin():
    assert is_self_path(NODES[3]).tolist() == [False, True, True, True, True]


def test_entropy_is_one_for_equal_weights_and_zero_for_one_path_alone():
    entropy = path_entropy(NODES[2], ALPHA[2], 4)
    quarter = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75))
    assert entropy[0].item() == pytest.approx((1 + quarter / math.log(2)) / 2)
    assert entropy[2].item() == 0
    assert entropy[3].isnan()


def test_self_share_is_the_mean_over_heads_and_undefined_without_a_choice():
    assert self_path_share(NODES[2], ALPHA[2], 4)[:3].tolist() == pytest.approx([0.625, 0.425, 0.0])
    share = self_path_share(NODES[3], ALPHA[3], 4)
    assert share[0].item() == pytest.approx(0.2)
    assert share[1:].isnan().all()


def test_mean_length_attention_averages_heads_and_nodes_of_a_class():
    mean = mean_length_attention(BETA, Y, 3)
    assert mean.shape == (2, 3)
    assert mean[:, 0].tolist() == pytest.approx([(0.3 + 0.9) / 2, (0.7 + 0.1) / 2])
    assert mean[:, 1].tolist() == pytest.approx([0.45, 0.55])
    assert mean[:, 2].isnan().all()


def test_path_weights_of_a_node_sum_to_one():
    weights = path_weights(NODES, ALPHA, BETA)
    assert weights[3][0].item() == pytest.approx((0.9 * 0.5 + 0.7 * 0.9) / 2)
    total = sum(torch.zeros(4, dtype=torch.double).index_add(0, NODES[c][:, 0], weights[c]) for c in NODES)
    torch.testing.assert_close(total, torch.ones(4, dtype=torch.double))


def test_label_agreement_leaves_self_paths_out():
    assert label_agreement(NODES, Y) == {2: 0.5, 3: 0.0}  # 01, 10 agree; 12, 21 and 012 do not


def test_label_agreement_counts_by_weight():
    weights = {2: torch.tensor([3.0, 9, 1, 2, 9, 2, 9, 9]), 3: torch.ones(5)}
    assert label_agreement(NODES, Y, weights)[2] == pytest.approx(4 / 8)
    weights[2][0] = 11.0
    assert label_agreement(NODES, Y, weights)[2] == pytest.approx(12 / 16)


def test_label_agreement_without_paths_is_undefined():
    assert math.isnan(label_agreement({2: torch.tensor([[0, 0], [1, 1]])}, Y)[2])


def test_homophily_ignores_self_loops():
    loops = torch.arange(4).repeat(2, 1)
    assert edge_homophily(torch.cat([EDGES, loops], dim=1), Y) == 0.5


def test_chance_is_the_sum_of_squared_class_shares():
    assert chance_agreement(torch.tensor([0, 0, 0, 1])) == pytest.approx(0.75**2 + 0.25**2)


def test_diagnosis_counts_paths_and_logs_finite_numbers_only():
    costs = torch.tensor([0.1, 0.2, 0.3, 0.0])
    found = diagnose(NODES, {2: 4, 3: 2}, costs, ALPHA, BETA, Y, EDGES, 3)
    assert found.lengths.tolist() == [2, 3]
    assert found.found.tolist() == [4, 2]
    assert found.kept.tolist() == [4, 1]
    assert found.self_paths.tolist() == [4, 4]
    scalars = found.scalars()
    assert scalars["paths/kept_3"] == 1
    assert scalars["paths/self_share_3"] == pytest.approx(0.2)
    assert all(np.isfinite(value) for value in scalars.values())


def test_attention_with_gradient_is_read_without_touching_it():
    alpha = {c: value.clone().requires_grad_() for c, value in ALPHA.items()}
    beta = BETA.clone().requires_grad_()
    found = diagnose(NODES, {2: 4, 3: 2}, torch.zeros(4), alpha, beta, Y, EDGES, 2)
    assert isinstance(found.mean_beta, np.ndarray)
    assert beta.grad is None
