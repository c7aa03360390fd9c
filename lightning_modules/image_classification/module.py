"""Training of an image classifier in mini-batches."""

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningDataModule
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

from harness.annotations import ClassSpec, NetworkSpec
from lightning_modules.experiment import ExperimentModule
from lightning_modules.image_classification.pictures import draw_confusion, draw_mistakes
from lightning_modules.image_classification.predictions_picture import draw_predictions
from lightning_modules.optimizers import Interval, build_optimizer, with_schedule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from datamodules.images import ImageDataModule

Batch = dict[str, Tensor]


class ClassifierModule(ExperimentModule):
    """What classifiers of images share: cross-entropy, metrics, predictions and pictures.

    A subclass sets :attr:`network`, images ``[B, C, H, W]`` to logits, at the end of its constructor, and
    :attr:`spec`, of which ``build_network`` makes such a network. Label smoothing is part of training alone:
    ``val/loss`` and ``test/loss`` are plain cross-entropies.

    Args:
        num_classes: number of classes.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).
        optimizer: ``{name: class of torch.optim, **keywords}``.
        scheduler: ``{name: class of torch.optim.lr_scheduler, **keywords}`` or None; what it needs to know of
            the length of training is filled in where it is left out, see :func:`build_scheduler`.
        scheduler_interval: how often the schedule takes a step, every ``epoch`` or every optimiser ``step``.
    """

    task = "image_classification"
    epoch_metrics: ClassVar[tuple[str, ...]] = ("train/loss", "train/acc", "val/loss", "val/acc")
    takes_images = True
    training_only: ClassVar[tuple[str, ...]] = ("label_smoothing", "scheduler_interval")

    network: nn.Module
    spec: NetworkSpec

    def __init__(
        self,
        num_classes: int,
        label_smoothing: float,
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
        scheduler_interval: Interval,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.label_smoothing = label_smoothing
        self.scheduler_interval = scheduler_interval
        self._optimizer_spec = optimizer
        self._scheduler_spec = scheduler
        # Modules of their own, and not Lightning's averages, whose sums are in no checkpoint.
        self.train_metrics = _metrics("train", num_classes)
        self.val_metrics = _metrics("val", num_classes)
        self.test_metrics = _metrics("test", num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, num_classes]`` of images ``[B, C, H, W]``."""
        logits: Tensor = self.network(x)
        return logits

    def training_loss(self, batch: Batch, logits: Tensor) -> Tensor:
        """What training minimises, a scalar; a subclass may ask for more than the labels."""
        return F.cross_entropy(logits, batch["y"], label_smoothing=self.label_smoothing)

    def on_train_epoch_start(self) -> None:
        self.train_metrics.reset()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        logits = self(batch["x"])
        loss = self.training_loss(batch, logits)
        _update(self.train_metrics, loss.detach(), logits.detach(), batch["y"])
        return loss

    def on_train_epoch_end(self) -> None:
        self._log(self.train_metrics)

    def on_validation_epoch_start(self) -> None:
        self.val_metrics.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(self.val_metrics, batch)

    def on_validation_epoch_end(self) -> None:
        self._log(self.val_metrics)

    def on_test_epoch_start(self) -> None:
        self.test_metrics.reset()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(self.test_metrics, batch)

    def on_test_epoch_end(self) -> None:
        self._log(self.test_metrics)

    def _evaluate(self, metrics: MetricCollection, batch: Batch) -> None:
        logits = self(batch["x"])
        _update(metrics, F.cross_entropy(logits, batch["y"]), logits, batch["y"])

    def _log(self, metrics: MetricCollection) -> None:
        # Gathered from all processes already: sync_dist changes nothing, and spares a warning that it is left
        # out. callbacks/metric_log.py writes the row.
        self.log_dict(metrics.compute(), logger=False, sync_dist=True)

    def configure_optimizers(self) -> Any:
        optimizer = build_optimizer([{"params": list(self.parameters())}], self._optimizer_spec)
        return self.with_schedule(optimizer)

    def with_schedule(self, optimizer: torch.optim.Optimizer) -> Any:
        """What ``configure_optimizers`` returns for one optimiser: with the schedule, where there is one."""
        return with_schedule(self, optimizer, self._scheduler_spec, self.scheduler_interval)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Class probabilities ``[B, num_classes]``."""
        return self(batch["x"]).softmax(dim=-1)

    def prediction_rows(
        self, outputs: list[Tensor], datamodule: LightningDataModule
    ) -> Iterator[dict[str, Any]]:
        """One row a test image: its number, true and predicted class by name, and all probabilities.

        Args:
            outputs: what ``trainer.predict`` returned.
            datamodule: the images' data module.
        """
        test, names = images_of(datamodule).splits["test"], images_of(datamodule).class_names
        each = zip(test.index.tolist(), test.labels.tolist(), chain.from_iterable(outputs), strict=True)
        for index, label, probabilities in each:
            shares = probabilities.tolist()
            yield {
                "index": index,
                "true": names[label],
                "predicted": names[max(range(self.num_classes), key=shares.__getitem__)],
                **{f"p({name})": f"{share:.6f}" for name, share in zip(names, shares, strict=True)},
            }

    def prediction_figures(
        self, outputs: list[Tensor], datamodule: LightningDataModule
    ) -> Iterator[tuple[str, "Figure"]]:
        data = images_of(datamodule)
        test = data.splits["test"]
        yield (
            "predictions",
            draw_predictions(
                test.images,
                data.max_pixel,
                test.labels.numpy(),
                torch.cat(outputs).float().numpy(),
                data.class_names,
            ),
        )

    def figures(
        self, datamodule: LightningDataModule, published: dict[str, Any] | None
    ) -> Iterator[tuple[str, "Figure"]]:
        data = images_of(datamodule)
        test = data.splits["test"]
        # anew and not from the test's own steps, of which each process saw its share alone
        probabilities = self.probabilities(data.predict_dataloader()).cpu()
        places = test.labels * self.num_classes + probabilities.argmax(dim=1)
        counts = places.bincount(minlength=self.num_classes**2).view(self.num_classes, -1)
        yield "confusion", draw_confusion(counts.numpy(), data.class_names)
        yield (
            "mistakes",
            draw_mistakes(
                (test.images / data.max_pixel).numpy(),
                test.labels.numpy(),
                probabilities.numpy(),
                test.index.numpy(),
                data.class_names,
            ),
        )

    @torch.no_grad()
    def probabilities(self, batches: Iterable[Batch]) -> Tensor:
        """Class probabilities ``[N, num_classes]`` of all images of ``batches``, in eval mode."""
        self.eval()
        dtype = next(self.parameters()).dtype
        found = [self(batch["x"].to(self.device, dtype)).softmax(dim=-1) for batch in batches]
        return torch.cat(found).float()


def _metrics(split: str, num_classes: int) -> MetricCollection:
    metrics: dict[str, Any] = {
        # no look at the values, which would make a GPU wait in every step
        "loss": MeanMetric(nan_strategy="disable"),
        "acc": MulticlassAccuracy(num_classes, average="micro", validate_args=False),
    }
    if split == "test":
        metrics["f1_macro"] = MulticlassF1Score(num_classes, average="macro", validate_args=False)
    return MetricCollection(metrics, prefix=f"{split}/", compute_groups=False)


def _update(metrics: MetricCollection, loss: Tensor, logits: Tensor, y: Tensor) -> None:
    for name, metric in metrics.items(keep_base=True):
        if name == "loss":
            # once per image: torchmetrics ignores a weight where it does not look for NaN
            metric.update(loss.expand(len(y)))
        else:
            metric.update(logits, y)


def images_of(datamodule: LightningDataModule) -> "ImageDataModule":
    """The data module as one of images.

    Raises:
        TypeError: if it is of another kind, or not set up.
    """
    from datamodules.images import ImageDataModule

    if not isinstance(datamodule, ImageDataModule) or not datamodule.splits:
        raise TypeError(f"{type(datamodule).__name__} has no images: call its setup() first")
    return datamodule
