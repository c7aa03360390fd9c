"""Compiled kernels of the best-first search; importing this module imports numba.

Edges of a row are sorted by cost, so a settled node needs only *one* entry in the frontier: its cheapest
edge not yet tried. Popping that entry replaces it by the next edge. A hub thus costs what is taken from it,
not its degree, and the frontier never holds more entries than there are settled nodes.
"""

# mypy: disable-error-code="no-untyped-def"
# Types are numba's to infer; `best_first.search` is the typed door.

import numpy as np

from lightning_modules.compiled import compiled

_INSERTION_SORT_MAX = 32
_NODE_BITS = 32
_NODE_MASK = (1 << _NODE_BITS) - 1


@compiled
def _less(cost_a, node_a, cost_b, node_b):
    return cost_a < cost_b or (cost_a == cost_b and node_a < node_b)


@compiled
def sort_rows_by_cost(offsets, neighbour, cost):
    """Sort the edges of every row by (cost, neighbour), in place and without scratch memory.

    Insertion sort for short rows, heap sort for hubs.
    """
    for i in range(offsets.size - 1):
        start, size = offsets[i], offsets[i + 1] - offsets[i]
        if size <= _INSERTION_SORT_MAX:
            for a in range(start + 1, start + size):
                w, v, b = cost[a], neighbour[a], a
                while b > start and _less(w, v, cost[b - 1], neighbour[b - 1]):
                    cost[b], neighbour[b] = cost[b - 1], neighbour[b - 1]
                    b -= 1
                cost[b], neighbour[b] = w, v
            continue
        build = size // 2
        end = size
        while end > 1:
            if build > 0:
                build -= 1
                hole = build
                w, v = cost[start + hole], neighbour[start + hole]
            else:
                end -= 1
                hole = 0
                w, v = cost[start + end], neighbour[start + end]
                cost[start + end], neighbour[start + end] = cost[start], neighbour[start]
            while True:
                child = 2 * hole + 1
                if child >= end:
                    break
                a = start + child
                if child + 1 < end and _less(cost[a], neighbour[a], cost[a + 1], neighbour[a + 1]):
                    child += 1
                    a += 1
                if not _less(w, v, cost[a], neighbour[a]):
                    break
                cost[start + hole], neighbour[start + hole] = cost[a], neighbour[a]
                hole = child
            cost[start + hole], neighbour[start + hole] = w, v


@compiled
def _push(heap_cost, heap_rank, heap_owner, size, w, rank, owner):
    hole = size
    while hole > 0:
        parent = (hole - 1) >> 1
        if not _less(w, rank, heap_cost[parent], heap_rank[parent]):
            break
        heap_cost[hole], heap_rank[hole] = heap_cost[parent], heap_rank[parent]
        heap_owner[hole] = heap_owner[parent]
        hole = parent
    heap_cost[hole], heap_rank[hole], heap_owner[hole] = w, rank, owner


@compiled
def _replace_top(heap_cost, heap_rank, heap_owner, size, w, rank, owner):
    hole = 0
    while True:
        child = 2 * hole + 1
        if child >= size:
            break
        if child + 1 < size and _less(
            heap_cost[child + 1], heap_rank[child + 1], heap_cost[child], heap_rank[child]
        ):
            child += 1
        if not _less(heap_cost[child], heap_rank[child], w, rank):
            break
        heap_cost[hole], heap_rank[hole] = heap_cost[child], heap_rank[child]
        heap_owner[hole] = heap_owner[child]
        hole = child
    heap_cost[hole], heap_rank[hole], heap_owner[hole] = w, rank, owner


@compiled
def _next_edge(edge, end, neighbour, cost, base, limit, seen_by, centre):
    """First edge from ``edge`` on that leads to an unsettled node within ``limit``, or -1."""
    while edge < end and seen_by[neighbour[edge]] == centre:
        edge += 1
    if edge < end and base + cost[edge] <= limit:
        return edge
    return -1


@compiled
def _comes_first(a, b, node, parent):
    """Whether the path to settled entry ``a`` is lexicographically before that to ``b``, equally long."""
    first = False
    while a != b:
        # Walking towards the centre, the last difference met is the first of the sequence.
        first = node[a] < node[b]
        a, b = parent[a], parent[b]
    return first


@compiled
def _complete(waiting, found, keep, max_nodes):
    """Whether no further path of any length is wanted or possible.

    ``waiting[h]`` counts settled nodes h hops away with edges left to try. A path of c nodes can only come
    from one at most c - 2 hops away.
    """
    sources = 0
    for c in range(2, max_nodes + 1):
        sources += waiting[c - 2]
        if sources > 0 and (c == 2 or found[c] < keep):
            return False
    return True


@compiled
def _enlarged(rows, length, path_cost):
    size = length.size
    more_rows = np.empty((2 * size, rows.shape[1]), np.int32)
    more_length = np.empty(2 * size, np.int32)
    more_cost = np.empty(2 * size, np.float64)
    more_rows[:size], more_length[:size], more_cost[:size] = rows, length, path_cost
    return more_rows, more_length, more_cost


@compiled
def search_centres(first, last, offsets, neighbour, cost, keep, max_nodes, limit, stop_early):
    """Paths of the centres ``first`` to ``last - 1``.

    Nodes settle in the order (cost, hops, id). Every edge raises (cost, hops), even one of cost 0, so when an
    entry is popped, all entries equal to it are in the frontier: the order of settling *is* the tie rule, and
    stopping right after the last wanted path is exact.

    Args:
        first: first centre.
        last: one past the last centre.
        offsets: ``[N + 1]``, edges of each row.
        neighbour: ``[E]``, rows sorted by (cost, neighbour).
        cost: ``[E]``, likewise.
        keep: ``[N]``, paths kept per node for each length from 3.
        max_nodes: most nodes C of a path.
        limit: no path of C nodes costs more.
        stop_early: stop at a centre once its paths are complete.

    Returns:
        ``(rows [M, C] int32, padded; length [M]; cost [M]; found [C + 1]; kept [C + 1])``. Rows are sorted by
        centre, then cost, then number of nodes, then end node; the self paths of a centre last. By length,
        ``found`` counts the paths met, ``kept`` the rows.
    """
    num_nodes = offsets.size - 1
    # Only the part of these arrays that a search touches is ever backed by memory; `seen_by` alone is read
    # at random and holds the last centre that settled the node, so it is never cleared.
    seen_by = np.full(num_nodes, -1, np.int32)
    node = np.empty(num_nodes, np.int32)
    parent = np.empty(num_nodes, np.int32)
    hops = np.empty(num_nodes, np.int32)
    distance = np.empty(num_nodes, np.float64)
    edge_of = np.empty(num_nodes, np.int64)
    heap_cost = np.empty(num_nodes, np.float64)
    heap_rank = np.empty(num_nodes, np.int64)  # hops and node in one number, compared at equal cost
    heap_owner = np.empty(num_nodes, np.int32)
    waiting = np.zeros(max_nodes, np.int64)
    found_here = np.zeros(max_nodes + 1, np.int64)
    found = np.zeros(max_nodes + 1, np.int64)
    kept = np.full(max_nodes + 1, last - first)  # the self paths
    capacity = 2 * (offsets[last] - offsets[first]) + max_nodes * (last - first)
    rows = np.empty((capacity, max_nodes), np.int32)
    length = np.empty(capacity, np.int32)
    path_cost = np.empty(capacity, np.float64)
    written = 0

    for centre in range(first, last):
        quota = keep[centre]
        wanted = quota if stop_early else num_nodes
        waiting[:] = 0
        found_here[:] = 0
        size = 0
        settled = 0
        v, d, h, origin = centre, 0.0, 0, 0
        while True:
            # Settle v.
            seen_by[v] = centre
            node[settled], parent[settled], hops[settled], distance[settled] = v, origin, h, d
            if 0 < h < max_nodes:
                c = h + 1
                found_here[c] += 1
                if c == 2 or found_here[c] <= quota:
                    if written == length.size:
                        rows, length, path_cost = _enlarged(rows, length, path_cost)
                    length[written], path_cost[written] = c, d
                    step = settled
                    for column in range(h, -1, -1):
                        rows[written, column] = node[step]
                        step = parent[step]
                    kept[c] += 1
                    written += 1
            edge = _next_edge(offsets[v], offsets[v + 1], neighbour, cost, d, limit, seen_by, centre)
            if edge >= 0:
                edge_of[settled] = edge
                rank = ((h + 1) << _NODE_BITS) | neighbour[edge]
                _push(heap_cost, heap_rank, heap_owner, size, d + cost[edge], rank, settled)
                size += 1
                if h < max_nodes - 1:
                    waiting[h] += 1
            settled += 1

            # Find the next node to settle; several parents may offer it at the same cost and hops.
            v = -1
            while size > 0:
                if v < 0:
                    if _complete(waiting, found_here, wanted, max_nodes):
                        break
                    if seen_by[heap_rank[0] & _NODE_MASK] != centre:
                        d, rank, origin = heap_cost[0], heap_rank[0], heap_owner[0]
                        v, h = rank & _NODE_MASK, rank >> _NODE_BITS
                        seen_by[v] = centre
                elif heap_cost[0] == d and heap_rank[0] == rank:
                    if h < max_nodes and _comes_first(heap_owner[0], origin, node, parent):
                        origin = heap_owner[0]
                else:
                    break
                # The owner of the top entry moves on to its next edge.
                owner = heap_owner[0]
                u, base = node[owner], distance[owner]
                edge = _next_edge(
                    edge_of[owner] + 1, offsets[u + 1], neighbour, cost, base, limit, seen_by, centre
                )
                if edge >= 0:
                    edge_of[owner] = edge
                    next_rank = ((hops[owner] + 1) << _NODE_BITS) | neighbour[edge]
                    _replace_top(heap_cost, heap_rank, heap_owner, size, base + cost[edge], next_rank, owner)
                else:
                    size -= 1
                    _replace_top(
                        heap_cost, heap_rank, heap_owner, size,
                        heap_cost[size], heap_rank[size], heap_owner[size],
                    )  # fmt: skip
                    if hops[owner] < max_nodes - 1:
                        waiting[hops[owner]] -= 1
            if v < 0:
                break
        for c in range(2, max_nodes + 1):
            found[c] += found_here[c]
            if written == length.size:
                rows, length, path_cost = _enlarged(rows, length, path_cost)
            length[written], path_cost[written] = c, 0.0
            rows[written, :c] = centre
            written += 1
    return rows[:written], length[:written], path_cost[:written], found, kept


@compiled
def copy_length(rows, length, path_cost, wanted, nodes, cost):
    """Copy the paths of ``wanted`` nodes, in order, to ``nodes [M, wanted]`` and ``cost [M]``."""
    end = 0
    for row in range(length.size):
        if length[row] == wanted:
            for column in range(wanted):
                nodes[end, column] = rows[row, column]
            cost[end] = path_cost[row]
            end += 1
