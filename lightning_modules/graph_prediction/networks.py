"""The frame that all networks for small graphs share: input, layers with what follows each, readout."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.errors import UserError
from lightning_modules.graph_prediction.batch import Graphs
from lightning_modules.graph_prediction.readouts import JumpingReadout, MeanReadout, MLPReadout
from lightning_modules.graph_prediction.targets import Target, is_of_nodes
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


@dataclass(frozen=True)
class Frame:
    """What a network consists of, but for its layers.

    Attributes:
        in_channels: width of the features, or number of node types where they are embedded.
        embedding_channels: width of the embedding of node types; None where nodes have features.
        hidden_channels: width H of every layer's output.
        num_layers: how many.
        out_channels: predictions C.
        activation: after each layer.
        batch_norm: over the nodes of the batch. Under DDP its statistics are those of a process's share.
        size_norm: features divided by the root of the graph's size (benchmarking-gnns, arXiv 2003.00982).
        residual: adds a layer's input, through a linear map where the widths differ.
        readout: ``mean``, ``jumping`` or ``mlp``, see ``readouts.py``.
        dropout: of ``jumping`` on each level's contribution.
        of_nodes: predicts each node; with ``mlp`` alone.
    """

    in_channels: int
    embedding_channels: int | None
    hidden_channels: int
    num_layers: int
    out_channels: int
    activation: Activation
    batch_norm: bool
    size_norm: bool
    residual: bool
    readout: Readout
    dropout: float
    of_nodes: bool


class PredictionNetwork(nn.Module):
    """A network that predicts graphs or their nodes, and what each of its layers found.

    Its ``forward`` takes the batch's :class:`Graphs` and returns predictions ``[B, C]``, or ``[n, C]`` of
    nodes, and a :class:`LayerOutput` of each layer.
    """

    embedding: nn.Embedding | None
    """Of node types; None where nodes have features."""


class GraphNetwork(PredictionNetwork):
    """Layers over the nodes of many graphs, then a readout.

    After each layer, in this order: division by the root of the graph's size, the layer's input, batch
    normalisation, activation.

    Args:
        frame: everything but the layers.
        make_layer: the layer of a number for an input of a width, which returns a :class:`LayerOutput`.

    Shapes:
        input the batch's graphs; output predictions ``[B, C]``, or ``[n, C]`` of nodes, and what each layer
        found.
    """

    def __init__(self, frame: Frame, make_layer: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        hidden, count = frame.hidden_channels, frame.num_layers
        width = frame.embedding_channels or frame.in_channels
        widths = [width, *[hidden] * count]
        self.size_norm, self.activation = frame.size_norm, frame.activation
        self.embedding = None if frame.embedding_channels is None else nn.Embedding(frame.in_channels, width)
        self.layers = nn.ModuleList(make_layer(number, width) for number, width in enumerate(widths[:-1]))
        self.norms = nn.ModuleList(
            nn.BatchNorm1d(hidden) if frame.batch_norm else nn.Identity() for _ in range(count)
        )
        self.shortcuts = nn.ModuleList(
            nn.Identity() if width == hidden else nn.Linear(width, hidden, bias=False)
            for width in (widths[:-1] if frame.residual else [])
        )
        self.readout: nn.Module
        if frame.readout == "mean":
            self.readout = MeanReadout(hidden, frame.out_channels)
        elif frame.readout == "jumping":
            self.readout = JumpingReadout(widths, frame.out_channels, frame.dropout)
        else:
            self.readout = MLPReadout(hidden, frame.out_channels, frame.of_nodes)

    def forward(self, graphs: Graphs) -> tuple[Tensor, list[LayerOutput]]:
        x = graphs.x if self.embedding is None else self.embedding(graphs.x)
        levels, found = [x], []
        activation = _ACTIVATIONS[self.activation]
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            output: LayerOutput = layer(x, graphs)
            found.append(output)
            h = output.out.to(levels[0].dtype)  # sums over edges come in at least float32
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
    if is_of_nodes(target) and readout != "mlp":
        raise UserError(
            f"model.readout={readout} predicts whole graphs, and the data ask for each node's"
            f" {'class' if target == 'node_class' else 'labels'}."
            " Use model.readout=mlp."
        )
    if measured_layer > num_layers:
        raise UserError(
            f"model.measured_layer={measured_layer}: there are {num_layers} layers."
            f" Set model.measured_layer to at most {num_layers}."
        )
