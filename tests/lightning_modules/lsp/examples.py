"""The worked example of the LSP specification, and L_LSP written as slowly and plainly as it can be."""

import torch
from torch import Tensor

from lightning_modules.lsp.structure import EdgeNeighbours, Kernel
from lightning_modules.segments import SegmentIndex

TEACHER = torch.tensor([[0, 0], [1, 0], [0, 2], [1, 1], [3, 1]], dtype=torch.float64)
STUDENT = torch.tensor([[0], [1], [-1], [2], [0.5]], dtype=torch.float64)
UNDIRECTED = ((0, 1), (0, 2), (1, 3), (2, 3), (3, 4))


def both_ways(
    undirected: tuple[tuple[int, int], ...], num_nodes: int, *, self_loops: bool
) -> set[tuple[int, int]]:
    """Directed edges (source, target)."""
    edges = {(a, b) for a, b in undirected} | {(b, a) for a, b in undirected}
    return edges | ({(i, i) for i in range(num_nodes)} if self_loops else set())


def indexed(edges: set[tuple[int, int]], num_nodes: int) -> SegmentIndex:
    """Directed edges, both ways, as the networks index them."""
    ordered = sorted(edges, key=lambda edge: (edge[1], edge[0]))
    place = {edge: number for number, edge in enumerate(ordered)}
    source, target = torch.tensor(ordered, dtype=torch.long).reshape(-1, 2).unbind(1)
    reverse = torch.tensor([place[b, a] for a, b in ordered], dtype=torch.long)
    ptr = torch.zeros(num_nodes + 1, dtype=torch.long)
    ptr[1:] = torch.bincount(target, minlength=num_nodes).cumsum(0)
    return SegmentIndex.of_symmetric(target, source, ptr, reverse)


def neighbours_of(
    undirected: tuple[tuple[int, int], ...], num_nodes: int, *, self_loops: bool = False
) -> EdgeNeighbours:
    return EdgeNeighbours(indexed(both_ways(undirected, num_nodes, self_loops=self_loops), num_nodes))


def slow_similarity(kernel: Kernel, a: Tensor, b: Tensor) -> Tensor:
    """SIM of two embeddings ``[D]``."""
    if kernel.name == "linear":
        return a @ b
    if kernel.name == "poly":
        return (a @ b + kernel.offset) ** kernel.degree
    if kernel.name == "l1exp":
        return torch.exp(-(a - b).abs().sum() / kernel.sigma)
    squared = ((a - b) ** 2).sum()
    if kernel.name == "rbf":
        return torch.exp(-squared / (2 * kernel.sigma))
    return squared if kernel.name == "l2" else -squared


def slow_structures(z: Tensor, lists: list[list[int]], kernel: Kernel) -> list[Tensor]:
    """Each node's LS over its list of neighbours."""
    return [
        torch.stack([slow_similarity(kernel, z[i], z[j]) for j in own]).softmax(0) if own else z.new_zeros(0)
        for i, own in enumerate(lists)
    ]


def slow_loss(
    student: Tensor,
    teacher: Tensor,
    lists: list[list[int]],
    kernel: Kernel,
    *,
    reverse: bool = False,
) -> Tensor:
    """L_LSP by loops over nodes and neighbours."""
    pairs = zip(slow_structures(student, lists, kernel), slow_structures(teacher, lists, kernel), strict=True)
    divergences = [(s * (s / t).log()).sum() if reverse else (t * (t / s).log()).sum() for s, t in pairs]
    return torch.stack(divergences).mean()


def lists_of(edges: set[tuple[int, int]], num_nodes: int) -> list[list[int]]:
    """Sources of the edges into each node, ascending."""
    return [sorted(source for source, target in edges if target == i) for i in range(num_nodes)]
