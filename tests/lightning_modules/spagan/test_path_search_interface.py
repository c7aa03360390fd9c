"""How the search is called, what it refuses, what it leaves behind."""

import importlib.util
import subprocess
import sys
import tracemalloc

import pytest
import torch

from lightning_modules.numba_import import numba_fault
from lightning_modules.spagan.path_search import PathSets, find_paths, hop_limited
from lightning_modules.spagan.path_search.graph import build_graph
from tests.lightning_modules.spagan.path_search_reference import brute_force, random_graph, without_self_paths

OPTIONS = {"max_path_nodes": 3, "path_ratio": 1.0}


def test_state_survives_a_weights_only_checkpoint(tmp_path):
    edge_index, cost = random_graph(40, 80, "real", seed=0)
    paths = find_paths(edge_index, cost, 40, **OPTIONS)
    torch.save(paths.state(), tmp_path / "paths.pt")
    again = PathSets.from_state(torch.load(tmp_path / "paths.pt", weights_only=True))
    assert again.equal(paths)
    assert (again.found, again.found_is_total) == (paths.found, paths.found_is_total)


@pytest.mark.parametrize("search", ["exact", "scipy", "hop_limited"])
@pytest.mark.parametrize("ratio", [None, 0.0, 0.5])
def test_paths_know_the_graph_they_were_found_on(search, ratio):
    edge_index, cost = random_graph(40, 80, "real", seed=0)
    paths = find_paths(edge_index, cost, 40, max_path_nodes=3, path_ratio=ratio, search=search)
    assert paths.lie_in(edge_index, 40)
    assert paths.lie_in(edge_index[:, torch.randperm(edge_index.size(1))], 40), "in any order"
    assert not paths.lie_in(edge_index, 41)
    assert not paths.lie_in(edge_index[:, edge_index[0] > 0], 40)
    other = random_graph(40, 80, "real", seed=1)[0]
    assert not paths.lie_in(other, 40)


def test_unchanged_fraction_counts_common_paths_by_length():
    edge_index, cost = random_graph(40, 80, "real", seed=1)
    paths = find_paths(edge_index, cost, 40, **OPTIONS)
    assert paths.unchanged_fraction(paths) == {2: 1.0, 3: 1.0}
    other = find_paths(edge_index, 1 - cost, 40, **OPTIONS)
    mine, theirs = (set(without_self_paths(sets.nodes[3])) for sets in (paths, other))
    assert paths.unchanged_fraction(other)[3] == pytest.approx(len(mine & theirs) / len(mine))


def test_random_choice_is_the_same_for_every_exact_search_and_follows_its_generator():
    edge_index, cost = random_graph(300, 900, "real", seed=2)

    def draw(seed, **options):
        generator = torch.Generator().manual_seed(seed)
        return find_paths(
            edge_index, cost, 300, max_path_nodes=4, path_ratio=1.0, choice="random", generator=generator,
            **options,
        )  # fmt: skip

    reference = draw(0)
    assert draw(0, search="scipy").equal(reference)
    assert draw(0, threads=2).equal(reference)
    assert not draw(1).equal(reference)
    everything = find_paths(edge_index, cost, 300, max_path_nodes=4, path_ratio=None)
    cheapest = find_paths(edge_index, cost, 300, max_path_nodes=4, path_ratio=1.0)
    assert reference.unchanged_fraction(everything) == {2: 1.0, 3: 1.0, 4: 1.0}
    assert reference.kept == cheapest.kept
    assert reference.found == everything.found


def test_early_stop_says_that_its_counts_are_no_totals():
    edge_index, cost = random_graph(100, 400, "real", seed=3)
    quick = find_paths(edge_index, cost, 100, max_path_nodes=3, path_ratio=0.2)
    counted = find_paths(edge_index, cost, 100, max_path_nodes=3, path_ratio=0.2, count_all=True)
    assert not quick.found_is_total
    assert counted.found_is_total
    assert quick.found[2] == counted.found[2]
    assert quick.found[3] < counted.found[3]
    assert quick.equal(counted)


def test_costs_keep_their_dtype_and_input_is_not_changed():
    edge_index, cost = random_graph(30, 60, "real", seed=4)
    for dtype in (torch.float32, torch.float64):
        given = cost.to(dtype)
        before = given.clone()
        assert find_paths(edge_index, given, 30, **OPTIONS).cost[3].dtype == dtype
        assert torch.equal(given, before)


@pytest.mark.parametrize("search", ["exact", "scipy", "hop_limited"])
def test_graphs_without_edges_or_nodes_have_only_self_paths(search):
    no_edges = torch.empty(2, 0, dtype=torch.long)
    for num_nodes in (0, 3):
        paths = find_paths(no_edges, torch.empty(0), num_nodes, search=search, **OPTIONS)
        assert [len(paths.nodes[c]) for c in (2, 3)] == [num_nodes, num_nodes]
        assert paths.ptr(2).tolist() == list(range(num_nodes + 1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"max_path_nodes": 1}, "max_path_nodes must be from 2"),
        ({"path_ratio": -0.1}, "path_ratio must be"),
        ({"path_ratio": float("nan")}, "path_ratio must be"),
        ({"search": "dijkstra"}, "search must be one of"),
        ({"choice": "best"}, "choice must be"),
        ({"threads": 0}, "threads must be"),
        ({"cost": torch.tensor([0.5, -0.5])}, "not negative"),
        ({"cost": torch.tensor([0.5, float("nan")])}, "finite"),
        ({"cost": torch.tensor([0.5, float("inf")])}, "finite"),
        ({"cost": torch.ones(3)}, r"float \[E\]"),
        ({"edge_index": torch.tensor([[1, 0], [0, 1]])}, "sorted"),
        ({"edge_index": torch.tensor([[0, 0], [1, 1]])}, "repeated"),
        ({"edge_index": torch.tensor([[0, 1], [1, 1]])}, "self-loops"),
        ({"edge_index": torch.tensor([[0, 1], [1, 9]])}, "num_nodes=2"),
        ({"edge_index": torch.tensor([[0, 1], [1, 0]]).int()}, "long"),
    ],
)
def test_wrong_input_is_refused_with_its_name(change, words):
    call = {"edge_index": torch.tensor([[0, 1], [1, 0]]), "cost": torch.tensor([0.5, 0.25]), "num_nodes": 2}
    with pytest.raises(ValueError, match=words):
        find_paths(**{**call, **OPTIONS, **change})


def test_missing_numba_falls_back_to_scipy_and_says_so(monkeypatch, caplog):
    edge_index, cost = random_graph(40, 80, "coarse", seed=5)
    expected = find_paths(edge_index, cost, 40, **OPTIONS)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    numba_fault.cache_clear()
    try:
        assert find_paths(edge_index, cost, 40, **OPTIONS).equal(expected)
    finally:
        numba_fault.cache_clear()
    assert len(caplog.records) == 1
    assert "numba is not installed" in caplog.text


def test_kernels_compile_where_no_cache_folder_can_be_written():
    from lightning_modules.compiled import compiled

    namespace: dict = {}
    exec("def add(a, b):\n    return a + b", namespace)  # a function without a file has no place for a cache
    assert compiled(namespace["add"])(2, 3) == 5


def test_importing_the_search_imports_neither_numba_nor_scipy():
    code = (
        "import sys, lightning_modules.spagan.path_search as p;"
        "print(p.find_paths is None, 'numba' in sys.modules, 'scipy.sparse.csgraph' in sys.modules)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.split() == ["False", "False", "False"]


def test_scipy_search_never_holds_a_distance_for_every_pair():
    num_nodes = 20_000
    edge_index, cost = random_graph(num_nodes, 20_000, "real", seed=6)
    few = edge_index[0] < 300  # the rest of the rows is empty, so that the test stays quick
    tracemalloc.start()
    try:
        find_paths(edge_index[:, few], cost[few], num_nodes, search="scipy", **OPTIONS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < num_nodes * num_nodes * 8 / 20


def test_hop_limited_result_does_not_depend_on_how_the_expansion_is_cut():
    edge_index, cost = random_graph(60, 200, "coarse", seed=7)
    graph = build_graph(edge_index, cost, 60, 4)
    [whole] = hop_limited.search(graph, 4, None)
    for expansions in (1, 7, 100):
        blocks = list(hop_limited.search(graph, 4, None, expansions))
        assert len(blocks) > 1
        for c in (2, 3, 4):
            assert torch.equal(torch.cat([block.nodes[c] for block in blocks]), whole.nodes[c])
            assert torch.equal(torch.cat([block.cost[c] for block in blocks]), whole.cost[c])


def test_hop_limited_finds_the_cheapest_path_among_the_short_ones():
    edge_index, cost = random_graph(7, 14, "coarse", seed=8)
    everything = brute_force(edge_index, cost, 7, 7)
    limited = find_paths(edge_index, cost, 7, max_path_nodes=3, path_ratio=None, search="hop_limited")
    weight = {tuple(edge): w for edge, w in zip(edge_index.t().tolist(), cost.tolist(), strict=True)}
    ends = {(path[0], path[-1]) for c in (2, 3) for path in without_self_paths(limited.nodes[c])}
    two_hops = {(i, k) for i, j in weight for j2, k in weight if j == j2 and i != k}
    assert ends == set(weight) | two_hops
    assert set(everything[2]) <= set(without_self_paths(limited.nodes[2]))
    for i, j, k in without_self_paths(limited.nodes[3]):
        rivals = [weight[i, m] + weight[m, k] for m in range(7) if (i, m) in weight and (m, k) in weight]
        assert weight[i, j] + weight[j, k] == min([*rivals, weight.get((i, k), 9)])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_hop_limited_search_on_a_gpu_equals_that_on_the_cpu():
    edge_index, cost = random_graph(500, 2000, "coarse", seed=9)
    here = find_paths(edge_index, cost, 500, search="hop_limited", **OPTIONS)
    there = find_paths(edge_index.cuda(), cost.cuda(), 500, search="hop_limited", **OPTIONS)
    assert there.nodes[3].is_cuda
    assert there.to("cpu").equal(here)
