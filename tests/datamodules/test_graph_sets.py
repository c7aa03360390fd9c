"""Many graphs in flat tensors: batches against the reference collation, splits, folds, mistakes."""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from datamodules.graph_sets import (
    GraphSet,
    GraphSetDataModule,
    Split,
    make_graph_set,
    split_in_order,
    with_folds,
)
from harness.errors import UserError
from tests.datamodules.graph_files import graph_set, random_edges

SIZES = (4, 1, 6, 3, 5)
CPU = torch.device("cpu")


def as_data(graphs: GraphSet, number: int, *, self_loops: bool) -> Data:
    """One graph from the edges that were given, in the order that they were given in."""
    first, end = int(graphs.ptr[number]), int(graphs.ptr[number + 1])
    source, target = (torch.from_numpy(ends) for ends in random_edges(SIZES))
    inside = (source >= first) & (source < end)
    edges = torch.stack([source[inside], target[inside]])
    factors = edges.sum(dim=0)[:, None] % 3 == torch.arange(2)
    if self_loops:
        loops = torch.arange(first, end)
        edges = torch.cat([edges, torch.stack([loops, loops])], dim=1)
        factors = torch.cat([factors, torch.zeros(end - first, 2, dtype=torch.bool)])
    y = graphs.y[first:end] if graphs.of_nodes else graphs.y[number : number + 1]
    return Data(x=graphs.x[first:end], edge_index=edges - first, edge_attr=factors, y=y)


@pytest.mark.parametrize("self_loops", [True, False])
@pytest.mark.parametrize("of_nodes", [True, False])
@pytest.mark.parametrize("chosen", [[0, 1, 2, 3, 4], [3, 0, 4], [1], [2, 2, 0]])
def test_batch_equals_the_reference_collation(self_loops: bool, of_nodes: bool, chosen: list[int]) -> None:
    graphs = graph_set(SIZES, self_loops=self_loops, of_nodes=of_nodes)
    batch = graphs.batch(torch.tensor(chosen))
    parts = [as_data(graphs, number, self_loops=self_loops) for number in chosen]
    reference = Batch.from_data_list(parts).sort(sort_by_row=False)
    for key, expected in {
        "x": reference.x,
        "edge_index": reference.edge_index,
        "edge_factors": reference.edge_attr,
        "batch": reference.batch,
        "ptr": reference.ptr,
        "y": reference.y,
        "index": torch.tensor(chosen),
    }.items():
        assert torch.equal(batch[key], expected), key
    into = torch.bincount(reference.edge_index[1], minlength=reference.num_nodes)
    assert torch.equal(batch["edge_ptr"], torch.cat([torch.zeros(1, dtype=torch.long), into.cumsum(0)]))


@pytest.mark.parametrize("self_loops", [True, False])
def test_reverse_leads_to_the_opposite_edge_and_back(self_loops: bool) -> None:
    batch = graph_set(SIZES, self_loops=self_loops).batch(torch.tensor([4, 2, 0, 1]))
    edge_index, reverse = batch["edge_index"], batch["reverse"]
    assert torch.equal(edge_index[:, reverse], edge_index.flip(0))
    assert torch.equal(reverse[reverse], torch.arange(len(reverse)))
    loops = edge_index[0] == edge_index[1]
    assert torch.equal(reverse[loops], loops.nonzero().squeeze(1))
    assert int(loops.sum()) == (len(batch["x"]) if self_loops else 0)
    assert torch.equal(batch["edge_factors"][reverse], batch["edge_factors"])
    assert not batch["edge_factors"][loops].any(), "a self-loop belongs to no factor"


def test_edges_are_those_that_were_given() -> None:
    source, target = random_edges(SIZES)
    batch = graph_set(SIZES, self_loops=False).batch(torch.arange(len(SIZES)))
    given = set(zip(source.tolist(), target.tolist(), strict=True))
    assert set(zip(*batch["edge_index"].tolist(), strict=True)) == given
    for (start, end), factors in zip(batch["edge_index"].T.tolist(), batch["edge_factors"], strict=True):
        assert factors.tolist() == [(start + end) % 3 == kind for kind in range(2)]


def test_taking_twice_is_taking_the_taken() -> None:
    graphs = graph_set(SIZES)
    once = graphs.take(torch.tensor([4, 2, 1])).take(torch.tensor([2, 0]))
    direct = graphs.take(torch.tensor([1, 4]))
    for name in ("x", "ptr", "edge_index", "edge_ptr", "in_degree", "reverse", "y", "index", "fold"):
        assert torch.equal(getattr(once, name), getattr(direct, name)), name
    assert direct.index.tolist() == [1, 4]
    assert len(direct) == 2


def test_taking_no_graph_leaves_none() -> None:
    none = graph_set(SIZES).take(torch.tensor([], dtype=torch.long))
    assert len(none) == len(none.x) == none.edge_index.size(1) == 0


def test_split_in_order_gives_each_graph_once() -> None:
    graphs = graph_set([2] * 10)
    splits = split_in_order(graphs, {"train": 0.7, "val": 0.1, "test": 0.2})
    assert {name: part.index.tolist() for name, part in splits.items()} == {
        "train": list(range(7)),
        "val": [7],
        "test": [8, 9],
    }


def made(sizes: list[int], source: list[int], target: list[int], *, self_loops: bool = False) -> GraphSet:
    x = torch.zeros(sum(sizes), dtype=torch.long)
    ends = np.array(source, np.int64), np.array(target, np.int64)
    return make_graph_set(x, np.array(sizes), *ends, torch.zeros(len(sizes)), self_loops=self_loops)


def test_impossible_edges_are_refused() -> None:
    with pytest.raises(ValueError, match="lacks its opposite"):
        made([2, 2], [0, 1, 2], [1, 0, 3])
    with pytest.raises(ValueError, match="there twice"):
        made([2, 2], [0, 1, 0], [1, 0, 1])
    with pytest.raises(ValueError, match="there twice"):
        made([2, 2], [0], [0], self_loops=True)
    with pytest.raises(ValueError, match="joins two graphs"):
        made([2, 2], [1, 2], [2, 1])


@pytest.mark.parametrize("self_loops", [True, False])
def test_graphs_without_edges_have_batches_too(self_loops: bool) -> None:
    batch = made([2, 1], [], [], self_loops=self_loops).batch(torch.tensor([1, 0]))
    assert batch["edge_index"].shape == (2, 3 if self_loops else 0)
    assert batch["edge_ptr"].tolist() == ([0, 1, 2, 3] if self_loops else [0, 0, 0, 0])


class Folded(GraphSetDataModule):
    """Ten graphs of two classes in five folds."""

    def __init__(self, protocol: Literal["gin", "holdout"] = "gin", **keywords: Any) -> None:
        settings: dict[str, Any] = {"folds": 5, "in_channels": 7, "num_classes": 2, "one_hot": True}
        settings |= keywords
        folds, width = settings.pop("folds"), settings.pop("in_channels")
        super().__init__(
            "toy",
            width,
            settings.pop("num_classes"),
            "class",
            3,
            0,
            folds=folds,
            protocol=protocol,
            **settings,
        )

    def build(self) -> Mapping[Split, GraphSet]:
        graphs = graph_set([3] * 10)
        graphs.y.copy_(torch.arange(10) % 2)
        return {"test": with_folds(graphs, np.arange(10) % 5)}


def numbers(part: GraphSet) -> set[int]:
    return set(part.index.tolist())


@pytest.mark.parametrize("protocol", ["gin", "holdout"])
def test_each_graph_is_tested_in_one_fold_and_never_trained_on_there(
    protocol: Literal["gin", "holdout"],
) -> None:
    data = Folded(protocol)
    data.setup()
    everything = set(range(10))
    seen: list[int] = []
    for fold in range(5):
        data.use_fold(fold)
        train, val = numbers(data.splits["train"]), numbers(data.splits["val"])
        tested = {number for number in everything if number % 5 == fold}
        assert numbers(data.splits["test"]) == everything
        assert not train & val
        assert not train & tested
        if protocol == "gin":
            assert val == tested
            assert train | val == everything
        else:
            assert not val & tested, "no choice sees the test"
            assert train | val | tested == everything
        seen += sorted(val)
    assert sorted(seen) == sorted(everything), "each is validated once"


def test_loaders_follow_the_fold_and_name_it() -> None:
    data = Folded()
    data.setup()
    for fold in (0, 3):
        data.use_fold(fold)
        assert {number for batch in data.val_dataloader() for number in batch["index"].tolist()} == {
            fold,
            fold + 5,
        }
    order: list[Tensor] = []
    for batch in data.test_dataloader():
        assert torch.equal(batch["fold"], batch["index"] % 5)
        order.append(batch["index"])
    assert torch.cat(order).tolist() == list(range(10))
    assert sum(len(batch["index"]) for batch in data.train_dataloader()) == 8


def test_types_reach_the_network_as_one_hot_vectors() -> None:
    data = Folded()
    data.setup()
    batch = next(iter(data.predict_dataloader()))
    assert batch["x"].shape == (9, 7)
    assert batch["x"].dtype == torch.float32
    assert batch["x"].argmax(dim=1).tolist() == [number % 7 for number in range(9)]
    plain = Folded(one_hot=False)
    plain.setup()
    assert next(iter(plain.predict_dataloader()))["x"].dtype == torch.long


def test_facts_that_the_data_contradict_are_refused() -> None:
    with pytest.raises(UserError, match=r"data\.in_channels=6 is too narrow: toy has 7"):
        Folded(in_channels=6).setup()
    with pytest.raises(UserError, match=r"data\.num_classes=3 .* num_classes=2"):
        Folded(num_classes=3).setup()


def test_two_folds_cannot_be_held_out() -> None:
    with pytest.raises(UserError, match=r"data\.folds=2"):
        Folded("holdout", folds=2)


def test_loader_before_setup_is_refused() -> None:
    with pytest.raises(RuntimeError, match="setup"):
        Folded().train_dataloader()


def test_graphs_can_be_moved() -> None:
    graphs = graph_set(SIZES).to(CPU)
    assert torch.equal(graphs.x, graph_set(SIZES).x)
