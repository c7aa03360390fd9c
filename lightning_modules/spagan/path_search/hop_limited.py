"""Hop-limited path sets in plain torch, on the CPU or a GPU."""

from collections.abc import Iterator

import torch
from torch import Tensor

from lightning_modules.spagan.path_search.graph import CostGraph
from lightning_modules.spagan.path_search.paths import Block, add_self_paths
from lightning_modules.spagan.path_search.sampling import cheapest

# Edge expansions held at once. Expanding all edges of edges at a time would take the sum of squared degrees,
# which one hub makes larger than any memory.
_EXPANSIONS = 2**22


def search(
    graph: CostGraph, max_path_nodes: int, quota: Tensor | None, expansions: int = _EXPANSIONS
) -> Iterator[Block]:
    """Cheapest path of every pair among those of at most C nodes, by repeated min-plus expansion.

    Differs from the exact sets in two ways. A pair whose cheapest path has more than C nodes is in no exact
    set, but here contributes its cheapest path of at most C nodes. And since quotas count paths, such a path
    may push an exact one out.

    Args:
        graph: the checked graph, on any device.
        max_path_nodes: most nodes C of a path.
        quota: ``[N]`` long, paths kept per node for each length from 3, or None to keep all.
        expansions: edges expanded at once, the bound on memory beside the result. One centre is never
            split over blocks, so its pairs (at most N) are held too.

    Yields:
        Blocks in the order of the centres.
    """
    degree = graph.degree
    two_hops = torch.zeros_like(degree)
    two_hops.index_add_(0, _centres(graph), degree[graph.neighbour])
    # Blocks of consecutive centres with about `expansions` two-hop walks each.
    bucket = (torch.cumsum(two_hops + degree, 0) - 1).clamp_min(0) // expansions
    ends = torch.cumsum(torch.unique_consecutive(bucket, return_counts=True)[1], 0).tolist()
    for first, last in zip([0, *ends], ends, strict=False):
        _, cost, hops, paths = _search_block(graph, first, last, max_path_nodes, expansions)
        block = Block(first, last, {}, {}, {})
        for c in range(2, max_path_nodes + 1):
            rows = (hops == c - 1).nonzero().squeeze(1)
            nodes, path_cost = paths[rows, :c], cost[rows]
            kept = cheapest(nodes[:, 0], path_cost, nodes[:, -1], quota if c > 2 else None)
            block.nodes[c] = nodes[kept].to(torch.int32)
            block.cost[c] = path_cost[kept]
            block.found[c] = len(rows)
        yield add_self_paths(block)


Labels = tuple[Tensor, Tensor, Tensor, Tensor]  # key [M], cost [M], hops [M], padded paths [M, C]


def _search_block(graph: CostGraph, first: int, last: int, max_path_nodes: int, expansions: int) -> Labels:
    """The best label of every pair (centre, end) with ``first <= centre < last``."""
    device, num_nodes = graph.offsets.device, graph.num_nodes
    centre = torch.arange(first, last, device=device)
    paths = torch.zeros(len(centre), max_path_nodes, dtype=torch.long, device=device)
    paths[:, 0] = centre
    key = (centre - first) * num_nodes + centre
    frontier: Labels = (key, torch.zeros(len(key), dtype=torch.float64, device=device), key * 0, paths)
    # The centre's own label, at cost 0 and 0 hops, is never beaten and so keeps walks from returning.
    best = frontier
    for hop in range(1, max_path_nodes):
        pieces = [best]
        for origin, edge in _expansions(graph, frontier[3][:, hop - 1], expansions):
            end = graph.neighbour[edge]
            key = (frontier[0] - frontier[3][:, hop - 1])[origin] + end
            cost = frontier[1][origin] + graph.cost[edge]
            rows = _first_and_cheapest(key, cost)
            paths = frontier[3][origin[rows]]
            paths[:, hop] = end[rows]
            pieces.append((key[rows], cost[rows], torch.full_like(rows, hop), paths))
        merged = tuple(torch.cat(parts) for parts in zip(*pieces, strict=True))
        # Earlier labels, of fewer hops, stand first and win ties; so do lexicographically smaller paths.
        rows = _first_and_cheapest(merged[0], merged[1])
        best = tuple(part[rows] for part in merged)  # type: ignore[assignment]
        improved = best[2] == hop
        frontier = tuple(part[improved] for part in best)  # type: ignore[assignment]
    return tuple(part[best[2] > 0] for part in best)  # type: ignore[return-value]


def _centres(graph: CostGraph) -> Tensor:
    """``[E]`` long, the centre of every edge."""
    return torch.repeat_interleave(
        torch.arange(graph.num_nodes, device=graph.offsets.device),
        graph.degree,
        output_size=graph.neighbour.numel(),
    )


def _expansions(graph: CostGraph, ends: Tensor, expansions: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Edges that leave ``ends``, in order, as (row of ``ends``, edge), about ``expansions`` at a time."""
    start = graph.offsets[ends]
    fan_out = graph.offsets[ends + 1] - start
    piece = (torch.cumsum(fan_out, 0) - 1).clamp_min(0) // expansions
    bounds = torch.cumsum(torch.unique_consecutive(piece, return_counts=True)[1], 0).tolist()
    for first, last in zip([0, *bounds], bounds, strict=False):
        count = fan_out[first:last]
        row = torch.repeat_interleave(torch.arange(first, last, device=ends.device), count)
        skipped = torch.cumsum(count, 0) - count
        edge = torch.arange(len(row), device=ends.device) + (start[row] - skipped[row - first])
        yield row, edge


def _first_and_cheapest(key: Tensor, cost: Tensor) -> Tensor:
    """Rows, ascending, of the cheapest entry of each key; the earliest at equal cost."""
    order = torch.sort(cost, stable=True).indices
    order = order[torch.sort(key[order], stable=True).indices]
    sorted_key = key[order]
    leads = torch.ones_like(sorted_key, dtype=torch.bool)
    leads[1:] = sorted_key[1:] != sorted_key[:-1]
    return order[leads].sort().values
