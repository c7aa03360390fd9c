"""SPAGAN's path layer and network: the worked example, invariants, and the naive form."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data

from benchmarks.naive_spagan import NaiveSPAGAN
from lightning_modules.node_classification.gat import GAT, NodeAttention
from lightning_modules.node_classification.graph import prepare
from lightning_modules.spagan.layers import PathAttention, PathIndex, SPAGANNetwork

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
PAIRS = [(0, 1), (0, 2), (1, 2), (1, 3), (2, 4), (3, 4), (4, 5)]
EDGES = sorted([(i, j) for i, j in PAIRS] + [(j, i) for i, j in PAIRS])
EDGE_INDEX = torch.tensor(EDGES).t()
# The kept length-3 paths of the worked example for r = 1.
THREE = [(0, 1, 3), (1, 3, 4), (2, 1, 3), (2, 4, 5), (3, 1, 0), (3, 1, 2), (4, 3, 1), (5, 4, 3), (5, 4, 2)]
KEPT = [path for path in THREE if path != (5, 4, 2)]
FOUR = [(0, 1, 3, 4), (5, 4, 3, 1)]
N, F_IN, CLASSES = 6, 5, 3


def with_self(paths: list[tuple[int, ...]], num_nodes: int = N) -> Tensor:
    length = len(paths[0])
    return torch.tensor(sorted([*paths, *((i,) * length for i in range(num_nodes))]))


def path_index(max_path_nodes: int = 3, num_nodes: int = N) -> PathIndex:
    rows = {2: EDGES, 3: KEPT, 4: FOUR}
    nodes = {c: with_self(rows[c], num_nodes) for c in range(2, max_path_nodes + 1)}
    return PathIndex.build(SimpleNamespace(nodes=nodes), num_nodes)


def data(sparse: bool = False, num_nodes: int = N) -> Data:
    x = torch.rand(num_nodes, F_IN, generator=torch.Generator().manual_seed(0))
    return Data(x=x.to_sparse_csr() if sparse else x, edge_index=EDGE_INDEX)


def layer(max_path_nodes: int = 3, path_pool: str = "max", length_attention: bool = True) -> PathAttention:
    return PathAttention(F_IN, 4, 3, max_path_nodes, path_pool, length_attention, 0.6, 0.2, "authors")


def network(
    dropout: float = 0.0,
    max_path_nodes: int = 3,
    path_pool: str = "max",
    length_attention: bool = True,
    output_layer: str = "attention",
) -> SPAGANNetwork:
    return SPAGANNetwork(
        F_IN,
        4,
        CLASSES,
        3,
        2,
        dropout,
        0.2,
        "authors",
        True,
        max_path_nodes,
        path_pool,
        length_attention,
        output_layer,
    )


def assert_near(actual: Tensor, expected: list[float]) -> None:
    torch.testing.assert_close(actual.flatten(), torch.tensor(expected), rtol=0, atol=1.5e-6)


def test_worked_example() -> None:
    x = torch.tensor([[0.0], [1], [-1], [2], [0.5], [-0.5]])
    path_layer = PathAttention(1, 1, 1, 3, "max", True, 0.6, 0.2, "zero_bias").eval()
    path_layer.weight.data.fill_(1.0)
    path_layer.attention.data = torch.tensor([[[1.0, 0.5]], [[0.5, 1.0]]])
    path_layer.length_attention.data = torch.tensor([[1.0, -0.5]])
    with torch.no_grad():
        z, weights = path_layer(x, path_index())
    assert_near(z, [1.190315, 1.545291, 0.514279, 1.507972, 1.460101, 0.870700])
    assert_near(weights.beta[:, 0], [0.260487, 0.457975, 0.420288, 0.526612, 0.468752, 0.260410])
    three = with_self(KEPT)
    of_three = three[:, 0] == 3
    assert three[of_three].tolist() == [[3, 1, 0], [3, 1, 2], [3, 3, 3]]
    assert_near(weights.alpha[3][of_three], [0.274069, 0.274069, 0.451863])
    # A zero vector among lengths leaves their means apart: l2 and l3 follow from z under two known betas.
    path_layer.length_attention.data = torch.tensor([[0.0, 0.0]])
    mean = path_layer(x, path_index())[0].detach()
    two = PathAttention(1, 1, 1, 2, "max", True, 0.6, 0.2, "zero_bias").eval()
    two.weight.data.fill_(1.0)
    two.attention.data = torch.tensor([[[1.0, 0.5]]])
    l2 = two(x, path_index(2))[0].detach()
    assert_near(l2, [0.418679, 1.453961, 0.327848, 1.558410, 1.393613, 0.098688])
    assert_near(2 * mean - l2, [1.462117, 1.622459, 0.649440, 1.451863, 1.518768, 1.142526])


def test_two_node_paths_over_all_edges_equal_the_gat_layer() -> None:
    gat = NodeAttention(F_IN, 4, 3, 0.6, 0.2, "authors").eval()
    paths = layer(max_path_nodes=2).eval()
    paths.weight.data, paths.bias.data = gat.weight.data, gat.bias.data
    paths.attention.data = torch.cat(gat.attention.data.chunk(2, dim=1)[::-1], dim=1).unsqueeze(0)
    graph = prepare(data())
    expected, alpha = gat(graph.features, graph.edges)
    out, weights = paths(graph.features, path_index(2))
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(weights.alpha[2], alpha)
    for ours, theirs in zip(
        paths.edge_attention(graph), (alpha[graph.edge_rows], alpha[graph.loop_rows]), strict=True
    ):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("max_path_nodes", [2, 3, 4])
@pytest.mark.parametrize("length_attention", [True, False])
def test_attention_sums_to_one_over_paths_and_over_lengths(
    max_path_nodes: int, length_attention: bool
) -> None:
    index = path_index(max_path_nodes)
    _, weights = layer(max_path_nodes, length_attention=length_attention).eval()(data().x, index)
    for c, alpha in weights.alpha.items():
        torch.testing.assert_close(index.segments[c].sum(alpha), torch.ones(N, 3))
    assert weights.beta.shape == (N, max_path_nodes - 1, 3)
    torch.testing.assert_close(weights.beta.sum(1), torch.ones(N, 3))


@pytest.mark.parametrize("path_pool", ["max", "mean"])
@pytest.mark.parametrize("max_path_nodes", [3, 4])
@pytest.mark.parametrize("sparse", [False, True])
def test_network_equals_one_head_at_a_time_in_outputs_and_gradients(
    path_pool: str, max_path_nodes: int, sparse: bool
) -> None:
    torch.manual_seed(0)
    fast = network(path_pool=path_pool, max_path_nodes=max_path_nodes)
    naive = NaiveSPAGAN(fast)
    rows = {2: EDGES, 3: KEPT, 4: FOUR}
    paths = {c: with_self(rows[c]) for c in range(2, max_path_nodes + 1)}
    loops = torch.cat([EDGE_INDEX, torch.arange(N).expand(2, -1)], dim=1)
    out = fast(prepare(data(sparse)), path_index(max_path_nodes))
    expected = naive(data().x, loops, paths)
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
    for output in (out, expected):
        (output * torch.arange(CLASSES)).sum().backward()
    pairs = [
        (fast.hidden.weight, torch.cat([head.weight.grad for head in naive.hidden], dim=1)),
        (fast.hidden.bias, torch.cat([head.bias.grad for head in naive.hidden])),
        (fast.hidden.attention, torch.stack([head.attention.grad for head in naive.hidden], dim=1)),
        (fast.hidden.length_attention, torch.stack([head.length_attention.grad for head in naive.hidden])),
        (fast.output.weight, torch.cat([head.weight.grad for head in naive.output], dim=1)),
        (fast.output.attention, torch.stack([head.attention.grad for head in naive.output])),
    ]
    for parameter, grad in pairs:
        torch.testing.assert_close(parameter.grad, grad, rtol=1e-5, atol=1e-5)


def test_without_length_attention_lengths_are_averaged() -> None:
    torch.manual_seed(0)
    plain = layer(length_attention=False).eval()
    assert plain.length_attention is None
    torch.manual_seed(0)
    attended = layer().eval()
    attended.load_state_dict(plain.state_dict() | {"length_attention": torch.zeros(3, 8)})
    x = data().x
    torch.testing.assert_close(plain(x, path_index())[0], attended(x, path_index())[0])


def test_relabelling_the_nodes_permutes_the_outputs() -> None:
    order = torch.tensor([3, 0, 5, 2, 1, 4])  # new node k is old node order[k]
    new = order.argsort()
    edges = new[EDGE_INDEX]
    edges = edges[:, (edges[0] * N + edges[1]).argsort()]
    nodes = {c: new[with_self(rows)] for c, rows in ((2, EDGES), (3, KEPT))}
    nodes = {c: rows[rows[:, 0].argsort(stable=True)] for c, rows in nodes.items()}
    spagan = network(0.6).eval()
    relabelled = prepare(Data(x=data().x[order], edge_index=edges))
    out = spagan(relabelled, PathIndex.build(SimpleNamespace(nodes=nodes), N))
    torch.testing.assert_close(out, spagan(prepare(data()), path_index())[order])


def test_gat_part_starts_equal_to_a_stand_alone_gat() -> None:
    torch.manual_seed(5)
    alone = GAT(F_IN, 4, CLASSES, 3, 2, 0.6, 0.2, "authors", True)
    torch.manual_seed(5)
    part = network(0.6).gat
    for (name, a), (_, b) in zip(alone.named_parameters(), part.named_parameters(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    "switches",
    [
        {},
        {"path_pool": "mean"},
        {"max_path_nodes": 2},
        {"max_path_nodes": 4},
        {"length_attention": False},
        {"output_layer": "linear"},
    ],
)
@pytest.mark.parametrize("sparse", [False, True])
def test_one_step_gives_every_parameter_of_the_path_network_a_gradient(switches: dict, sparse: bool) -> None:
    torch.manual_seed(0)
    spagan = network(0.2, **switches).train()
    out = spagan(prepare(data(sparse)), path_index(switches.get("max_path_nodes", 3)))
    out[:, 0].sum().backward()
    assert len(spagan.path_parameters()) + len(list(spagan.gat.parameters())) == len(
        list(spagan.parameters())
    )
    for parameter in spagan.path_parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


@pytest.mark.parametrize("sparse", [False, True])
def test_outputs_and_gradients_are_finite_under_bfloat16_autocast(sparse: bool) -> None:
    spagan = network(0.5).train()
    with torch.autocast("cpu", torch.bfloat16):
        out = spagan(prepare(data(sparse)), path_index())
        out[:, 0].sum().backward()
    assert out.dtype == torch.float32
    assert out.isfinite().all()
    assert all(p.grad.isfinite().all() for p in spagan.path_parameters())


@pytest.mark.parametrize("sparse", [False, True])
def test_weights_in_bfloat16_give_finite_outputs(sparse: bool) -> None:
    spagan, graph = network(0.5).bfloat16(), prepare(data(sparse))
    for out in (spagan(graph, path_index()), spagan.gat(graph)):
        out[:, 0].sum().backward()
        assert out.dtype == torch.float32
        assert out.isfinite().all()


def test_isolated_node_keeps_its_own_features() -> None:
    paths = layer().eval()
    x = data(num_nodes=7).x
    out, weights = paths(x, path_index(num_nodes=7))
    torch.testing.assert_close(out[6], (x[6] @ paths.weight + paths.bias).view(3, 4))
    assert weights.alpha[3][-1].tolist() == [1, 1, 1]


def test_path_layer_passes_gradcheck() -> None:
    torch.manual_seed(0)
    paths, x, index = layer(4).double().eval(), data().x.double(), path_index(4)
    parameters = dict(paths.named_parameters())

    def output(*values: Tensor) -> Tensor:
        named = dict(zip(parameters, values, strict=True))
        return torch.func.functional_call(paths, named, (x, index))[0]

    assert torch.autograd.gradcheck(output, tuple(parameters.values()))


def test_path_attention_is_without_dropout_and_leaves_the_mode_alone() -> None:
    spagan = network(0.6).train()
    graph, index = prepare(data()), path_index()
    first, second = spagan.path_attention(graph, index), spagan.path_attention(graph, index)
    assert torch.equal(first.beta, second.beta)
    assert not first.beta.requires_grad
    assert spagan.hidden.training
    alpha, own = spagan.edge_attention(graph)
    torch.testing.assert_close(own.index_add(0, EDGE_INDEX[0], alpha), torch.ones(N, 3))


def test_paths_of_other_lengths_than_the_layer_are_refused() -> None:
    with pytest.raises(ValueError, match="reads paths of"):
        layer(max_path_nodes=4)(data().x, path_index(3))


def test_a_missing_length_is_refused() -> None:
    with pytest.raises(ValueError, match="every length from 2"):
        PathIndex.build(SimpleNamespace(nodes={3: with_self(KEPT)}), N)


def test_a_longest_path_below_two_nodes_is_refused() -> None:
    with pytest.raises(ValueError, match="max_path_nodes"):
        layer(max_path_nodes=1)
