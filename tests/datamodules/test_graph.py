"""Building, checking and serving a graph."""

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch_geometric.data import Data

from datamodules.graph import (
    GraphDataModule,
    make_graph,
    pick_per_class,
    row_normalised,
    undirected_edge_index,
)
from harness.errors import UserError


class Triangle(GraphDataModule):
    def __init__(self, in_channels: int = 3, num_classes: int = 2) -> None:
        super().__init__("triangle", in_channels, num_classes)
        self.builds = 0

    def build(self) -> Data:
        self.builds += 1
        edge_index = undirected_edge_index([0, 1, 2], [1, 2, 0], 3)
        return make_graph(torch.eye(3), edge_index, [0, 1, 1], [0], [1], [2])


def test_edges_by_hand() -> None:
    found = undirected_edge_index([2, 0, 1, 1, 3], [0, 2, 1, 0, 1], 5)
    assert found.tolist() == [[0, 0, 1, 1, 2, 3], [1, 2, 0, 3, 0, 1]]
    assert found.dtype == torch.long


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6))))
def test_edges_are_those_of_a_set_of_pairs(pairs: list[tuple[int, int]]) -> None:
    row, col = [a for a, _ in pairs], [b for _, b in pairs]
    expected = sorted({(a, b) for a, b in pairs if a != b} | {(b, a) for a, b in pairs if a != b})
    assert undirected_edge_index(row, col, 7).T.tolist() == [list(pair) for pair in expected]


@pytest.mark.parametrize(("row", "col"), [([0], [3]), ([-1], [0]), ([0, 1], [1])])
def test_bad_edges_are_refused(row: list[int], col: list[int]) -> None:
    with pytest.raises(ValueError, match=r"edge ends|one length"):
        undirected_edge_index(row, col, 3)


def test_rows_sum_to_one_and_empty_rows_stay_zero() -> None:
    words = scipy.sparse.random(50, 40, 0.05, "csr", rng=np.random.default_rng(0))
    words = scipy.sparse.vstack([words, scipy.sparse.csr_matrix((1, 40))], format="csr")
    found = row_normalised(words)
    assert found.layout == torch.sparse_csr
    dense = found.to_dense()
    sums = words.toarray().sum(axis=1, keepdims=True)
    np.testing.assert_allclose(dense, words.toarray() / np.where(sums > 0, sums, 1), rtol=1e-6)
    assert dense[-1].eq(0).all()


def test_full_features_come_dense() -> None:
    found = row_normalised(np.array([[1.0, 3.0], [2.0, 0.0]]))
    assert found.layout == torch.strided
    assert found.tolist() == [[0.25, 0.75], [1.0, 0.0]]


def test_repeated_and_stored_zeros_do_not_disturb_features() -> None:
    wide = scipy.sparse.csr_matrix(
        (np.array([1.0, 1.0, 0.0, 2.0]), np.array([30, 30, 2, 1]), np.array([0, 4])), shape=(1, 40)
    )
    found = row_normalised(wide)
    assert found.col_indices().tolist() == [1, 30]
    assert found.values().tolist() == [0.5, 0.5]
    assert wide.nnz == 4, "the caller's matrix is left alone"


@pytest.mark.parametrize("key", ["in_channels", "num_classes"])
def test_wrong_fact_is_named_with_both_values(key: str) -> None:
    with pytest.raises(UserError, match=rf"data\.{key}=9 does not agree .* has {key}=\d.* Set data\.{key}="):
        Triangle(**{key: 9}).setup()


def test_setup_builds_once() -> None:
    module = Triangle()
    module.setup("fit")
    graph = module.graph
    module.setup("test")
    assert module.builds == 1
    assert module.graph is graph


def test_every_loader_yields_the_one_graph_and_draws_nothing_global() -> None:
    module = Triangle()
    module.setup()
    before = torch.get_rng_state()
    for name in ("train", "val", "test", "predict"):
        loader = getattr(module, f"{name}_dataloader")()
        assert len(loader) == 1
        (batch,) = list(loader)
        assert batch is module.graph
    assert torch.equal(torch.get_rng_state(), before)


def test_loader_before_setup_says_what_to_do() -> None:
    with pytest.raises(RuntimeError, match=r"call setup\(\)"):
        Triangle().train_dataloader()


def test_pick_takes_the_first_of_each_class_in_the_given_order() -> None:
    y = np.array([0, 0, 0, 1, 1, 1])
    taken, others = pick_per_class(y, np.array([5, 2, 0, 4, 1, 3]), 2, "train_per_class")
    assert taken.tolist() == [5, 2, 0, 4]
    assert others.tolist() == [1, 3]


def test_too_small_class_is_named() -> None:
    with pytest.raises(UserError, match=r"train_per_class=2 .* class 1 has only 1 nodes"):
        pick_per_class(np.array([0, 0, 1]), np.arange(3), 2, "train_per_class")


def test_a_copy_goes_to_another_device_and_the_graph_stays() -> None:
    module = Triangle()
    module.setup()
    (graph,) = module.train_dataloader()
    elsewhere = torch.device("meta")
    moved = module.transfer_batch_to_device(graph, elsewhere, 0)
    assert {value.device for value in moved.to_dict().values()} == {elsewhere}
    assert {value.device.type for value in module.graph.to_dict().values()} == {"cpu"}
    assert module.transfer_batch_to_device(graph, elsewhere, 0) is moved, "indexed anew every epoch otherwise"
    assert module.transfer_batch_to_device(graph, torch.device("cpu"), 0) is module.graph
