"""PATTERN: a checkpoint of plain tensors, equal to the reference reader."""

import io
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules import pattern
from datamodules.pattern import PATTERNDataModule, joined, parse_pattern
from harness.errors import UserError
from tests.datamodules.graph_files import graph_set, random_edges, zipped
from tests.datamodules.image_files import write

SIZES = {"train": 7, "val": 2, "test": 3}
LABEL = "data=pattern: PATTERN_v2.pt"


class Attack:
    """Makes a folder when unpickled without care."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def lists() -> list[list[dict[str, Any]]]:
    """Three lists of graphs of 3 to 7 nodes, as the published file holds them."""
    made = []
    for part, count in enumerate(SIZES.values()):
        graphs = []
        for number in range(count):
            size = 3 + (number + part) % 5
            generator = torch.Generator().manual_seed(100 * part + number)
            source, target = random_edges([size], seed=number)
            graphs.append(
                {
                    "x": torch.eye(3)[torch.randint(3, (size,), generator=generator)],
                    "edge_index": torch.stack([torch.from_numpy(source), torch.from_numpy(target)]),
                    "y": torch.arange(size) % 2,
                }
            )
        made.append(graphs)
    return made


def saved(value: Any) -> bytes:
    sink = io.BytesIO()
    torch.save(value, sink)
    return sink.getvalue()


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pattern, "_SIZES", SIZES)
    monkeypatch.setattr(pattern, "_CHUNK", 3)


def module(root: Path, **keywords: Any) -> PATTERNDataModule:
    settings: dict[str, Any] = {"in_channels": 200, "num_classes": 2, "target": "node_class"}
    settings |= {"folds": 1, "protocol": "gin", "self_loops": False, "batch_size": 4, "seed": 0}
    return PATTERNDataModule(str(root), str(root / "cache"), **{**settings, **keywords})


def loaded(root: Path, value: Any, **keywords: Any) -> PATTERNDataModule:
    write(root / "PATTERN/PATTERN_v2.zip", zipped({"PATTERN_v2.pt": saved(value)}))
    data = module(root, **keywords)
    data.prepare_data()
    data.setup()
    return data


def test_graphs_equal_the_reference_reader(tmp_path: Path) -> None:
    data = loaded(tmp_path, lists())
    write(tmp_path / "PATTERN/raw/PATTERN_v2.pt", saved(lists()))
    from torch_geometric.datasets import GNNBenchmarkDataset

    every: list[int] = []
    for split, size in SIZES.items():
        reference = GNNBenchmarkDataset(str(tmp_path), "PATTERN", split=split)
        graphs = data.splits[split]  # type: ignore[index]
        assert len(graphs) == len(reference) == size
        assert graphs.of_nodes
        for number, expected in enumerate(reference):
            batch = graphs.batch(torch.tensor([number]))
            assert torch.equal(batch["edge_index"], expected.sort(sort_by_row=False).edge_index)
            assert torch.equal(batch["x"], expected.x.argmax(dim=1))
            assert torch.equal(batch["y"], expected.y)
        every += graphs.index.tolist()
    assert every == list(range(12))
    assert (tmp_path / "cache/hashes/PATTERN/PATTERN_v2.zip.sha256").is_file()


def test_types_stay_numbers_and_self_loops_can_be_added(tmp_path: Path) -> None:
    data = loaded(tmp_path, lists(), self_loops=True)
    batch = next(iter(data.train_dataloader()))
    assert batch["x"].dtype == torch.long
    assert len(batch["y"]) == len(batch["x"])
    assert int((batch["edge_index"][0] == batch["edge_index"][1]).sum()) == len(batch["x"])


def test_chunks_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    content = saved(lists())
    in_chunks = parse_pattern(content, LABEL, self_loops=False)
    monkeypatch.setattr(pattern, "_CHUNK", 1000)
    at_once = parse_pattern(content, LABEL, self_loops=False)
    for split in in_chunks:
        for name in ("x", "ptr", "edge_index", "edge_ptr", "in_degree", "reverse", "y", "index", "fold"):
            assert torch.equal(getattr(in_chunks[split], name), getattr(at_once[split], name)), name


def test_joining_is_undone_by_taking() -> None:
    parts = [graph_set([3, 4], seed=0), graph_set([5], seed=1)]
    whole = joined(parts)
    assert len(whole) == 3
    again = whole.take(torch.tensor([2]))
    for name in ("x", "ptr", "edge_index", "edge_ptr", "in_degree", "reverse", "y"):
        assert torch.equal(getattr(again, name), getattr(parts[1], name)), name


def test_a_hostile_checkpoint_runs_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"PATTERN_v2\.pt was refused: .* lists and tensors only"):
        loaded(tmp_path, [Attack(tmp_path / "made")])
    with pytest.raises(UserError, match="refused"):
        parse_pattern(b"no checkpoint", LABEL, self_loops=False)
    assert not (tmp_path / "made").exists()


def changed(**keys: Any) -> list[list[dict[str, Any]]]:
    made = lists()
    made[0][4] |= keys
    return made


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": torch.zeros(1)}, "does not hold 7 . 2 . 3 graphs"),
        (lists()[:2], "does not hold"),
        ([lists()[1]] * 3, "does not hold"),
        ([1, 2, 3], "TypeError"),
        (changed(x=torch.zeros(7, 3)), "features of shape"),
        (changed(x=torch.eye(4)), "features of shape"),
        (changed(x=None), "TypeError"),
        (changed(y=torch.zeros(3)), "features of shape"),
        (changed(edge_index=torch.tensor([[0, 9], [9, 0]])), "leads out of a graph"),
        (changed(edge_index=torch.tensor([[0], [1]])), "lacks its opposite"),
        (changed(edge_index=[[0], [1]]), "AttributeError"),
        ([[*lists()[0][:-1], {"x": torch.eye(3)}], *lists()[1:]], "KeyError"),
    ],
)
def test_a_file_that_holds_something_else_is_a_users_mistake(value: Any, message: str) -> None:
    with pytest.raises(UserError, match=rf"PATTERN_v2\.pt is broken: .*{message}"):
        parse_pattern(saved(value), LABEL, self_loops=False)


def test_fewer_rows_than_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.in_channels=2 is too narrow"):
        loaded(tmp_path, lists(), in_channels=2)


def test_without_network_the_way_out_is_told(tmp_path: Path, no_network: None) -> None:
    with pytest.raises(UserError, match=r"PATTERN_v2\.zip is neither .* use data=factor_graphs"):
        module(tmp_path).prepare_data()
