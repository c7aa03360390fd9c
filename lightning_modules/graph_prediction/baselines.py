"""The networks that methods for small graphs are compared with, under one protocol."""

from typing import Any, Literal

from torch import nn

from harness.annotations import ClassSpec, NonNegativeFloat, PositiveFloat, PositiveInt, Probability
from harness.errors import UserError
from lightning_modules.graph_prediction.layers import (
    DisenGCNLayer,
    GATLayer,
    GCNLayer,
    GINLayer,
    MLPLayer,
)
from lightning_modules.graph_prediction.module import GraphPredictor
from lightning_modules.graph_prediction.networks import Frame, GraphNetwork, check_network
from lightning_modules.graph_prediction.targets import is_of_nodes


class GraphBaseline(GraphPredictor):
    """MLP, GCN, GAT, GIN or DisenGCN for whole graphs. Arguments: see :class:`GraphPredictor` and below.

    Args:
        in_channels: width of the features, or number of node types.
        num_classes: labels or classes; 1 for a number.
        target: what is predicted.
        folds: parts of the cross-validation.
        protocol: of the cross-validation.
        layer: which of the five.
        embedding_channels: width of the embedding of node types; None where nodes have features.
        hidden_channels: width of every layer's output.
        num_layers: how many layers.
        heads: heads of ``gat``, channels of ``disengcn``; divides ``hidden_channels``. None for the others.
        routing_steps: of ``disengcn``; None for the others.
        negative_slope: of the leaky ReLU in ``gat``; None for the others.
        activation: after each layer.
        batch_norm: after each layer, before the activation.
        size_norm: features divided by the root of the graph's size.
        residual: adds each layer's input to its output.
        readout: ``mean``, ``jumping`` or ``mlp``.
        dropout: of ``readout=jumping`` on each level's contribution.
        optimizer: ``{name: class of torch.optim, **keywords}``.
        scheduler: ``{name: class of torch.optim.lr_scheduler, **keywords}`` or None.
        stop_below_lr: learning rate below which training ends, or None.
        measured_layer: layer, from 1 on, whose heads or channels are compared with the data's own factors.

    Raises:
        UserError: ``heads`` or ``routing_steps`` is missing where the layer needs it, or does not fit.
    """

    task = "graph_prediction"

    def __init__(
        self,
        in_channels: PositiveInt,
        num_classes: PositiveInt,
        target: Literal["multi_label", "class", "value", "node_class", "node_multi_label"],
        folds: PositiveInt,
        protocol: Literal["gin", "holdout"],
        layer: Literal["mlp", "gcn", "gat", "gin", "disengcn"],
        embedding_channels: PositiveInt | None,
        hidden_channels: PositiveInt,
        num_layers: PositiveInt,
        heads: PositiveInt | None,
        routing_steps: PositiveInt | None,
        negative_slope: NonNegativeFloat | None,
        activation: Literal["relu", "leaky_relu", "tanh", "elu"],
        batch_norm: bool,
        size_norm: bool,
        residual: bool,
        readout: Literal["mean", "jumping", "mlp"],
        dropout: Probability,
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
        stop_below_lr: PositiveFloat | None,
        measured_layer: PositiveInt,
    ) -> None:
        settings = (optimizer, scheduler, stop_below_lr, measured_layer)
        super().__init__(num_classes, target, folds, protocol, *settings)
        self.save_hyperparameters()
        needs: dict[str, dict[str, Any]] = {
            "gat": {"heads": heads, "negative_slope": negative_slope},
            "disengcn": {"heads": heads, "routing_steps": routing_steps},
        }
        needed = needs.get(layer, {})
        for key, value in needed.items():
            if value is None:
                raise UserError(f"model.{key}=null: model.layer={layer} needs a number. Try model.{key}=4.")
        if needed and hidden_channels % (heads or 1):
            raise UserError(
                f"model.heads must divide model.hidden_channels, got heads={heads} and"
                f" hidden_channels={hidden_channels}. Try model.hidden_channels={heads} times a whole number."
            )
        check_network(target, readout, measured_layer, num_layers)
        self._layer, self._heads = layer, heads or 1
        self._routing_steps, self._negative_slope = routing_steps or 1, negative_slope or 0.0
        self._frame = Frame(
            in_channels=in_channels,
            embedding_channels=embedding_channels,
            hidden_channels=hidden_channels,
            num_layers=num_layers,
            out_channels=num_classes,
            activation=activation,
            batch_norm=batch_norm,
            size_norm=size_norm,
            residual=residual,
            readout=readout,
            dropout=dropout,
            of_nodes=is_of_nodes(target),
        )
        self.network = self.make_network()

    def make_network(self) -> GraphNetwork:
        return GraphNetwork(self._frame, self._make_layer)

    def _make_layer(self, number: int, in_channels: int) -> nn.Module:
        width = self._frame.hidden_channels
        if self._layer == "gcn":
            return GCNLayer(in_channels, width)
        if self._layer == "gat":
            return GATLayer(in_channels, width, self._heads, self._negative_slope)
        if self._layer == "gin":
            return GINLayer(in_channels, width)
        if self._layer == "disengcn":
            return DisenGCNLayer(in_channels, width, self._heads, self._routing_steps)
        return MLPLayer(in_channels, width)
