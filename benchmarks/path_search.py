"""Time the path search of SPAGAN against the procedure of its authors.

    python -m benchmarks.path_search                 # Cora from --data or TENFOLD_DATA, else a graph like it
    python -m benchmarks.path_search --power-law     # also a million nodes and ten million directed edges

Every figure is CPU time of one process, the median over rounds in which the methods take turns, after one
call each to compile and warm up. "authors" is their procedure written down anew from its description: a
shortest-path tree per node (SciPy's single-source Dijkstra in place of graph-tool's), then C - 1 rounds of
a Python loop over all nodes that chains predecessors into dictionaries, then a sort per node and length.
"""

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks.report import Table, add_arguments, graph_datamodule, write_report
from lightning_modules.spagan.edge_costs import edge_costs
from lightning_modules.spagan.path_search import PathSets, find_paths

SMALL_NODES, SMALL_EDGES = 2000, 4000


def authors_procedure(
    edge_index: Tensor, cost: Tensor, num_nodes: int, max_path_nodes: int, path_ratio: float
) -> dict[int, list[list[int]]]:
    """The kept paths of every length without self paths, found as SPAGAN's code does.

    Keeps what makes that code slow: whole shortest-path trees, numpy arrays read element by element, a Python
    loop over all nodes per round. Its degree is ``|P_i^2|``, so where a neighbour
    is reached more cheaply through a third node, it keeps fewer paths than `find_paths`.

    Args:
        edge_index: ``[2, E]``, row 0 the centre.
        cost: ``[E]``.
        num_nodes: number of nodes N.
        max_path_nodes: C.
        path_ratio: r.

    Returns:
        ``{c: paths}``, sorted by centre, then cost for c >= 3.
    """
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import dijkstra

    values = (cost.double().numpy(), (edge_index[0].numpy(), edge_index[1].numpy()))
    matrix = csr_matrix(values, shape=(num_nodes, num_nodes))
    trees = []
    for centre in range(num_nodes):
        distance, predecessor = dijkstra(matrix, indices=centre, return_predecessors=True)
        paths, costs, last_ends = {centre: [centre]}, {}, {centre}
        for _ in range(max_path_nodes - 1):
            ends = set()
            for end in range(num_nodes):
                if end != centre and predecessor[end] in last_ends:
                    paths[end] = [*paths[predecessor[end]], end]
                    costs[end] = distance[end]
                    ends.add(end)
            last_ends = ends
        trees.append((paths, costs))
    kept: dict[int, list[list[int]]] = {}
    for c in range(2, max_path_nodes + 1):
        rows: list[list[int]] = []
        for paths, costs in trees:
            own = [end for end, path in paths.items() if len(path) == c]
            if c > 2:
                degree = sum(len(path) == 2 for path in paths.values())
                own = sorted(own, key=costs.__getitem__)[: int(path_ratio * degree)]
            rows += [paths[end] for end in own]
        kept[c] = rows
    return kept


def random_attention(edge_index: Tensor, num_nodes: int, heads: int, seed: int) -> Tensor:
    """``[E, H]``: first-layer attention of a GAT with random node scores, self-loops left out."""
    generator = torch.Generator().manual_seed(seed)
    left, right = torch.randn(2, num_nodes, heads, generator=generator)
    attention = torch.empty(edge_index.size(1), heads)
    for head in range(heads):  # head by head, so that millions of edges fit
        scores = left[edge_index[0], head] + right[edge_index[1], head]
        weight = torch.nn.functional.leaky_relu(scores, 0.2).exp()
        own = torch.nn.functional.leaky_relu(left[:, head] + right[:, head], 0.2).exp()
        attention[:, head] = weight / own.index_add(0, edge_index[0], weight)[edge_index[0]]
    return attention


def trained_attention(graph: Any, num_classes: int, epochs: int, seed: int) -> Tensor:
    """``[E, 8]``: first-layer attention of SPAGAN's GAT (8 heads of 8) after ``epochs`` steps."""
    from lightning_modules.node_classification.gat import GAT
    from lightning_modules.node_classification.graph import prepare

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inputs = prepare(graph)
        network = GAT(
            in_channels=graph.x.size(1), hidden_channels=8, num_classes=num_classes, heads=8, out_heads=1,
            dropout=0.6, negative_slope=0.2, init="zero_bias", elu_before_softmax=True,
        )  # fmt: skip
        optimizer = torch.optim.Adam(network.parameters(), lr=0.005, weight_decay=5e-4)
        for _ in range(epochs):
            optimizer.zero_grad()
            output = network(inputs)
            torch.nn.functional.nll_loss(output[graph.train_mask], graph.y[graph.train_mask]).backward()
            optimizer.step()
        return network.edge_attention(inputs)[0]


def power_law_graph(num_nodes: int, edges: int, seed: int) -> Tensor:
    """``[2, 2 * edges]``: distinct undirected edges in both directions, sorted, degrees a power law.

    Ends are drawn with probability in proportion to ``(rank + 10) ** -0.6``, an exponent of about 2.7.
    """
    generator = np.random.default_rng(seed)
    share = np.cumsum((np.arange(num_nodes) + 10.0) ** -0.6)
    share /= share[-1]
    name = generator.permutation(num_nodes)  # hubs get any id
    key = np.empty(0, dtype=np.int64)
    while key.size < edges:
        ends = np.sort(name[np.searchsorted(share, generator.random((2, edges + edges // 8)))], axis=0)
        ends = ends[:, ends[0] != ends[1]]
        key = np.unique(np.concatenate([key, ends[0] * num_nodes + ends[1]]))
    key = generator.permutation(key)[:edges]
    row, col = key // num_nodes, key % num_nodes
    key = np.sort(np.concatenate([key, col * num_nodes + row]))
    return torch.from_numpy(np.stack([key // num_nodes, key % num_nodes]))


def load_graph(options: argparse.Namespace) -> tuple[str, Tensor, Tensor, int]:
    """``(description, edge_index, cost, num_nodes)`` of the small graph."""
    datamodule, name = graph_datamodule(options.data)
    graph = datamodule.graph
    if options.attention == "trained":
        attention = trained_attention(graph, datamodule.num_classes, options.epochs, options.seed)
        name += f", attention of {options.epochs} epochs"
    else:
        attention = random_attention(graph.edge_index, graph.num_nodes, 8, options.seed)
        name += ", random attention"
    return name, graph.edge_index, edge_costs(attention), graph.num_nodes


def compare(options: argparse.Namespace) -> Table:
    """Time every method on the small graph and check that the exact ones agree."""
    name, edge_index, cost, num_nodes = load_graph(options)
    c, r = options.max_path_nodes, options.path_ratio

    def ours(**search: Any) -> PathSets:
        return find_paths(edge_index, cost, num_nodes, max_path_nodes=c, path_ratio=r, **search)

    methods: dict[str, tuple[int, Callable[[], Any]]] = {  # calls per round, call
        "authors": (1, lambda: authors_procedure(edge_index, cost, num_nodes, c, r)),
        "scipy": (3, lambda: ours(search="scipy")),
        "hop_limited": (3, lambda: ours(search="hop_limited")),
        "exact, counting all": (10, lambda: ours(count_all=True)),
        "exact": (30, lambda: ours()),
    }
    results = {method: call() for method, (_, call) in methods.items()}
    exact = results["exact"]
    if not exact.equal(results["scipy"]):
        raise RuntimeError("the exact and the scipy search returned different sets: a bug, please report it")
    seconds: dict[str, list[float]] = {method: [] for method in methods}
    for _ in range(options.repeats):
        for method, (calls, call) in methods.items():
            for _ in range(calls):
                start = time.process_time()
                call()
                seconds[method].append(time.process_time() - start)
    median = {method: statistics.median(times) for method, times in seconds.items()}
    rows = [
        {
            "method": method,
            "ms": 1e3 * median[method],
            "best ms": 1e3 * min(seconds[method]),
            "speed-up": median["authors"] / median[method],
            "paths as exact": _shared(results[method], exact),
        }
        for method in methods
    ]
    size = f"{num_nodes:,} nodes, {edge_index.size(1):,} directed edges"
    return Table(f"CPU time of the path search on {name}, one thread ({size}, C={c}, r={r})", rows)


def _shared(result: PathSets | dict[int, list[list[int]]], exact: PathSets) -> float:
    """Share of the exact paths longer than one edge that ``result`` holds too."""
    longer = [c for c in exact.lengths if c > 2]
    if not isinstance(result, PathSets):
        nodes = {c: torch.tensor(result[c]).reshape(-1, c) for c in longer}
        # Rows that repeat no node stand in for a whole container: only the paths are compared.
        result = PathSets(exact.num_nodes, nodes, {}, {}, True)
    shares, sizes = exact.unchanged_fraction(result), exact.kept
    return sum(shares[c] * sizes[c] for c in longer) / max(1, sum(sizes[c] for c in longer))


def power_law(options: argparse.Namespace) -> Table:
    """Time and memory of the exact search on a large graph, in a process that does nothing else."""
    num_nodes, edges = options.power_law_nodes, options.power_law_edges // 2
    print(f"\nBuilding a power-law graph of {num_nodes:,} nodes and {2 * edges:,} directed edges ...")
    edge_index = power_law_graph(num_nodes, edges, options.seed)
    cost = edge_costs(random_attention(edge_index, num_nodes, 2, options.seed))
    with tempfile.TemporaryDirectory() as folder:
        torch.save((edge_index, cost), Path(folder) / "graph.pt")
        del edge_index, cost
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            row: dict[str, Any] = pool.apply(_measure_large, (folder, num_nodes, options))
    memory = (
        "memory above the loaded graph, result included; the graph as 8-byte ids and costs with row pointers"
    )
    return Table(f"Exact path search on a power-law graph, {options.threads} thread(s) ({memory})", [row])


def _measure_large(folder: str, num_nodes: int, options: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    small = power_law_graph(SMALL_NODES, SMALL_EDGES, 0)
    search = {"max_path_nodes": options.max_path_nodes, "path_ratio": options.path_ratio}
    find_paths(small, torch.rand(small.size(1)), SMALL_NODES, **search)  # compiles
    edge_index, cost = torch.load(Path(folder) / "graph.pt", weights_only=True)
    before = _memory("VmRSS")
    cpu, wall = time.process_time(), time.perf_counter()
    paths = find_paths(edge_index, cost, num_nodes, threads=options.threads, **search)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak = _memory("VmHWM")
    graph_bytes = 16 * cost.numel() + 8 * (num_nodes + 1)
    extra = None if before is None or peak is None else peak - before
    return {
        "nodes": num_nodes,
        "directed edges": cost.numel(),
        "kept paths": sum(paths.kept.values()),
        "CPU s": cpu,
        "wall s": wall,
        "graph MiB": graph_bytes / 2**20,
        "search MiB": "not measured" if extra is None else extra / 2**20,
        "search / graph": "not measured" if extra is None else extra / graph_bytes,
    }


def _memory(field: str) -> int | None:
    """Bytes of this process by Linux's account; None elsewhere.

    Not ``getrusage``: its maximum is inherited from the parent, which has just built the graph.
    """
    status = Path("/proc/self/status")
    if not status.is_file():
        return None
    [line] = [line for line in status.read_text().splitlines() if line.startswith(field + ":")]
    return int(line.split()[1]) * 1024


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.path_search",
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_arguments(parser)
    add = parser.add_argument
    add("--attention", choices=["trained", "random"], default="trained", help="where Cora's costs come from")
    add("--epochs", type=int, default=200, help="training steps of the GAT behind --attention trained")
    add("--max-path-nodes", type=int, default=3, help="C, most nodes of a path")
    add("--path-ratio", type=float, default=0.5, help="r, paths kept per length over the degree")
    add("--repeats", type=int, default=3, help="rounds; one round calls the authors' procedure once")
    add("--power-law", action="store_true", help="also search a large power-law graph (about a minute, 3 GB)")
    add("--power-law-nodes", type=int, default=1_000_000, help="its nodes")
    add("--power-law-edges", type=int, default=10_000_000, help="its directed edges")
    add("--threads", type=int, default=1, help="threads of the search on the power-law graph")
    add("--seed", type=int, default=0, help="of graphs, attention and training")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison, print its table, write its JSON."""
    options = parse(arguments)
    torch.set_num_threads(1)
    tables = [compare(options)]
    if options.power_law:
        tables.append(power_law(options))
    write_report("path_search", tables, options.output)


if __name__ == "__main__":
    main()
