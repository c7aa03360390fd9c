"""Sums over edges: compiled loops, torch's operations and a plain loop agree."""

import pytest
import torch
from torch import Tensor

from lightning_modules.graph_prediction import edge_sums
from lightning_modules.graph_prediction.batch import Graphs
from lightning_modules.graph_prediction.edge_sums import edge_dot, factor_sum
from tests.lightning_modules.graph_prediction.small_graphs import random_graphs, whole


@pytest.fixture(params=["kernels", "torch"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setattr(edge_sums, "uses_kernels", lambda x: False)
    return str(request.param)


def tensors(shared: bool) -> tuple[Graphs, dict[str, Tensor], Tensor, Tensor]:
    torch.manual_seed(0)
    batch = whole(random_graphs(0, self_loops=False))
    graphs = Graphs.of(batch, torch.float64)
    weights = torch.rand(graphs.edges.num_rows, 3, dtype=torch.float64, requires_grad=True)
    shape = (graphs.edges.num_groups, 1 if shared else 3, 4)
    return graphs, batch, weights, torch.randn(shape, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("shared", [True, False])
def test_weighted_sums_equal_a_loop_over_edges(shared: bool) -> None:
    graphs, batch, weights, items = tensors(shared)
    expected = torch.zeros(graphs.edges.num_groups, 3, 4, dtype=torch.float64)
    for r, (j, i) in enumerate(batch["edge_index"].T.tolist()):
        for k in range(3):
            expected[i, k] += weights[r, k] * items[j, 0 if shared else k]
    torch.testing.assert_close(factor_sum(weights, items, graphs.edges), expected)
    assert torch.autograd.gradcheck(lambda w, x: factor_sum(w, x, graphs.edges), (weights, items))


def test_inner_products_along_edges_equal_a_loop() -> None:
    graphs, batch, _, items = tensors(shared=False)
    centres = torch.randn_like(items, requires_grad=True)
    source, target = batch["edge_index"]
    expected = (items[source] * centres[target]).sum(2)
    torch.testing.assert_close(edge_dot(items, centres, graphs.edges), expected)
    assert torch.autograd.gradcheck(lambda x, c: edge_dot(x, c, graphs.edges), (items, centres))


def test_a_node_without_edges_sums_to_zero() -> None:
    graphs, batch, weights, items = tensors(shared=True)
    alone = batch["edge_ptr"].diff() == 0
    assert alone.any(), "the graphs of this test have such a node"
    assert (factor_sum(weights, items, graphs.edges)[alone] == 0).all()
