"""No tensor of edges x channels is made, whatever computes L_LSP and in training its networks."""

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lightning_modules.graph_prediction.batch import Graphs
from lightning_modules.lsp import list_values, pair_values
from lightning_modules.lsp.clouds import CloudNeighbours
from lightning_modules.lsp.network import InductiveAttentionNetwork
from lightning_modules.lsp.structure import Neighbours, log_structure, structure_loss
from lightning_modules.node_classification import attention
from tests.lightning_modules.graph_prediction.small_graphs import graph_set, whole
from tests.lightning_modules.lsp.test_clouds import random_lists
from tests.lightning_modules.lsp.test_structure import each_kernel, random_graph


class Largest(TorchDispatchMode):
    """Numbers of the largest tensor that an operation has returned."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **kwargs or {})
        found = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        self.numbers = max([self.numbers, *found])
        return out


def largest(neighbours: Neighbours, teacher: torch.Tensor, student: torch.Tensor, kernel: Any) -> int:
    """Of L_LSP and its gradient."""
    with Largest() as mode:
        loss = structure_loss(
            log_structure(student, neighbours, kernel), log_structure(teacher, neighbours, kernel), neighbours
        )
        loss.backward()
    return mode.numbers


@each_kernel
@pytest.mark.parametrize("way", ["loops", "torch"])
def test_of_static_graphs(kernel: Any, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "torch":
        monkeypatch.setattr(pair_values, "uses_kernels", lambda x: False)
        monkeypatch.setattr(pair_values, "PIECE", 4096)
    neighbours, _ = random_graph(60, self_loops=True)
    edges, width = neighbours.edges.num_rows, 128
    assert edges > 4 * neighbours.num_nodes
    found = largest(neighbours, torch.randn(60, width), torch.randn(60, 16, requires_grad=True), kernel)
    assert found <= 60 * width  # the embedding itself
    assert found < edges * width / 4


@each_kernel
@pytest.mark.parametrize("way", ["loops", "torch"])
def test_of_clouds(kernel: Any, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "torch":
        monkeypatch.setattr(list_values, "uses_kernels", lambda x: False)
    points, width = 64, 256
    neighbours = CloudNeighbours.joined(random_lists(2, points, 20, 0), random_lists(2, points, 10, 1))
    teacher, student = torch.randn(2, points, width), torch.randn(2, points, 64, requires_grad=True)
    found = largest(neighbours, teacher, student, kernel)
    assert found <= 2 * points * max(width, points)
    assert found < 2 * points * 30 * width / 4


def test_of_the_attention_network(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes, heads, channels = 80, 2, 32
    monkeypatch.setattr(attention, "uses_kernels", lambda x: False)
    generator = torch.Generator().manual_seed(0)
    adjacent = torch.rand(nodes, nodes, generator=generator).triu(1) > 0.7
    x = torch.randn(nodes, 5, generator=generator)
    pairs = [(int(a), int(b)) for a, b in adjacent.nonzero()]
    batch = whole(graph_set([nodes], pairs, x, self_loops=True))
    torch.manual_seed(0)
    network = InductiveAttentionNetwork(5, 2, heads, channels, 2, 3, 0.2)

    def step() -> tuple[int, tuple[torch.Tensor, ...]]:
        with Largest() as mode:
            logits, _ = network(Graphs.of(batch))
            grads = torch.autograd.grad(logits.square().sum(), list(network.parameters()))
        return mode.numbers, grads

    edges = batch["edge_index"].size(1)
    all_at_once, expected = step()
    assert all_at_once == edges * heads * channels  # these are seen where they are made
    monkeypatch.setattr(attention, "PIECE", 4096)
    in_pieces, found = step()
    assert in_pieces <= max(nodes * heads * channels, 2 * edges)
    assert in_pieces < all_at_once / 4
    torch.testing.assert_close(found, expected)
