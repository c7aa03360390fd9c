"""Training of a classifier of point clouds in mini-batches."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningDataModule
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from harness.annotations import ClassSpec, PositiveInt, Probability
from harness.errors import UserError
from lightning_modules.experiment import ExperimentModule
from lightning_modules.image_classification.pictures import draw_confusion
from lightning_modules.optimizers import build_optimizer, build_scheduler
from lightning_modules.point_cloud_classification.networks import DGCNN, EmbeddedClouds
from lightning_modules.point_cloud_classification.pictures import draw_clouds, draw_distances

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from datamodules.point_clouds import PointCloudDataModule

Batch = dict[str, Tensor]

DRAWN_CLOUDS = 4  # rows of the picture of distances


class PointCloudClassifier(ExperimentModule):
    """Trains a :class:`DGCNN` on the batches of a ``PointCloudDataModule``.

    A subclass may ask for more than the labels in :meth:`training_loss`, which is given all that the network
    has made of the batch, and name averages of its own in :meth:`train_averages`. Label smoothing is part of
    training alone: ``val/loss`` and ``test/loss`` are plain cross-entropies. ``acc`` counts clouds,
    ``mean_class_acc`` is the mean over classes of the share that is recognised.

    Args:
        num_points: points of a cloud.
        num_classes: number of classes.
        widths: output of each EdgeConv.
        embedding: width of a point's embedding.
        classifier: width of each hidden layer of the classifier.
        k: neighbours of a point, itself included; at most ``num_points``.
        dropout: after each hidden layer of the classifier.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).
        optimizer: ``{name: class of torch.optim, **keywords}``.
        scheduler: ``{name: class of torch.optim.lr_scheduler, **keywords}``, stepped once an epoch, or None.

    Raises:
        UserError: a point would have fewer than k neighbours, or there is no layer.
    """

    task = "point_cloud_classification"
    epoch_metrics: ClassVar[tuple[str, ...]] = (
        "train/loss",
        "train/acc",
        "train/mean_class_acc",
        "val/loss",
        "val/acc",
        "val/mean_class_acc",
    )
    not_compiled = "torch.compile cannot trace its own compiled loops"
    plateau_metric = "val/loss"
    training_only: ClassVar[tuple[str, ...]] = ("num_points", "dropout", "label_smoothing")

    network: DGCNN

    def __init__(
        self,
        num_points: int,
        num_classes: int,
        widths: Sequence[int],
        embedding: int,
        classifier: Sequence[int],
        k: int,
        dropout: float,
        label_smoothing: float,
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
    ) -> None:
        super().__init__()
        if k > num_points:
            raise UserError(
                f"model.k={k} must be at most data.num_points={num_points}, the points of a cloud, of which"
                f" a point is one. Try model.k={max(num_points // 16, 1)}."
            )
        for key, given in (("widths", widths), ("classifier", classifier)):
            if not given:
                raise UserError(f"model.{key} must have one width or more, got []. Try model.{key}=[64].")
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self._optimizer_spec = optimizer
        self._scheduler_spec = scheduler
        self.network = DGCNN(3, num_classes, widths, embedding, classifier, k, dropout)
        # Modules of their own, and not Lightning's averages, whose sums are in no checkpoint.
        self.train_metrics = _metrics("train", num_classes)
        self.val_metrics = _metrics("val", num_classes)
        self.test_metrics = _metrics("test", num_classes)

    def forward(self, pos: Tensor) -> Tensor:
        """Logits ``[B, num_classes]`` of clouds ``[B, n, 3]``."""
        embedded: EmbeddedClouds = self.network(pos)
        return embedded.logits

    # Training

    def on_phase_start(self, datamodule: LightningDataModule) -> None:
        """Refuses a batch of one cloud, over which the classifier's normalisation has no statistics.

        Raises:
            UserError: an epoch would have one.
        """
        data = clouds_of(datamodule)
        size, left = data.batch_size, len(data.splits["train"]) % data.batch_size
        if size == 1:
            raise UserError(
                "data.batch_size=1: batch normalisation needs two clouds or more. Try data.batch_size=32."
            )
        if left == 1 and not data.drop_last:
            raise UserError(
                f"data.batch_size={size} leaves a last batch of one cloud, and batch normalisation needs two."
                f" Set data.drop_last=true or data.batch_size={size + 1}."
            )

    def training_loss(self, batch: Batch, embedded: EmbeddedClouds) -> Tensor:
        """What training minimises, a scalar; a subclass may ask for more than the labels."""
        return F.cross_entropy(embedded.logits, batch["y"], label_smoothing=self.label_smoothing)

    def train_averages(self) -> dict[str, MeanMetric]:
        """Further averages over an epoch's training, by name; a subclass has some."""
        return {}

    def on_train_epoch_start(self) -> None:
        self.train_metrics.reset()
        for average in self.train_averages().values():
            average.reset()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        embedded = self.network(batch["pos"])
        loss = self.training_loss(batch, embedded)
        _update(self.train_metrics, loss.detach(), embedded.logits.detach(), batch["y"])
        return loss

    def on_train_epoch_end(self) -> None:
        averages = {name: average.compute() for name, average in self.train_averages().items()}
        self._log({**self.train_metrics.compute(), **averages})

    def on_validation_epoch_start(self) -> None:
        self.val_metrics.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.evaluate(self.val_metrics, batch)

    def on_validation_epoch_end(self) -> None:
        self._log(self.val_metrics.compute())

    def on_test_epoch_start(self) -> None:
        self.test_metrics.reset()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self.evaluate(self.test_metrics, batch)

    def on_test_epoch_end(self) -> None:
        self._log(self.test_metrics.compute())

    def evaluate(self, metrics: MetricCollection, batch: Batch) -> EmbeddedClouds:
        """Counts a batch of validation or test; returns what the network made of it."""
        embedded: EmbeddedClouds = self.network(batch["pos"])
        _update(metrics, F.cross_entropy(embedded.logits, batch["y"]), embedded.logits, batch["y"])
        return embedded

    def _log(self, metrics: dict[str, Any]) -> None:
        # Gathered from all processes already: sync_dist changes nothing, and spares a warning that it is left
        # out. callbacks/metric_log.py writes the row.
        self.log_dict(metrics, logger=False, sync_dist=True)

    def configure_optimizers(self) -> Any:
        return self.optimizers_of(list(self.parameters()))

    def optimizers_of(self, parameters: list[nn.Parameter]) -> Any:
        """The optimiser of some parameters and its schedule, as Lightning takes them."""
        optimizer = build_optimizer([{"params": parameters}], self._optimizer_spec)
        if self._scheduler_spec is None:
            return optimizer
        scheduler = build_scheduler(optimizer, self._scheduler_spec, self.planned_epochs)
        schedule = {"scheduler": scheduler, "interval": "epoch", "monitor": self.plateau_metric}
        return {"optimizer": optimizer, "lr_scheduler": schedule}

    # Prediction

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Class probabilities ``[B, num_classes]``."""
        return self(batch["pos"]).softmax(dim=-1)

    def prediction_rows(
        self, outputs: list[Tensor], datamodule: LightningDataModule
    ) -> Iterator[dict[str, Any]]:
        """One row a test cloud: its number, true and predicted class by name, and all probabilities.

        Args:
            outputs: what ``trainer.predict`` returned.
            datamodule: the clouds' data module.
        """
        data = clouds_of(datamodule)
        test, names = data.splits["test"], data.class_names
        each = zip(test.index.tolist(), test.labels.tolist(), chain.from_iterable(outputs), strict=True)
        for index, label, probabilities in each:
            shares = probabilities.tolist()
            yield {
                "index": index,
                "true": names[label],
                "predicted": names[max(range(self.num_classes), key=shares.__getitem__)],
                **{f"p({name})": f"{share:.6f}" for name, share in zip(names, shares, strict=True)},
            }

    # Pictures

    def prediction_figures(
        self, outputs: list[Tensor], datamodule: LightningDataModule
    ) -> Iterator[tuple[str, "Figure"]]:
        yield "predictions", _gallery(datamodule, torch.cat(outputs).float().cpu())

    def figures(
        self, datamodule: LightningDataModule, published: dict[str, Any] | None
    ) -> Iterator[tuple[str, "Figure"]]:
        data = clouds_of(datamodule)
        test = data.splits["test"]
        # anew and not from the test's own steps, of which each process saw its share alone
        probabilities = self.probabilities(data.predict_dataloader()).cpu()
        places = test.labels * self.num_classes + probabilities.argmax(dim=1)
        counts = places.bincount(minlength=self.num_classes**2).view(self.num_classes, -1)
        yield "confusion", draw_confusion(counts.numpy(), data.class_names, "clouds")
        yield "clouds", _gallery(datamodule, probabilities)
        chosen = one_of_each_class(test.labels)[:DRAWN_CLOUDS]
        pos = test.pos[chosen]
        names = [data.class_names[label] for label in test.labels[chosen].tolist()]
        yield "distances", draw_distances(pos, self.spaces(pos), names)

    def spaces(self, pos: Tensor) -> dict[str, Tensor]:
        """Features ``[B, n, C]`` of clouds ``[B, n, 3]`` that distances are drawn in, by heading."""
        return {f"after layer {number}": found for number, found in enumerate(self.features(pos), 1)}

    @torch.no_grad()
    def probabilities(self, batches: Iterable[Batch]) -> Tensor:
        """Class probabilities ``[N, num_classes]`` of all clouds of ``batches``, in eval mode."""
        self.eval()
        dtype = next(self.parameters()).dtype
        found = [self(batch["pos"].to(self.device, dtype)).softmax(dim=-1) for batch in batches]
        return torch.cat(found).float()

    @torch.no_grad()
    def features(self, pos: Tensor) -> list[Tensor]:
        """Each EdgeConv's ``[B, n, C]`` for clouds ``[B, n, 3]``: in eval mode, float32, on the CPU."""
        self.eval()
        embedded = self.network(pos.to(self.device, next(self.parameters()).dtype))
        return [found.float().cpu() for found in embedded.features]


class DGCNNClassifier(PointCloudClassifier):
    """Trains a :class:`DGCNN` with cross-entropy, teacher or student; arguments as its parent's."""

    def __init__(
        self,
        num_points: PositiveInt,
        num_classes: PositiveInt,
        widths: list[PositiveInt],
        embedding: PositiveInt,
        classifier: list[PositiveInt],
        k: PositiveInt,
        dropout: Probability,
        label_smoothing: Probability,
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
    ) -> None:
        super().__init__(
            num_points,
            num_classes,
            widths,
            embedding,
            classifier,
            k,
            dropout,
            label_smoothing,
            optimizer,
            scheduler,
        )
        self.save_hyperparameters()


def _metrics(split: str, num_classes: int) -> MetricCollection:
    metrics: dict[str, Any] = {
        # no look at the values, which would make a GPU wait in every step
        "loss": MeanMetric(nan_strategy="disable"),
        "acc": MulticlassAccuracy(num_classes, average="micro", validate_args=False),
        "mean_class_acc": MulticlassAccuracy(num_classes, average="macro", validate_args=False),
    }
    return MetricCollection(metrics, prefix=f"{split}/", compute_groups=False)


def _update(metrics: MetricCollection, loss: Tensor, logits: Tensor, y: Tensor) -> None:
    for name, metric in metrics.items(keep_base=True):
        if name == "loss":
            # once per cloud: torchmetrics ignores a weight where it does not look for NaN
            metric.update(loss.expand(len(y)))
        else:
            metric.update(logits, y)


def _gallery(datamodule: LightningDataModule, probabilities: Tensor) -> "Figure":
    data = clouds_of(datamodule)
    test = data.splits["test"]
    return draw_clouds(test.pos, test.labels, probabilities, test.index, data.class_names)


def one_of_each_class(labels: Tensor) -> Tensor:
    """The first place of each class in ``labels`` ``[N]``, in the order of classes; ``[classes]`` long."""
    return torch.stack([(labels == label).nonzero()[0, 0] for label in labels.unique()])


def clouds_of(datamodule: LightningDataModule) -> "PointCloudDataModule":
    """The data module as one of point clouds.

    Raises:
        TypeError: if it is of another kind, or not set up.
    """
    from datamodules.point_clouds import PointCloudDataModule

    if not isinstance(datamodule, PointCloudDataModule) or not datamodule.splits:
        raise TypeError(f"{type(datamodule).__name__} has no point clouds: call its setup() first")
    return datamodule
