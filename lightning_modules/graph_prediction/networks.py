"""The frame that all networks for small graphs share: input, layers with what follows each, readout."""

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.annotations import PositiveInt, Probability
from harness.errors import UserError
from lightning_modules.graph_prediction.batch import Graphs
from lightning_modules.graph_prediction.readouts import JumpingReadout, MeanReadout, MLPReadout
from lightning_modules.graph_prediction.targets import Target
from lightning_modules.node_classification.dense import elu

Activation = Literal["relu", "leaky_relu", "tanh", "elu"]
Readout = Literal["mean", "jumping", "mlp"]

_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),  # FactorGCN's slope
    "tanh": torch.tanh,
    "elu": elu,
}


class LayerOutput(NamedTuple):
    """What a layer found.

    Attributes:
        out: ``[n, H]``; of a layer with factors their blocks side by side.
        factors: ``[m, K]``, share of each edge in each factor (a head, a channel), or None.
        weights: ``[m, K]``, what the layer's sums were weighted with, or None where nobody asks.
    """

    out: Tensor
    factors: Tensor | None = None
    weights: Tensor | None = None


class GraphNetwork(nn.Module):
    """Layers over the nodes of many graphs, then a readout.

    After each layer, in this order: division by the root of the graph's size, batch normalisation, activation.

    Args:
        in_channels: width of the features, or number of node types where they are embedded.
        embedding_channels: width of the embedding of node types; None where nodes have features.
        make_layer: the layer of a number for an input of a width, which returns a :class:`LayerOutput`.
        hidden_channels: width H of every layer's output.
        num_layers: how many.
        out_channels: predictions C.
        activation: after each layer.
        batch_norm: over the nodes of the batch. Under DDP its statistics are those of a process's share.
        size_norm: the division (benchmarking-gnns, arXiv 2003.00982).
        residual: adds a layer's input, through a linear map where the widths differ.
        readout: ``mean``, ``jumping`` or ``mlp``, see ``readouts.py``.
        dropout: of ``jumping`` on each level's contribution.
        of_nodes: predicts each node; with ``mlp`` alone.

    Shapes:
        input the batch's graphs; output predictions ``[B, C]``, or ``[n, C]`` of nodes, and what each layer
        found.
    """

    def __init__(
        self,
        in_channels: PositiveInt,
        embedding_channels: PositiveInt | None,
        make_layer: Callable[[int, int], nn.Module],
        hidden_channels: PositiveInt,
        num_layers: PositiveInt,
        out_channels: PositiveInt,
        activation: Activation,
        batch_norm: bool,
        size_norm: bool,
        residual: bool,
        readout: Readout,
        dropout: Probability,
        of_nodes: bool,
    ) -> None:
        super().__init__()
        self.size_norm = size_norm
        self.activation = activation
        self.embedding = None if embedding_channels is None else nn.Embedding(in_channels, embedding_channels)
        widths = [embedding_channels or in_channels, *[hidden_channels] * num_layers]
        self.layers = nn.ModuleList(make_layer(number, width) for number, width in enumerate(widths[:-1]))
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(hidden_channels) if batch_norm else nn.Identity() for _ in range(num_layers)
        )
        self.shortcuts = nn.ModuleList(
            nn.Identity() if width == hidden_channels else nn.Linear(width, hidden_channels, bias=False)
            for width in (widths[:-1] if residual else [])
        )
        self.readout: nn.Module
        if readout == "mean":
            self.readout = MeanReadout(hidden_channels, out_channels)
        elif readout == "jumping":
            self.readout = JumpingReadout(widths, out_channels, dropout)
        else:
            self.readout = MLPReadout(hidden_channels, out_channels, of_nodes)

    def forward(self, graphs: Graphs) -> tuple[Tensor, list[LayerOutput]]:
        x = graphs.x if self.embedding is None else self.embedding(graphs.x)
        levels, found = [x], []
        activation = _ACTIVATIONS[self.activation]
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            output: LayerOutput = layer(x, graphs)
            found.append(output)
            h = output.out
            if self.size_norm:
                h = h * graphs.nodes.centres(graphs.sizes.rsqrt().to(h.dtype)).unsqueeze(1)
            if self.shortcuts:
                h = h + self.shortcuts[number](x)
            x = activation(norm(h))
            levels.append(x)
        return self.readout(levels, graphs), found


def check_network(target: Target, readout: Readout, measured_layer: int, num_layers: int) -> None:
    """Whether settings of a network go together.

    Raises:
        UserError: the readout cannot give what is asked for, or there is no layer to measure.
    """
    if target == "node_class" and readout != "mlp":
        raise UserError(
            f"model.readout={readout} predicts whole graphs, and the data ask for each node's class."
            " Use model.readout=mlp."
        )
    if measured_layer > num_layers:
        raise UserError(
            f"model.measured_layer={measured_layer}: there are {num_layers} layers."
            f" Set model.measured_layer to at most {num_layers}."
        )
