"""Exact path sets through SciPy: the reference, and the fallback where numba is missing."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from lightning_modules.spagan.path_search.graph import CostGraph
from lightning_modules.spagan.path_search.paths import Block, add_self_paths
from lightning_modules.spagan.path_search.sampling import cheapest

# Distances are dense within a block of centres: 2**20 of them are 8 MB, and stay near the cache.
_BLOCK_ENTRIES = 2**20
_MAX_CENTRES = 512


def search(graph: CostGraph, max_path_nodes: int, quota: Tensor | None) -> Iterator[Block]:
    """Distances from SciPy's Dijkstra, paths rebuilt level by level.

    No path of C nodes costs more than C - 1 times the largest cost, so Dijkstra with that limit is exact.
    SciPy's own predecessors follow no tie rule; instead each level takes the edges (u, v) that are *tight*,
    ``distance(u) + cost(u, v) == distance(v)``, to nodes without a path yet. Levels ascend in hops, and paths
    within a level stand in lexicographic order, so the first tight edge into a node is the one wanted.

    One row of N distances per centre: for graphs of up to some 100,000 nodes.

    Args:
        graph: the checked graph, on the CPU.
        max_path_nodes: most nodes C of a path.
        quota: ``[N]`` long, paths kept per node for each length from 3, or None to keep all.

    Yields:
        Blocks in the order of the centres.
    """
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import dijkstra

    num_nodes = graph.num_nodes
    offsets, neighbour, cost = graph.offsets.numpy(), graph.neighbour.numpy(), graph.cost.double().numpy()
    # Built from its three arrays, the matrix keeps explicit zeros: edges of cost 0, not missing ones.
    matrix = csr_array((cost, neighbour.astype(np.int32), offsets.astype(np.int32)), (num_nodes, num_nodes))
    centres = max(1, min(_MAX_CENTRES, _BLOCK_ENTRIES // num_nodes))
    for first in range(0, num_nodes, centres):
        last = min(first + centres, num_nodes)
        indices = np.arange(first, last)
        distance = dijkstra(matrix, directed=True, indices=indices, limit=graph.limit).ravel()
        block = Block(first, last, {}, {}, {})
        paths = indices[:, None]  # [M, number of nodes so far]
        key = np.arange(last - first) * num_nodes + indices  # place of (centre, end) in `distance`
        reached = np.zeros(distance.size, dtype=bool)
        reached[key] = True
        for c in range(2, max_path_nodes + 1):
            # One candidate per edge that leaves the end of a path.
            start = offsets[paths[:, -1]]
            fan_out = offsets[paths[:, -1] + 1] - start
            origin = np.repeat(np.arange(len(paths)), fan_out)
            edge = np.arange(len(origin)) + np.repeat(start - (np.cumsum(fan_out) - fan_out), fan_out)
            next_key = (key - paths[:, -1])[origin] + neighbour[edge]
            tight = distance[key][origin] + cost[edge] == distance[next_key]
            candidate = np.flatnonzero(tight & ~reached[next_key])
            candidate = candidate[np.sort(np.unique(next_key[candidate], return_index=True)[1])]
            paths = np.column_stack([paths[origin[candidate]], neighbour[edge[candidate]]])
            key = next_key[candidate]
            reached[key] = True

            nodes, path_cost = torch.from_numpy(paths), torch.from_numpy(distance[key])
            rows = cheapest(nodes[:, 0], path_cost, nodes[:, -1], quota if c > 2 else None)
            block.nodes[c], block.cost[c] = nodes[rows].to(torch.int32), path_cost[rows]
            block.found[c] = len(paths)
        yield add_self_paths(block)
