"""The entry of the path search."""

import logging
from typing import Literal

import torch
from torch import Tensor

from lightning_modules.numba_import import numba_fault
from lightning_modules.spagan.path_search import best_first, dijkstra, hop_limited
from lightning_modules.spagan.path_search.graph import CostGraph, build_graph
from lightning_modules.spagan.path_search.paths import Block, PathSets, add_self_paths, assemble
from lightning_modules.spagan.path_search.sampling import path_quota, random_choice

logger = logging.getLogger("tenfold")

Search = Literal["exact", "scipy", "hop_limited"]
Choice = Literal["cheapest", "random"]


def find_paths(
    edge_index: Tensor,
    cost: Tensor,
    num_nodes: int,
    *,
    max_path_nodes: int,
    path_ratio: float | None,
    search: Search = "exact",
    choice: Choice = "cheapest",
    generator: torch.Generator | None = None,
    threads: int = 1,
    count_all: bool = False,
) -> PathSets:
    """Cheapest paths of 2..C nodes around every node (SPAGAN, Yang et al., 2019, arXiv 2101.03464).

    The path of a pair is its cheapest one over *all* hop counts; the set ``P_i^c`` holds the paths from i
    that have c nodes. A pair whose cheapest path has more than C nodes is in no set, even where a dearer one
    is short enough. Of ``P_i^2`` all are kept, of longer ones ``floor(path_ratio * degree_i)``; then one self
    path per node and length is added.

    Ties, which the paper leaves open: lower cost, then fewer nodes, then smaller end node, and between paths
    to one end the lexicographically smaller node sequence. Costs are compared as exact sums (see
    `build_graph`), so ``exact`` and ``scipy`` return equal sets, bit for bit.

    Args:
        edge_index: ``[2, E]`` long, row 0 the centre and row 1 its neighbour, sorted by both, no self-loops.
        cost: ``[E]`` float, finite and >= 0; directed: the two directions of an edge may differ.
        num_nodes: number of nodes N.
        max_path_nodes: most nodes C of a path, both ends included, from 2 to 512.
        path_ratio: r >= 0; None keeps all paths.
        search: ``exact`` (numba; scipy's where numba is missing), ``scipy``, or ``hop_limited``, which
            takes the cheapest path *among those of at most C nodes* and therefore also keeps pairs that a
            longer path joins more cheaply.
        choice: keep the ``cheapest`` paths, or as many at ``random`` (an ablation; finds the whole sets).
        generator: draws for ``random``, on the CPU; None draws from torch's global generator. The same
            draws give the same sets with every exact search.
        threads: threads of the ``exact`` search; the sets do not depend on it.
        count_all: let ``found`` count the whole sets, which the ``exact`` search otherwise does not see
            because it stops once a node's paths are complete. On Cora this takes more than three times as
            long (``python -m benchmarks.path_search``).

    Returns:
        The sets, on the device of ``edge_index``, costs in the dtype of ``cost``.

    Raises:
        ValueError: if an argument is outside what is said above.
    """
    searches = {"exact": _exact, "scipy": _scipy, "hop_limited": _hop_limited}
    if search not in searches:
        raise ValueError(f"search must be one of {', '.join(searches)}, got {search!r}")
    if choice not in ("cheapest", "random"):
        raise ValueError(f"choice must be cheapest or random, got {choice!r}")
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    device = edge_index.device
    if search != "hop_limited":
        edge_index, cost = edge_index.cpu(), cost.cpu()
    graph = build_graph(edge_index, cost, num_nodes, max_path_nodes)
    quota = path_quota(graph.degree, path_ratio)
    if num_nodes == 0:
        empty = {c: torch.empty(0, c, dtype=torch.long) for c in range(2, max_path_nodes + 1)}
        no_cost = {c: cost.new_empty(0) for c in empty}
        return PathSets(0, empty, no_cost, dict.fromkeys(empty, 0), True).to(device)
    draw = choice == "random" and quota is not None
    sees_all = search == "scipy" or search == "hop_limited" or count_all or draw or quota is None
    blocks = searches[search](graph, max_path_nodes, None if draw else quota, threads, not sees_all)
    if draw and quota is not None:
        blocks = [_drawn(blocks, quota, generator)]
    return assemble(blocks, num_nodes, cost.dtype, sees_all).to(device)


def warm_up(search: Search, max_path_nodes: int) -> None:
    """Compile or load what ``search`` needs, on two nodes, so that a search can be timed by itself."""
    if search != "exact" or numba_fault():
        return
    pair = torch.tensor([[0, 1], [1, 0]])
    find_paths(pair, torch.ones(2), 2, max_path_nodes=max_path_nodes, path_ratio=0.0, search=search)


def _exact(
    graph: CostGraph, max_path_nodes: int, quota: Tensor | None, threads: int, stop_early: bool
) -> list[Block]:
    fault = numba_fault()
    if fault:
        logger.warning(
            "%s: the exact path search runs through SciPy, same sets but slower."
            " pip install numba brings the fast one.",
            fault,
        )
        return list(dijkstra.search(graph, max_path_nodes, quota))
    return [best_first.search(graph, max_path_nodes, quota, threads, stop_early)]


def _scipy(
    graph: CostGraph, max_path_nodes: int, quota: Tensor | None, threads: int, stop_early: bool
) -> list[Block]:
    return list(dijkstra.search(graph, max_path_nodes, quota))


def _hop_limited(
    graph: CostGraph, max_path_nodes: int, quota: Tensor | None, threads: int, stop_early: bool
) -> list[Block]:
    return list(hop_limited.search(graph, max_path_nodes, quota))


def _drawn(blocks: list[Block], quota: Tensor, generator: torch.Generator | None) -> Block:
    """One block with a random choice of the longer paths.

    The draw runs over all paths at once: drawn block by block, it would depend on the block size, which
    differs from search to search.
    """
    drawn = Block(0, blocks[-1].last, {}, {}, {})
    for c in blocks[0].nodes:
        nodes = torch.cat([block.nodes[c] for block in blocks])
        cost = torch.cat([block.cost[c] for block in blocks])
        rows = (nodes[:, 0] != nodes[:, -1]).nonzero().squeeze(1)
        if c > 2:
            rows = rows[random_choice(nodes[rows, 0].long(), quota, generator)]
        drawn.nodes[c], drawn.cost[c] = nodes[rows], cost[rows]
        drawn.found[c] = sum(block.found[c] for block in blocks)
    return add_self_paths(drawn)
