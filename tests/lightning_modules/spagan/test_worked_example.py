"""The specification's worked example from the features to the layer's output, each step on the one before."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data

from lightning_modules.node_classification.gat import GAT
from lightning_modules.node_classification.graph import GraphInputs, prepare
from lightning_modules.spagan import layers
from lightning_modules.spagan.edge_costs import edge_costs
from lightning_modules.spagan.layers import PathAttention, PathIndex
from lightning_modules.spagan.path_search import PathSets, find_paths

COSTS = {
    (0, 1): 0.152759, (0, 2): 0.744816, (1, 0): 0.878681, (1, 2): 0.933419, (1, 3): 0.103571,
    (2, 0): 0.702044, (2, 1): 0.457088, (2, 4): 0.670707, (3, 1): 0.673025, (3, 4): 0.801679,
    (4, 2): 0.909282, (4, 3): 0.0, (4, 5): 0.899741, (5, 4): 0.153392,
}  # fmt: skip
# For r = 1.
THREE = {
    (0, 1, 3): 0.256330, (1, 3, 4): 0.905250, (2, 1, 3): 0.560659, (2, 4, 5): 1.570448, (3, 1, 0): 1.551706,
    (3, 1, 2): 1.606444, (4, 3, 1): 0.673025, (5, 4, 3): 0.153392,
}  # fmt: skip
L2 = [0.418679, 1.453961, 0.327848, 1.558410, 1.393613, 0.098688]
L3 = [1.462117, 1.622459, 0.649440, 1.451863, 1.518768, 1.142526]
BETA2 = [0.260487, 0.457975, 0.420288, 0.526612, 0.468752, 0.260410]
Z = [1.190315, 1.545291, 0.514279, 1.507972, 1.460101, 0.870700]
both_searches = pytest.mark.parametrize("search", ["exact", "scipy"])


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def assert_six_digits(actual: Tensor, expected: Any) -> None:
    expected = torch.as_tensor(expected, dtype=torch.float64)
    torch.testing.assert_close(actual.detach().flatten(), expected, rtol=0, atol=6e-7)


@pytest.fixture
def graph() -> GraphInputs:
    features = vector(0, 1, -1, 2, 0.5, -0.5).unsqueeze(1)
    return prepare(Data(x=features, edge_index=torch.tensor(list(COSTS)).t()))


@pytest.fixture
def gat() -> GAT:
    """W = 1, b = 0, e_ij = LeakyReLU(0.5 h_i + 1.0 h_j) in its first layer."""
    network = GAT(1, 1, 2, 1, 1, 0.6, 0.2, "zero_bias", True).double()
    network.hidden.weight.data.fill_(1.0)
    network.hidden.attention.data = vector(0.5, 1.0).unsqueeze(0)
    return network


@pytest.fixture
def path_layer() -> PathAttention:
    """W^p = 1, b = 0, max pool, a_2 = (1, 0.5), a_3 = (0.5, 1), a_len = (1, -0.5)."""
    layer = PathAttention(1, 1, 1, 3, "max", True, 0.6, 0.2, "zero_bias").double().eval()
    layer.weight.data.fill_(1.0)
    layer.attention.data = vector(1.0, 0.5, 0.5, 1.0).view(2, 1, 2)
    layer.length_attention.data = vector(1.0, -0.5).unsqueeze(0)
    return layer


def searched(gat: GAT, graph: GraphInputs, search: str) -> PathSets:
    costs = edge_costs(gat.edge_attention(graph)[0])
    edges = torch.tensor(list(COSTS)).t()
    return find_paths(edges, costs, 6, max_path_nodes=3, path_ratio=1.0, search=search)


def test_attention_gives_the_costs(gat: GAT, graph: GraphInputs) -> None:
    attention, own = gat.edge_attention(graph)
    of_two = [list(COSTS).index((2, j)) for j in (0, 1, 4)]
    assert_six_digits(torch.cat([attention[of_two], own[2:3]]), [0.210703, 0.383926, 0.232863, 0.172509])
    assert_six_digits(attention[list(COSTS).index((4, 3))], [0.707160])
    assert_six_digits(edge_costs(attention), list(COSTS.values()))


@both_searches
def test_costs_give_the_paths(gat: GAT, graph: GraphInputs, search: str) -> None:
    paths = searched(gat, graph, search)
    for c, expected in ((2, COSTS), (3, THREE)):
        own = paths.is_self_path(c)
        kept = [tuple(row) for row in paths.nodes[c][~own].tolist()]
        assert kept == sorted(expected, key=lambda path: (path[0], expected[path]))
        assert_six_digits(paths.cost[c][~own], [expected[row] for row in kept])
        assert paths.nodes[c][own].tolist() == [[i] * c for i in range(6)]
    assert (len(paths.nodes[2]), len(paths.nodes[3])) == (20, 14)


@both_searches
def test_paths_give_the_layer_s_output(
    gat: GAT, path_layer: PathAttention, graph: GraphInputs, search: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, genuine = searched(gat, graph, search), layers.attention_sum
    lengths: list[Tensor] = []

    def recorded(*args: Any, **keywords: Any) -> tuple[Tensor, Tensor]:
        out, alpha = genuine(*args, **keywords)
        lengths.append(out)
        return out, alpha

    monkeypatch.setattr(layers, "attention_sum", recorded)
    z, weights = path_layer(graph.features, PathIndex.build(paths, 6))
    l2, l3 = lengths
    assert_six_digits(l2, L2)
    assert_six_digits(l3, L3)
    assert_six_digits(weights.beta[:, 0], BETA2)
    assert_six_digits(weights.beta[:, 1], 1 - torch.tensor(BETA2, dtype=torch.float64))
    assert_six_digits(z, Z)
    of_three = paths.nodes[3][:, 0] == 3
    assert paths.nodes[3][of_three].tolist() == [[3, 1, 0], [3, 1, 2], [3, 3, 3]]
    assert_six_digits(weights.alpha[3][of_three], [0.274069, 0.274069, 0.451863])


def test_attention_among_paths_of_two_nodes_equals_that_of_the_gat(
    gat: GAT, path_layer: PathAttention, graph: GraphInputs
) -> None:
    paths = searched(gat, graph, "exact")
    _, weights = path_layer(graph.features, PathIndex.build(paths, 6))
    attention, own = gat.edge_attention(graph)
    expected = dict(zip(COSTS, attention.flatten().tolist(), strict=True))
    expected |= {(i, i): float(own[i]) for i in range(6)}
    ours = {
        tuple(row): share
        for row, share in zip(paths.nodes[2].tolist(), weights.alpha[2].flatten().tolist(), strict=True)
    }
    assert ours == pytest.approx(expected, abs=1e-12)
    for one, other in zip(path_layer.edge_attention(graph), (attention, own), strict=True):
        torch.testing.assert_close(one, other)
