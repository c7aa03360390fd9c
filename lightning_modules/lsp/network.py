"""The attention network of LSP: GAT as in its authors' code, for nodes of graphs never seen before."""

import math

import torch
from torch import Tensor, nn

from lightning_modules.graph_prediction.batch import Graphs
from lightning_modules.graph_prediction.networks import LayerOutput, PredictionNetwork
from lightning_modules.node_classification.attention import attention_sum, head_scores
from lightning_modules.node_classification.dense import elu

_GAIN = math.sqrt(2)


class AttentionHeads(nn.Module):
    """Attention over the edges into each node, without bias (Velickovic et al., arXiv 1710.10903, Eq. 3-5).

    Weights are drawn as DGL's layer draws them, Xavier normal with a gain of the root of 2, which LSP's code
    builds on: with a smaller gain five such layers learn visibly less.

    Args:
        in_channels: width of the input.
        heads: H.
        channels: D, units of each head.
        negative_slope: of the leaky ReLU on attention logits.
        residual: adds a linear map of the input, without bias.

    Shapes:
        input ``[n, in_channels]``; output ``[n, H, D]`` and the attention ``[m, H]``, which has no gradient.
    """

    def __init__(
        self, in_channels: int, heads: int, channels: int, negative_slope: float, *, residual: bool
    ) -> None:
        super().__init__()
        self.heads, self.negative_slope = heads, negative_slope
        self.linear = nn.Linear(in_channels, heads * channels, bias=False)
        self.attention = nn.Parameter(torch.empty(heads, channels, 2))
        self.shortcut = nn.Linear(in_channels, heads * channels, bias=False) if residual else None
        nn.init.xavier_normal_(self.linear.weight, gain=_GAIN)
        # the fans of a vector [1, H, D], which DGL has one of for each end of an edge
        nn.init.normal_(self.attention, std=_GAIN * math.sqrt(2 / (channels * (heads + 1))))
        if self.shortcut is not None:
            nn.init.xavier_normal_(self.shortcut.weight, gain=_GAIN)

    def forward(self, x: Tensor, graphs: Graphs) -> tuple[Tensor, Tensor]:
        h = self.linear(x).unflatten(1, (self.heads, -1))  # [n, H, D]
        centre, neighbour = head_scores(h, self.attention)
        out, alpha = attention_sum(centre, neighbour, h, graphs.edges, self.negative_slope)
        if self.shortcut is not None:
            out = out + self.shortcut(x).unflatten(1, (self.heads, -1))
        return out, alpha


class InductiveAttentionNetwork(PredictionNetwork):
    """Hidden layers of attention with their heads side by side, ELU, and an output layer of averaged heads.

    All layers but the first have a residual, the output too. What is compared between networks is a hidden
    layer's output before its ELU.

    Args:
        in_channels: features of a node.
        hidden_layers: how many, beside the output layer.
        heads: of each hidden layer.
        channels: units of each of these heads.
        out_heads: heads of the output layer, each as wide as there are labels.
        out_channels: labels or classes C.
        negative_slope: of the leaky ReLU on attention logits.

    Shapes:
        input the batch's graphs; output logits ``[n, C]`` and of each hidden layer ``[n, heads * channels]``
        before its activation.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_layers: int,
        heads: int,
        channels: int,
        out_heads: int,
        out_channels: int,
        negative_slope: float,
    ) -> None:
        super().__init__()
        self.embedding = None
        widths = [in_channels, *[heads * channels] * hidden_layers]
        self.hidden_channels = heads * channels
        self.layers = nn.ModuleList(
            AttentionHeads(width, heads, channels, negative_slope, residual=number > 0)
            for number, width in enumerate(widths[:-1])
        )
        self.output = AttentionHeads(widths[-1], out_heads, out_channels, negative_slope, residual=True)

    def forward(self, graphs: Graphs) -> tuple[Tensor, list[LayerOutput]]:
        x, found = graphs.x, []
        for layer in self.layers:
            out, alpha = layer(x, graphs)
            out = out.flatten(1).to(graphs.x.dtype)  # sums over edges come in at least float32
            found.append(LayerOutput(out, alpha))
            x = elu(out)
        out, _ = self.output(x, graphs)
        return out.mean(dim=1), found
