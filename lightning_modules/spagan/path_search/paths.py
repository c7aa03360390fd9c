"""Path sets: what a path search finds and path attention reads."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class PathSets:
    """The paths of every node by number of nodes, each length packed in one array.

    Rows of ``nodes[c]`` are sorted by centre; the paths of one centre by cost, then by end node; the
    centre's self path ``(i, ..., i)`` comes last. Every node has exactly one self path per length, so that
    no softmax over its paths is empty.

    Attributes:
        num_nodes: number of nodes N.
        nodes: ``{c: [P_c, c] long}`` for c = 2..C, column 0 the centre, the last column the end node.
        cost: ``{c: [P_c]}``, sum of edge costs along the path, 0 for self paths.
        found: ``{c: number of paths met}`` before sampling, without self paths. The total over all nodes
            where ``found_is_total``, else what an early stop had seen (for c = 2 always the total).
        found_is_total: whether ``found`` counts the whole sets.
    """

    num_nodes: int
    nodes: dict[int, Tensor]
    cost: dict[int, Tensor]
    found: dict[int, int]
    found_is_total: bool

    @property
    def lengths(self) -> tuple[int, ...]:
        """The numbers of nodes c = 2..C, ascending."""
        return tuple(sorted(self.nodes))

    @property
    def kept(self) -> dict[int, int]:
        """``{c: number of paths}`` after sampling, without self paths."""
        return {c: nodes.size(0) - self.num_nodes for c, nodes in self.nodes.items()}

    def ptr(self, length: int) -> Tensor:
        """``[N + 1]`` long: the paths of centre i are rows ``ptr[i]`` to ``ptr[i + 1]``; computed anew."""
        ptr = torch.zeros(self.num_nodes + 1, dtype=torch.long, device=self.nodes[length].device)
        count = torch.bincount(self.nodes[length][:, 0], minlength=self.num_nodes)
        torch.cumsum(count, 0, out=ptr[1:])
        return ptr

    def is_self_path(self, length: int) -> Tensor:
        """``[P_c]`` bool: the rows that repeat their centre."""
        return self.nodes[length][:, 0] == self.nodes[length][:, -1]

    def to(self, device: torch.device | str) -> "PathSets":
        """The same sets with their tensors on ``device``."""
        return PathSets(
            self.num_nodes,
            {c: nodes.to(device) for c, nodes in self.nodes.items()},
            {c: cost.to(device) for c, cost in self.cost.items()},
            dict(self.found),
            self.found_is_total,
        )

    def state(self) -> dict[str, Any]:
        """Plain dicts of tensors and numbers, for a checkpoint that loads with ``weights_only=True``."""
        return {
            "num_nodes": self.num_nodes,
            "nodes": dict(self.nodes),
            "cost": dict(self.cost),
            "found": dict(self.found),
            "found_is_total": self.found_is_total,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "PathSets":
        """The sets that `state` described.

        Raises:
            ValueError: if it describes no path sets: wrong keys, types, shapes, node ids or order.
        """
        sets = cls(**state)
        count = sets.num_nodes
        for c, nodes in sets.nodes.items():
            cost = sets.cost[c]
            good = (
                nodes.dtype == torch.long
                and nodes.dim() == 2
                and nodes.size(1) == c
                and cost.shape == nodes.shape[:1]
                and bool(((nodes >= 0) & (nodes < count)).all())
                and bool((nodes[1:, 0] >= nodes[:-1, 0]).all())
                and int(sets.is_self_path(c).sum()) == count
            )
            if not good:
                raise ValueError(f"its paths of {c} nodes are damaged")
        return sets

    def lie_in(self, edge_index: Tensor, num_nodes: int) -> bool:
        """Whether the paths of two nodes are, self paths apart, edges of this graph.

        Args:
            edge_index: ``[2, E]`` long, row 0 the centres.
            num_nodes: number of nodes N of the graph.
        """
        edges = self.nodes[2][~self.is_self_path(2)].to(edge_index.device)
        mine, theirs = edges[:, 0] * num_nodes + edges[:, 1], edge_index[0] * num_nodes + edge_index[1]
        return self.num_nodes == num_nodes and bool(torch.isin(mine, theirs).all())

    def equal(self, other: "PathSets") -> bool:
        """Whether both hold the same paths at the same costs, bit for bit."""
        return (
            self.num_nodes == other.num_nodes
            and self.lengths == other.lengths
            and all(
                torch.equal(self.nodes[c], other.nodes[c]) and torch.equal(self.cost[c], other.cost[c])
                for c in self.lengths
            )
        )

    def unchanged_fraction(self, other: "PathSets") -> dict[int, float]:
        """Share of these paths, self paths apart, that ``other`` holds too, whatever their cost.

        Args:
            other: sets over the same nodes, from another iteration.

        Returns:
            ``{c: share}`` over the lengths of both; 1.0 for a length without paths.
        """
        shares = {}
        for c in sorted(self.nodes.keys() & other.nodes.keys()):
            mine, theirs = self.nodes[c][~self.is_self_path(c)], other.nodes[c][~other.is_self_path(c)]
            rows = torch.cat([mine, theirs.to(mine.device)])
            # A row becomes one number column by column: all columns at once would overflow at N**c.
            number = rows[:, 0]
            for column in range(1, c):
                number = torch.unique(number * self.num_nodes + rows[:, column], return_inverse=True)[1]
            held = torch.isin(number[: len(mine)], number[len(mine) :])
            shares[c] = float(held.float().mean()) if len(mine) else 1.0
        return shares


@dataclass
class Block:
    """What a search found for the centres ``first`` to ``last - 1``.

    Attributes:
        nodes: ``{c: [M_c, c] int}``, in the order of `PathSets`, with or without self paths.
        cost: ``{c: [M_c]}``.
        found: ``{c: number of paths met}`` before sampling, without self paths.
    """

    first: int
    last: int
    nodes: dict[int, Tensor]
    cost: dict[int, Tensor]
    found: dict[int, int]


def add_self_paths(block: Block) -> Block:
    """The block with one self path ``(i, ..., i)`` of cost 0 behind the paths of each centre, per length."""
    nodes, cost = {}, {}
    for c, paths in block.nodes.items():
        own = torch.arange(block.last - block.first, device=paths.device)
        centre = paths[:, 0].long() - block.first
        # One self path stands behind each earlier centre.
        row = torch.arange(len(centre), device=paths.device) + centre
        self_row = torch.bincount(centre, minlength=len(own)).cumsum(0) + own
        nodes[c] = paths.new_empty(len(centre) + len(own), c)
        nodes[c][row] = paths
        nodes[c][self_row] = (own + block.first).to(paths.dtype).unsqueeze(1).expand(-1, c)
        cost[c] = block.cost[c].new_zeros(len(nodes[c]))
        cost[c][row] = block.cost[c]
    return Block(block.first, block.last, nodes, cost, block.found)


def assemble(blocks: list[Block], num_nodes: int, dtype: torch.dtype, found_is_total: bool) -> PathSets:
    """Join blocks, self paths included, to `PathSets`.

    Args:
        blocks: consecutive, together all ``num_nodes`` centres; at least one.
        num_nodes: number of nodes N.
        dtype: of the costs returned.
        found_is_total: what the sets say of their counts.
    """
    nodes, cost, found = {}, {}, {}
    for c in sorted(blocks[0].nodes):
        parts = [block.nodes[c].long() for block in blocks]
        costs = [block.cost[c].to(dtype) for block in blocks]
        # A single block is passed on as it is: the compiled search has packed it within its memory bound.
        nodes[c] = torch.cat(parts) if len(parts) > 1 else parts[0]
        cost[c] = torch.cat(costs) if len(costs) > 1 else costs[0]
        found[c] = sum(block.found[c] for block in blocks)
    return PathSets(num_nodes, nodes, cost, found, found_is_total)
