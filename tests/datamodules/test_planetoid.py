"""Planetoid files: read safely, and as the reference reader reads them."""

import collections
import hashlib
import os
import pickle
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch

from datamodules.download import RemoteFile
from datamodules.planetoid import PlanetoidDataModule, load_restricted, parse_planetoid, planetoid_files
from harness.errors import UserError

SIZES = {
    "Cora": (1433, 7, 2708, 10556, 140, 0),
    "CiteSeer": (3703, 6, 3327, 9104, 120, 48),
    "PubMed": (500, 3, 19717, 88648, 60, 0),
}


class Attack:
    """Makes a file when unpickled without care."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def module(root: Path, name: str = "Cora") -> PlanetoidDataModule:
    return PlanetoidDataModule(name, str(root), str(root / "cache"), *SIZES[name][:2])


def needs(folder: Path, name: str) -> None:
    if not all((folder / file.path).is_file() for file in planetoid_files(name).values()):
        pytest.skip(f"{name} is not in {folder}")


def small_set() -> dict[str, bytes]:
    """503 training and validation nodes and two test nodes with a gap between them: 505 is in no file."""
    allx = scipy.sparse.random(503, 30, 0.1, "csr", dtype=np.float32, rng=np.random.default_rng(0))
    tx = scipy.sparse.csr_matrix(np.eye(2, 30, dtype=np.float32))
    ally = np.eye(3, dtype=np.int32)[np.arange(503) % 3]
    ty = np.eye(3, dtype=np.int32)[[2, 1]]
    graph = collections.defaultdict(list, {node: [] for node in range(506)})
    graph[0] = [503, 503, 0]
    graph[505] = [1]
    graph[1] = [505]
    parts = {"allx": allx, "tx": tx, "ally": ally, "ty": ty, "y": ally[:3], "graph": graph}
    return {key: pickle.dumps(value) for key, value in parts.items()} | {"test.index": b"505\n503\n"}


def test_test_nodes_take_their_places_and_gaps_stay_blank() -> None:
    graph = parse_planetoid("small", small_set())
    assert graph.num_nodes == 506
    x = graph.x.to_dense()
    assert x[505].argmax() == 0
    assert graph.y[505] == 2
    assert x[503].argmax() == 1
    assert graph.y[503] == 1
    assert x[504].eq(0).all()
    assert graph.y[504] == 0
    assert graph.edge_index.tolist() == [[0, 1, 503, 505], [503, 505, 0, 1]]
    assert graph.train_mask.nonzero().ravel().tolist() == [0, 1, 2]
    assert graph.val_mask.nonzero().ravel().tolist() == list(range(3, 503))
    assert graph.test_mask.nonzero().ravel().tolist() == [503, 505]


def test_restricted_reader_refuses_code(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"refused.*mkdir"):
        load_restricted(pickle.dumps(Attack(tmp_path / "made")), "data=cora: ind.cora.x")
    assert not (tmp_path / "made").exists()


def test_broken_pickle_is_a_users_mistake() -> None:
    with pytest.raises(UserError, match="refused"):
        load_restricted(b"\x80\x02not a pickle", "data=cora: ind.cora.x")


def test_altered_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    for file in planetoid_files("Cora").values():
        path = tmp_path / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(pickle.dumps(Attack(tmp_path / "made")))
    for step in ("prepare_data", "setup"):
        with pytest.raises(UserError, match="altered or truncated"):
            getattr(module(tmp_path), step)()
    assert not (tmp_path / "made").exists()


def test_attack_under_an_accepted_hash_is_still_refused(tmp_path: Path) -> None:
    data = module(tmp_path)
    content = small_set() | {"x": b"", "graph": pickle.dumps(Attack(tmp_path / "made"))}
    data.files = {
        part: RemoteFile(part, "https://data.example", (hashlib.sha256(content[part]).hexdigest(),))
        for part in content
    }
    for part in content:
        (tmp_path / part).write_bytes(content[part])
    data.prepare_data()
    with pytest.raises(UserError, match="arrays, sparse matrices and lists only"):
        data.setup()
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("name", SIZES)
def test_real_set_has_its_published_size(shared_data: Path, name: str) -> None:
    needs(shared_data, name)
    in_channels, num_classes, num_nodes, num_edges, num_train, num_isolated = SIZES[name]
    data = module(shared_data, name)
    data.prepare_data()
    data.setup()
    graph = data.graph
    assert graph is not None
    assert graph.x.layout == torch.sparse_csr
    assert graph.x.shape == (num_nodes, in_channels)
    assert graph.edge_index.shape == (2, num_edges)
    masks = (graph.train_mask, graph.val_mask, graph.test_mask)
    assert [int(mask.sum()) for mask in masks] == [num_train, 500, 1000]
    assert not (masks[0] & masks[1] | masks[0] & masks[2] | masks[1] & masks[2]).any()
    assert int((torch.bincount(graph.edge_index[0], minlength=num_nodes) == 0).sum()) == num_isolated
    assert data.class_names is None or len(data.class_names) == num_classes


@pytest.mark.parametrize(
    ("name", "sizes"),
    [
        ("Cora", {"Theory": 351, "Neural_Networks": 818, "Case_Based": 298, "Rule_Learning": 180}),
        ("CiteSeer", {"Agents": 596, "AI": 249, "DB": 701, "IR": 668, "ML": 590, "HCI": 508}),
    ],
)
def test_class_names_match_the_sizes_of_their_topics(
    shared_data: Path, name: str, sizes: dict[str, int]
) -> None:
    needs(shared_data, name)
    data = module(shared_data, name)
    data.setup()
    assert data.graph is not None
    assert data.class_names is not None
    # CiteSeer's 15 nodes of unknown class have no words and are given class 0.
    described = data.graph.x.crow_indices().diff() > 0
    counts = torch.bincount(data.graph.y[described])
    assert {word: int(counts[data.class_names.index(word)]) for word in sizes} == sizes


@pytest.mark.parametrize("name", SIZES)
def test_real_set_equals_the_reference_reader(shared_data: Path, tmp_path: Path, name: str) -> None:
    needs(shared_data, name)
    shutil.copytree(shared_data / "planetoid" / name, tmp_path / name)
    from torch_geometric.datasets import Planetoid

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # numpy's word on old pickles, in the reference reader
        reference = Planetoid(str(tmp_path), name)[0].coalesce()
    data = module(shared_data, name)
    data.setup()
    graph = data.graph
    assert graph is not None
    assert torch.equal(graph.edge_index, reference.edge_index)
    assert torch.equal(graph.y, reference.y)
    for key in ("train_mask", "val_mask", "test_mask"):
        assert torch.equal(graph[key], reference[key])
    sums = reference.x.sum(dim=1, keepdim=True)
    torch.testing.assert_close(graph.x.to_dense(), reference.x / torch.where(sums > 0, sums, 1))
