"""SPAGAN and GAT written down word by word: the slow reference of the tests and the benchmark.

One head at a time, the concatenation ``[P, 2F]`` for every score, dense features with dense dropout, and
scatter for every sum. Parameters are copied from the fast networks, so both compute the same function.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.node_classification.gat import GAT, NodeAttention
from lightning_modules.spagan.layers import PathAttention, SPAGANNetwork


def scatter_softmax(scores: Tensor, index: Tensor, num_nodes: int) -> Tensor:
    """Softmax of ``[P]`` scores over equal entries of ``index``."""
    largest = scores.new_full((num_nodes,), -torch.inf).scatter_reduce(0, index, scores.detach(), "amax")
    exps = (scores - largest[index]).exp()
    return exps / scores.new_zeros(num_nodes).index_add(0, index, exps)[index]


def scatter_sum(values: Tensor, index: Tensor, num_nodes: int) -> Tensor:
    """Sum of ``[P, F]`` rows over equal entries of ``index``."""
    return values.new_zeros(num_nodes, values.size(1)).index_add(0, index, values)


class NaiveNodeAttentionHead(nn.Module):
    """One head of :class:`NodeAttention`."""

    def __init__(self, layer: NodeAttention, head: int) -> None:
        super().__init__()
        width = layer.weight.size(1) // layer.heads
        part = slice(head * width, (head + 1) * width)
        self.weight = nn.Parameter(layer.weight.detach()[:, part].clone())
        self.bias = nn.Parameter(layer.bias.detach()[part].clone())
        self.attention = nn.Parameter(layer.attention.detach()[head].clone())
        self.dropout, self.negative_slope = layer.dropout, layer.negative_slope

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        row, col = edge_index
        h = x @ self.weight + self.bias
        scores = F.leaky_relu(torch.cat([h[row], h[col]], dim=1) @ self.attention, self.negative_slope)
        alpha = F.dropout(scatter_softmax(scores, row, h.size(0)), self.dropout, self.training)
        return scatter_sum(alpha.unsqueeze(1) * h[col], row, h.size(0))


class NaivePathAttentionHead(nn.Module):
    """One head of :class:`PathAttention` with length attention."""

    def __init__(self, layer: PathAttention, head: int) -> None:
        super().__init__()
        width = layer.weight.size(1) // layer.heads
        part = slice(head * width, (head + 1) * width)
        self.weight = nn.Parameter(layer.weight.detach()[:, part].clone())
        self.bias = nn.Parameter(layer.bias.detach()[part].clone())
        self.attention = nn.Parameter(layer.attention.detach()[:, head].clone())
        assert layer.length_attention is not None
        self.length_attention = nn.Parameter(layer.length_attention.detach()[head].clone())
        self.dropout, self.negative_slope = layer.dropout, layer.negative_slope
        self.path_pool = layer.path_pool

    def forward(self, x: Tensor, paths: Mapping[int, Tensor]) -> Tensor:
        p = x @ self.weight + self.bias
        parts, length_scores = [], []
        for c, nodes in paths.items():
            centre, walked = nodes[:, 0], p[nodes[:, 1:]]  # [P, c - 1, F]
            pooled = walked.amax(1) if self.path_pool == "max" else walked.mean(1)
            scores = torch.cat([pooled, p[centre]], dim=1) @ self.attention[c - 2]
            alpha = scatter_softmax(F.leaky_relu(scores, self.negative_slope), centre, p.size(0))
            alpha = F.dropout(alpha, self.dropout, self.training)
            part = scatter_sum(alpha.unsqueeze(1) * pooled, centre, p.size(0))
            parts.append(part)
            length_scores.append(
                F.leaky_relu(torch.cat([part, p], dim=1) @ self.length_attention, self.negative_slope)
            )
        beta = torch.stack(length_scores, dim=1).softmax(1)  # [N, L]
        return (beta.unsqueeze(2) * torch.stack(parts, dim=1)).sum(1)


class NaiveGAT(nn.Module):
    """The function of :class:`GAT`, from a copy of its parameters."""

    def __init__(self, network: GAT) -> None:
        super().__init__()
        self.hidden = _heads(network.hidden)
        self.output = _heads(network.output)
        self.dropout = network.hidden.dropout

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Log-probabilities; ``edge_index`` with self-loops."""
        x = F.dropout(x, self.dropout, self.training)
        x = torch.cat([F.elu(head(x, edge_index)) for head in self.hidden], dim=1)
        return _output(self.output, F.dropout(x, self.dropout, self.training), edge_index)


class NaiveSPAGAN(nn.Module):
    """The function of :class:`SPAGANNetwork` in its path phase, from a copy of its parameters."""

    def __init__(self, network: SPAGANNetwork) -> None:
        super().__init__()
        self.hidden = nn.ModuleList(
            NaivePathAttentionHead(network.hidden, k) for k in range(network.hidden.heads)
        )
        assert isinstance(network.output, NodeAttention)
        self.output = _heads(network.output)
        self.dropout = network.hidden.dropout

    def forward(self, x: Tensor, edge_index: Tensor, paths: Mapping[int, Tensor]) -> Tensor:
        """Log-probabilities; ``edge_index`` with self-loops, ``paths[c]`` ``[P_c, c]``."""
        x = F.dropout(x, self.dropout, self.training)
        x = torch.cat([F.elu(head(x, paths)) for head in self.hidden], dim=1)
        return _output(self.output, F.dropout(x, self.dropout, self.training), edge_index)


def _heads(layer: NodeAttention) -> nn.ModuleList:
    return nn.ModuleList(NaiveNodeAttentionHead(layer, head) for head in range(layer.heads))


def _output(heads: nn.ModuleList, x: Tensor, edge_index: Tensor) -> Tensor:
    logits = torch.stack([head(x, edge_index) for head in heads]).mean(0)
    return F.log_softmax(F.elu(logits), dim=-1)
