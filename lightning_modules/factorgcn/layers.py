"""FactorGCN's layer, and the discriminator that keeps its factors apart."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.annotations import PositiveFloat, PositiveInt
from lightning_modules.factorgcn.factor_weights import factor_weights
from lightning_modules.graph_prediction.batch import Graphs
from lightning_modules.graph_prediction.edge_sums import factor_sum
from lightning_modules.graph_prediction.networks import LayerOutput

DegreeNorm = Literal["source", "symmetric"]


class FactorGraphConv(nn.Module):
    """Splits a graph into K soft factor graphs and aggregates in each (FactorGCN, arXiv 2010.05421).

    With ``h = x W + b`` of width ``d = H / K``, shared by all factors, an edge j -> i belongs to factor k by
    ``E[j -> i, k] = sigmoid(temperature * (h_j a_k + alpha_k + h_i c_k + gamma_k))``, and
    ``out[i, k] = sum over j -> i of E[j -> i, k] * norm * h_j``. There is no activation inside.

    The paper's formula has no temperature; 6 is the authors' code's. Its norm is the paper's
    ``(d_i d_j)^-1/2`` with ``norm="symmetric"``, the code's ``d_j^-1/2`` with ``"source"``; degrees count
    incoming edges. The paper does not say how weights begin: Xavier-uniform, biases zero.

    Args:
        in_channels: width F of the input.
        out_channels: width H of the output; a multiple of ``num_factors``.
        num_factors: K.
        temperature: of the sigmoid's argument.
        norm: which of the two.

    Shapes:
        input ``[n, F]`` and the batch's graphs; output a :class:`LayerOutput`.
    """

    def __init__(
        self,
        in_channels: PositiveInt,
        out_channels: PositiveInt,
        num_factors: PositiveInt,
        temperature: PositiveFloat,
        norm: DegreeNorm,
    ) -> None:
        super().__init__()
        self.num_factors, self.temperature, self.norm = num_factors, temperature, norm
        self.project = nn.Linear(in_channels, out_channels // num_factors)
        self.score = nn.Linear(out_channels // num_factors, 2 * num_factors)  # as senders, as receivers
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights from the global generator."""
        nn.init.xavier_uniform_(self.project.weight)
        for part in self.score.weight.chunk(2):  # two maps of their own, each d -> K
            nn.init.xavier_uniform_(part)
        for layer in (self.project, self.score):
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, graphs: Graphs) -> LayerOutput:
        h = self.project(x)  # [n, d]
        # in float32 under autocast: six times a rounded score would decide between 0 and 1
        with torch.autocast(h.device.type, enabled=False):
            scores = F.linear(h.to(self.score.weight.dtype), self.score.weight, self.score.bias)
            source, target = scores.chunk(2, dim=1)  # [n, K] each
            factors = factor_weights(source, target, self.temperature, graphs.edges)
            norm = graphs.source_norm if self.norm == "source" else graphs.symmetric_norm
            weights = factors * norm.unsqueeze(1)
            out = factor_sum(weights, h.unsqueeze(1), graphs.edges)  # [n, K, d]
        return LayerOutput(out.flatten(1), factors, weights)  # [n, K, d] -> [n, H]


class FactorDiscriminator(nn.Module):
    """Tells from a factor graph alone which factor it is (FactorGCN, arXiv 2010.05421).

    With ``Agg_k`` the layer's weighted sum in factor k: ``u_k = tanh(Agg_k(h W1 + b1))``,
    ``v_k = tanh(Agg_k(u_k W2 + b2))``, the mean of ``v_k`` over a graph's nodes, tanh, a linear layer to K
    logits; the label is k. All weights are shared over factors. It helps the layer, nothing is adversarial.

    Sums commute with linear maps: ``Agg_k(h W + b) = Agg_k(h) W + Agg_k(1) b``, and ``Agg_k(h)`` is what the
    layer has computed already. So one of three aggregations is left, at half the width.

    Args:
        channels: width d of a factor.
        num_factors: K.

    Shapes:
        input what the layer found; output logits ``[B, K, K]``, those of factor k in row k.
    """

    def __init__(self, channels: PositiveInt, num_factors: PositiveInt) -> None:
        super().__init__()
        hidden = max(channels // 2, 1)
        self.first = nn.Linear(channels, hidden)
        self.second = nn.Linear(hidden, channels)
        self.classify = nn.Linear(channels, num_factors)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weights from the global generator."""
        for layer in (self.first, self.second, self.classify):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, found: LayerOutput, graphs: Graphs) -> Tensor:
        assert found.weights is not None
        num_factors = found.weights.size(1)
        # in float32 under autocast: the sums' rounding would be what a factor is recognised by
        with torch.autocast(found.weights.device.type, enabled=False):
            totals = graphs.edges.differentiable_sum(found.weights).unsqueeze(2)  # Agg_k(1), [n, K, 1]
            u = _after_sum(self.first, found.out.unflatten(1, (num_factors, -1)), totals).tanh()
            summed = factor_sum(found.weights, u, graphs.edges)  # [n, K, d/2]
            v = _after_sum(self.second, summed, totals).tanh()  # [n, K, d]
            g = graphs.pooled_mean(v.flatten(1)).unflatten(1, (num_factors, -1)).tanh()  # [B, K, d]
            return F.linear(g, self.classify.weight.to(g.dtype), self.classify.bias.to(g.dtype))


def _after_sum(layer: nn.Linear, summed: Tensor, totals: Tensor) -> Tensor:
    """``Agg(z W + b)`` from ``Agg(z)`` and ``Agg(1)``."""
    return F.linear(summed, layer.weight.to(summed.dtype)) + totals * layer.bias
