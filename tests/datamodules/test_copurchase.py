"""Amazon and Coauthor archives: read without pickles, split by seed."""

import io
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import torch

from datamodules.copurchase import CopurchaseDataModule, parse_npz
from harness.errors import UserError

SIZES = {
    "photo": (745, 8, 7650, 238162),
    "computers": (767, 10, 13752, 491722),
    "coauthor_cs": (6805, 15, 18333, 163788),
}


def archive() -> bytes:
    """90 nodes in 3 classes, one-way links with a self-loop, and names that only a pickle could hold."""
    links = scipy.sparse.csr_matrix(
        (np.ones(4, np.float32), ([0, 1, 5, 7], [1, 0, 5, 2])), shape=(90, 90)
    ).tocsr()
    words = scipy.sparse.random(90, 40, 0.1, "csr", dtype=np.float32, rng=np.random.default_rng(0))
    arrays = {}
    for kind, matrix in (("adj", links), ("attr", words)):
        for part in ("data", "indices", "indptr", "shape"):
            arrays[f"{kind}_{part}"] = np.asarray(getattr(matrix, part))
    names = np.array([{"a": 1}], dtype=object)
    sink = io.BytesIO()
    np.savez(sink, **arrays, labels=np.arange(90) % 3, idx_to_node=names)
    return sink.getvalue()


def module(root: Path, name: str, seed: int = 0) -> CopurchaseDataModule:
    return CopurchaseDataModule(name, str(root), str(root / "cache"), *SIZES[name][:2], 20, 30, seed)


def loaded(root: Path, name: str) -> CopurchaseDataModule:
    data = module(root, name)
    if not (root / data.file.path).is_file():
        pytest.skip(f"{name} is not in {root}")
    data.prepare_data()
    data.setup()
    return data


def test_links_become_symmetric_and_words_binary() -> None:
    graph = parse_npz(archive(), 5, 10, 0)
    assert graph.edge_index.tolist() == [[0, 1, 2, 7], [1, 0, 7, 2]]
    x = graph.x.to_dense()
    for row in x[x.sum(dim=1) > 0]:
        assert len(set(row[row > 0].tolist())) == 1


def test_split_is_per_class_disjoint_and_complete() -> None:
    graph = parse_npz(archive(), 5, 10, 0)
    masks = torch.stack([graph.train_mask, graph.val_mask, graph.test_mask])
    assert masks.sum(dim=0).eq(1).all()
    for mask, count in zip(masks, (5, 10, 15), strict=True):
        assert torch.bincount(graph.y[mask]).tolist() == [count] * 3


def test_split_depends_on_its_seed_alone() -> None:
    torch.manual_seed(1)
    first, again, other = (parse_npz(archive(), 5, 10, seed) for seed in (3, 3, 4))
    assert torch.equal(first.train_mask, again.train_mask)
    assert torch.equal(first.val_mask, again.val_mask)
    assert not torch.equal(first.train_mask, other.train_mask)
    assert torch.equal(first.edge_index, other.edge_index)


def test_split_larger_than_a_class_is_refused() -> None:
    with pytest.raises(UserError, match=r"val_per_class=26 .* only 25 nodes"):
        parse_npz(archive(), 5, 26, 0)


@pytest.mark.parametrize("name", SIZES)
def test_real_set_has_its_published_size(shared_data: Path, name: str) -> None:
    in_channels, num_classes, num_nodes, num_edges = SIZES[name]
    graph = loaded(shared_data, name).graph
    assert graph is not None
    assert graph.x.shape == (num_nodes, in_channels)
    assert graph.x.layout == torch.sparse_csr
    assert graph.edge_index.shape == (2, num_edges)
    assert torch.bincount(graph.y[graph.train_mask]).tolist() == [20] * num_classes
    assert torch.bincount(graph.y[graph.val_mask]).tolist() == [30] * num_classes
    assert int(graph.test_mask.sum()) == num_nodes - 50 * num_classes


def test_photo_equals_the_reference_reader(shared_data: Path, tmp_path: Path) -> None:
    graph = loaded(shared_data, "photo").graph
    assert graph is not None
    shutil.copytree(shared_data / "Amazon" / "Photo", tmp_path / "Photo")
    from torch_geometric.datasets import Amazon

    reference = Amazon(str(tmp_path), "Photo")[0].coalesce()
    assert torch.equal(graph.edge_index, reference.edge_index)
    assert torch.equal(graph.y, reference.y)
    words = reference.x / reference.x.sum(dim=1, keepdim=True).clamp(min=1)
    torch.testing.assert_close(graph.x.to_dense(), words)
