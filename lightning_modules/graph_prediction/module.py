"""Training of a network that predicts graphs, or their nodes, in mini-batches; in one split or in folds."""

import copy
from abc import abstractmethod
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pytorch_lightning import LightningDataModule, Trainer
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection

from harness.annotations import ClassSpec
from harness.errors import UserError
from lightning_modules.experiment import ExperimentModule
from lightning_modules.graph_prediction.batch import Graphs
from lightning_modules.graph_prediction.disentanglement_metric import Disentanglement
from lightning_modules.graph_prediction.factor_gallery import draw_factors
from lightning_modules.graph_prediction.fold_pictures import draw_folds
from lightning_modules.graph_prediction.folds import FoldAccuracy, Folds
from lightning_modules.graph_prediction.networks import LayerOutput, PredictionNetwork
from lightning_modules.graph_prediction.targets import (
    Target,
    in_order,
    is_multi_label,
    is_of_nodes,
    shown,
    target_metrics,
    task_loss,
    update_metrics,
)
from lightning_modules.optimizers import build_optimizer, build_scheduler

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from datamodules.graph_sets import GraphSetDataModule

Batch = dict[str, Tensor]


class GraphPredictor(ExperimentModule):
    """Trains a :class:`PredictionNetwork` on the batches of a ``GraphSetDataModule``.

    With ``folds`` above 1 every fold is a phase that begins with new weights, and the run is the whole
    cross-validation: ``test/acc`` is the mean over folds, ``test/acc_std`` their deviation. By the protocol
    ``gin`` both are those of the one epoch at which the mean is best, ``test/acc_last`` is what the weights
    reach that are kept; by ``holdout`` each fold is tested with the weights that its validation chose.

    A subclass says what its network is in :meth:`make_network` and makes the first one in its constructor.

    Args:
        num_classes: labels or classes C; 1 for a number.
        target: what is predicted.
        folds: parts of the cross-validation; 1 for one fixed split.
        protocol: of the cross-validation, ``gin`` or ``holdout``.
        optimizer: ``{name: class of torch.optim, **keywords}``.
        scheduler: ``{name: class of torch.optim.lr_scheduler, **keywords}``, stepped once an epoch, or None;
            ``ReduceLROnPlateau`` looks at ``val/loss``.
        stop_below_lr: learning rate below which training ends, or None.
        measured_layer: layer, from 1 on, whose factors the test compares with the data's own, where both have
            some: GED_E and C-Score, see ``disentanglement.py``.

    Raises:
        UserError: a cross-validation of something else than a class.
    """

    task = "graph_prediction"
    not_compiled = "torch.compile cannot trace its sparse sums and its own compiled loops"
    training_only: ClassVar[tuple[str, ...]] = ("dropout", "stop_below_lr")
    plateau_metric = "val/loss"
    logit_threshold: float = 0.0  # above it a label counts as predicted
    network: PredictionNetwork

    def __init__(
        self,
        num_classes: int,
        target: Target,
        folds: int,
        protocol: Literal["gin", "holdout"],
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
        stop_below_lr: float | None,
        measured_layer: int,
    ) -> None:
        super().__init__()
        if folds > 1 and target != "class":
            raise UserError(f"data.folds={folds} needs data.target=class, got {target}. Set data.folds=1.")
        self.num_classes = num_classes
        self.target: Target = target
        self.folds, self.protocol = folds, protocol
        self.stop_below_lr = stop_below_lr
        self.measured_layer = measured_layer
        self._optimizer_spec, self._scheduler_spec = optimizer, scheduler
        self._kept = Folds()
        self.train_metrics = target_metrics(target, "train", num_classes)
        self.val_metrics = target_metrics(target, "val", num_classes)
        self.test_metrics = target_metrics(target, "test", num_classes)
        self.fold_accuracy = FoldAccuracy(folds)
        self.disentanglement: Disentanglement | None = None
        self._exact: tuple[PredictionNetwork, ...] = ()  # in a tuple it is no submodule

    @abstractmethod
    def make_network(self) -> PredictionNetwork:
        """A network with weights drawn from the global generator."""

    @property
    def phases(self) -> tuple[str, ...]:
        if self.folds == 1:
            return ("fit",)
        return tuple(f"fold_{number}" for number in range(1, self.folds + 1))

    def forward(self, batch: Batch) -> Tensor:
        """Predictions of a batch: ``[B, C]``, or ``[n, C]`` of nodes."""
        return self.network(self.graphs(batch))[0]

    def graphs(self, batch: Batch) -> Graphs:
        """The batch as the network takes it, in the type of its weights."""
        return Graphs.of(batch, next(self.network.parameters()).dtype)

    # Training

    def on_phase_start(self, datamodule: LightningDataModule) -> None:
        data = graph_sets_of(datamodule)
        has_types = data.splits["test"].x.dim() == 1 and not data.one_hot
        if has_types != (self.network.embedding is not None):
            right = "of types, which need an embedding. Try model.embedding_channels=36."
            wrong = "with features, which need no embedding. Set model.embedding_channels=null."
            raise UserError(
                f"model.embedding_channels is {'null' if has_types else 'a number'}: data={data.choice} has"
                f" nodes {right if has_types else wrong}"
            )
        if self.folds > 1:
            graph_sets_of(datamodule).use_fold(self.phase_index)
            self.network = self.make_network()  # the harness has seeded the phase
            self._kept.begin(self.phase_index)

    def on_fit_start(self) -> None:
        if self.folds == 1:
            return
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]
        # callbacks/best_weights.py, known by what it has
        best = next((callback for callback in callbacks if hasattr(callback, "best_epoch")), None)
        if self.protocol == "gin" and best is not None and best.patience is not None:
            raise UserError(
                f"callbacks.best_weights.patience={best.patience}: data.protocol=gin compares the same epoch"
                " of all folds, so none may stop early."
                " Set callbacks.best_weights.patience=null, or data.protocol=holdout."
            )
        if self.protocol == "holdout" and (best is None or best.monitor is None):
            raise UserError(
                "callbacks.best_weights.monitor=null: data.protocol=holdout tests the weights that the"
                " validation chooses. Set callbacks.best_weights.monitor=val/acc."
            )

    def training_loss(
        self, batch: Batch, predicted: Tensor, graphs: Graphs, found: list[LayerOutput]
    ) -> Tensor:
        """What training minimises, a scalar; a subclass may ask for more than the targets."""
        return task_loss(self.target, predicted, batch["y"])

    def train_averages(self) -> dict[str, MeanMetric]:
        """Further averages over an epoch's training, by name; a subclass has some."""
        return {}

    def on_train_epoch_start(self) -> None:
        self.train_metrics.reset()
        for average in self.train_averages().values():
            average.reset()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        graphs = self.graphs(batch)
        predicted, found = self.network(graphs)
        loss = self.training_loss(batch, predicted, graphs, found)
        self._count(self.train_metrics, loss.detach(), predicted.detach(), batch)
        return loss

    def _count(self, metrics: MetricCollection, loss: Tensor, predicted: Tensor, batch: Batch) -> None:
        update_metrics(metrics, self.target, loss, predicted, batch["y"], self.logit_threshold)

    def on_validated(self, batch: Batch, graphs: Graphs, found: list[LayerOutput]) -> None:
        """Looks at what the layers found of a validation batch; a subclass may."""

    def on_train_epoch_end(self) -> None:
        self._log(self.train_metrics.compute())
        self._log({name: average.compute() for name, average in self.train_averages().items()})
        if self.stop_below_lr is not None:
            rates = [group["lr"] for group in self.trainer.optimizers[0].param_groups]
            if max(rates) < self.stop_below_lr:
                self.trainer.should_stop = True

    def on_validation_epoch_start(self) -> None:
        self.val_metrics.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        graphs = self.graphs(batch)
        predicted, found = self.network(graphs)
        self._count(self.val_metrics, task_loss(self.target, predicted, batch["y"]), predicted, batch)
        self.on_validated(batch, graphs, found)

    def on_validation_epoch_end(self) -> None:
        metrics = self.val_metrics.compute()
        self._log(metrics)
        if self.folds > 1:
            self._kept.curves[self.phase_index].append(float(metrics["val/acc"]))

    def on_phase_end(self, trainer: Trainer, datamodule: LightningDataModule) -> dict[str, float]:
        if self.folds > 1:
            self._kept.finish(self.network)
        return {}

    def configure_optimizers(self) -> Any:
        return self.optimizers_of(list(self.network.parameters()))

    def optimizers_of(self, parameters: list[nn.Parameter]) -> Any:
        """The optimiser of some parameters and its schedule, as Lightning takes them."""
        optimizer = build_optimizer([{"params": parameters}], self._optimizer_spec)
        if self._scheduler_spec is None:
            return optimizer
        scheduler = build_scheduler(optimizer, self._scheduler_spec, self.planned_epochs)
        schedule = {"scheduler": scheduler, "interval": "epoch", "monitor": self.plateau_metric}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["folds"] = self._kept.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._kept = Folds.from_state(checkpoint.get("folds") or {})

    # Test and prediction

    def on_test_epoch_start(self) -> None:
        self.test_metrics.reset()
        self.fold_accuracy.reset()
        self.disentanglement = None
        self._exact = ()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        predicted = self._tested(batch)
        self._count(self.test_metrics, task_loss(self.target, predicted, batch["y"]), predicted, batch)
        if self.folds > 1:
            self.fold_accuracy.update(predicted, batch["y"], batch["fold"])
        elif "edge_factors" in batch:
            factors = self.exact_factors(batch)
            if factors is not None:
                if self.disentanglement is None:
                    sizes = batch["edge_factors"].size(1), factors.size(1)
                    self.disentanglement = Disentanglement(*sizes).to(self.device)
                self.disentanglement.update(factors, batch)

    @torch.no_grad()
    def exact_factors(self, batch: Batch) -> Tensor | None:
        """Factor weights ``[m, K]`` of the measured layer, computed in float64, or None where it has none.

        In float32 most weights of a trained layer round to 0 or 1, and which edges are the heaviest would be
        decided by their order.
        """
        if not self._exact:
            self._exact = (copy.deepcopy(self.network).double().eval(),)
        with torch.autocast(self.device.type, enabled=False):
            _, found = self._exact[0](Graphs.of(batch, torch.float64))
        return found[self.measured_layer - 1].factors

    def _tested(self, batch: Batch) -> Tensor:
        """Predictions by the network of the split, or of each graph's fold."""
        if self.folds == 1:
            return self(batch)
        return self._kept.predict(self.network, self.graphs(batch), batch["fold"])

    def on_test_epoch_end(self) -> None:
        metrics: dict[str, Any] = in_order(self.test_metrics.compute())
        if self.folds > 1:
            each = self.fold_accuracy.compute()
            metrics |= {"test/acc": each["acc"], "test/acc_std": each["acc_std"]}
            if self.protocol == "gin":
                _, mean, deviation = self._kept.best_epoch()
                metrics |= {"test/acc": mean, "test/acc_std": deviation, "test/acc_last": each["acc"]}
        if self.disentanglement is not None:
            metrics |= {f"test/{name}": value for name, value in self.disentanglement.compute().items()}
        self._log(metrics)

    def _log(self, metrics: dict[str, Any]) -> None:
        # Gathered from all processes already: sync_dist changes nothing, and spares a warning that it is left
        # out. callbacks/metric_log.py writes the row.
        self.log_dict(metrics, logger=False, sync_dist=True)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Probabilities of labels or classes, or numbers: ``[B, C]``, of nodes ``[n, C]``."""
        return shown(self.target, self._tested(batch))

    def prediction_rows(
        self, outputs: list[Tensor], datamodule: LightningDataModule
    ) -> Iterator[dict[str, Any]]:
        """One row a test graph, or a node of one: its number, the truth, the prediction, all probabilities.

        Args:
            outputs: what ``trainer.predict`` returned.
            datamodule: the graphs' data module.
        """
        data = graph_sets_of(datamodule)
        test, names = data.splits["test"], data.class_names
        values = torch.cat(outputs).tolist()
        truths = test.y.tolist()
        if is_of_nodes(self.target):
            sizes = test.ptr.diff()
            graph = test.index.repeat_interleave(sizes).tolist()
            node = (torch.arange(len(truths)) - test.ptr[:-1].repeat_interleave(sizes)).tolist()
            keys: list[dict[str, Any]] = [{"graph": g, "node": n} for g, n in zip(graph, node, strict=True)]
        else:
            keys = [{"graph": number} for number in test.index.tolist()]
            if self.folds > 1:
                keys = [k | {"fold": 1 + fold} for k, fold in zip(keys, test.fold.tolist(), strict=True)]
        for key, truth, value in zip(keys, truths, values, strict=True):
            if self.target == "value":
                yield key | {"true": f"{truth:.6f}", "predicted": f"{value[0]:.6f}"}
                continue
            if is_multi_label(self.target):
                true, found = _joined(names, truth), _joined(names, [share > 0.5 for share in value])
            else:
                true, found = names[truth], names[max(range(len(value)), key=value.__getitem__)]
            shares = {f"p({name})": f"{share:.6f}" for name, share in zip(names, value, strict=True)}
            yield key | {"true": true, "predicted": found, **shares}

    # Pictures

    def training_figure(self, rows: list[dict[str, Any]]) -> "Figure | None":
        from harness.curves import training_curves

        if self.folds > 1:
            return None if not self._kept.curves[0] else draw_folds(self._kept.curves, self.folds)
        if is_multi_label(self.target):
            return training_curves(rows, metric="f1", metric_label="Micro-F1 (%)")
        if self.target == "value":
            return training_curves(rows, metric="mae", metric_label="Mean absolute error", factor=1.0)
        return None

    def figures(
        self, datamodule: LightningDataModule, published: dict[str, Any] | None
    ) -> Iterator[tuple[str, "Figure"]]:
        yield from draw_factors(self, graph_sets_of(datamodule))


def _joined(names: tuple[str, ...], flags: list[Any]) -> str:
    return "+".join(name for name, flag in zip(names, flags, strict=True) if flag)


def graph_sets_of(datamodule: LightningDataModule) -> "GraphSetDataModule":
    """The data module as one of many graphs.

    Raises:
        TypeError: if it is of another kind, or not set up.
    """
    from datamodules.graph_sets import GraphSetDataModule

    if not isinstance(datamodule, GraphSetDataModule) or not datamodule.splits:
        raise TypeError(f"{type(datamodule).__name__} has no sets of graphs: call its setup() first")
    return datamodule
