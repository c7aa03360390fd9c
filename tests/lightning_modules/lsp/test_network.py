"""LSP's attention network: sizes as published, and what it computes written node by node."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.graph_prediction.batch import Graphs
from lightning_modules.lsp.network import AttentionHeads, InductiveAttentionNetwork
from tests.lightning_modules.graph_prediction.small_graphs import random_graphs, whole


def count(network: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize(
    ("sizes", "parameters"),
    [
        ((50, 2, 4, 256, 6, 121), 3_640_748),  # teacher
        ((50, 4, 2, 68, 2, 121), 185_172),  # student
        ((16, 2, 2, 8, 2, 10), 1_512),  # student of mini_ppi
    ],
)
def test_it_has_the_published_number_of_parameters(sizes: tuple[int, ...], parameters: int) -> None:
    assert count(InductiveAttentionNetwork(*sizes, 0.2)) == parameters


def by_hand(layer: AttentionHeads, x: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Eq. 3-5 of GAT, one node and head at a time; ``[n, H, D]``."""
    h = layer.linear(x).view(len(x), layer.heads, -1)
    of_centre, of_neighbour = layer.attention.unbind(2)
    rows = []
    for i in range(len(x)):
        own = source[target == i]
        if not len(own):
            rows.append(torch.zeros_like(h[0]))
            continue
        logits = torch.stack([(of_neighbour * h[j] + of_centre * h[i]).sum(dim=1) for j in own])  # [k, H]
        alpha = F.leaky_relu(logits, 0.2).softmax(dim=0)
        rows.append(torch.einsum("kh,khd->hd", alpha, h[own]))
    out = torch.stack(rows)
    if layer.shortcut is not None:
        out = out + layer.shortcut(x).view_as(out)
    return out


def test_it_is_attention_with_residuals_and_elu_after_what_is_tapped() -> None:
    batch = whole(random_graphs(3))
    torch.manual_seed(0)
    network = InductiveAttentionNetwork(5, 2, 3, 4, 2, 7, 0.2).double()
    logits, found = network(Graphs.of(batch, torch.float64))
    assert [layer.shortcut is None for layer in (*network.layers, network.output)] == [True, False, False]
    source, target = batch["edge_index"]
    x = batch["x"]
    for layer, output in zip(network.layers, found, strict=True):
        assert isinstance(layer, AttentionHeads)
        expected = by_hand(layer, x, source, target).flatten(1)
        torch.testing.assert_close(output.out, expected)
        x = F.elu(expected)
    torch.testing.assert_close(logits, by_hand(network.output, x, source, target).mean(dim=1))
    assert found[-1].out.min().item() < -1  # before the ELU, which ends at -1


def test_weights_are_drawn_with_the_gain_of_dgl() -> None:
    torch.manual_seed(0)
    layer = AttentionHeads(100, 4, 50, 0.2, residual=True)
    assert layer.shortcut is not None
    expected = (2 * 2 / (100 + 200)) ** 0.5
    assert layer.linear.weight.std().item() == pytest.approx(expected, rel=0.03)
    assert layer.shortcut.weight.std().item() == pytest.approx(expected, rel=0.03)
    assert layer.attention.std().item() == pytest.approx((2 * 2 / (4 * 50 + 50)) ** 0.5, rel=0.1)
