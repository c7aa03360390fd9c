"""A disjoint union of graphs as the networks see it: index structures made once a batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from lightning_modules.segments import SegmentIndex


@dataclass(frozen=True, eq=False)
class Graphs:
    """B graphs of together n nodes and m edges.

    Attributes:
        x: ``[n, F]`` features or ``[n]`` types.
        edges: m rows, one an edge j -> i in the order of the batch; centres are targets, items sources.
        nodes: n rows, one a node; centres are graphs.
        in_degree: ``[n]``, edges into each node, self-loops counted, at least 1.
    """

    x: Tensor
    edges: SegmentIndex
    nodes: SegmentIndex
    in_degree: Tensor

    @classmethod
    def of(cls, batch: Mapping[str, Tensor], dtype: torch.dtype | None = None) -> "Graphs":
        """From the tensors of a batch of ``datamodules/graph_sets.py``.

        Args:
            batch: with ``x``, ``edge_index``, ``edge_ptr``, ``reverse``, ``batch`` and ``ptr``.
            dtype: of features, and of degrees in at least float32; None for float32.
        """
        x, (source, target) = batch["x"], batch["edge_index"]
        kind = dtype or torch.float32
        at_least_single = torch.promote_types(kind, torch.float32)
        edges = SegmentIndex.of_symmetric(target, source, batch["edge_ptr"], batch["reverse"])
        degrees = batch["edge_ptr"].diff().clamp(min=1).to(at_least_single)
        return cls(
            x=x.to(kind) if x.is_floating_point() else x,
            edges=edges,
            nodes=SegmentIndex.of_rows(batch["batch"], batch["ptr"]),
            in_degree=degrees,
        )

    @property
    def num_graphs(self) -> int:
        """Number of graphs B."""
        return self.nodes.num_groups

    @cached_property
    def sizes(self) -> Tensor:
        """Nodes of each graph, ``[B]``, in the type of the degrees."""
        return self.nodes.ptr.diff().to(self.in_degree.dtype)

    @cached_property
    def source_norm(self) -> Tensor:
        """``d_j^-1/2`` of each edge j -> i, ``[m]``, d being in-degrees."""
        return self.edges.items(self.in_degree.rsqrt())

    @cached_property
    def symmetric_norm(self) -> Tensor:
        """``(d_i d_j)^-1/2`` of each edge j -> i, ``[m]``."""
        return self.source_norm * self.edges.centres(self.in_degree.rsqrt())

    @cached_property
    def self_loops(self) -> Tensor:
        """Edges of each node to itself, ``[n]``, 0 or 1, in the type of the degrees."""
        assert self.edges.col is not None
        own = torch.eq(self.edges.col, self.edges.row)
        return self.edges.sum(own.unsqueeze(1).to(self.in_degree.dtype)).squeeze(1)

    def pooled_sum(self, x: Tensor) -> Tensor:
        """Sum over the nodes of each graph, ``[n, F] -> [B, F]``; differentiable."""
        return self.nodes.differentiable_sum(x).to(x.dtype)

    def pooled_mean(self, x: Tensor) -> Tensor:
        """Mean over the nodes of each graph, ``[n, F] -> [B, F]``; differentiable."""
        total = self.nodes.differentiable_sum(x)  # rounded after the division, not before
        return (total / self.sizes.to(total.dtype).unsqueeze(1)).to(x.dtype)


def edge_places(batch: Mapping[str, Tensor], first_edge: Tensor) -> Tensor:
    """Row of each edge in a table of all edges of a data set, graph after graph; ``[m]`` long.

    What a frozen network says of an edge is the same in each epoch, so it can be computed once and looked up.
    No value is read back to the CPU.

    Args:
        batch: with ``edge_index``, ``edge_ptr``, ``batch``, ``ptr`` and ``index``.
        first_edge: ``[G]`` long, by ``index``, the row of each graph's first edge in the table.
    """
    target, starts = batch["edge_index"][1], batch["edge_ptr"][batch["ptr"][:-1]]
    shift = first_edge[batch["index"]] - starts  # [B]; edges are sorted by target, so by graph
    return torch.arange(len(target), device=target.device) + shift[batch["batch"][target]]


def node_places(batch: Mapping[str, Tensor], first_node: Tensor) -> Tensor:
    """Row of each node in a table of all nodes of a data set, graph after graph; ``[n]`` long.

    As :func:`edge_places`, with ``first_node`` ``[G]`` the row of each graph's first node.
    """
    shift = first_node[batch["index"]] - batch["ptr"][:-1]  # [B]
    return torch.arange(len(batch["batch"]), device=shift.device) + shift[batch["batch"]]
