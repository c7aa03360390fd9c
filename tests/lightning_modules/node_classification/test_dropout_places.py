"""Where dropout falls: every draw of a forward pass, and what it falls on."""

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from harness.build import build_datamodule, build_module
from lightning_modules.node_classification import attention, dense, sparse
from lightning_modules.node_classification.gat import GAT
from lightning_modules.node_classification.gcn import GCN
from lightning_modules.node_classification.graph import prepare
from lightning_modules.node_classification.mlp import MLP
from lightning_modules.spagan.layers import PathAttention, PathIndex, SPAGANNetwork
from tests.lightning_modules.node_classification import plain_networks as plain
from tests.small_runs import configuration

pytestmark = pytest.mark.filterwarnings("ignore:Sparse CSR tensor support is in beta")
# Node 6 is isolated. Neighbour 2 of 0 is reached through 1: there are fewer paths of two nodes than edges.
PAIRS = [(0, 1), (0, 2), (1, 2), (1, 3), (2, 4), (3, 4), (4, 5)]
EDGES = sorted([(i, j) for i, j in PAIRS] + [(j, i) for i, j in PAIRS])
EDGE_INDEX = torch.tensor(EDGES).t()
WALKS = {
    2: [edge for edge in EDGES if edge != (0, 2)],
    3: [(0, 1, 2), (0, 1, 3), (1, 3, 4), (2, 1, 3), (3, 1, 0), (4, 3, 1), (5, 4, 3)],
    4: [(0, 1, 3, 4), (5, 4, 3, 1)],
}
N, F_IN, CLASSES, WIDTH, HEADS, OUT_HEADS = 7, 9, 3, 4, 3, 2
PATHS = {c: torch.tensor(sorted([*walks, *((i,) * c for i in range(N))])) for c, walks in WALKS.items()}
ROWS = 14 + N  # edges and self-loops
P = 0.6
INPUT = (-1,)  # stands for the input's own shape, or for its non-zeros
PLACES = {
    "mlp": [INPUT, (N, WIDTH)],
    "gcn": [INPUT, (N, WIDTH)],
    "gat": [INPUT, (ROWS, HEADS), (N, HEADS * WIDTH), (ROWS, OUT_HEADS)],
    "path layer": [INPUT, (20, HEADS), (14, HEADS), (9, HEADS)],
    "path layer, two lengths": [INPUT, (20, HEADS), (14, HEADS)],
    "path layer without length attention": [INPUT, (20, HEADS), (14, HEADS), (9, HEADS)],
    "spagan": [INPUT, (20, HEADS), (14, HEADS), (9, HEADS), (N, HEADS * WIDTH), (ROWS, OUT_HEADS)],
    "spagan with a linear output": [INPUT, (20, HEADS), (14, HEADS), (9, HEADS), (N, HEADS * WIDTH)],
}
everywhere = pytest.mark.parametrize("name", PLACES)
sparse_or_dense = pytest.mark.parametrize("sparse", [True, False], ids=["sparse", "dense"])


class Draws:
    """Every mask that was drawn, in order."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self.probabilities: list[float] = []
        self.masks: list[Tensor] = []


@pytest.fixture
def draws(monkeypatch: pytest.MonkeyPatch) -> Draws:
    seen, genuine = Draws(), dense.dropout_mask

    def recorded(shape: tuple[int, ...], p: float, like: Tensor) -> Tensor:
        mask = genuine(shape, p, like)
        seen.shapes.append(tuple(shape))
        seen.probabilities.append(p)
        seen.masks.append(mask)
        return mask

    for module in (dense, sparse, attention):
        monkeypatch.setattr(module, "dropout_mask", recorded)
    return seen


def features(sparse: bool) -> tuple[Tensor, Tensor]:
    """Half of the entries are zero; dense, and as the network is given them."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(N, F_IN, generator=generator, dtype=torch.float64)
    x = x * (torch.rand(N, F_IN, generator=generator) < 0.5)
    return x, x.to_sparse_csr() if sparse else x


def build(name: str, dropout: float = P) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module
    attended = (dropout, 0.2, "authors")
    length_attention = "without" not in name
    if name == "mlp":
        network = MLP(F_IN, WIDTH, CLASSES, dropout)
    elif name == "gcn":
        network = GCN(F_IN, WIDTH, CLASSES, dropout)
    elif name == "gat":
        network = GAT(F_IN, WIDTH, CLASSES, HEADS, OUT_HEADS, *attended, True)
    elif name.startswith("path layer"):
        longest = max(paths(name))
        network = PathAttention(F_IN, WIDTH, HEADS, longest, "max", length_attention, *attended)
    else:
        output = "linear" if "linear" in name else "attention"
        network = SPAGANNetwork(
            F_IN, WIDTH, CLASSES, HEADS, OUT_HEADS, *attended, True, 4, "max", length_attention, output
        )
    return network.double()


def paths(name: str) -> dict[int, Tensor]:
    return {c: nodes for c, nodes in PATHS.items() if c < 4 or "two lengths" not in name}


def forward(name: str, network: nn.Module, sparse: bool) -> Tensor:
    graph = prepare(Data(x=features(sparse)[1], edge_index=EDGE_INDEX))
    index = PathIndex.build(SimpleNamespace(nodes=paths(name)), N)
    if name.startswith("path layer"):
        return network(graph.features, index)[0]
    return network(graph, index) if name.startswith("spagan") else network(graph)


def formula(name: str, network: nn.Module, masks: plain.Masks) -> Tensor:
    parameters, x = dict(network.named_parameters()), features(False)[0]
    if name == "mlp":
        return plain.mlp(parameters, x, masks)
    if name.startswith("path layer"):
        return plain.path_attention(parameters, x, paths(name), 0.2, "max", masks)
    if name.startswith("spagan"):
        return plain.spagan(parameters, x, EDGE_INDEX, PATHS, masks)
    return {"gcn": plain.gcn, "gat": plain.gat}[name](parameters, x, EDGE_INDEX, masks)


@everywhere
@sparse_or_dense
def test_training_draws_dropout_for_the_inputs_of_both_layers_and_for_attention_alone(
    draws: Draws, name: str, sparse: bool
) -> None:
    forward(name, build(name).train(), sparse)
    own = (int((features(False)[0] != 0).sum()),) if sparse else (N, F_IN)
    assert draws.shapes == [own if place is INPUT else place for place in PLACES[name]]
    assert draws.probabilities == [P] * len(PLACES[name])


@everywhere
@sparse_or_dense
def test_what_is_drawn_falls_where_the_formula_has_it(draws: Draws, name: str, sparse: bool) -> None:
    network = build(name).train()
    out = forward(name, network, sparse)
    torch.testing.assert_close(out, formula(name, network, iter(draws.masks)))
    used = [value for key, value in network.named_parameters() if not key.startswith("gat.")]
    gradient = torch.randn_like(out)
    ours = torch.autograd.grad(out, used, gradient)
    expected = torch.autograd.grad(formula(name, network, iter(draws.masks)), used, gradient)
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other)


@everywhere
@sparse_or_dense
def test_evaluation_draws_nothing(draws: Draws, name: str, sparse: bool) -> None:
    network = build(name).eval()
    out = forward(name, network, sparse)
    assert draws.shapes == []
    torch.testing.assert_close(out, formula(name, network, plain.no_masks()))


@everywhere
def test_a_probability_of_zero_draws_nothing_in_training_either(draws: Draws, name: str) -> None:
    forward(name, build(name, dropout=0.0).train(), True)
    assert draws.shapes == []


def test_attention_that_becomes_costs_or_pictures_is_without_dropout_though_the_network_trains(
    draws: Draws,
) -> None:
    spagan = build("spagan").train()
    graph = prepare(Data(x=features(True)[1], edge_index=EDGE_INDEX))
    spagan.gat.edge_attention(graph)
    spagan.edge_attention(graph)
    spagan.path_attention(graph, PathIndex.build(SimpleNamespace(nodes=PATHS), N))
    assert draws.shapes == []


@pytest.mark.parametrize(("method", "phases"), [("mlp", 1), ("gcn", 1), ("gat", 1), ("spagan", 2)])
def test_every_phase_of_every_method_trains_with_the_configured_probability(
    draws: Draws, method: str, phases: int
) -> None:
    config = configuration(f"model={method}", "data=mini_citation", "model.dropout=0.3")
    module, datamodule = build_module(config), build_datamodule(config)
    for module.phase_index in range(phases):
        module.on_phase_start(datamodule)
        module.train().training_loss(datamodule.graph)
        drawn, draws.probabilities = draws.probabilities, []
        # two inputs; then two layers of attention, of which the path layer has one per length
        count = 2 if method in ("mlp", "gcn") else 4 + module.phase_index
        assert drawn == [0.3] * count
        module.eval()
        module.validation_metrics(datamodule.graph)
        module.on_phase_end(None, datamodule)
        assert draws.probabilities == []
