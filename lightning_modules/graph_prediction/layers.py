"""Layers of the baselines: MLP, GCN, GAT, GIN and DisenGCN, over the edges that the data give.

Where the data add self-loops they are edges like any other, but for GIN, whose own term they would double.
"""

import torch
from torch import Tensor, nn

from harness.annotations import NonNegativeFloat, PositiveInt
from lightning_modules.graph_prediction.batch import Graphs
from lightning_modules.graph_prediction.edge_sums import edge_dot, factor_sum
from lightning_modules.graph_prediction.networks import LayerOutput
from lightning_modules.node_classification.attention import attention_sum, head_scores
from lightning_modules.segments import propagate


class MLPLayer(nn.Module):
    """A linear layer, blind to the graph."""

    def __init__(self, in_channels: PositiveInt, out_channels: PositiveInt) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(self, x: Tensor, graphs: Graphs) -> LayerOutput:
        return LayerOutput(self.linear(x))


class GCNLayer(nn.Module):
    """Graph convolution (Kipf and Welling, arXiv 1609.02907, Eq. 2) without its activation."""

    def __init__(self, in_channels: PositiveInt, out_channels: PositiveInt) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels, bias=False)
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.xavier_uniform_(self.linear.weight)

    def forward(self, x: Tensor, graphs: Graphs) -> LayerOutput:
        return LayerOutput(propagate(graphs.symmetric_norm, self.linear(x), graphs.edges) + self.bias)


class GATLayer(nn.Module):
    """Attention over neighbours (Velickovic et al., arXiv 1710.10903, Eq. 3-5); its heads are its factors.

    Args:
        in_channels: width of the input.
        out_channels: width of all heads together; a multiple of ``heads``.
        heads: H.
        negative_slope: of the leaky ReLU.
    """

    def __init__(
        self,
        in_channels: PositiveInt,
        out_channels: PositiveInt,
        heads: PositiveInt,
        negative_slope: NonNegativeFloat,
    ) -> None:
        super().__init__()
        self.heads, self.negative_slope = heads, negative_slope
        self.linear = nn.Linear(in_channels, out_channels, bias=False)
        self.attention = nn.Parameter(torch.empty(heads, out_channels // heads, 2))
        self.bias = nn.Parameter(torch.zeros(out_channels))
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.xavier_uniform_(self.attention)

    def forward(self, x: Tensor, graphs: Graphs) -> LayerOutput:
        h = self.linear(x).unflatten(1, (self.heads, -1))  # [n, H, D]
        centre, neighbour = head_scores(h, self.attention)
        out, alpha = attention_sum(centre, neighbour, h, graphs.edges, self.negative_slope)
        return LayerOutput(out.flatten(1) + self.bias, alpha)


class GINLayer(nn.Module):
    """``MLP((1 + eps) x_i + sum of neighbours)`` (Xu et al., arXiv 1810.00826, Eq. 4.1), eps being learnt.

    The MLP has two layers with batch normalisation in between, as the authors' has. A self-loop of the data
    is left out of the sum.
    """

    def __init__(self, in_channels: PositiveInt, out_channels: PositiveInt) -> None:
        super().__init__()
        self.eps = nn.Parameter(torch.zeros(()))
        self.mlp = nn.Sequential(
            nn.Linear(in_channels, out_channels),
            nn.BatchNorm1d(out_channels),
            nn.ReLU(),
            nn.Linear(out_channels, out_channels),
        )

    def forward(self, x: Tensor, graphs: Graphs) -> LayerOutput:
        total = propagate(torch.ones_like(graphs.source_norm), x, graphs.edges)
        own = 1 + self.eps - graphs.self_loops.to(total.dtype)  # [n]
        return LayerOutput(self.mlp((total + own.unsqueeze(1) * x).to(x.dtype)))


class DisenGCNLayer(nn.Module):
    """Neighbourhood routing (Ma et al., "Disentangled graph convolutional networks", ICML 2019, Alg. 1).

    The input is projected to K channels after a ReLU, ``z``, each of length 1. Then, T times,
    ``p[j -> i, k] = softmax over k of <z[j, k], u[i, k]>`` and
    ``u[i, k] = normalise(z[i, k] + sum over j of p[j -> i, k] z[j, k])``, beginning with ``u = z``. The last
    p are the factors.

    Args:
        in_channels: width of the input.
        out_channels: width of all channels together; a multiple of ``channels``.
        channels: K.
        routing_steps: T.
    """

    def __init__(
        self,
        in_channels: PositiveInt,
        out_channels: PositiveInt,
        channels: PositiveInt,
        routing_steps: PositiveInt,
    ) -> None:
        super().__init__()
        self.channels, self.routing_steps = channels, routing_steps
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(self, x: Tensor, graphs: Graphs) -> LayerOutput:
        z = _normalised(self.linear(x).relu().unflatten(1, (self.channels, -1)))  # [n, K, d]
        u = z
        for _ in range(self.routing_steps):
            # down the columns of the transpose, as in class_log_probabilities
            shares = edge_dot(z, u, graphs.edges).t().softmax(dim=0).t()  # [m, K]
            u = _normalised(z + factor_sum(shares, z, graphs.edges))
        return LayerOutput(u.flatten(1), shares.detach())


def _normalised(x: Tensor) -> Tensor:
    """Each channel's vector at length 1, 0 staying 0; a product, which takes less time than a division."""
    return x * x.square().sum(dim=2, keepdim=True).clamp(min=1e-24).rsqrt()
