"""The losses that LSP is compared with, by hand."""

import math

import pytest
import torch

from lightning_modules.graph_prediction.batch import Graphs
from lightning_modules.lsp.losses import (
    Hint,
    mean_attention,
    soft_label_loss,
    squared_difference,
    unit_attention,
)
from tests.lightning_modules.graph_prediction.small_graphs import graph_set, whole


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_soft_labels_are_the_divergence_of_coins(temperature: float) -> None:
    student, teacher = torch.tensor([[0.5, -1.0], [2.0, 0.0]]), torch.tensor([[1.0, 0.5], [-1.0, 3.0]])
    each = []
    for s, t in zip(student.flatten().tolist(), teacher.flatten().tolist(), strict=True):
        p, q = sigmoid(t / temperature), sigmoid(s / temperature)
        each.append(p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q)))
    expected = temperature**2 * sum(each) / 4
    assert float(soft_label_loss(student, teacher, temperature)) == pytest.approx(expected, rel=1e-5)
    assert float(soft_label_loss(teacher, teacher, temperature)) == pytest.approx(0, abs=1e-6)


def test_attention_maps_are_means_or_squares_of_length_one_in_each_graph() -> None:
    graphs = Graphs.of(whole(graph_set([2, 1], [(0, 1)])))
    z = torch.tensor([[1.0, -3.0], [0.0, 0.0], [2.0, 2.0]])
    assert mean_attention(z).tolist() == [2.0, 0.0, 2.0]
    z[1] = torch.tensor([1.0, 2.0])
    # 10 and 5 in the first graph, 8 alone in the second
    expected = [10 / math.sqrt(125), 5 / math.sqrt(125), 1.0]
    assert unit_attention(z, graphs).tolist() == pytest.approx(expected, rel=1e-6)


def test_a_hint_is_one_head_of_attention_over_a_leaky_relu() -> None:
    graphs = Graphs.of(whole(graph_set([3], [(0, 1), (1, 2)], torch.ones(3, 2), self_loops=True)))
    torch.manual_seed(0)
    hint = Hint(2, 5, 0.2)
    x = torch.tensor([[1.0, -2.0], [0.5, 1.0], [-1.0, 3.0]])
    rectified = torch.tensor([[1.0, -0.4], [0.5, 1.0], [-0.2, 3.0]])
    h = rectified @ hint.attention.linear.weight.T
    of_centre, of_neighbour = hint.attention.attention[0].unbind(1)
    expected = []
    for i, own in enumerate(([0, 1], [0, 1, 2], [1, 2])):
        logits = torch.stack([h[j] @ of_neighbour + h[i] @ of_centre for j in own])
        shares = torch.where(logits > 0, logits, 0.2 * logits).exp()
        expected.append((shares / shares.sum()) @ h[own])
    torch.testing.assert_close(hint(x, graphs), torch.stack(expected))
    assert hint(x, graphs).shape == (3, 5)


def test_differences_are_squared_in_single_precision() -> None:
    half = torch.full((4,), 0.1, dtype=torch.bfloat16)
    assert squared_difference(half, torch.zeros(4)).dtype == torch.float32
    assert float(squared_difference(torch.tensor([1.0, 3.0]), torch.tensor([0.0, 1.0]))) == 2.5
