"""Slow, plain references and generated graphs for the tests of the path search."""

from collections.abc import Iterator

import torch
from torch import Tensor

Rows = dict[int, list[tuple[int, ...]]]


def brute_force(edge_index: Tensor, cost: Tensor, num_nodes: int, max_path_nodes: int) -> Rows:
    """P_i^c of every node by walking all simple paths, in the canonical order, without self paths."""
    weight = {(i, j): w for (i, j), w in zip(edge_index.t().tolist(), cost.tolist(), strict=True)}
    rows: Rows = {c: [] for c in range(2, max_path_nodes + 1)}
    for centre in range(num_nodes):
        best: dict[int, tuple[float, int, tuple[int, ...]]] = {}
        for total, path in _simple_paths(weight, (centre,), 0.0):
            label = (total, len(path), path)
            best[path[-1]] = min(best.get(path[-1], label), label)
        for total, nodes, path in sorted(best.values(), key=lambda b: (b[0], b[1], b[2][-1])):
            del total
            if 2 <= nodes <= max_path_nodes:
                rows[nodes].append(path)
    return rows


def sampled(rows: Rows, degree: Tensor, path_ratio: float | None) -> Rows:
    """The first floor(r * degree) rows of each centre for c >= 3."""
    if path_ratio is None:
        return rows
    kept: Rows = {2: rows[2]}
    for c in rows.keys() - {2}:
        kept[c] = []
        for centre, d in enumerate(degree.tolist()):
            own = [path for path in rows[c] if path[0] == centre]
            kept[c] += own[: int(path_ratio * d + 1e-9)]
    return kept


def without_self_paths(nodes: Tensor) -> list[tuple[int, ...]]:
    """The rows of one length that are no self path, as tuples."""
    return [tuple(row) for row in nodes.tolist() if row[0] != row[-1]]


def random_graph(
    num_nodes: int, edges: int, kind: str, seed: int, symmetric: bool = True
) -> tuple[Tensor, Tensor]:
    """A sorted random graph with costs of a ``kind``: real, coarse (many ties, zeros), zero or unit."""
    generator = torch.Generator().manual_seed(seed)
    pairs = torch.randint(num_nodes, (2, edges), generator=generator)
    if symmetric:
        pairs = torch.cat([pairs, pairs.flip(0)], dim=1)
    pairs = pairs[:, pairs[0] != pairs[1]]
    key = torch.unique(pairs[0] * num_nodes + pairs[1])
    edge_index = torch.stack([key // num_nodes, key % num_nodes])
    shape = (len(key),)
    cost = {
        "real": torch.rand(shape, generator=generator),
        "coarse": torch.randint(0, 4, shape, generator=generator) / 4,
        "zero": torch.zeros(shape),
        "unit": torch.ones(shape),
    }[kind]
    return edge_index, cost


def _simple_paths(
    weight: dict[tuple[int, int], float], path: tuple[int, ...], total: float
) -> Iterator[tuple[float, tuple[int, ...]]]:
    for (i, j), w in weight.items():
        if i == path[-1] and j not in path:
            yield total + w, (*path, j)
            yield from _simple_paths(weight, (*path, j), total + w)
