"""What the networks read: features and edges of one graph, indexed once."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.nn.conv.gcn_conv import gcn_norm

from lightning_modules.node_classification.sparse import SparseFeatures
from lightning_modules.segments import SegmentIndex


@dataclass(frozen=True, eq=False)
class GraphInputs:
    """A graph as the networks take it. Holds nothing that a training step changes.

    Attributes:
        features: ``[N, F]``, sparse or dense.
        edges: every edge and one self-loop per node, sorted by (centre, neighbour).
        edge_rows: ``[E]``, rows of ``edges`` that are no self-loops, in the order of ``edge_index``.
        loop_rows: ``[N]``, rows of ``edges`` that are self-loops, by node.
        gcn_weights: ``[E + N]``, entries of the normalised adjacency of GCN for the rows of ``edges``.
    """

    features: SparseFeatures | Tensor
    edges: SegmentIndex
    edge_rows: Tensor
    loop_rows: Tensor
    gcn_weights: Tensor

    @property
    def num_nodes(self) -> int:
        """Number of nodes N."""
        return self.edges.num_groups


def prepare(data: Data) -> GraphInputs:
    """Index a graph for the networks; call once per graph and device, not per step.

    Args:
        data: ``x`` ``[N, F]`` dense or ``torch.sparse_csr``; ``edge_index`` ``[2, E]`` with both directions,
            no self-loops, sorted by (centre = row 0, neighbour = row 1).

    Raises:
        ValueError: if the edges have self-loops or are not sorted.
    """
    x, edge_index = data.x, data.edge_index
    num_nodes = x.size(0)
    row, col = edge_index
    key = row * num_nodes + col
    if bool((row == col).any()) or bool((key[1:] <= key[:-1]).any()):
        raise ValueError(
            "edge_index must be sorted by (row 0, row 1), without duplicates and self-loops; "
            "apply torch_geometric.utils.remove_self_loops and coalesce."
        )
    nodes = torch.arange(num_nodes, device=row.device)
    order = torch.argsort(torch.cat([key, nodes * num_nodes + nodes]))
    place = torch.empty_like(order)
    place[order] = torch.arange(order.numel(), device=row.device)
    both = torch.cat([edge_index, nodes.expand(2, -1)], dim=1)[:, order]
    _, weights = gcn_norm(both, num_nodes=num_nodes, add_self_loops=False, dtype=torch.float32)
    return GraphInputs(
        features=SparseFeatures.from_csr(x) if x.layout == torch.sparse_csr else x,
        edges=SegmentIndex.build(both[0], both[1], num_nodes, num_nodes),
        edge_rows=place[: key.numel()],
        loop_rows=place[key.numel() :],
        gcn_weights=weights,
    )
