"""MLP, GCN and GAT: formulas, PyG's layers, one step."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Data
from torch_geometric.nn import GATConv, GCNConv

from benchmarks.naive_spagan import NaiveGAT
from lightning_modules.node_classification.gat import GAT, NodeAttention
from lightning_modules.node_classification.gcn import GCN
from lightning_modules.node_classification.graph import GraphInputs, prepare
from lightning_modules.node_classification.mlp import MLP

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
# An undirected graph of 6 nodes; node 6 is isolated.
PAIRS = [(0, 1), (0, 2), (1, 2), (1, 3), (2, 4), (3, 4), (4, 5)]
EDGE_INDEX = torch.tensor(sorted([(i, j) for i, j in PAIRS] + [(j, i) for i, j in PAIRS])).t()
N, F_IN, CLASSES = 7, 9, 3


def data(sparse: bool = False, dtype: torch.dtype = torch.float32) -> Data:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(N, F_IN, generator=generator, dtype=dtype)
    x = x * (torch.rand(N, F_IN, generator=generator) < 0.5)
    return Data(x=x.to_sparse_csr() if sparse else x, edge_index=EDGE_INDEX)


def gat(
    dropout: float = 0.0, init: str = "authors", out_heads: int = 2, elu_before_softmax: bool = True
) -> GAT:
    return GAT(F_IN, 4, CLASSES, 3, out_heads, dropout, 0.2, init, elu_before_softmax)


def networks(dropout: float = 0.5) -> list[nn.Module]:
    return [MLP(F_IN, 8, CLASSES, dropout), GCN(F_IN, 8, CLASSES, dropout), gat(dropout)]


def loops(edge_index: Tensor) -> Tensor:
    return torch.cat([edge_index, torch.arange(N).expand(2, -1)], dim=1)


@pytest.mark.parametrize("sparse", [False, True])
def test_mlp_is_two_linear_layers_with_biases_and_relu_between(sparse: bool) -> None:
    network = MLP(F_IN, 8, CLASSES, 0.5).double().eval()
    weights = {
        name: nn.init.normal_(parameter, generator=torch.Generator().manual_seed(k)).detach()
        for k, (name, parameter) in enumerate(network.named_parameters())
    }
    x = data(dtype=torch.float64).x
    inner = x @ weights["hidden.weight"] + weights["hidden.bias"]
    assert (inner < 0).any()
    assert (inner > 0).any()
    logits = inner * (inner > 0) @ weights["output.weight"] + weights["output.bias"]
    expected = logits - logits.exp().sum(1, keepdim=True).log()
    torch.testing.assert_close(network(prepare(data(sparse, torch.float64))), expected)


def test_gcn_equals_two_of_pyg_gcn_convs() -> None:
    network = GCN(F_IN, 8, CLASSES, 0.5).eval()
    nn.init.normal_(network.hidden.bias)
    nn.init.normal_(network.output.bias)
    first, second = GCNConv(F_IN, 8), GCNConv(8, CLASSES)
    for conv, layer in ((first, network.hidden), (second, network.output)):
        conv.lin.weight.data, conv.bias.data = layer.weight.data.t().contiguous(), layer.bias.data
    x = data().x
    expected = second(F.relu(first(x, EDGE_INDEX)), EDGE_INDEX).log_softmax(-1)
    torch.testing.assert_close(network(prepare(data(sparse=True))), expected)


def test_node_attention_equals_pyg_gat_conv_without_bias() -> None:
    layer = NodeAttention(F_IN, 4, 3, 0.6, 0.2, "zero_bias").eval()
    conv = GATConv(F_IN, 4, heads=3, negative_slope=0.2).eval()
    conv.lin.weight.data = layer.weight.data.t().contiguous()
    # PyG's edges run from source to target; ours from centre to neighbour.
    conv.att_dst.data, conv.att_src.data = (
        part.unsqueeze(0) for part in layer.attention.data.chunk(2, dim=1)
    )
    graph = prepare(data())
    out, alpha = layer(graph.features, graph.edges)
    expected, (edges, weights) = conv(data().x, EDGE_INDEX.flip(0), return_attention_weights=True)
    torch.testing.assert_close(out.flatten(1), expected)
    order = (edges[1] * N + edges[0]).argsort()
    torch.testing.assert_close(alpha, weights[order])


@pytest.mark.parametrize("sparse", [False, True])
def test_gat_equals_one_head_at_a_time_in_outputs_and_gradients(sparse: bool) -> None:
    network = gat()
    naive = NaiveGAT(network)
    out, expected = network(prepare(data(sparse))), naive(data().x, loops(EDGE_INDEX))
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    for output in (out, expected):
        (output * torch.arange(CLASSES)).sum().backward()
    for layer, heads in ((network.hidden, naive.hidden), (network.output, naive.output)):
        grads = torch.cat([head.weight.grad for head in heads], dim=1)
        torch.testing.assert_close(layer.weight.grad, grads, rtol=1e-5, atol=1e-5)
        grads = torch.stack([head.attention.grad for head in heads])
        torch.testing.assert_close(layer.attention.grad, grads, rtol=1e-5, atol=1e-5)
        grads = torch.cat([head.bias.grad for head in heads])
        torch.testing.assert_close(layer.bias.grad, grads, rtol=1e-5, atol=1e-5)


def test_worked_example_gives_the_attention_of_node_two() -> None:
    x = torch.tensor([[0.0], [1], [-1], [2], [0.5], [-0.5]])
    layer = NodeAttention(1, 1, 1, 0.6, 0.2, "zero_bias").eval()
    layer.weight.data.fill_(1.0)
    layer.attention.data = torch.tensor([[0.5, 1.0]])
    graph = prepare(Data(x=x, edge_index=EDGE_INDEX))
    _, alpha = layer(graph.features, graph.edges)
    of_two = dict(
        zip(graph.edges.col[graph.edges.row == 2].tolist(), alpha[graph.edges.row == 2, 0], strict=True)
    )
    expected = torch.tensor([0.210703, 0.383926, 0.232863, 0.172509])
    torch.testing.assert_close(torch.stack([of_two[j] for j in (0, 1, 4, 2)]), expected, rtol=0, atol=1e-6)
    assert alpha[graph.edge_rows].max().item() == pytest.approx(0.707160, abs=1e-6)


def test_edge_attention_and_self_loops_sum_to_one_and_leave_the_mode_alone() -> None:
    network = gat(dropout=0.6).train()
    alpha, own = network.edge_attention(prepare(data()))
    assert network.training
    assert network.hidden.training
    assert alpha.shape == (EDGE_INDEX.size(1), 3)
    torch.testing.assert_close(own.index_add(0, EDGE_INDEX[0], alpha), torch.ones(N, 3))
    assert own[6].tolist() == [1, 1, 1]


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("sparse", [False, True])
def test_one_step_gives_every_parameter_a_gradient(index: int, sparse: bool) -> None:
    torch.manual_seed(0)
    network = networks(0.2)[index].train()
    network(prepare(data(sparse)))[:, 0].sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


@pytest.mark.parametrize("index", range(3))
def test_outputs_are_probabilities_and_the_same_for_the_same_seed(index: int) -> None:
    runs = []
    for _ in range(2):
        torch.manual_seed(1)
        runs.append(networks()[index].train()(prepare(data(sparse=True))))
    assert torch.equal(*runs)
    torch.testing.assert_close(runs[0].exp().sum(1), torch.ones(N))


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("sparse", [False, True])
def test_outputs_and_gradients_are_finite_under_bfloat16_autocast(index: int, sparse: bool) -> None:
    network = networks()[index].train()
    with torch.autocast("cpu", torch.bfloat16):
        out = network(prepare(data(sparse)))
        out[:, 0].sum().backward()
    assert out.dtype == torch.float32
    assert out.isfinite().all()
    assert all(p.grad.isfinite().all() for p in network.parameters())


@pytest.mark.parametrize("index", range(3))
def test_relabelling_the_nodes_permutes_the_outputs(index: int) -> None:
    network = networks()[index].eval()
    order = torch.tensor([3, 0, 6, 2, 5, 1, 4])  # new node k is old node order[k]
    edges = order.argsort()[EDGE_INDEX]
    edges = edges[:, (edges[0] * N + edges[1]).argsort()]
    relabelled = prepare(Data(x=data().x[order], edge_index=edges))
    torch.testing.assert_close(network(relabelled), network(prepare(data()))[order])


def test_isolated_node_keeps_its_own_features() -> None:
    network = gat(init="zero_bias").eval()
    graph = prepare(data())
    own = (data().x[6] @ network.hidden.weight).view(1, 3, 4)
    torch.testing.assert_close(network.hidden(graph.features, graph.edges)[0][6:], own)


def test_zero_bias_starts_at_zero_and_authors_draws_the_biases() -> None:
    assert all(
        (layer.bias == 0).all() for layer in (gat(init="zero_bias").hidden, gat(init="zero_bias").output)
    )
    torch.manual_seed(0)
    layer = GAT(1000, 8, CLASSES, 64, 1, 0.6, 0.2, "authors", True).hidden
    assert layer.bias.std().item() == pytest.approx(0.667, rel=0.1)
    assert layer.weight.std().item() == pytest.approx(1.414 * (2 / 1008) ** 0.5, rel=0.05)
    assert layer.attention.std().item() == pytest.approx(1.414 * (2 / 17) ** 0.5, rel=0.1)


def test_networks_run_in_float64() -> None:
    for network in networks():
        assert network.double()(prepare(data(dtype=torch.float64))).dtype == torch.float64


def test_elu_before_softmax_can_be_switched_off() -> None:
    torch.manual_seed(0)
    with_elu = gat().eval()
    torch.manual_seed(0)
    without = gat(elu_before_softmax=False).eval()
    graph: GraphInputs = prepare(data())
    logits, _ = without.output(F.elu(without.hidden(graph.features, graph.edges)[0].flatten(1)), graph.edges)
    torch.testing.assert_close(without(graph), logits.mean(1).log_softmax(-1))
    torch.testing.assert_close(with_elu(graph), F.elu(logits.mean(1)).log_softmax(-1))
