"""PPI: graphs, features and labels equal the reference reader's; nothing else is taken for them."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from datamodules import ppi
from datamodules.download import RemoteFile
from datamodules.ppi import PPIDataModule, parse_ppi
from harness.errors import UserError
from tests.datamodules.graph_files import random_edges, zipped
from tests.datamodules.image_files import sha256, write

SIZES = {"train": 4, "val": 2, "test": 2}
LABEL = "data=ppi: PPI/ppi.zip: train"


def npy(array: Any) -> bytes:
    sink = io.BytesIO()
    np.save(sink, np.asarray(array))
    return sink.getvalue()


def edge_list(sizes: list[int], seed: int, *, loops: bool = True) -> NDArray[np.int64]:
    """Both directions of each edge and, as in the published files, a self-loop at each node."""
    ends = np.stack(random_edges(sizes, seed), axis=1)
    nodes = np.arange(sum(sizes))
    return np.concatenate([ends, np.stack([nodes, nodes], axis=1)]) if loops else ends


def graph_json(ends: Any, *, directed: bool = True, num_nodes: int = 0) -> bytes:
    links = [{"source": int(source), "target": int(target)} for source, target in ends]
    nodes = [{"id": number} for number in range(num_nodes)]
    whole = {"directed": directed, "multigraph": False, "graph": {}, "nodes": nodes, "links": links}
    return json.dumps(whole).encode()


def parts(number: int, count: int, first_graph: int) -> dict[str, bytes]:
    """One split's files."""
    sizes = [3 + (graph + number) % 4 for graph in range(count)]
    generator = np.random.default_rng(number)
    ids = np.repeat(np.arange(first_graph, first_graph + count), sizes)
    return {
        "graph.json": graph_json(edge_list(sizes, number), num_nodes=sum(sizes)),
        "feats.npy": npy(generator.normal(size=(sum(sizes), 5))),
        "labels.npy": npy(generator.integers(0, 2, (sum(sizes), 3))),
        "graph_id.npy": npy(ids),
    }


def members() -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    first = 1  # the published graphs are counted from 1 over all splits
    for number, (stem, count) in enumerate(zip(("train", "valid", "test"), SIZES.values(), strict=True)):
        found |= {f"{stem}_{name}": content for name, content in parts(number, count, first).items()}
        first += count
    return found


def module(root: Path, **keywords: Any) -> PPIDataModule:
    settings: dict[str, Any] = {"in_channels": 5, "num_classes": 3, "target": "node_multi_label"}
    settings |= {"folds": 1, "protocol": "gin", "self_loops": True, "batch_size": 2, "seed": 0}
    return PPIDataModule(str(root), str(root / "cache"), **{**settings, **keywords})


def known(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Makes ``content`` the published archive."""
    monkeypatch.setattr(ppi, "_ARCHIVE", RemoteFile("PPI/ppi.zip", ppi._ARCHIVE.url, (sha256(content),)))


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ppi, "_SIZES", SIZES)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A small archive of the published form, in its place."""
    content = zipped(members())
    known(monkeypatch, content)
    write(tmp_path / "PPI/ppi.zip", content)
    return content


def loaded(root: Path, **keywords: Any) -> PPIDataModule:
    data = module(root, **keywords)
    data.prepare_data()
    data.setup()
    return data


def test_graphs_equal_the_reference_reader(tmp_path: Path, published: bytes) -> None:
    data = loaded(tmp_path, self_loops=False)
    for name, content in members().items():
        write(tmp_path / "reference/raw" / name, content)
    from torch_geometric.datasets import PPI

    every: list[int] = []
    for split, size in SIZES.items():
        reference = PPI(str(tmp_path / "reference"), split=split)
        graphs = data.splits[split]  # type: ignore[index]
        assert len(graphs) == len(reference) == size
        assert graphs.of_nodes
        for number, expected in enumerate(reference):
            batch = graphs.batch(torch.tensor([number]))
            assert torch.equal(batch["edge_index"], expected.sort(sort_by_row=False).edge_index)
            assert torch.equal(batch["x"], expected.x)
            assert torch.equal(batch["y"], expected.y)
        every += graphs.index.tolist()
    assert every == list(range(8))


def test_each_node_is_its_own_neighbour_unless_told_otherwise(tmp_path: Path, published: bytes) -> None:
    batch = next(iter(loaded(tmp_path).train_dataloader()))
    assert int((batch["edge_index"][0] == batch["edge_index"][1]).sum()) == len(batch["x"])
    assert batch["y"].shape == (len(batch["x"]), 3)
    assert batch["y"].dtype == batch["x"].dtype == torch.float32
    plain = next(iter(loaded(tmp_path, self_loops=False).train_dataloader()))
    assert not (plain["edge_index"][0] == plain["edge_index"][1]).any()


def test_links_of_one_direction_stand_for_both() -> None:
    whole = parts(0, 4, 1)
    sizes = [3 + graph % 4 for graph in range(4)]
    ends = edge_list(sizes, 0, loops=False)
    once = graph_json(ends[ends[:, 0] < ends[:, 1]], directed=False)
    one = parse_ppi(whole | {"graph.json": once}, LABEL, self_loops=True)
    other = parse_ppi(whole, LABEL, self_loops=True)
    assert torch.equal(one.edge_index, other.edge_index)


def test_an_archive_of_another_hash_is_not_opened(tmp_path: Path) -> None:
    write(tmp_path / "PPI/ppi.zip", zipped(members()))
    with pytest.raises(UserError, match=r"ppi\.zip is not the published file .* expected 1f5b2b09"):
        module(tmp_path).prepare_data()


def test_a_truncated_archive_is_not_the_published_one(tmp_path: Path, published: bytes) -> None:
    write(tmp_path / "PPI/ppi.zip", published[:-40])
    with pytest.raises(UserError, match=r"altered or truncated"):
        module(tmp_path).prepare_data()
    with pytest.raises(UserError, match=r"altered or truncated"):
        module(tmp_path).setup()


def test_an_archive_that_cannot_be_unpacked_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = zipped(members())[:-40]
    known(monkeypatch, content)
    write(tmp_path / "PPI/ppi.zip", content)
    with pytest.raises(UserError, match=r"PPI/ppi\.zip cannot be unpacked"):
        loaded(tmp_path)


def test_too_few_graphs_are_refused(
    tmp_path: Path, published: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ppi, "_SIZES", {**SIZES, "val": 3})
    with pytest.raises(UserError, match=r"holds 2 graphs for val instead of 3"):
        loaded(tmp_path)


def test_facts_that_the_data_contradict_are_refused(tmp_path: Path, published: bytes) -> None:
    with pytest.raises(UserError, match=r"data\.num_classes=4 .* num_classes=3"):
        loaded(tmp_path, num_classes=4)
    with pytest.raises(UserError, match=r"data\.in_channels=6 .* in_channels=5"):
        loaded(tmp_path, in_channels=6)


class Attack:
    """Makes a folder when unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        import os

        return os.mkdir, (str(self.target),)


def test_a_pickle_in_place_of_an_array_runs_nothing(tmp_path: Path) -> None:
    hostile = parts(0, 4, 1) | {"feats.npy": npy(np.array([Attack(tmp_path / "made")], dtype=object))}
    with pytest.raises(UserError, match=r"is broken: ValueError: .*allow_pickle=False"):
        parse_ppi(hostile, LABEL, self_loops=True)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"feats.npy": b"no array"}, "ValueError"),
        ({"feats.npy": b""}, "EOFError"),
        ({"feats.npy": zipped({"a.npy": npy([1.0])})}, "no array of numbers"),
        ({"feats.npy": npy(["word"] * 18)}, "no array of numbers"),
        ({"feats.npy": npy(np.zeros((17, 5)))}, r"18 nodes have features \(17, 5\)"),
        ({"feats.npy": npy(np.full((18, 5), np.nan))}, "not finite"),
        ({"labels.npy": npy(np.full((18, 3), 2))}, "labels not 0 and 1"),
        ({"labels.npy": npy(np.zeros(18))}, "labels"),
        ({"graph_id.npy": npy([0] * 9 + [2] * 9)}, "graph_id does not count up"),
        ({"graph_id.npy": npy([0] * 9 + [1] * 9)}, "an edge joins two graphs"),
        ({"graph.json": b"{"}, "JSONDecodeError"),
        ({"graph.json": b"[]"}, "TypeError"),
        ({"graph.json": b"{}"}, "KeyError"),
        ({"graph.json": b'{"directed": true, "links": [1]}'}, "TypeError"),
        ({"graph.json": graph_json([(0, 18)])}, "does not join two of 18 nodes"),
        ({"graph.json": graph_json([(-1, 0)])}, "does not join"),
        ({"graph.json": b'{"directed": true, "links": [{"source": "a", "target": 1}]}'}, "does not join"),
        ({"graph.json": graph_json([(0, 1)])}, "lacks its opposite"),
    ],
)
def test_files_that_hold_something_else_are_a_users_mistake(changed: dict[str, bytes], message: str) -> None:
    with pytest.raises(UserError, match=rf"train is broken: .*{message}"):
        parse_ppi(parts(0, 4, 1) | changed, LABEL, self_loops=True)


def test_without_network_the_way_out_is_told_in_one_line(tmp_path: Path, no_network: None) -> None:
    with pytest.raises(UserError, match=r"ppi\.zip is neither .* use data=mini_ppi") as told:
        module(tmp_path).prepare_data()
    assert "\n" not in str(told.value)
    assert not (tmp_path / "PPI").exists(), "nothing is left behind"
