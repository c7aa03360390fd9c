"""FactorGCN's layer and discriminator: the specification's numbers, a loop over factors, and limits."""

import math

import pytest
import torch
from torch import Tensor

from lightning_modules.factorgcn.factor_weights import factor_weights
from lightning_modules.factorgcn.layers import FactorDiscriminator, FactorGraphConv
from lightning_modules.factorgcn.losses import balance_loss, discriminator_accuracy, discriminator_loss
from lightning_modules.graph_prediction.batch import Graphs
from lightning_modules.graph_prediction.networks import LayerOutput
from tests.lightning_modules.graph_prediction.small_graphs import graph_set, random_graphs, whole


def adjacency(batch: dict[str, Tensor], values: Tensor) -> Tensor:
    """Dense ``[n, n]`` with the value of edge j -> i in row i, column j."""
    source, target = batch["edge_index"]
    dense = values.new_zeros(len(batch["batch"]), len(batch["batch"]))
    dense[target, source] = values
    return dense


def looped(
    layer: FactorGraphConv, x: Tensor, batch: dict[str, Tensor]
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Output, factors and dense weights, one factor after the other, with dense matrices."""
    n = len(x)
    link = adjacency(batch, torch.ones(batch["edge_index"].size(1), dtype=x.dtype))
    degree = link.sum(1).clamp(min=1)
    h = x @ layer.project.weight.T + layer.project.bias
    scores = h @ layer.score.weight.T + layer.score.bias
    source, target = batch["edge_index"]
    blocks, factors, matrices = [], [], []
    for k in range(layer.num_factors):
        logits = scores[:, k][None, :] + scores[:, layer.num_factors + k][:, None]  # [i, j]
        weights = torch.sigmoid(layer.temperature * logits) * link
        factors.append(weights[target, source])
        norm = degree[None, :].rsqrt().expand(n, n)
        if layer.norm == "symmetric":
            norm = norm * degree[:, None].rsqrt()
        matrices.append(weights * norm)
        blocks.append(matrices[-1] @ h)
    return torch.cat(blocks, 1), torch.stack(factors, 1), matrices


def looped_logits(
    disc: FactorDiscriminator, layer: FactorGraphConv, x: Tensor, batch: dict[str, Tensor]
) -> Tensor:
    h = x @ layer.project.weight.T + layer.project.bias
    logits = []
    for matrix in looped(layer, x, batch)[2]:
        u = torch.tanh(matrix @ disc.first(h))
        v = torch.tanh(matrix @ disc.second(u))
        means = torch.stack([v[batch["batch"] == b].mean(0) for b in range(len(batch["ptr"]) - 1)])
        logits.append(disc.classify(torch.tanh(means)))
    return torch.stack(logits, 1)


@pytest.mark.parametrize("norm", ["source", "symmetric"])
@pytest.mark.parametrize("self_loops", [True, False])
def test_all_factors_at_once_equal_a_loop_over_dense_factor_graphs(norm: str, self_loops: bool) -> None:
    torch.manual_seed(0)
    batch = whole(random_graphs(1, self_loops=self_loops))
    layer = FactorGraphConv(5, 12, 4, 6.0, norm).double()  # type: ignore[arg-type]
    disc = FactorDiscriminator(3, 4).double()
    for parameter in (*layer.parameters(), *disc.parameters()):
        torch.nn.init.normal_(parameter, std=0.3)
    found = layer(batch["x"], graphs := Graphs.of(batch, torch.float64))
    out, factors, _ = looped(layer, batch["x"], batch)
    torch.testing.assert_close(found.out, out, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.factors, factors, rtol=0, atol=1e-12)
    logits, expected = disc(found, graphs), looped_logits(disc, layer, batch["x"], batch)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-12)
    parameters = [*layer.parameters(), *disc.parameters()]
    ours = torch.autograd.grad(discriminator_loss(logits) + found.out.square().sum(), parameters)
    theirs = torch.autograd.grad(discriminator_loss(expected) + out.square().sum(), parameters)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)


def path_layer() -> tuple[FactorGraphConv, Graphs, Tensor]:
    """The specification's worked example: the path 0-1-2, one channel a factor, no biases."""
    x = torch.tensor([[1.0], [2.0], [3.0]], dtype=torch.float64)
    layer = FactorGraphConv(1, 2, 2, 6.0, "source").double()
    with torch.no_grad():
        layer.project.weight.fill_(1.0)
        layer.score.weight.copy_(torch.tensor([[0.1], [-0.1], [0.0], [0.05]]))
    return layer, Graphs.of(whole(graph_set([3], [(0, 1), (1, 2)], x)), torch.float64), x


def test_the_worked_layer_of_the_specification() -> None:
    layer, graphs, x = path_layer()
    found = layer(x, graphs)
    assert found.factors is not None
    # edges by target: 1 -> 0, 0 -> 1, 2 -> 1, 1 -> 2
    expected = [[0.768525, 0.289050], [0.645656, 0.5], [0.858149, 0.231475], [0.768525, 0.425557]]
    torch.testing.assert_close(found.factors, torch.tensor(expected).double(), rtol=0, atol=5e-7)
    outputs = [[1.086858, 0.408779], [3.220103, 1.194426], [1.086858, 0.601829]]
    torch.testing.assert_close(found.out, torch.tensor(outputs).double(), rtol=0, atol=5e-7)


def test_relabelled_nodes_get_their_own_outputs() -> None:
    torch.manual_seed(0)
    layer = FactorGraphConv(3, 8, 2, 6.0, "source").double()
    x = torch.randn(5, 3, dtype=torch.float64)
    edges = [(0, 1), (1, 2), (0, 3)]
    order = torch.tensor([3, 0, 4, 2, 1])  # new place of each node
    moved = torch.empty_like(x)
    moved[order] = x
    there = [(int(order[a]), int(order[b])) for a, b in edges]
    before = layer(x, Graphs.of(whole(graph_set([5], edges, x)), torch.float64)).out
    after = layer(moved, Graphs.of(whole(graph_set([5], there, moved)), torch.float64)).out
    torch.testing.assert_close(after[order], before, rtol=0, atol=1e-13)


def test_without_scores_every_edge_is_half_in_each_factor() -> None:
    batch = whole(random_graphs(2))
    layer = FactorGraphConv(5, 6, 3, 6.0, "source").double()
    torch.nn.init.zeros_(layer.score.weight)
    found = layer(batch["x"], Graphs.of(batch, torch.float64))
    assert found.factors is not None
    assert (found.factors == 0.5).all()
    first, *others = found.out.unflatten(1, (3, 2)).unbind(1)
    for other in others:
        assert torch.equal(first, other)
    link = adjacency(batch, torch.ones(batch["edge_index"].size(1), dtype=torch.float64))
    norm = link.sum(1).clamp(min=1).rsqrt()
    torch.testing.assert_close(first, 0.5 * (link * norm) @ layer.project(batch["x"]), rtol=0, atol=1e-12)


def test_large_biases_put_every_edge_into_every_factor() -> None:
    batch = whole(random_graphs(3))
    layer = FactorGraphConv(5, 6, 3, 6.0, "source").double()
    torch.nn.init.zeros_(layer.score.weight)
    torch.nn.init.constant_(layer.score.bias, 10.0)
    found = layer(batch["x"], Graphs.of(batch, torch.float64))
    assert found.factors is not None
    torch.testing.assert_close(found.factors, torch.ones_like(found.factors))
    blocks = found.out.unflatten(1, (3, 2))
    assert torch.equal(blocks[:, 0], blocks[:, 2])


@pytest.mark.parametrize("num_factors", [2, 4])
def test_a_blind_discriminator_is_at_chance(num_factors: int) -> None:
    batch = whole(random_graphs(4))
    layer = FactorGraphConv(5, 4 * num_factors, num_factors, 6.0, "source").double()
    disc = FactorDiscriminator(4, num_factors).double()
    torch.nn.init.zeros_(disc.classify.weight)
    graphs = Graphs.of(batch, torch.float64)
    loss = discriminator_loss(disc(layer(batch["x"], graphs), graphs))
    assert loss.item() == pytest.approx(math.log(num_factors), abs=1e-12)


def test_equal_factors_cannot_be_told_apart_better_than_by_chance() -> None:
    torch.manual_seed(0)
    batch = whole(random_graphs(5))
    layer = FactorGraphConv(5, 12, 3, 6.0, "source").double()
    torch.nn.init.zeros_(layer.score.weight)
    graphs = Graphs.of(batch, torch.float64)
    for _ in range(5):
        disc = FactorDiscriminator(4, 3).double()
        torch.nn.init.normal_(disc.classify.weight)
        assert discriminator_loss(disc(layer(batch["x"], graphs), graphs)).item() >= math.log(3) - 1e-12


def test_a_single_factor_costs_nothing() -> None:
    logits = torch.randn(4, 1, 1)
    assert discriminator_loss(logits).item() == 0
    assert discriminator_accuracy(logits).item() == 1


def test_perfect_logits_are_recognised() -> None:
    logits = 50 * torch.eye(3).expand(2, 3, 3)
    assert discriminator_accuracy(logits).item() == 1
    assert discriminator_loss(logits).item() == pytest.approx(0, abs=1e-9)


def test_evenly_shared_edges_have_no_balance_loss_and_uneven_ones_have() -> None:
    batch = whole(random_graphs(6))
    graphs, m = Graphs.of(batch, torch.float64), batch["edge_index"].size(1)
    even = torch.full((m, 2), 0.3, dtype=torch.float64)
    assert balance_loss(even, graphs).item() == pytest.approx(0, abs=1e-12)
    uneven = torch.tensor([0.0, 1.0], dtype=torch.float64).expand(m, 2)
    p = torch.tensor([0.0, 1.0]).double().softmax(0)
    expected = 100 * (math.log(2) + (p * p.log()).sum().item())
    assert balance_loss(uneven, graphs).item() == pytest.approx(expected)


def test_gradients_of_factor_weights_are_those_of_finite_differences() -> None:
    graphs = Graphs.of(whole(random_graphs(7, 2)), torch.float64)
    n = graphs.edges.num_groups
    scores = [torch.randn(n, 3, dtype=torch.float64, requires_grad=True) * 0.2 for _ in range(2)]
    assert torch.autograd.gradcheck(lambda a, b: factor_weights(a, b, 2.0, graphs.edges), scores)


def test_half_precision_is_computed_in_float32() -> None:
    layer, graphs, x = path_layer()
    layer = layer.float()
    graphs = Graphs.of(whole(graph_set([3], [(0, 1), (1, 2)], x.float())))
    with torch.autocast("cpu", torch.bfloat16):
        found: LayerOutput = layer(x.float(), graphs)
    assert found.factors is not None
    assert found.factors.dtype == found.out.dtype == torch.float32
