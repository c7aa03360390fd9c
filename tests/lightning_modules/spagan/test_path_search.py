"""What a path set is: the worked example, brute force, invariants, and agreement of the searches."""

from itertools import pairwise

import pytest
import torch

from lightning_modules.spagan.edge_costs import edge_costs
from lightning_modules.spagan.path_search import find_paths
from tests.lightning_modules.spagan.path_search_reference import (
    brute_force,
    random_graph,
    sampled,
    without_self_paths,
)

EXACT = ("exact", "scipy")
KINDS = ("real", "coarse", "zero", "unit")


@pytest.fixture
def example():
    """The six-node graph of the specification with the costs of its one-head attention, in float64."""
    pairs = torch.tensor([[0, 0, 1, 1, 2, 3, 4], [1, 2, 2, 3, 4, 4, 5]])
    pairs = torch.cat([pairs, pairs.flip(0), torch.arange(6).expand(2, 6)], dim=1)
    edge_index = pairs[:, torch.argsort(pairs[0] * 6 + pairs[1])]
    h = torch.tensor([0, 1, -1, 2, 0.5, -0.5], dtype=torch.float64)
    logit = torch.nn.functional.leaky_relu(0.5 * h[edge_index[0]] + h[edge_index[1]], 0.2)
    weight = logit.exp()
    total = torch.zeros(6, dtype=torch.float64).index_add(0, edge_index[0], weight)
    attention = weight / total[edge_index[0]]
    direct = edge_index[0] != edge_index[1]
    return edge_index[:, direct], attention[direct]


def test_worked_example_has_the_costs_of_the_specification(example):
    _, attention = example
    cost = edge_costs(attention.unsqueeze(1))
    expected = [
        0.152759, 0.744816, 0.878681, 0.933419, 0.103571, 0.702044, 0.457088,
        0.670707, 0.673025, 0.801679, 0.909282, 0, 0.899741, 0.153392,
    ]  # fmt: skip
    torch.testing.assert_close(cost, torch.tensor(expected, dtype=torch.float64), rtol=0, atol=6e-7)
    assert attention.max().item() == pytest.approx(0.707160, abs=6e-7)


@pytest.mark.parametrize("search", EXACT)
def test_worked_example_has_the_sets_of_the_specification(example, search):
    edge_index, attention = example
    cost = edge_costs(attention.unsqueeze(1))
    paths = find_paths(edge_index, cost, 6, max_path_nodes=3, path_ratio=None, search=search)
    assert paths.found == {2: 14, 3: 10}
    assert paths.found_is_total
    assert {path: round(c, 6) for path, c in _costs(paths, 3).items()} == {
        (0, 1, 3): 0.256330, (1, 3, 4): 0.905250, (2, 1, 3): 0.560659, (2, 4, 5): 1.570448,
        (3, 1, 0): 1.551706, (3, 1, 2): 1.606444, (3, 4, 5): 1.701421, (4, 3, 1): 0.673025,
        (5, 4, 3): 0.153392, (5, 4, 2): 1.062674,
    }  # fmt: skip

    half = find_paths(edge_index, cost, 6, max_path_nodes=3, path_ratio=0.5, search=search)
    assert [path[0] for path in _costs(half, 3)] == [0, 1, 2, 3, 4]
    one = find_paths(edge_index, cost, 6, max_path_nodes=3, path_ratio=1.0, search=search)
    assert _costs(paths, 3).keys() - _costs(one, 3).keys() == {(3, 4, 5), (5, 4, 2)}
    assert (len(one.nodes[2]), len(one.nodes[3])) == (20, 14)
    assert one.ptr(3).tolist() == [0, 2, 4, 7, 10, 12, 14]


def test_pair_with_a_cheaper_path_of_too_many_nodes_is_in_no_exact_set_but_in_the_hop_limited_one(example):
    edge_index, attention = example
    cost = edge_costs(attention.unsqueeze(1))
    limited = find_paths(edge_index, cost, 6, max_path_nodes=3, path_ratio=None, search="hop_limited")
    exact = find_paths(edge_index, cost, 6, max_path_nodes=3, path_ratio=None)
    assert _costs(limited, 3).pop((0, 2, 4)) == pytest.approx(1.415523, abs=6e-7)
    assert not any(path[0] == 0 and path[-1] == 4 for path in _costs(exact, 3))
    four = find_paths(edge_index, cost, 6, max_path_nodes=4, path_ratio=None)
    assert _costs(four, 4)[(0, 1, 3, 4)] == pytest.approx(1.058009, abs=6e-7)


@pytest.mark.parametrize("search", EXACT)
@pytest.mark.parametrize("kind", KINDS)
def test_exact_searches_agree_with_brute_force_over_all_simple_paths(search, kind):
    for seed in range(12):
        num_nodes, max_path_nodes = 4 + seed % 5, 2 + seed % 4
        edge_index, cost = random_graph(num_nodes, 5 + seed, kind, seed, symmetric=seed % 3 > 0)
        degree = torch.bincount(edge_index[0], minlength=num_nodes)
        everything = brute_force(edge_index, cost, num_nodes, max_path_nodes)
        for path_ratio in (None, 0.0, 0.5, 1.0, 2.0):
            paths = find_paths(
                edge_index, cost, num_nodes,
                max_path_nodes=max_path_nodes, path_ratio=path_ratio, search=search,
            )  # fmt: skip
            expected = sampled(everything, degree, path_ratio)
            for c in paths.lengths:
                assert without_self_paths(paths.nodes[c]) == expected[c], (seed, path_ratio, c)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("max_path_nodes", [2, 3, 5])
def test_numba_and_scipy_return_equal_sets_with_any_number_of_threads(kind, max_path_nodes):
    edge_index, cost = random_graph(700, 1500, kind, seed=max_path_nodes)
    for path_ratio in (0.5, 3.0, None):
        options = {"max_path_nodes": max_path_nodes, "path_ratio": path_ratio}
        reference = find_paths(edge_index, cost, 700, search="scipy", **options)
        assert find_paths(edge_index, cost, 700, **options).equal(reference)
        counted = find_paths(edge_index, cost, 700, threads=3, count_all=True, **options)
        assert counted.equal(reference)
        assert counted.found == reference.found


def test_hub_whose_row_needs_the_heap_sort_is_searched_exactly():
    leaves = torch.arange(1, 200)
    star = torch.stack([torch.zeros_like(leaves), leaves])
    pairs = torch.cat([star, random_graph(200, 300, "unit", 0)[0]], dim=1)
    pairs = torch.unique(torch.cat([pairs, pairs.flip(0)], dim=1), dim=1)
    cost = torch.randint(0, 50, (pairs.size(1),), generator=torch.Generator().manual_seed(1)) / 50
    options = {"max_path_nodes": 4, "path_ratio": 1.0}
    assert find_paths(pairs, cost, 200, **options).equal(
        find_paths(pairs, cost, 200, search="scipy", **options)
    )


@pytest.mark.parametrize("search", [*EXACT, "hop_limited"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_path_is_a_simple_walk_whose_cost_is_the_sum_of_its_edges(search, kind):
    edge_index, cost = random_graph(60, 100, kind, seed=3)
    weight = {tuple(edge): w for edge, w in zip(edge_index.t().tolist(), cost.tolist(), strict=True)}
    paths = find_paths(edge_index, cost, 60, max_path_nodes=4, path_ratio=2.0, search=search)
    for c in paths.lengths:
        for path, total in _costs(paths, c).items():
            assert len(set(path)) == c
            assert total == pytest.approx(sum(weight[edge] for edge in pairwise(path)))
            assert 0 <= total <= c - 1


@pytest.mark.parametrize("search", EXACT)
@pytest.mark.parametrize("kind", KINDS)
def test_every_prefix_of_an_exact_path_is_itself_the_path_to_its_end(search, kind):
    edge_index, cost = random_graph(60, 100, kind, seed=4)
    paths = find_paths(edge_index, cost, 60, max_path_nodes=5, path_ratio=None, search=search)
    for c in (3, 4, 5):
        shorter = _costs(paths, c - 1)
        for path, total in _costs(paths, c).items():
            assert shorter[path[:-1]] <= total


@pytest.mark.parametrize("search", [*EXACT, "hop_limited"])
def test_every_node_has_one_self_path_per_length_and_it_comes_last(search):
    edge_index, cost = random_graph(50, 30, "real", seed=5)  # leaves some nodes isolated
    assert torch.bincount(edge_index[0], minlength=50).min() == 0
    paths = find_paths(edge_index, cost, 50, max_path_nodes=4, path_ratio=0.5, search=search)
    for c in paths.lengths:
        last = paths.ptr(c)[1:] - 1
        assert torch.equal(paths.nodes[c][last], torch.arange(50).unsqueeze(1).expand(-1, c))
        assert (paths.cost[c][last] == 0).all()
        assert paths.is_self_path(c).sum() == 50
        centre, cost_of = paths.nodes[c][:, 0], paths.cost[c].masked_fill(paths.is_self_path(c), 99)
        assert (centre.diff() >= 0).all()
        assert (cost_of.diff()[centre.diff() == 0] >= 0).all()


@pytest.mark.parametrize("search", [*EXACT, "hop_limited"])
def test_relabelled_nodes_give_the_relabelled_sets(search):
    edge_index, cost = random_graph(80, 160, "real", seed=6)
    new = torch.randperm(80, generator=torch.Generator().manual_seed(7))
    renamed = new[edge_index]
    order = torch.argsort(renamed[0] * 80 + renamed[1])
    options = {"max_path_nodes": 4, "path_ratio": 1.5, "search": search}
    before = find_paths(edge_index, cost, 80, **options)
    after = find_paths(renamed[:, order], cost[order], 80, **options)
    for c in before.lengths:
        rows = {tuple(row) for row in new[before.nodes[c]].tolist()}
        assert rows == {tuple(row) for row in after.nodes[c].tolist()}


@pytest.mark.parametrize("search", [*EXACT, "hop_limited"])
@pytest.mark.parametrize("scale", [2.0**-30, 3.7, 1e6])
def test_scaling_all_costs_leaves_the_sets_unchanged(search, scale):
    edge_index, cost = random_graph(80, 160, "real", seed=8)
    options = {"max_path_nodes": 3, "path_ratio": 1.0, "search": search}
    before = find_paths(edge_index, cost.double(), 80, **options)
    after = find_paths(edge_index, cost.double() * scale, 80, **options)
    assert all(torch.equal(before.nodes[c], after.nodes[c]) for c in (2, 3))


@pytest.mark.parametrize("search", [*EXACT, "hop_limited"])
@pytest.mark.parametrize("kind", ["real", "unit"])
def test_kept_sets_nest_as_the_ratio_grows_and_a_large_ratio_keeps_all(search, kind):
    edge_index, cost = random_graph(80, 120, kind, seed=9)
    smaller: set[tuple[int, ...]] = set()
    for path_ratio in (0.0, 0.3, 0.5, 1.0, 2.0, 1000.0, None):
        paths = find_paths(
            edge_index, cost, 80, max_path_nodes=4, path_ratio=path_ratio, search=search, count_all=True
        )
        kept = {path for c in (3, 4) for path in _costs(paths, c)}
        assert smaller <= kept
        smaller = kept
        if path_ratio == 1000.0:
            assert paths.kept == paths.found


def test_ratio_times_degree_is_not_rounded_down_by_floating_point():
    star = torch.stack([torch.zeros(99, dtype=torch.long), torch.arange(1, 100)])
    ring = torch.stack([torch.arange(1, 100), torch.arange(1, 100) + 99])
    extra = torch.tensor([[0], [199]])
    edge_index = torch.cat([star, extra, ring], dim=1)  # degree of node 0 is 100; 0.29 * 100 < 29 in float64
    paths = find_paths(edge_index, torch.ones(199), 200, max_path_nodes=3, path_ratio=0.29)
    assert int(paths.ptr(3)[1]) == 29 + 1


def test_hop_limited_sets_equal_the_exact_ones_where_no_longer_path_undercuts():
    edge_index, cost = random_graph(90, 150, "unit", seed=10)
    for max_path_nodes in (2, 3, 4):
        options = {"max_path_nodes": max_path_nodes, "path_ratio": 1.0}
        exact = find_paths(edge_index, cost, 90, **options)
        assert find_paths(edge_index, cost, 90, search="hop_limited", **options).equal(exact)


def _costs(paths, length):
    """``{path: cost}`` of one length without self paths, in the order of the rows."""
    rows = zip(paths.nodes[length].tolist(), paths.cost[length].tolist(), strict=True)
    return {tuple(row): cost for row, cost in rows if row[0] != row[-1]}
