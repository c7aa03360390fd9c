"""SPAGAN's path layer and the two-part network around it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.annotations import NonNegativeFloat, PositiveInt, Probability
from lightning_modules.node_classification.attention import attention_sum, head_scores
from lightning_modules.node_classification.dense import elu
from lightning_modules.node_classification.gat import (
    GAT,
    Init,
    NodeAttention,
    classify,
    evaluating,
    reset_attention_parameters,
)
from lightning_modules.node_classification.graph import GraphInputs
from lightning_modules.node_classification.sparse import SparseFeatures, SparseLinear, dropped_matmul
from lightning_modules.segments import SegmentIndex
from lightning_modules.spagan.path_pooling import PathPool, pool_paths

OutputLayer = Literal["attention", "linear"]


class Paths(Protocol):
    """Paths by number of nodes: ``nodes[c]`` is ``[P_c, c]``, column 0 the centre, sorted by it."""

    @property
    def nodes(self) -> Mapping[int, Tensor]:
        """Node ids of the paths of each length."""


@dataclass(frozen=True, eq=False)
class PathIndex:
    """Paths as the path layer reads them; built once per set of paths.

    Attributes:
        ends: per length c its path nodes without the centre, ``[c - 1, P_c]``.
        segments: per length c its rows by centre.
        num_nodes: number of nodes N.
    """

    ends: dict[int, Tensor]
    segments: dict[int, SegmentIndex]
    num_nodes: int

    @classmethod
    def build(cls, paths: Paths, num_nodes: int) -> "PathIndex":
        """Index paths of 2..C nodes.

        Args:
            paths: ``nodes[c]`` ``[P_c, c]`` long, sorted by column 0, at least one path per node and length
                (the self path).
            num_nodes: number of nodes N.

        Raises:
            ValueError: if a length is missing, paths are not sorted, or a node has none.
        """
        lengths = sorted(paths.nodes)
        if lengths != list(range(2, len(lengths) + 2)):
            raise ValueError(f"paths must have every length from 2 nodes on, got {lengths}.")
        ends, segments = {}, {}
        for c in lengths:
            centre, ends[c] = paths.nodes[c][:, 0], paths.nodes[c][:, 1:].t().contiguous()
            # A path of two nodes is an edge: its pooled feature is its end node's, read in place.
            col = ends[c][0] if c == 2 else None
            segments[c] = SegmentIndex.build(centre, col, num_nodes, num_nodes if c == 2 else centre.numel())
        return cls(ends, segments, num_nodes)

    @property
    def lengths(self) -> tuple[int, ...]:
        """2..C."""
        return tuple(self.segments)


@dataclass(frozen=True, eq=False)
class PathAttentionWeights:
    """Attention of one path layer, without gradient.

    Attributes:
        alpha: per length c ``[P_c, H]``; sums to 1 over the paths of a centre.
        beta: ``[N, C-1, H]``; sums to 1 over lengths.
    """

    alpha: dict[int, Tensor]
    beta: Tensor


class PathAttention(nn.Module):
    """Attention among the paths of one length, then among lengths.

    SPAGAN (arXiv 2101.03464), the hidden path layer of its code. Per head, with ``p = drop(x) W + b`` and
    ``phi(q)`` the pooled features of path q without its centre i:
    ``alpha = softmax_q LeakyReLU(a_c [phi(q) || p_i])`` over the paths of i with c nodes,
    ``l_i^c = sum_q drop(alpha_q) phi(q)``; ``beta = softmax_c LeakyReLU(a_len [l_i^c || p_i])``,
    ``z_i = sum_c beta_c l_i^c``. Works for any C; the code only for C = 3.

    Args:
        in_channels: width F of the input.
        out_channels: width D of each head.
        heads: number of heads H.
        max_path_nodes: C >= 2, nodes of the longest paths, both ends included.
        path_pool: ``"max"`` (the code) or ``"mean"``.
        length_attention: attention among lengths; off, their plain mean.
        dropout: probability for the input and for path attention.
        negative_slope: of the leaky ReLU.
        init: starting values, as for node attention.

    Shapes:
        input ``[N, F]`` sparse or dense and paths of 2..C nodes; output ``[N, H, D]``.

    Raises:
        ValueError: if ``max_path_nodes`` is below 2.
    """

    def __init__(
        self,
        in_channels: PositiveInt,
        out_channels: PositiveInt,
        heads: PositiveInt,
        max_path_nodes: PositiveInt,
        path_pool: PathPool,
        length_attention: bool,
        dropout: Probability,
        negative_slope: NonNegativeFloat,
        init: Init,
    ) -> None:
        super().__init__()
        if max_path_nodes < 2:
            raise ValueError(f"max_path_nodes must be 2 (direct neighbours) or more, got {max_path_nodes}.")
        self.heads, self.init, self.path_pool = heads, init, path_pool
        self.dropout, self.negative_slope = dropout, negative_slope
        self.lengths = tuple(range(2, max_path_nodes + 1))
        self.weight = nn.Parameter(torch.empty(in_channels, heads * out_channels))
        # Vectors are (path part, centre part).
        self.attention = nn.Parameter(torch.empty(len(self.lengths), heads, 2 * out_channels))
        # With a single length there is nothing to choose: its share is 1 and the vector would never learn.
        self.length_attention = (
            nn.Parameter(torch.empty(heads, 2 * out_channels))
            if length_attention and max_path_nodes > 2
            else None
        )
        self.bias = nn.Parameter(torch.empty(heads * out_channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw from the global generator: weight, path vectors, length vector, then the authors' bias."""
        vectors = [self.attention, *([] if self.length_attention is None else [self.length_attention])]
        reset_attention_parameters(self.weight, vectors, self.bias, self.heads, self.init)

    def forward(self, x: SparseFeatures | Tensor, paths: PathIndex) -> tuple[Tensor, PathAttentionWeights]:
        """Attend to paths; returns ``[N, H, D]`` and the attention before dropout.

        Raises:
            ValueError: if the paths' lengths are not 2..C.
        """
        if paths.lengths != self.lengths:
            raise ValueError(f"this layer reads paths of {self.lengths} nodes, got {paths.lengths}.")
        p = self._project(x)
        # [L, H, 2D] -> [H, D, L] for the path part and for the centre part
        on_path, on_centre = self.attention.permute(1, 2, 0).chunk(2, dim=1)
        if self.length_attention is not None:
            on_length, length_centre = self.length_attention.unsqueeze(2).chunk(2, dim=1)  # [H, D, 1]
            on_centre = torch.cat([on_centre, length_centre], dim=2)
        # Every score of a node by itself in one product: the centre parts, and the path part of 2-node paths.
        end_score, *centre_scores = head_scores(p, torch.cat([on_path[:, :, :1], on_centre], dim=2))
        alpha: dict[int, Tensor] = {}
        parts: list[Tensor] = []
        for k, c in enumerate(self.lengths):
            pooled, score = p, end_score
            if c > 2:
                pooled = pool_paths(p.flatten(1), paths.ends[c], self.path_pool).view(-1, *p.shape[1:])
                (score,) = head_scores(pooled, on_path[:, :, k : k + 1])
            drop = self.dropout if self.training else 0.0
            part, alpha[c] = attention_sum(
                centre_scores[k], score, pooled, paths.segments[c], self.negative_slope, drop
            )
            parts.append(part)
        if self.length_attention is None:
            beta = p.new_full((paths.num_nodes, len(parts), self.heads), 1 / len(parts))
            return sum(parts[1:], parts[0]) / len(parts), PathAttentionWeights(alpha, beta)
        scores = torch.stack([head_scores(part, on_length)[0] + centre_scores[-1] for part in parts], dim=1)
        beta = F.leaky_relu(scores, self.negative_slope).softmax(1)  # [N, L, H]
        out = sum(
            (b.unsqueeze(2) * part for b, part in zip(beta.unbind(1)[1:], parts[1:], strict=True)),
            beta[:, 0].unsqueeze(2) * parts[0],
        )
        return out, PathAttentionWeights(alpha, beta.detach())

    def _project(self, x: SparseFeatures | Tensor) -> Tensor:
        p = dropped_matmul(x, self.weight, self.dropout if self.training else 0.0) + self.bias
        return p.view(p.size(0), self.heads, -1)  # [N, H*D] -> [N, H, D]

    @torch.no_grad()
    def edge_attention(self, graph: GraphInputs) -> tuple[Tensor, Tensor]:
        """The attention of 2-node paths evaluated on every edge of the graph, without dropout.

        A neighbour that is reached more cheaply through a third node is no path of this layer, but needs a
        cost when paths are searched again.

        Returns:
            ``[E, H]`` for the edges in the order of ``edge_index``, and ``[N, H]`` for the self-loops.
        """
        with evaluating(self):
            p = self._project(graph.features)
        on_path, on_centre = self.attention[0].unsqueeze(2).chunk(2, dim=1)
        neighbour, centre = head_scores(p, torch.cat([on_path, on_centre], dim=2))
        _, alpha = attention_sum(centre, neighbour, p, graph.edges, self.negative_slope)
        return alpha[graph.edge_rows], alpha[graph.loop_rows]


class SPAGANNetwork(nn.Module):
    """Phase-0 GAT and the path network, with separate parameters.

    SPAGAN (arXiv 2101.03464): the GAT's attention turns edges into costs; the path network starts untrained.
    Its hidden layer is :class:`PathAttention` with ELU and concatenated heads; its output layer attends to
    direct neighbours only: heads averaged, ELU, log-softmax. The GAT is drawn first, in the order of a
    stand-alone one, so both start equal from one seed.

    Args:
        in_channels: width of the features.
        hidden_channels: width of each hidden head.
        num_classes: number of classes.
        heads: heads of the hidden layers.
        out_heads: heads of the output layers.
        dropout: probability for the input of all layers and for attention.
        negative_slope: of the leaky ReLU.
        init: ``"zero_bias"``, or ``"authors"``, which draws biases too.
        elu_before_softmax: ELU on the averaged logits, the authors' order.
        max_path_nodes: C >= 2, nodes of the longest paths, both ends included.
        path_pool: ``"max"`` or ``"mean"`` over a path's nodes.
        length_attention: attention among lengths; off, their plain mean.
        output_layer: ``"attention"``, or ``"linear"`` for one path layer and a classifier of each node alone.

    Shapes:
        input a graph of N nodes and its paths; output ``[N, num_classes]``, log-probabilities.
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
        max_path_nodes: PositiveInt,
        path_pool: PathPool,
        length_attention: bool,
        output_layer: OutputLayer,
    ) -> None:
        super().__init__()
        self.elu_before_softmax = elu_before_softmax
        self.gat = GAT(
            in_channels,
            hidden_channels,
            num_classes,
            heads,
            out_heads,
            dropout,
            negative_slope,
            init,
            elu_before_softmax,
        )
        self.hidden = PathAttention(
            in_channels,
            hidden_channels,
            heads,
            max_path_nodes,
            path_pool,
            length_attention,
            dropout,
            negative_slope,
            init,
        )
        width = heads * hidden_channels
        self.output: NodeAttention | SparseLinear = (
            NodeAttention(width, num_classes, out_heads, dropout, negative_slope, init)
            if output_layer == "attention"
            else SparseLinear(width, num_classes, dropout)
        )

    def forward(self, graph: GraphInputs, paths: PathIndex) -> Tensor:
        """Log-probabilities of every node, from the path network. The phase-0 GAT is ``self.gat(graph)``."""
        hidden, _ = self.hidden(graph.features, paths)
        hidden = elu(hidden.flatten(1))  # [N, H, D] -> [N, H*D]
        if isinstance(self.output, SparseLinear):
            logits = self.output(hidden)
        else:
            logits = self.output(hidden, graph.edges)[0].mean(1)  # [N, H', K] -> [N, K]
        return classify(logits, self.elu_before_softmax)

    @torch.no_grad()
    def path_attention(self, graph: GraphInputs, paths: PathIndex) -> PathAttentionWeights:
        """Attention of the path layer, without dropout."""
        with evaluating(self.hidden):
            _, weights = self.hidden(graph.features, paths)
        return weights

    def edge_attention(self, graph: GraphInputs) -> tuple[Tensor, Tensor]:
        """The path layer's attention on all edges; see :meth:`PathAttention.edge_attention`."""
        return self.hidden.edge_attention(graph)

    def path_parameters(self) -> list[nn.Parameter]:
        """Parameters of the path network, the phase-0 GAT's left out."""
        return [*self.hidden.parameters(), *self.output.parameters()]
