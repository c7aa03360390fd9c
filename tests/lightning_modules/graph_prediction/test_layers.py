"""The baselines' layers against PyG's, loops and dense matrices."""

import pytest
import torch
from torch import Tensor
from torch_geometric.nn import GATConv, GCNConv, GINConv

from lightning_modules.graph_prediction.batch import Graphs
from lightning_modules.graph_prediction.layers import DisenGCNLayer, GATLayer, GCNLayer, GINLayer
from tests.lightning_modules.graph_prediction.small_graphs import random_graphs, whole


def batch_of(*, self_loops: bool = True) -> tuple[dict[str, Tensor], Graphs]:
    batch = whole(random_graphs(0, self_loops=self_loops))
    return batch, Graphs.of(batch, torch.float64)


def test_gcn_is_that_of_pyg() -> None:
    batch, graphs = batch_of()
    ours, theirs = GCNLayer(5, 6).double(), GCNConv(5, 6, add_self_loops=False).double()
    theirs.lin.weight.data, theirs.bias.data = ours.linear.weight.data, ours.bias.data
    expected = theirs(batch["x"], batch["edge_index"])
    torch.testing.assert_close(ours(batch["x"], graphs).out, expected)


def test_gat_is_that_of_pyg_and_its_factors_are_its_attention() -> None:
    batch, graphs = batch_of()
    ours, theirs = GATLayer(5, 8, 2, 0.2).double(), GATConv(5, 4, heads=2, add_self_loops=False).double()
    theirs.lin.weight.data, theirs.bias.data = ours.linear.weight.data, ours.bias.data
    theirs.att_dst.data, theirs.att_src.data = (
        ours.attention.data[..., 0][None],
        ours.attention.data[..., 1][None],
    )
    expected, (_, alpha) = theirs(batch["x"], batch["edge_index"], return_attention_weights=True)
    found = ours(batch["x"], graphs)
    torch.testing.assert_close(found.out, expected)
    torch.testing.assert_close(found.factors, alpha)


@pytest.mark.parametrize("self_loops", [True, False])
def test_gin_is_that_of_pyg_whether_the_data_have_self_loops_or_not(self_loops: bool) -> None:
    batch, graphs = batch_of(self_loops=self_loops)
    source, target = batch["edge_index"]
    ours = GINLayer(5, 6).double()
    with torch.no_grad():
        ours.eps.fill_(0.3)
    theirs = GINConv(ours.mlp, eps=0.3)
    expected = theirs(batch["x"], batch["edge_index"][:, source != target])
    torch.testing.assert_close(ours(batch["x"], graphs).out, expected)


def test_disengcn_is_its_algorithm_node_by_node() -> None:
    torch.manual_seed(0)
    batch, graphs = batch_of(self_loops=False)
    layer = DisenGCNLayer(5, 6, 3, 4).double()
    z = layer.linear(batch["x"]).relu().view(-1, 3, 2)
    z = z / z.norm(dim=2, keepdim=True).clamp(min=1e-12)
    u, edges = z.clone(), batch["edge_index"].T.tolist()
    for _ in range(4):
        shares = torch.stack([(z[j] * u[i]).sum(1).softmax(0) for j, i in edges])
        u = z.clone()
        for share, (j, i) in zip(shares, edges, strict=True):
            u[i] = u[i] + share[:, None] * z[j]
        u = u / u.norm(dim=2, keepdim=True).clamp(min=1e-12)
    found = layer(batch["x"], graphs)
    torch.testing.assert_close(found.out, u.flatten(1))
    torch.testing.assert_close(found.factors, shares)


@pytest.mark.parametrize("make", [lambda: DisenGCNLayer(5, 6, 3, 2), lambda: GATLayer(5, 6, 2, 0.2)])
def test_every_parameter_of_a_routed_layer_gets_a_finite_gradient(make) -> None:  # type: ignore[no-untyped-def]
    batch, graphs = batch_of()
    layer = make().double()
    layer(batch["x"], graphs).out.square().sum().backward()
    for parameter in layer.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
