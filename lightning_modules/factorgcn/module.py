"""Training of FactorGCN: the task's loss plus that of recognising factors."""

import math
from typing import Any, ClassVar, Literal

from torch import Tensor, nn
from torchmetrics import MeanMetric

from harness.annotations import (
    ClassSpec,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Probability,
)
from harness.errors import UserError
from lightning_modules.factorgcn.losses import balance_loss, discriminator_accuracy, discriminator_loss
from lightning_modules.factorgcn.network import FactorNetwork
from lightning_modules.graph_prediction.batch import Graphs
from lightning_modules.graph_prediction.module import Batch, GraphPredictor
from lightning_modules.graph_prediction.networks import Frame, LayerOutput, check_network
from lightning_modules.graph_prediction.targets import is_of_nodes, task_loss


class FactorGCN(GraphPredictor):
    """Factorizable graph convolutions (Yang et al., NeurIPS 2020, arXiv 2010.05421).

    ``loss = loss of the task + discriminator_weight * sum over layers of L_dis``. Layers with
    one factor have no discriminator loss. Departures from the authors' code: the test is that of the test
    split (theirs is the validation split's), losses are means over samples, dropout ends with training, and
    disentanglement is measured in float64 with ties broken at random. One discriminator a layer, left out of
    the computation where its loss has no weight and in evaluation.

    Arguments: see :class:`GraphPredictor` and below.

    Args:
        in_channels: width of the features, or number of node types.
        num_classes: labels or classes; 1 for a number.
        target: what is predicted.
        folds: parts of the cross-validation.
        protocol: of the cross-validation.
        embedding_channels: width of the embedding of node types; None where nodes have features.
        factors: factors K of each layer.
        hidden_channels: width H of every layer's output; a multiple of each K.
        temperature: of the sigmoid that splits an edge.
        norm: ``source`` divides by the root of the sender's degree, ``symmetric`` by that of both.
        activation: after each layer.
        batch_norm: after each layer, before the activation.
        size_norm: features divided by the root of the graph's size.
        readout: ``mean``, ``jumping`` or ``mlp``.
        dropout: of ``readout=jumping`` on each level's contribution.
        discriminator_weight: lambda.
        balance_weight: of the authors' unused penalty on uneven factors.
        optimizer: ``{name: class of torch.optim, **keywords}``.
        scheduler: ``{name: class of torch.optim.lr_scheduler, **keywords}`` or None.
        stop_below_lr: learning rate below which training ends, or None.
        measured_layer: layer, from 1 on, whose factors are compared with the data's own.

    Raises:
        UserError: a number of factors does not divide ``hidden_channels``.
    """

    task = "graph_prediction"
    network: FactorNetwork
    training_only: ClassVar[tuple[str, ...]] = (
        *GraphPredictor.training_only,
        "discriminator_weight",
        "balance_weight",
    )

    def __init__(
        self,
        in_channels: PositiveInt,
        num_classes: PositiveInt,
        target: Literal["multi_label", "class", "value", "node_class", "node_multi_label"],
        folds: PositiveInt,
        protocol: Literal["gin", "holdout"],
        embedding_channels: PositiveInt | None,
        factors: list[PositiveInt],
        hidden_channels: PositiveInt,
        temperature: PositiveFloat,
        norm: Literal["source", "symmetric"],
        activation: Literal["relu", "leaky_relu", "tanh", "elu"],
        batch_norm: bool,
        size_norm: bool,
        readout: Literal["mean", "jumping", "mlp"],
        dropout: Probability,
        discriminator_weight: NonNegativeFloat,
        balance_weight: NonNegativeFloat,
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
        stop_below_lr: PositiveFloat | None,
        measured_layer: PositiveInt,
    ) -> None:
        settings = (optimizer, scheduler, stop_below_lr, measured_layer)
        super().__init__(num_classes, target, folds, protocol, *settings)
        self.save_hyperparameters()
        if not factors:
            raise UserError("model.factors=[] leaves no layer. Try model.factors=[4,2].")
        for number in factors:
            if hidden_channels % number:
                raise UserError(
                    f"model.factors={list(factors)}: each must divide"
                    f" model.hidden_channels={hidden_channels}, and {number} does not."
                    f" Try model.hidden_channels={math.lcm(*factors) * 8}."
                )
        check_network(target, readout, measured_layer, len(factors))
        self.factors = list(factors)
        self.discriminator_weight, self.balance_weight = discriminator_weight, balance_weight
        self._temperature, self._norm = temperature, norm
        self._frame = Frame(
            in_channels=in_channels,
            embedding_channels=embedding_channels,
            hidden_channels=hidden_channels,
            num_layers=len(factors),
            out_channels=num_classes,
            activation=activation,
            batch_norm=batch_norm,
            size_norm=size_norm,
            residual=False,  # the authors' flag is without effect
            readout=readout,
            dropout=dropout,
            of_nodes=is_of_nodes(target),
        )
        self.network = self.make_network()
        recognised = [number for number, count in enumerate(factors, start=1) if count > 1]
        names = [f"dis_{name}_{number}" for number in recognised for name in ("loss", "acc")]
        names = ["task_loss", *(names if discriminator_weight > 0 else [])]
        self.averages = nn.ModuleDict({name: MeanMetric(nan_strategy="disable") for name in names})

    def make_network(self) -> FactorNetwork:
        network = FactorNetwork(self._frame, self.factors, self._temperature, self._norm)
        network.discriminators.requires_grad_(self.discriminator_weight > 0)  # DDP asks each for a gradient
        return network

    def training_loss(
        self, batch: Batch, predicted: Tensor, graphs: Graphs, found: list[LayerOutput]
    ) -> Tensor:
        loss = task_loss(self.target, predicted, batch["y"])
        self._note("task_loss", loss, graphs)
        for number, (count, output) in enumerate(zip(self.factors, found, strict=True)):
            if count > 1 and self.discriminator_weight > 0:
                logits = self.network.recognise(number, output, graphs)
                lost = discriminator_loss(logits)
                loss = loss + self.discriminator_weight * lost
                self._note(f"dis_loss_{number + 1}", lost, graphs)
                self._note(f"dis_acc_{number + 1}", discriminator_accuracy(logits), graphs)
            if count > 1 and self.balance_weight > 0:
                assert output.factors is not None
                loss = loss + self.balance_weight * balance_loss(output.factors, graphs)
        return loss

    def _note(self, name: str, value: Tensor, graphs: Graphs) -> None:
        # once per graph, so that a short last batch counts for less
        average: Any = self.averages[name]
        average.update(value.detach().expand(graphs.num_graphs))

    def train_averages(self) -> dict[str, Any]:
        return {f"train/{name}": average for name, average in self.averages.items()}
