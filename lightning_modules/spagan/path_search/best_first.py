"""Exact path sets by compiled best-first search, one short search per centre."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_modules.spagan.path_search.graph import CostGraph
from lightning_modules.spagan.path_search.paths import Block

# Large enough that the calls cost nothing, small enough that the rows of one call stay about a MB.
_MAX_CENTRES = 4_096
_MIN_CENTRES = 256


def search(
    graph: CostGraph, max_path_nodes: int, quota: Tensor | None, threads: int, stop_early: bool
) -> Block:
    """Search from every centre.

    Threads run the compiled search without the interpreter's lock; each call owns its scratch arrays. This
    needs no numba thread pool, which would not survive a fork (sweeps fork their jobs).

    Args:
        graph: the checked graph, on the CPU.
        max_path_nodes: most nodes C of a path.
        quota: ``[N]`` long, paths kept per node for each length from 3, or None to keep all.
        threads: number of threads.
        stop_early: stop at a centre once its paths are complete; ``found`` is then no total.

    Returns:
        One block of all centres, with self paths.
    """
    # numba is slow to import, so only a search pays for it.
    from lightning_modules.spagan.path_search import best_first_kernels as kernels

    num_nodes, num_edges = graph.num_nodes, graph.neighbour.numel()
    offsets = graph.offsets.numpy()
    neighbour = graph.neighbour.to(torch.int32).numpy()
    cost = graph.cost.clone().numpy()
    kernels.sort_rows_by_cost(offsets, neighbour, cost)
    keep = np.full(num_nodes, num_nodes) if quota is None else quota.numpy()
    # Several blocks per thread even the load out: hubs are not spread evenly over the ids.
    blocks = 1 if threads == 1 else 4 * threads
    centres = max(_MIN_CENTRES, min(_MAX_CENTRES, -(-num_nodes // blocks)))

    def run(first: int) -> tuple[NDArray, ...]:
        last = min(first + centres, num_nodes)
        result: tuple[NDArray, ...] = kernels.search_centres(
            first, last, offsets, neighbour, cost, keep, max_path_nodes, graph.limit, stop_early
        )
        return result

    most = num_edges if quota is None else min(int(quota.sum()), 2 * num_edges)
    packed = {
        c: _Packed(c, (num_edges if c == 2 else most) + num_nodes, cost.dtype)
        for c in range(2, max_path_nodes + 1)
    }
    with ThreadPoolExecutor(threads) as pool:
        starts = range(0, num_nodes, centres)
        results = map(run, starts) if threads == 1 else pool.map(run, starts)
        for rows, length, path_cost, found, kept in results:
            for c, sets in packed.items():
                sets.found += int(found[c])
                kernels.copy_length(rows, length, path_cost, c, *sets.extended(int(kept[c])))
    block = Block(0, num_nodes, {}, {}, {})
    for c, sets in packed.items():
        block.nodes[c], block.cost[c] = sets.tensors()
        block.found[c] = sets.found
    return block


@dataclass
class _Packed:
    """The paths of one length, written once into arrays that are cut to size at the end.

    Collecting blocks and joining them would hold everything twice. Memory beyond what is written is never
    touched, hence never taken, and cutting it off moves nothing.
    """

    length: int
    capacity: int
    cost_dtype: np.dtype
    size: int = 0
    found: int = 0
    nodes: NDArray[np.int64] = field(init=False)
    cost: NDArray[np.floating] = field(init=False)

    def __post_init__(self) -> None:
        self.nodes = np.empty((self.capacity, self.length), np.int64)
        self.cost = np.empty(self.capacity, self.cost_dtype)

    def extended(self, count: int) -> tuple[NDArray[np.int64], NDArray[np.floating]]:
        """Room for ``count`` more paths behind those written."""
        start, self.size = self.size, self.size + count
        if self.size > len(self.cost):
            self._resize(max(self.size, 3 * len(self.cost) // 2))
        return self.nodes[start : self.size], self.cost[start : self.size]

    def tensors(self) -> tuple[Tensor, Tensor]:
        """The paths and their costs."""
        self._resize(self.size)
        return torch.from_numpy(self.nodes), torch.from_numpy(self.cost)

    def _resize(self, size: int) -> None:
        # Views handed out by `extended` are gone once they are filled, so numpy need not look for references.
        self.nodes.resize((size, self.length), refcheck=False)
        self.cost.resize(size, refcheck=False)
