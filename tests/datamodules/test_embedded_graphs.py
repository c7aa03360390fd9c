"""The graphs that need no network: digits, relays, mini-citation."""

import numpy as np
import pytest
import torch

from datamodules.digits_graph import DigitsGraphDataModule, nearest_neighbor_graph
from datamodules.graph import GraphDataModule
from datamodules.mini_citation import MiniCitationDataModule, draw_edges
from datamodules.relay_graph import RelayGraphDataModule
from harness.errors import UserError

MAKERS = {
    "digits_graph": lambda seed: DigitsGraphDataModule(64, 10, 5, 20, 500, seed),
    "relay_graph": lambda seed: RelayGraphDataModule(8, 4, seed),
    "mini_citation": lambda seed: MiniCitationDataModule(120, 4, seed),
}
SPLITS = {"digits_graph": [200, 500, 1097], "relay_graph": [80, 0, 80], "mini_citation": [40, 100, 300]}


def ready(name: str, seed: int = 0) -> GraphDataModule:
    module = MAKERS[name](seed)
    module.prepare_data()
    module.setup()
    return module


def features(module: GraphDataModule) -> torch.Tensor:
    assert module.graph is not None
    x = module.graph.x
    return x if x.layout == torch.strided else x.to_dense()


@pytest.mark.parametrize("name", MAKERS)
def test_edges_are_symmetric_sorted_and_without_self_loops(name: str) -> None:
    graph = ready(name).graph
    assert graph is not None
    row, col = graph.edge_index
    keys = row * graph.num_nodes + col
    assert (row != col).all()
    assert (keys[1:] > keys[:-1]).all(), "sorted, and each edge once"
    assert torch.equal((col * graph.num_nodes + row).sort().values, keys)


@pytest.mark.parametrize("name", MAKERS)
def test_masks_are_disjoint_and_of_the_stated_sizes(name: str) -> None:
    graph = ready(name).graph
    assert graph is not None
    masks = torch.stack([graph.train_mask, graph.val_mask, graph.test_mask])
    assert masks.sum(dim=1).tolist() == SPLITS[name]
    assert masks.sum(dim=0).max() == 1


@pytest.mark.parametrize("name", MAKERS)
def test_same_seed_gives_the_same_graph_whatever_the_global_state(name: str) -> None:
    torch.manual_seed(1)
    first = ready(name)
    torch.manual_seed(2)
    np.random.seed(2)
    again, other = ready(name), ready(name, seed=1)
    assert first.graph is not None
    assert again.graph is not None
    assert other.graph is not None
    assert torch.equal(features(first), features(again))
    for key in ("edge_index", "y", "train_mask", "val_mask", "test_mask"):
        assert torch.equal(first.graph[key], again.graph[key])
    assert not (
        torch.equal(features(first), features(other))
        and torch.equal(first.graph.train_mask, other.graph.train_mask)
    )


def test_digits_have_twenty_training_images_each_and_rows_that_sum_to_one() -> None:
    module = ready("digits_graph")
    graph = module.graph
    assert graph is not None
    assert torch.bincount(graph.y[graph.train_mask]).tolist() == [20] * 10
    torch.testing.assert_close(graph.x.sum(dim=1), torch.ones(1797))
    assert torch.bincount(graph.edge_index[0]).min() >= 5
    assert module.class_names == tuple("0123456789")


def test_digits_seed_changes_the_split_and_not_the_graph() -> None:
    first, other = ready("digits_graph").graph, ready("digits_graph", seed=1).graph
    assert first is not None
    assert other is not None
    assert torch.equal(first.edge_index, other.edge_index)
    assert not torch.equal(first.train_mask, other.train_mask)


def test_digits_split_must_leave_test_images() -> None:
    with pytest.raises(UserError, match=r"num_val=1597 .* below 1597"):
        DigitsGraphDataModule(64, 10, 5, 20, 1597, 0).setup()


def test_nearest_neighbors_by_hand() -> None:
    # On a line; 2 is equally far from 0 and 4 and takes the smaller id.
    points = np.array([[0], [4], [2], [9]])
    found = nearest_neighbor_graph(points, 1)
    assert found.T.tolist() == [[0, 2], [1, 2], [1, 3], [2, 0], [2, 1], [3, 1]]


def test_too_many_neighbors_are_refused() -> None:
    with pytest.raises(UserError, match=r"num_neighbors=4 must be below"):
        nearest_neighbor_graph(np.zeros((4, 1), np.int64), 4)


def test_relays_stand_between_signals_and_leaves() -> None:
    graph = ready("relay_graph").graph
    assert graph is not None
    degrees = torch.bincount(graph.edge_index[0], minlength=240)
    assert degrees.tolist() == [1] * 40 + [5] * 40 + [1] * 160
    neighbours = {
        node: set(graph.edge_index[1][graph.edge_index[0] == node].tolist()) for node in (3, 43, 92)
    }
    assert neighbours == {3: {43}, 43: {3, 92, 93, 94, 95}, 92: {43}}
    assert graph.y[[3, 43, 92]].tolist() == [3, 3, 3]
    labelled = graph.train_mask | graph.test_mask
    assert labelled.nonzero().ravel().tolist() == list(range(80, 240))
    assert graph.train_mask[80:160].all()
    assert graph.test_mask[160:].all()


def test_only_signals_carry_their_class() -> None:
    graph = ready("relay_graph").graph
    assert graph is not None
    assert torch.equal(graph.x[:40].argmax(dim=1), graph.y[:40])
    assert float(graph.x[40:].abs().max()) < 1.5
    assert abs(float(graph.x[40:].std()) - 0.3) < 0.02


def test_a_signal_is_two_on_its_class_coordinate_and_all_else_is_noise_of_three_tenths() -> None:
    signals, noise = [], []
    for seed in range(5):
        graph = ready("relay_graph", seed).graph
        assert graph is not None
        place = (torch.arange(40), graph.y[:40])
        signals.append(graph.x[place])
        rest = torch.ones_like(graph.x, dtype=torch.bool)
        rest[place] = False
        noise.append(graph.x[rest])
    signal, other = torch.cat(signals), torch.cat(noise)
    assert float(signal.mean()) == pytest.approx(2.0, abs=0.1)
    assert float(signal.std()) == pytest.approx(0.3, abs=0.05)
    assert float(other.mean()) == pytest.approx(0.0, abs=0.02)
    assert float(other.std()) == pytest.approx(0.3, abs=0.01)


def test_mini_citation_has_exact_degree_and_homophily() -> None:
    graph = ready("mini_citation").graph
    assert graph is not None
    assert graph.x.layout == torch.sparse_csr
    assert graph.num_nodes == 600
    assert graph.edge_index.size(1) == 2400
    row, col = graph.edge_index
    assert int((graph.y[row] == graph.y[col]).sum()) == 1920
    assert torch.bincount(graph.y).tolist() == [150] * 4
    assert torch.bincount(graph.y[graph.train_mask]).tolist() == [10] * 4
    assert torch.bincount(row).max() > 12, "degrees are uneven, as the correction asks"


def test_mini_citation_words_follow_their_topic() -> None:
    shares = []
    for seed in range(3):
        module = ready("mini_citation", seed)
        assert module.graph is not None
        words = (features(module) > 0).float()
        # by class of the paper and topic of the word; the last topic is nobody's
        shares.append(
            torch.stack([words[module.graph.y == c].view(-1, 5, 24).mean((0, 2)) for c in range(4)])
        )
    share = torch.stack(shares).mean(0)
    own = torch.eye(4, 5, dtype=torch.bool)
    torch.testing.assert_close(share[own], torch.full((4,), 0.08), atol=0.01, rtol=0)
    torch.testing.assert_close(share[~own], torch.full((16,), 0.02), atol=0.005, rtol=0)


@pytest.mark.parametrize("seed", [1, 2])
def test_mini_citation_s_sizes_do_not_depend_on_its_seed(seed: int) -> None:
    graph = ready("mini_citation", seed).graph
    assert graph is not None
    row, col = graph.edge_index
    assert len(row) / graph.num_nodes == 4.0
    assert float((graph.y[row] == graph.y[col]).float().mean()) == pytest.approx(0.8)
    assert torch.bincount(graph.y[graph.train_mask]).tolist() == [10] * 4
    assert [int(mask.sum()) for mask in (graph.val_mask, graph.test_mask)] == [100, 300]
    sums = features(ready("mini_citation", seed)).sum(1)
    torch.testing.assert_close(sums[sums > 0], torch.ones(int((sums > 0).sum())))
    assert int((sums > 0).sum()) > 570


def test_drawn_edges_are_distinct_and_of_the_asked_kind() -> None:
    y = np.array([0, 0, 0, 1, 1, 1])
    within = draw_edges(y, np.ones(6), 6, True, np.random.default_rng(0))
    assert sorted(map(tuple, within.T.tolist())) == [(0, 1), (0, 2), (1, 2), (3, 4), (3, 5), (4, 5)]
    between = draw_edges(y, np.ones(6), 9, False, np.random.default_rng(0))
    assert len(set(map(tuple, between.T.tolist()))) == 9
    assert (y[between[0]] != y[between[1]]).all()
