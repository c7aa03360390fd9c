"""Every switch of ``conf/model/spagan.yaml`` and ``gat.yaml`` does what the specification says."""

import functools
import inspect
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import pytest
import torch
from torch import Tensor, nn
from torch_geometric.data import Data

from harness.build import build
from lightning_modules.node_classification.gat import NodeAttention
from lightning_modules.node_classification.graph import prepare
from lightning_modules.spagan import module as spagan_module
from lightning_modules.spagan.layers import PathAttention, PathIndex
from lightning_modules.spagan.module import SPAGAN
from lightning_modules.spagan.path_search import PathSets, find_paths
from tests.lightning_modules.node_classification import plain_networks as plain
from tests.small_runs import configuration

# Node 6 is isolated.
PAIRS = [(0, 1), (0, 2), (1, 2), (1, 3), (2, 4), (3, 4), (4, 5)]
EDGE_INDEX = torch.tensor(sorted([(i, j) for i, j in PAIRS] + [(j, i) for i, j in PAIRS])).t()
N, F_IN, CLASSES = 7, 9, 3
X = torch.randn(N, F_IN, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

# What is handed to the path search: key, other value, name of the argument.
SEARCH = [
    ("max_path_nodes", 4, "max_path_nodes"),
    ("path_ratio", 2.0, "path_ratio"),
    ("path_ratio", 0.0, "path_ratio"),
    ("path_ratio", None, "path_ratio"),
    ("path_choice", "random", "choice"),
    ("path_search", "scipy", "search"),
    ("path_search", "hop_limited", "search"),
]
SEARCH_DEFAULTS = {"max_path_nodes": 3, "path_ratio": 0.5, "choice": "cheapest", "search": "exact"}
# What changes the formula of the GAT, and of the path network.
FORMULA = [
    ("negative_slope", 0.5),
    ("negative_slope", 0.0),
    ("elu_before_softmax", False),
    ("hidden_channels", 5),
    ("heads", 2),
    ("out_heads", 3),
]
PATH_FORMULA = [
    *FORMULA,
    ("max_path_nodes", 4),
    ("max_path_nodes", 2),
    ("path_pool", "mean"),
    ("length_attention", False),
    ("output_layer", "linear"),
]
FORMULA_KEYWORDS = ("negative_slope", "elu_before_softmax", "path_pool")
# Dropout: tests/.../node_classification/test_dropout_places.py.
OTHERWISE_TESTED = {"dropout", "init", "edge_cost", "iterations"}
# The data's, the Trainer's and speed: no switches of the method.
NO_SWITCHES = {"_target_", "in_channels", "num_classes", "optimizer", "scheduler", "epochs_per_call"}


@functools.cache
def defaults(method: str) -> dict[str, Any]:
    model: dict[str, Any] = configuration(f"model={method}", "data=mini_citation")["model"]
    return model | {"in_channels": F_IN, "num_classes": CLASSES}


def make(method: str, **changes: Any) -> Any:
    """The method in float64, every parameter drawn by its name: what two variants share is equal."""
    module = build(defaults(method) | changes, "model").double().eval()
    for name, parameter in module.named_parameters():
        generator = torch.Generator().manual_seed(crc32(name.encode()))
        nn.init.normal_(parameter, generator=generator)
    return module


def datamodule() -> Any:
    mask = torch.ones(N, dtype=torch.bool)
    masks = {f"{split}_mask": mask for split in ("train", "val", "test")}
    return SimpleNamespace(graph=Data(x=X, edge_index=EDGE_INDEX, y=torch.arange(N) % CLASSES, **masks))


def paths(max_path_nodes: int = 3) -> PathSets:
    cost = torch.rand(EDGE_INDEX.size(1), generator=torch.Generator().manual_seed(1))
    return find_paths(EDGE_INDEX, cost, N, max_path_nodes=max_path_nodes, path_ratio=None)


def parameters(module: Any, of_gat: bool) -> dict[str, Tensor]:
    network = module.network.gat if of_gat and isinstance(module, SPAGAN) else module.network
    return dict(network.named_parameters())


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The arguments of every search, and what it found under ``result``."""
    calls: list[dict[str, Any]] = []

    def recorded(*args: Any, **keywords: Any) -> PathSets:
        bound = inspect.signature(find_paths).bind(*args, **keywords)
        bound.apply_defaults()
        result = find_paths(*args, **keywords)
        calls.append({**bound.arguments, "result": result})
        return result

    monkeypatch.setattr(spagan_module, "find_paths", recorded)
    return calls


def pass_phases(module: SPAGAN, data: Any) -> None:
    """What the harness calls around the training of each phase, without the training."""
    for index in range(len(module.phases)):
        module.phase_index = index
        module.on_phase_start(data)
        module.on_phase_end(None, data)


def test_no_switch_of_the_files_is_without_a_test_here() -> None:
    tested = {key for key, *_ in (*SEARCH, *PATH_FORMULA)} | OTHERWISE_TESTED
    assert set(defaults("spagan")) - NO_SWITCHES == tested
    tested = {key for key, *_ in FORMULA} | {"dropout", "init"}
    assert set(defaults("gat")) - NO_SWITCHES == tested


@pytest.mark.parametrize(("key", "value", "argument"), SEARCH)
def test_settings_of_the_paths_reach_the_search(
    searches: list[dict[str, Any]], key: str, value: Any, argument: str
) -> None:
    module = make("spagan", **{key: value})
    pass_phases(module, datamodule())
    (search,) = searches
    assert {name: search[name] for name in SEARCH_DEFAULTS} == SEARCH_DEFAULTS | {argument: value}
    assert torch.equal(search["edge_index"], EDGE_INDEX)
    assert search["num_nodes"] == N
    assert module.paths.equal(search["result"])


def test_costs_come_from_the_first_layer_s_attention_averaged_over_its_heads(
    searches: list[dict[str, Any]],
) -> None:
    module = make("spagan", negative_slope=0.4)
    pass_phases(module, datamodule())
    layer = plain.part(parameters(module, of_gat=True), "hidden")
    _, alpha = plain.node_attention(layer, X, EDGE_INDEX, 0.4, plain.no_masks())
    assert [len(search["cost"]) for search in searches] == [14]
    torch.testing.assert_close(searches[0]["cost"], cost_of(alpha))
    torch.testing.assert_close(module.costs, cost_of(alpha))


def cost_of(alpha: Tensor) -> Tensor:
    """``1 - mean / max`` of the rows that are no self-loops."""
    row, col = plain.with_self_loops(EDGE_INDEX, N)
    mean = alpha.mean(1)[row != col]
    return 1 - mean / mean.max()


def test_unit_costs_are_one_for_every_edge_and_skip_the_attention_phase(
    searches: list[dict[str, Any]],
) -> None:
    module = make("spagan", edge_cost="unit")
    assert module.phases == ("paths",)
    pass_phases(module, datamodule())
    assert [search["cost"].tolist() for search in searches] == [[1.0] * 14]


@pytest.mark.parametrize("iterations", [1, 2, 3])
def test_each_iteration_searches_with_the_attention_of_two_node_paths_on_every_edge(
    searches: list[dict[str, Any]], iterations: int
) -> None:
    module = make("spagan", iterations=iterations, negative_slope=0.4)
    pass_phases(module, datamodule())
    assert len(searches) == iterations
    layer = plain.part(parameters(module, of_gat=False), "hidden")
    on_path, on_centre = layer["attention"][0].chunk(2, dim=1)
    layer["attention"] = torch.cat([on_centre, on_path], dim=1)
    _, alpha = plain.node_attention(layer, X, EDGE_INDEX, 0.4, plain.no_masks())
    for search in searches[1:]:
        torch.testing.assert_close(search["cost"], cost_of(alpha))
        assert not torch.allclose(search["cost"], searches[0]["cost"])


def formula_settings(changes: dict[str, Any]) -> dict[str, Any]:
    """Those that do not show in the parameters."""
    return {key: changes[key] for key in FORMULA_KEYWORDS if key in changes}


@pytest.mark.parametrize("method", ["gat", "spagan"])
@pytest.mark.parametrize(("key", "value"), FORMULA)
def test_settings_of_the_gat_change_its_output_as_the_formula_says(method: str, key: str, value: Any) -> None:
    graph = prepare(datamodule().graph)
    outputs = []
    for changes in ({}, {key: value}):
        module = make(method, **changes)
        network = module.network.gat if method == "spagan" else module.network
        out, settings = network(graph), formula_settings(changes)
        expected = plain.gat(parameters(module, of_gat=True), X, EDGE_INDEX, plain.no_masks(), **settings)
        torch.testing.assert_close(out, expected)
        outputs.append(out)
    assert not torch.allclose(*outputs)
    assert_sizes(network.hidden, network.output, {key: value})


@pytest.mark.parametrize(("key", "value"), PATH_FORMULA)
def test_settings_of_the_path_network_change_its_output_as_the_formula_says(key: str, value: Any) -> None:
    graph = prepare(datamodule().graph)
    outputs = []
    for changes in ({}, {key: value}):
        module, sets = make("spagan", **changes), paths(changes.get("max_path_nodes", 3))
        out, settings = module.network(graph, PathIndex.build(sets, N)), formula_settings(changes)
        weights = parameters(module, of_gat=False)
        expected = plain.spagan(weights, X, EDGE_INDEX, sets.nodes, plain.no_masks(), **settings)
        torch.testing.assert_close(out, expected)
        outputs.append(out)
    assert not torch.allclose(*outputs)
    network = module.network
    assert_sizes(network.hidden, network.output, {key: value})
    one_length = (key, value) in [("length_attention", False), ("max_path_nodes", 2)]
    assert (network.hidden.length_attention is None) == one_length
    assert isinstance(network.output, NodeAttention) == (key != "output_layer")


def assert_sizes(hidden: nn.Module, output: nn.Module, changes: dict[str, Any]) -> None:
    """Heads and widths of the parameters: 8 heads of 8 units, concatenated, and one head a class."""
    heads, width = changes.get("heads", 8), changes.get("hidden_channels", 8)
    out_heads = changes.get("out_heads", 1)
    lengths = [changes.get("max_path_nodes", 3) - 1] if isinstance(hidden, PathAttention) else []
    assert hidden.weight.shape == (F_IN, heads * width)
    assert hidden.attention.shape == (*lengths, heads, 2 * width)
    assert output.weight.shape == (heads * width, out_heads * CLASSES)
    if isinstance(output, NodeAttention):
        assert output.attention.shape == (out_heads, 2 * CLASSES)


@pytest.mark.parametrize("init", ["zero_bias", "authors"])
@pytest.mark.parametrize("method", ["gat", "spagan"])
def test_initialisation_is_xavier_normal_per_head_and_draws_biases_for_authors_alone(
    method: str, init: str
) -> None:
    # Many narrow heads: enough draws to tell the fans of one head, 9 + 2, 4 + 1 and 2 + 1, from any other.
    sizes = {"hidden_channels": 2, "heads": 1000, "num_classes": 2, "out_heads": 1000, "init": init}
    torch.manual_seed(0)
    network = build(defaults(method) | sizes, "model").network.requires_grad_(False)
    layers = [(network.hidden, F_IN), (network.output, 2000)]
    if method == "spagan":
        layers += [(network.gat.hidden, F_IN), (network.gat.output, 2000)]
        assert network.hidden.attention.shape == (2, 1000, 4)
        vectors = [*network.hidden.attention, network.hidden.length_attention]
        assert [float(v.std()) for v in vectors] == pytest.approx([xavier(4 + 1)] * 3, rel=0.05)
    for layer, in_channels in layers:
        assert float(layer.weight.std()) == pytest.approx(xavier(in_channels + 2), rel=0.05)
        assert float(layer.attention.std()) == pytest.approx(xavier(4 + 1), rel=0.05)
        if init == "authors":
            assert float(layer.bias.std()) == pytest.approx(xavier(2 + 1), rel=0.05)
        else:
            assert (layer.bias == 0).all()


def xavier(fans: int) -> float:
    return 1.414 * (2 / fans) ** 0.5
