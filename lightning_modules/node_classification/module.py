"""Node classification on one graph: the training that MLP, GCN, GAT and SPAGAN share."""

import copy
from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningDataModule
from torch import Tensor, nn
from torch_geometric.data import Data
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_f1_score

from harness.annotations import ClassSpec, NonNegativeFloat, PositiveInt, Probability
from lightning_modules.full_batch import FullBatchModule
from lightning_modules.node_classification.gat import GAT
from lightning_modules.node_classification.gcn import GCN
from lightning_modules.node_classification.graph import GraphInputs, prepare
from lightning_modules.node_classification.mlp import MLP


class NodeClassifier(FullBatchModule):
    """Trains a network to classify the nodes of one graph (semi-supervised, full batch).

    The loss is the negative log-likelihood of the training nodes; accuracy is logged beside it. A subclass
    builds :attr:`network`, which turns a :class:`GraphInputs` into log-probabilities ``[N, num_classes]``.

    Args:
        num_classes: number of classes.
        optimizer: ``{name: class of torch.optim, **keywords}``.
        scheduler: ``{name: class of torch.optim.lr_scheduler, **keywords}`` or None.
        epochs_per_call: epochs in one ``training_step``; speed only.
    """

    task = "node_classification"
    epoch_metrics = ("train/loss", "train/acc", "val/loss", "val/acc")
    training_only: ClassVar[tuple[str, ...]] = (*FullBatchModule.training_only, "dropout", "init")
    not_compiled = "torch.compile cannot trace its sparse products and its own compiled loops"
    network: nn.Module

    def __init__(
        self, num_classes: int, optimizer: ClassSpec, scheduler: ClassSpec | None, epochs_per_call: int
    ) -> None:
        super().__init__(optimizer, scheduler, epochs_per_call)
        self.num_classes = num_classes
        self._graph: Data | None = None
        self._prepared: tuple[GraphInputs, dict[str, Tensor]] | None = None

    def forward(self, graph: Data) -> Tensor:
        """Log-probabilities ``[N, num_classes]`` of every node of ``graph``."""
        output: Tensor = self.network(self.prepare(graph)[0])
        return output

    def prepare(self, graph: Data) -> tuple[GraphInputs, dict[str, Tensor]]:
        """Index structures of ``graph`` and the node ids of its splits, made once per graph and device."""
        y: Tensor = graph.y
        if (
            self._prepared is None
            or self._graph is not graph
            or self._prepared[0].edge_rows.device != y.device
        ):
            splits = {name: graph[f"{name}_mask"].nonzero().squeeze(1) for name in ("train", "val", "test")}
            self._graph, self._prepared = graph, (prepare(graph), splits)
        return self._prepared

    def training_loss(self, batch: Data) -> tuple[Tensor, dict[str, Tensor]]:
        loss, accuracy = self._loss_and_accuracy(batch, "train")
        return loss, {"train/acc": accuracy}

    def validation_metrics(self, batch: Data) -> dict[str, Tensor]:
        if self.prepare(batch)[1]["val"].numel() == 0:
            return {}
        loss, accuracy = self._loss_and_accuracy(batch, "val")
        return {"val/loss": loss, "val/acc": accuracy}

    def _loss_and_accuracy(self, batch: Data, split: str) -> tuple[Tensor, Tensor]:
        nodes = self.prepare(batch)[1][split]
        output, y = self(batch)[nodes], batch.y[nodes]
        return F.nll_loss(output, y), (output.detach().argmax(dim=-1) == y).float().mean()

    def test_step(self, batch: Data, batch_idx: int) -> None:
        metrics = self.test_metrics(batch)
        self.log_dict(metrics, logger=False, batch_size=1)

    @torch.no_grad()
    def test_metrics(self, batch: Data) -> dict[str, Tensor]:
        """Accuracy, macro F1 and loss on the test nodes, without dropout."""
        self.eval()
        nodes = self.prepare(batch)[1]["test"]
        output, y = self(batch)[nodes], batch.y[nodes]
        return {
            "test/acc": multiclass_accuracy(output, y, self.num_classes, average="micro"),
            "test/f1_macro": multiclass_f1_score(output, y, self.num_classes, average="macro"),
            "test/loss": F.nll_loss(output, y),
        }

    def predict_step(self, batch: Data, batch_idx: int) -> Tensor:
        """Class probabilities ``[N, num_classes]`` of every node."""
        return self(batch).exp()

    def prediction_rows(
        self, outputs: list[Tensor], datamodule: LightningDataModule
    ) -> Iterator[dict[str, Any]]:
        """One row a node: its split, true and predicted class by name, and all probabilities.

        Args:
            outputs: what ``trainer.predict`` returned.
            datamodule: the graph's data module.
        """
        graph = graph_of(datamodule)
        names = getattr(datamodule, "class_names", None) or [str(label) for label in range(self.num_classes)]
        split = torch.zeros_like(graph.y)
        for number, key in enumerate(("train", "val", "test"), start=1):
            split[graph[f"{key}_mask"]] = number
        nodes = zip(split.tolist(), graph.y.tolist(), outputs[0], strict=True)
        for node, (part, label, probabilities) in enumerate(nodes):
            shares = probabilities.tolist()
            yield {
                "node": node,
                "split": ("", "train", "val", "test")[part],
                "true": names[label],
                "predicted": names[max(range(self.num_classes), key=shares.__getitem__)],
                **{f"p({name})": f"{share:.6f}" for name, share in zip(names, shares, strict=True)},
            }


class MLPClassifier(NodeClassifier):
    """The baseline that sees features alone. Arguments: see :class:`NodeClassifier` and :class:`MLP`."""

    def __init__(
        self,
        in_channels: PositiveInt,
        num_classes: PositiveInt,
        hidden_channels: PositiveInt,
        dropout: Probability,
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
        epochs_per_call: PositiveInt,
    ) -> None:
        super().__init__(num_classes, optimizer, scheduler, epochs_per_call)
        self.save_hyperparameters()
        self.network: MLP = MLP(in_channels, hidden_channels, num_classes, dropout)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return decay_first_layer_only(self.network)


class GCNClassifier(NodeClassifier):
    """Graph convolutions (Kipf and Welling, arXiv 1609.02907).

    Arguments: see :class:`NodeClassifier` and :class:`GCN`.
    """

    def __init__(
        self,
        in_channels: PositiveInt,
        num_classes: PositiveInt,
        hidden_channels: PositiveInt,
        dropout: Probability,
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
        epochs_per_call: PositiveInt,
    ) -> None:
        super().__init__(num_classes, optimizer, scheduler, epochs_per_call)
        self.save_hyperparameters()
        self.network: GCN = GCN(in_channels, hidden_channels, num_classes, dropout)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return decay_first_layer_only(self.network)


class GATClassifier(NodeClassifier):
    """Attention over direct neighbours, as SPAGAN's first phase trains it.

    Arguments: see :class:`NodeClassifier` and :class:`GAT`.
    """

    def __init__(
        self,
        in_channels: PositiveInt,
        num_classes: PositiveInt,
        hidden_channels: PositiveInt,
        heads: PositiveInt,
        out_heads: PositiveInt,
        dropout: Probability,
        negative_slope: NonNegativeFloat,
        init: Literal["zero_bias", "authors"],
        elu_before_softmax: bool,
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
        epochs_per_call: PositiveInt,
    ) -> None:
        super().__init__(num_classes, optimizer, scheduler, epochs_per_call)
        self.save_hyperparameters()
        self.network = GAT(
            in_channels=in_channels,
            num_classes=num_classes,
            hidden_channels=hidden_channels,
            heads=heads,
            out_heads=out_heads,
            dropout=dropout,
            negative_slope=negative_slope,
            init=init,
            elu_before_softmax=elu_before_softmax,
        )


def decay_first_layer_only(network: MLP | GCN) -> list[dict[str, Any]]:
    """Parameter groups of GCN's protocol, weight decay on the first layer alone (arXiv 1609.02907, 5.2)."""
    hidden, output = list(network.hidden.parameters()), list(network.output.parameters())
    return [{"params": hidden}, {"params": output, "weight_decay": 0.0}]


def graph_of(datamodule: LightningDataModule, device: torch.device | None = None) -> Data:
    """The one graph that a node-classification data module holds after ``setup``.

    Args:
        datamodule: the run's data.
        device: where the graph is needed, as a copy if it is elsewhere; None takes it as it is.

    Raises:
        TypeError: if there is no graph.
    """
    graph = getattr(datamodule, "graph", None)
    if not isinstance(graph, Data):
        raise TypeError(f"{type(datamodule).__name__} has no graph: call its setup() first")
    return graph if device is None or graph.y.device == device else copy.copy(graph).to(device)
