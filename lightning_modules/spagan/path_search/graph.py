"""The checked graph that every search reads."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Path sums are exact on a grid of 2**-44 of the largest cost: a sum may reach 2**9 = 512 times the largest
# cost before it needs more than float64's 53 bits.
_GRID_BITS = 44
_MAX_PATH_NODES = 512


@dataclass(frozen=True)
class CostGraph:
    """A directed graph with costs, by rows.

    Attributes:
        offsets: ``[N + 1]`` long; the edges of centre i are ``offsets[i]`` to ``offsets[i + 1]``.
        neighbour: ``[E]`` long, ascending within a centre.
        cost: ``[E]`` on a common grid, so that float64 sums along paths are exact in any order; float32 where
            that holds them, else float64.
        limit: no path of the allowed number of nodes costs more.
    """

    offsets: Tensor
    neighbour: Tensor
    cost: Tensor
    limit: float

    @property
    def num_nodes(self) -> int:
        """Number of nodes N."""
        return self.offsets.numel() - 1

    @property
    def degree(self) -> Tensor:
        """``[N]`` long, number of edges of each centre."""
        return self.offsets.diff()


def build_graph(edge_index: Tensor, cost: Tensor, num_nodes: int, max_path_nodes: int) -> CostGraph:
    """Check the input of a search and round its costs to the grid on which path sums are exact.

    Equal-cost paths decide which sets come out, so the searches must agree on every bit of a path's cost.
    Costs are therefore rounded to multiples of ``2**-44`` of the largest one (power of two above it), which
    leaves float32 costs unchanged unless they are below a millionth of the largest. Costs of `edge_costs`
    in float32 are multiples of ``2**-24`` and never change.

    Args:
        edge_index: ``[2, E]`` long, row 0 the centre and row 1 its neighbour, sorted by both, no self-loops.
        cost: ``[E]``, finite and not negative.
        num_nodes: number of nodes N.
        max_path_nodes: most nodes C of a path, both ends included, from 2 to 512.

    Returns:
        The graph, on the device of ``edge_index``.

    Raises:
        ValueError: if an argument is outside what is said above.
    """
    if not 2 <= max_path_nodes <= _MAX_PATH_NODES:
        raise ValueError(f"max_path_nodes must be from 2 to {_MAX_PATH_NODES}, got {max_path_nodes}")
    if edge_index.dim() != 2 or edge_index.size(0) != 2 or edge_index.dtype != torch.long:
        raise ValueError(f"edge_index must be long [2, E], got {edge_index.dtype} {list(edge_index.shape)}")
    if cost.shape != edge_index.shape[1:] or not cost.is_floating_point():
        raise ValueError(
            f"cost must be float [E] with E={edge_index.size(1)}, got {cost.dtype} {list(cost.shape)}"
        )
    if not 0 <= num_nodes < 2**31:
        raise ValueError(f"num_nodes must be in [0, 2**31), got {num_nodes}")
    centre, neighbour = edge_index[0], edge_index[1]
    largest = 0.0
    if cost.numel():
        smallest_id, largest_id = torch.aminmax(edge_index)
        if int(smallest_id) < 0 or int(largest_id) >= num_nodes:
            raise ValueError(f"edge_index must hold ids in [0, num_nodes={num_nodes})")
        if bool((centre == neighbour).any()):
            raise ValueError("edge_index must not hold self-loops; remove them first (self paths are added)")
        if not bool(((centre * num_nodes + neighbour).diff() > 0).all()):
            raise ValueError(
                "edge_index must be sorted by (centre, neighbour) without repeated edges;"
                " torch_geometric.utils.coalesce does both"
            )
        low, high = torch.aminmax(cost)  # NaN propagates into both
        largest = float(high)
        if not (float(low) >= 0 and largest < math.inf):
            raise ValueError(f"cost must be finite and not negative, got values in [{low:g}, {high:g}]")
    cost = cost.detach()
    if largest > 0:
        # The clamp only keeps the factor itself finite for costs near the smallest float64.
        exponent = max(math.frexp(largest)[1], -900) - _GRID_BITS
        exact = cost.to(torch.float64, copy=True).mul_(2.0**-exponent).round_().mul_(2.0**exponent)
        largest = math.ldexp(round(math.ldexp(largest, -exponent)), exponent)
        # Usually nothing was rounded, and ten million float32 costs take half the memory.
        cost = cost if cost.dtype == torch.float32 and torch.equal(exact.float(), cost) else exact
    offsets = torch.zeros(num_nodes + 1, dtype=torch.long, device=edge_index.device)
    torch.cumsum(torch.bincount(centre, minlength=num_nodes), 0, out=offsets[1:])
    return CostGraph(offsets, neighbour, cost, limit=(max_path_nodes - 1) * largest)
