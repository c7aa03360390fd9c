"""GAT: attention over the direct neighbours; also SPAGAN's phase 0."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from harness.annotations import NonNegativeFloat, PositiveInt, Probability
from lightning_modules.node_classification.attention import attention_sum, head_scores
from lightning_modules.node_classification.dense import class_log_probabilities, elu
from lightning_modules.node_classification.graph import GraphInputs
from lightning_modules.node_classification.sparse import SparseFeatures, dropped_matmul
from lightning_modules.segments import SegmentIndex

Init = Literal["zero_bias", "authors"]
GAIN = 1.414  # of every Xavier-normal draw in the authors' code


def reset_attention_parameters(
    weight: Tensor, attention: Sequence[Tensor], bias: Tensor, heads: int, init: Init
) -> None:
    """Draw the tensors of an attention layer as SPAGAN's authors do: Xavier-normal, gain 1.414, per head.

    ``init="authors"`` also draws the bias (standard deviation 0.67 for 8 channels), which swamps
    row-normalised features and can stall training for hundreds of epochs; ``"zero_bias"`` starts it at zero.

    Args:
        weight: ``[F, H*D]``.
        attention: vectors ``[..., 2D]``, each of fan 2D and 1.
        bias: ``[H*D]``.
        heads: number of heads H.
        init: which of the two.
    """
    in_channels, width = weight.size(0), weight.size(1) // heads
    with torch.no_grad():
        weight.normal_(0, GAIN * math.sqrt(2 / (in_channels + width)))
        for vector in attention:
            vector.normal_(0, GAIN * math.sqrt(2 / (vector.size(-1) + 1)))
        if init == "authors":
            bias.normal_(0, GAIN * math.sqrt(2 / (width + 1)))
        else:
            bias.zero_()


def classify(logits: Tensor, elu_before_softmax: bool) -> Tensor:
    """Log-probabilities, in at least float32; ELU first where the authors' order is kept."""
    return class_log_probabilities(elu(logits) if elu_before_softmax else logits)


class NodeAttention(nn.Module):
    """Attention of each node over its neighbours and itself, all heads at once.

    SPAGAN (arXiv 2101.03464), its code's node-attention layer: per head ``h = drop(x) W + b``,
    ``e_ij = LeakyReLU(a_L h_i + a_R h_j)``, softmax over the neighbours j of centre i,
    ``out_i = sum_j drop(alpha_ij) h_j``. GAT's layer (arXiv 1710.10903, Eq. 3-4) with the bias moved inside.

    Args:
        in_channels: width F of the input.
        out_channels: width D of each head.
        heads: number of heads H.
        dropout: probability for the input and for normalised attention.
        negative_slope: of the leaky ReLU.
        init: starting values, see :func:`reset_attention_parameters`.

    Shapes:
        input ``[N, F]`` sparse or dense and edges with one self-loop per node; output ``[N, H, D]``.
    """

    def __init__(
        self,
        in_channels: PositiveInt,
        out_channels: PositiveInt,
        heads: PositiveInt,
        dropout: Probability,
        negative_slope: NonNegativeFloat,
        init: Init,
    ) -> None:
        super().__init__()
        self.heads, self.init = heads, init
        self.dropout, self.negative_slope = dropout, negative_slope
        self.weight = nn.Parameter(torch.empty(in_channels, heads * out_channels))
        self.attention = nn.Parameter(torch.empty(heads, 2 * out_channels))  # (centre part, neighbour part)
        self.bias = nn.Parameter(torch.empty(heads * out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw from the global generator: weight, attention vectors, then the bias where it is drawn."""
        reset_attention_parameters(self.weight, [self.attention], self.bias, self.heads, self.init)

    def forward(self, x: SparseFeatures | Tensor, edges: SegmentIndex) -> tuple[Tensor, Tensor]:
        """Attend; returns ``[N, H, D]`` and the attention before dropout, ``[R, H]``, without gradient."""
        p = self.dropout if self.training else 0.0
        h = dropped_matmul(x, self.weight, p) + self.bias
        h = h.view(h.size(0), self.heads, -1)  # [N, H*D] -> [N, H, D]
        centre, neighbour = head_scores(h, self.attention.view(self.heads, 2, -1).transpose(1, 2))
        return attention_sum(centre, neighbour, h, edges, self.negative_slope, p)


class GAT(nn.Module):
    """Two layers of node attention (GAT, arXiv 1710.10903; SPAGAN's phase 0 as its code has it).

    Hidden layer: ELU, heads concatenated. Output layer: heads averaged, ELU of the average (SPAGAN's code;
    it squashes negative logits, so it can be switched off), log-softmax.

    Args:
        in_channels: width of the features.
        hidden_channels: width of each hidden head.
        num_classes: number of classes.
        heads: heads of the hidden layer.
        out_heads: heads of the output layer.
        dropout: probability for the input of both layers and for attention.
        negative_slope: of the leaky ReLU.
        init: starting values, see :func:`reset_attention_parameters`.
        elu_before_softmax: ELU on the averaged logits.

    Shapes:
        input a graph of N nodes; output ``[N, num_classes]``, log-probabilities.
    """

    def __init__(
        self,
        in_channels: PositiveInt,
        hidden_channels: PositiveInt,
        num_classes: PositiveInt,
        heads: PositiveInt,
        out_heads: PositiveInt,
        dropout: Probability,
        negative_slope: NonNegativeFloat,
        init: Init,
        elu_before_softmax: bool,
    ) -> None:
        super().__init__()
        self.elu_before_softmax = elu_before_softmax
        self.hidden = NodeAttention(in_channels, hidden_channels, heads, dropout, negative_slope, init)
        self.output = NodeAttention(
            heads * hidden_channels, num_classes, out_heads, dropout, negative_slope, init
        )

    def forward(self, graph: GraphInputs) -> Tensor:
        """Log-probabilities of every node."""
        hidden, _ = self.hidden(graph.features, graph.edges)
        out, _ = self.output(elu(hidden.flatten(1)), graph.edges)  # [N, H, D] -> [N, H*D] -> [N, H', K]
        return classify(out.mean(1), self.elu_before_softmax)

    @torch.no_grad()
    def edge_attention(self, graph: GraphInputs) -> tuple[Tensor, Tensor]:
        """First-layer attention without dropout, the source of edge costs.

        Returns:
            ``[E, H]`` for the edges in the order of ``edge_index``, and ``[N, H]`` for the self-loops; the
            two together sum to 1 per centre and head.
        """
        with evaluating(self):
            _, alpha = self.hidden(graph.features, graph.edges)
        return alpha[graph.edge_rows], alpha[graph.loop_rows]


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode for a block, then the mode that was."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)
