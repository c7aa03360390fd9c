"""TU sets: read from their text in memory, equal to the reference reader, in stratified folds."""

import shutil
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules import tu
from datamodules.download import RemoteFile
from datamodules.first_use import record_of
from datamodules.graph_sets import GraphSet
from datamodules.tu import TUDataModule, parse_tu, stratified_folds
from datamodules.zip_members import zip_members
from harness.errors import UserError
from tests.datamodules.graph_files import lines, zipped
from tests.datamodules.image_files import write

# Graphs, node labels or width, sizes of the classes, mean nodes, mean edges, as published for each set.
COUNTS: dict[str, tuple[int, int, list[int], float, float]] = {
    "mutag": (188, 7, [63, 125], 17.93, 19.79),
    "imdb_binary": (1000, 150, [500, 500], 19.77, 96.53),
    "imdb_multi": (1500, 150, [500, 500, 500], 13.00, 65.94),
    "proteins": (1113, 3, [663, 450], 39.06, 72.82),
    "nci1": (4110, 37, [2053, 2057], 29.87, 32.30),
}


def module(root: Path, name: Any = "mutag", cache: Path | None = None, **keywords: Any) -> TUDataModule:
    settings: dict[str, Any] = {"in_channels": 7, "num_classes": 2, "target": "class", "folds": 10}
    settings |= {"protocol": "gin", "split_seed": 0, "self_loops": True, "batch_size": 64, "seed": 0}
    return TUDataModule(name, str(root), str(cache or root / "cache"), **{**settings, **keywords})


def small_set() -> dict[str, bytes]:
    """A triangle, a lone node and an edge of which both directions come twice, with a self-loop in one."""
    edges = [(1, 2), (2, 1), (2, 3), (3, 2), (1, 3), (3, 1), (5, 6), (6, 5), (5, 6), (6, 5), (2, 2)]
    return {
        "A": lines(edges),
        "graph_indicator": lines([1, 1, 1, 2, 3, 3]),
        "graph_labels": lines([1, -1, 1]),
        "node_labels": lines([4, 3, 3, 5, 3, 4]),
    }


def parsed(*, self_loops: bool = False, **parts: bytes) -> GraphSet:
    return parse_tu({**small_set(), **parts}, "data=toy: TOY.zip", self_loops=self_loops)


def test_labels_begin_at_zero_and_edges_are_simple() -> None:
    graphs = parsed()
    assert graphs.ptr.tolist() == [0, 3, 4, 6]
    assert graphs.x.tolist() == [1, 0, 0, 2, 0, 1]
    assert graphs.y.tolist() == [1, 0, 1]
    assert graphs.edge_index.T.tolist() == [[1, 0], [2, 0], [0, 1], [2, 1], [0, 2], [1, 2], [1, 0], [0, 1]]


@pytest.mark.parametrize("self_loops", [True, False])
def test_without_labels_the_degree_is_the_type_self_loop_included(self_loops: bool) -> None:
    parts = small_set()
    del parts["node_labels"]
    graphs = parse_tu(parts, "data=toy: TOY.zip", self_loops=self_loops)
    degrees = torch.tensor([2, 2, 2, 0, 1, 1])
    assert torch.equal(graphs.x, degrees + int(self_loops))


@pytest.mark.parametrize(
    ("part", "content", "message"),
    [
        ("A", lines([(1, 7), (7, 1)]), "pairs of 6 nodes"),
        ("A", lines([(0, 1), (1, 0)]), "pairs of 6 nodes"),
        ("A", lines([(1, 2, 3)]), "pairs of 6 nodes"),
        ("A", lines([(1, 2)]), "lacks its opposite"),
        ("A", lines([(3, 4), (4, 3)]), "joins two graphs"),
        ("A", b"1, 2\n2, one\n", "one"),
        ("A", b"", "empty"),
        ("graph_indicator", lines([1, 1, 1, 2, 3, 2]), "count up to 3 graphs"),
        ("graph_indicator", lines([1, 1, 1, 2, 2, 10**18]), "count up to 3 graphs"),
        ("graph_indicator", lines([0, 1, 1, 2, 3, 3]), "count up to 3 graphs"),
        ("graph_indicator", lines([1, 1, 1, 1, 3, 3]), "has no nodes"),
        ("graph_labels", lines([1, -1]), "count up to 2 graphs"),
        ("node_labels", lines([1, 2]), "2 lines for 6 nodes"),
    ],
)
def test_broken_text_is_a_users_mistake(part: str, content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=rf"TOY\.zip is broken: .*{message}.* Delete it and run again"):
        parsed(**{part: content})


def test_folds_are_disjoint_cover_all_and_share_each_class() -> None:
    y = torch.tensor([0] * 40 + [1] * 23 + [2] * 17).numpy()
    fold = stratified_folds(y, 5, seed=0)
    assert sorted(set(fold.tolist())) == list(range(5))
    for label, size in enumerate((40, 23, 17)):
        counts = Counter(fold[y == label].tolist())
        assert len(counts) == 5
        assert set(counts.values()) <= {size // 5, -(-size // 5)}
    assert (fold == stratified_folds(y, 5, seed=0)).all()
    assert (fold != stratified_folds(y, 5, seed=1)).any()


def test_more_folds_than_a_class_has_graphs_are_refused() -> None:
    with pytest.raises(UserError, match=r"data\.folds=3 .* at most 2"):
        stratified_folds(torch.tensor([0, 0, 0, 1, 1]).numpy(), 3, seed=0)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """An archive in MUTAG's place, unknown by its hash, of 24 graphs."""
    known = tu._SETS["mutag"]
    monkeypatch.setitem(tu._SETS, "mutag", tu.TUSet(known.stem, 24, labelled=True, sha256=known.sha256))
    parts = {
        "A": lines([(node, node - 1) if node % 2 == 0 else (node, node + 1) for node in range(1, 49)]),
        "graph_indicator": lines([node // 2 + 1 for node in range(48)]),
        "graph_labels": lines([number % 2 for number in range(24)]),
        "node_labels": lines([node % 7 for node in range(48)]),
    }
    return zipped({f"MUTAG/MUTAG_{part}.txt": content for part, content in parts.items()})


def test_another_archive_is_recorded_on_first_use(tmp_path: Path, small: bytes) -> None:
    write(tmp_path / "TU/MUTAG.zip", small)
    data = module(tmp_path, folds=3)
    data.prepare_data()
    data.setup()
    assert len(data.splits["train"]) == 16
    assert record_of("TU/MUTAG.zip", str(tmp_path / "cache")).is_file()
    write(tmp_path / "TU/MUTAG.zip", small + b"\0")
    for step in ("prepare_data", "setup"):
        with pytest.raises(UserError, match="not the file that was used first"):
            getattr(module(tmp_path, folds=3), step)()


def test_facts_and_the_number_of_graphs_are_checked(
    tmp_path: Path, small: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "TU/MUTAG.zip", small)
    for wrong in ({"in_channels": 8}, {"in_channels": 6}, {"num_classes": 3}):
        (key,) = wrong
        with pytest.raises(UserError, match=rf"data\.{key}="):
            module(tmp_path, folds=3, **wrong).setup()
    monkeypatch.setitem(tu._SETS, "mutag", tu.TUSet("MUTAG", 188, labelled=True))
    with pytest.raises(UserError, match="24 graphs instead of 188"):
        module(tmp_path).setup()


def test_archives_that_cannot_be_read_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    good = zipped({"a/b.txt": b"1\n" * 1000})
    assert zip_members(good, ["a/b.txt"], 2000, "x")["a/b.txt"] == b"1\n" * 1000
    with pytest.raises(UserError, match=r"lacks a/c\.txt: it holds \['a/b\.txt'\]"):
        zip_members(good, ["a/c.txt"], 2000, "data=mutag: TU/MUTAG.zip")
    with pytest.raises(UserError, match="would take 2000 bytes, and no more than 1999"):
        zip_members(good, ["a/b.txt"], 1999, "data=mutag: TU/MUTAG.zip")
    for broken in (b"", b"no archive", good[:-30], good.replace(b"a/b.txt", b"a/d.txt", 1)):
        with pytest.raises(UserError, match="cannot be unpacked"):
            zip_members(broken, ["a/b.txt"], 2000, "data=mutag: TU/MUTAG.zip")


def test_a_size_that_is_a_lie_does_not_unpack_without_end() -> None:
    good = zipped({"a": b"\0" * 1_000_000})
    told = (1_000_000).to_bytes(4, "little")
    assert good.count(told) == 2
    with pytest.raises(UserError, match="cannot be unpacked"):
        zip_members(good.replace(told, (10).to_bytes(4, "little")), ["a"], 100, "data=mutag: TU/MUTAG.zip")


def test_without_network_the_way_out_is_told(tmp_path: Path, no_network: None) -> None:
    with pytest.raises(UserError, match=r"TU/COLLAB\.zip is neither .* use data=factor_graphs"):
        module(tmp_path, "collab", in_channels=500, num_classes=3).prepare_data()


def real(shared_data: Path, tmp_path: Path, name: str, **keywords: Any) -> TUDataModule:
    file: RemoteFile = tu._SETS[name].file
    if not (shared_data / file.path).is_file():
        pytest.skip(f"{file.path} is not in {shared_data}")
    _, width, classes, _, _ = COUNTS[name]
    facts = {"in_channels": width, "num_classes": len(classes)}
    data = module(shared_data, name, tmp_path, **{**facts, **keywords})
    data.prepare_data()
    data.setup()
    return data


@pytest.mark.parametrize("name", COUNTS)
def test_real_set_has_its_published_counts(shared_data: Path, tmp_path: Path, name: str) -> None:
    data = real(shared_data, tmp_path, name, self_loops=False)
    num_graphs, width, classes, nodes, edges = COUNTS[name]
    graphs = data.splits["test"]
    assert len(graphs) == num_graphs
    assert graphs.y.bincount().tolist() == classes
    assert len(graphs.x) / num_graphs == pytest.approx(nodes, abs=0.005)
    assert graphs.edge_index.size(1) / 2 / num_graphs == pytest.approx(edges, abs=0.005)
    assert int(graphs.x.max()) < width
    for fold in range(10):
        for label, size in enumerate(classes):
            assert abs(int((graphs.y[graphs.fold == fold] == label).sum()) - size / 10) < 1
    assert not list(tmp_path.rglob("*.sha256")), "known by its hash"


@pytest.mark.parametrize("name", ["mutag", "imdb_binary", "proteins"])
def test_real_set_equals_the_reference_reader(shared_data: Path, tmp_path: Path, name: str) -> None:
    graphs = real(shared_data, tmp_path, name, self_loops=False).splits["test"]
    stem = tu._SETS[name].stem
    with zipfile.ZipFile(shared_data / tu._SETS[name].file.path) as archive:
        archive.extractall(tmp_path)
    (tmp_path / "TU" / stem).mkdir(parents=True)
    shutil.move(tmp_path / stem, tmp_path / "TU" / stem / "raw")
    from torch_geometric.datasets import TUDataset

    reference = TUDataset(str(tmp_path / "TU"), stem)
    batch = graphs.batch(torch.arange(len(graphs)))
    merged, slices = reference._data.clone(), reference.slices
    first = graphs.ptr[:-1].repeat_interleave(slices["edge_index"].diff())
    merged.edge_index = merged.edge_index + first
    assert torch.equal(batch["edge_index"], merged.sort(sort_by_row=False).edge_index)
    assert torch.equal(batch["y"], merged.y)
    if merged.x is not None:
        assert torch.equal(batch["x"], merged.x.argmax(dim=1))


def test_real_degrees_count_the_self_loop(shared_data: Path, tmp_path: Path) -> None:
    with_loops, without = (
        real(shared_data, tmp_path, "imdb_binary", self_loops=loops).splits["test"] for loops in (True, False)
    )
    assert torch.equal(with_loops.x, without.x + 1)
    assert int(with_loops.x.max()) == 136
