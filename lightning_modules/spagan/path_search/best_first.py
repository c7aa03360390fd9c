"""Exact path sets by compiled best-first search, one short search per centre."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from lightning_modules.spagan.path_search.graph import CostGraph
from lightning_modules.spagan.path_search.paths import Block

# Large enough that the calls cost nothing, small enough that the padded rows of one call stay a few MB.
_MAX_CENTRES = 16_384
_MIN_CENTRES = 256


def search(
    graph: CostGraph, max_path_nodes: int, quota: Tensor | None, threads: int, stop_early: bool
) -> Iterator[Block]:
    """Search from every centre, block by block.

    Threads run the compiled search without the interpreter's lock; each call owns its scratch arrays. This
    needs no numba thread pool, which would not survive a fork (sweeps fork their jobs).

    Args:
        graph: the checked graph, on the CPU.
        max_path_nodes: most nodes C of a path.
        quota: ``[N]`` long, paths kept per node for each length from 3, or None to keep all.
        threads: number of threads.
        stop_early: stop at a centre once its paths are complete; ``found`` is then no total.

    Yields:
        Blocks in the order of the centres.
    """
    # numba takes most of a second to import, so only a search pays for it.
    from lightning_modules.spagan.path_search import best_first_kernels as kernels

    num_nodes = graph.num_nodes
    offsets = graph.offsets.numpy()
    neighbour = graph.neighbour.to(torch.int32).numpy()
    cost = graph.cost.clone().numpy()
    kernels.sort_rows_by_cost(offsets, neighbour, cost)
    keep = np.full(num_nodes, num_nodes) if quota is None else quota.numpy()

    # Several blocks per thread even the load out: hubs are not spread evenly over the ids.
    blocks = 1 if threads == 1 else 4 * threads
    centres = max(_MIN_CENTRES, min(_MAX_CENTRES, -(-num_nodes // blocks)))

    def run(first: int) -> Block:
        last = min(first + centres, num_nodes)
        rows, length, path_cost, found = kernels.search_centres(
            first, last, offsets, neighbour, cost, keep, max_path_nodes, graph.limit, stop_early
        )
        block = Block(first, last, {}, {}, {})
        for c in range(2, max_path_nodes + 1):
            chosen = np.flatnonzero(length == c)
            block.nodes[c] = torch.from_numpy(rows[chosen, :c])
            block.cost[c] = torch.from_numpy(path_cost[chosen])
            block.found[c] = int(found[c])
        return block

    if threads == 1:
        yield from map(run, range(0, num_nodes, centres))
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(run, range(0, num_nodes, centres))
