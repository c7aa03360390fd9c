"""Training of a segmentation network in mini-batches, and what is told and drawn of it."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from datamodules.paired_augmentation import VOID
from harness.annotations import ClassSpec, PositiveFloat, PositiveInt
from harness.errors import UserError
from lightning_modules.experiment import ExperimentModule
from lightning_modules.optimizers import build_optimizer, with_schedule
from lightning_modules.segmentation.build import (
    SegmenterName,
    build_segmenter,
    check_weights,
    load_backbone,
)
from lightning_modules.segmentation.metrics import (
    SegmentationScores,
    class_iou,
    confusion_counts,
    named_scores,
    pixel_loss,
)
from lightning_modules.segmentation.networks import OneValueBatchNorm, check_batch, resize
from lightning_modules.segmentation.scenes import (
    image_names_of,
    names_of,
    paint,
    palette_of,
    shown_rows,
    visible,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Batch = dict[str, Tensor]


class SegmentationModule(ExperimentModule):
    """What methods that give every pixel a class share: the network, its optimiser, scores and pictures.

    A batch has ``x``, ``[B, 3, H, W]`` normalised; ``y``, ``[B, H, W]`` long with 255 for void; ``id``,
    ``[B]`` long. A subclass saves its hyper-parameters and may give :meth:`training_loss` another form; what
    that returns beside the loss is averaged over the epoch and logged.

    Args:
        num_classes: number of classes, at most 254.
        network: see :data:`build.SegmenterName`.
        weights: of the backbone, see :func:`build.load_backbone`; None draws them.
        root: folder of data sets, where files of weights are looked for in ``weights``.
        cache: where they are downloaded to if that is read-only.
        head_lr_factor: learning rate of all layers but the backbone, in that of the optimiser.
        optimizer: ``{name: class of torch.optim, **keywords}``.
        scheduler: ``{name: class of torch.optim.lr_scheduler, **keywords}`` or None; the length of training
            is filled in.
        scheduler_interval: how often the schedule takes a step, every ``epoch`` or every optimiser ``step``.

    Raises:
        UserError: the network has no use for ``weights``, or there are too many classes.
    """

    task = "semantic_segmentation"
    epoch_metrics: ClassVar[tuple[str, ...]] = (
        "train/loss",
        "train/acc",
        "train/miou",
        "val/loss",
        "val/acc",
        "val/miou",
    )
    monitor: ClassVar[str | None] = "val/miou"
    monitor_mode: ClassVar[str | None] = "max"
    takes_images = True
    # not weights: those of the configuration may be for another network than a checkpoint's
    training_only: ClassVar[tuple[str, ...]] = ("root", "cache", "head_lr_factor", "scheduler_interval")

    def __init__(
        self,
        num_classes: int,
        network: SegmenterName,
        weights: str | None,
        root: str,
        cache: str,
        head_lr_factor: float,
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
        scheduler_interval: Literal["epoch", "step"],
    ) -> None:
        check_weights(network, weights)
        if num_classes >= VOID:
            raise UserError(
                f"model.num_classes={num_classes} must be at most {VOID - 1}: labels have one byte, and"
                f" {VOID} is void. Take data with fewer classes."
            )
        super().__init__()
        self.num_classes = num_classes
        self.weights = weights
        self.root = root
        self.cache = cache
        self.head_lr_factor = head_lr_factor
        self.scheduler_interval: Literal["epoch", "step"] = scheduler_interval
        self._optimizer_spec = optimizer
        self._scheduler_spec = scheduler
        self._continued = False
        self.network = build_segmenter(network, num_classes)
        # known now: SyncBatchNorm may stand in such a layer's place later
        self._pools = any(isinstance(layer, OneValueBatchNorm) for layer in self.network.modules())
        self.train_scores = SegmentationScores(num_classes)
        self.val_scores = SegmentationScores(num_classes)
        self.test_scores = SegmentationScores(num_classes)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._continued = True

    def on_phase_start(self, datamodule: LightningDataModule) -> None:
        """Puts published weights in; a run that continues has its own and does not ask for the file again.

        Raises:
            UserError: they cannot be had or do not fit.
        """
        if not self._continued:
            self.load_published()

    def load_published(self) -> None:
        """Puts the published weights, if any are wanted, into the backbone.

        Raises:
            UserError: they cannot be had or do not fit.
        """
        if self.weights is not None:
            load_backbone(self.network, self.weights, self.root, self.cache)

    def start_anew(self) -> None:
        """Draws all weights anew and puts the published ones in: the state before any training.

        Raises:
            UserError: as :meth:`load_published`.
        """
        self.network.reset_parameters()
        self.load_published()

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, num_classes, H, W]`` of images ``[B, 3, H, W]``."""
        scores, _ = self.network(x)
        return resize(scores, (x.shape[-2], x.shape[-1]))

    def training_loss(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """What training minimises, the logits, and the segmentation's own part of the loss.

        Returns:
            A scalar; ``[B, num_classes, H, W]``; a scalar, which ``train/loss`` is the mean of.
        """
        logits = self(batch["x"])
        loss = pixel_loss(logits.float(), batch["y"])
        return loss, logits, loss

    def on_fit_start(self) -> None:
        """Refuses batches in which a process never has two images to normalise pooled features over.

        Raises:
            UserError: it has one, the network pools whole images, and nothing joins the processes' batches.
        """
        data: Any = getattr(self.trainer, "datamodule", None)
        batch_size: int | None = getattr(data, "batch_size", None)
        if self._pools and batch_size is not None:
            apart = any(isinstance(layer, OneValueBatchNorm) for layer in self.network.modules())
            labelled: Tensor | None = getattr(data, "labelled_ids", None)
            check_batch(
                batch_size,
                self.trainer.world_size if apart else 1,
                None if labelled is None else len(labelled),
            )

    def on_train_epoch_start(self) -> None:
        self.train_scores.reset()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        loss, logits, own = self.training_loss(batch)
        self.train_scores.update(logits.detach(), batch["y"], own.detach())
        return loss

    def on_train_epoch_end(self) -> None:
        self._log("train", self.train_scores)

    def on_validation_epoch_start(self) -> None:
        self.val_scores.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(self.val_scores, batch)

    def on_validation_epoch_end(self) -> None:
        self._log("val", self.val_scores)

    def on_test_epoch_start(self) -> None:
        self.test_scores.reset()

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        self._evaluate(self.test_scores, batch)

    def on_test_epoch_end(self) -> None:
        datamodule: Any = getattr(self.trainer, "datamodule", None)
        names = names_of(datamodule, self.num_classes)
        self._log("test", self.test_scores, tuple(name.replace(" ", "_") for name in names))

    def _evaluate(self, scores: SegmentationScores, batch: Batch) -> None:
        logits = self(batch["x"]).float()
        scores.update(logits, batch["y"], pixel_loss(logits, batch["y"]))

    def _log(self, split: str, scores: SegmentationScores, class_names: tuple[str, ...] = ()) -> None:
        # Gathered from all processes already: sync_dist changes nothing, and spares a warning that it is left
        # out. callbacks/metric_log.py writes the row.
        found = named_scores(split, scores.compute(), class_names)
        self.log_dict(found, logger=False, sync_dist=True)

    def configure_optimizers(self) -> Any:
        rate = self._optimizer_spec.get("lr")
        if rate is None:
            raise UserError("model.optimizer has no lr. Write model.optimizer.lr=0.01, say.")
        backbone = list(self.network.backbone().parameters())
        known = {id(parameter) for parameter in backbone}
        # of the whole module, since a subclass may have more than the network
        new = [parameter for parameter in self.parameters() if id(parameter) not in known]
        optimizer = build_optimizer(
            [{"params": backbone}, {"params": new, "lr": self.head_lr_factor * rate}], self._optimizer_spec
        )
        return with_schedule(self, optimizer, self._scheduler_spec, self.scheduler_interval)

    # --- predictions and pictures

    def predict_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """``id`` ``[B]``, ``mask`` ``[B, H, W]`` uint8; with labels ``counts`` ``[B, C, C]``, confusions."""
        predicted = self(batch["x"]).argmax(dim=1)
        found = {"id": batch["id"], "mask": predicted.to(torch.uint8)}
        if "y" in batch:
            pairs = zip(predicted, batch["y"], strict=True)
            found["counts"] = torch.stack([confusion_counts(one, y, self.num_classes) for one, y in pairs])
        return found

    def prediction_files(
        self, outputs: list[dict[str, Tensor]], datamodule: LightningDataModule, folder: Path
    ) -> Iterator[dict[str, Any]]:
        """Writes ``masks/000000.png``, ... in the colours of the classes; a row for each.

        Rows have ``file`` and ``id``; ``image``, what the data call it, where they do; where there are labels
        ``pixels`` that are not void, ``right`` ones, ``acc`` and ``miou`` of that image alone; then the share
        of the image that each class was given.
        """
        from harness.predictions import write_images

        names, palette = names_of(datamodule, self.num_classes), palette_of(datamodule, self.num_classes)
        images = image_names_of(datamodule, "test")
        number = 0
        for batch in outputs:
            paths = write_images(paint(batch["mask"], palette), folder / "masks", number)
            for place, path in enumerate(paths):
                row: dict[str, Any] = {
                    "file": str(path.relative_to(folder)),
                    "id": int(batch["id"][place]),
                }
                if images is not None:
                    row["image"] = images[row["id"]]
                if "counts" in batch:
                    row |= _row(batch["counts"][place])
                mask = batch["mask"][place].flatten().long()
                shares = mask.bincount(minlength=self.num_classes) / len(mask)
                row |= {
                    f"share({name})": f"{share:.6f}"
                    for name, share in zip(names, shares.tolist(), strict=True)
                }
                yield row
            number += len(paths)

    def prediction_figures(
        self, outputs: list[dict[str, Tensor]], datamodule: LightningDataModule
    ) -> Iterator[tuple[str, "Figure"]]:
        yield "predictions", self._draw_scenes(datamodule)

    def figures(
        self, datamodule: LightningDataModule, published: dict[str, Any] | None
    ) -> Iterator[tuple[str, "Figure"]]:
        yield "scenes", self._draw_scenes(datamodule)
        yield "class_iou", self._draw_class_iou(datamodule)

    def _draw_class_iou(self, datamodule: LightningDataModule) -> "Figure":
        from lightning_modules.segmentation.pictures import draw_class_iou

        # what the test found, of all processes: the metric keeps the result until it is reset
        scores = self.test_scores.compute()
        names, palette = names_of(datamodule, self.num_classes), palette_of(datamodule, self.num_classes)
        return draw_class_iou(
            scores["iou"].cpu().numpy(), scores["share"].cpu().numpy(), names, palette.numpy()
        )

    def training_figure(self, rows: list[dict[str, Any]]) -> "Figure":
        from harness.curves import training_curves

        return training_curves(rows, metric="miou", metric_label="Mean IoU (%)")

    @torch.no_grad()
    def _draw_scenes(self, datamodule: LightningDataModule) -> "Figure":
        """A few test images, evenly spaced, with what was made of them."""
        from lightning_modules.segmentation.pictures import Scene, draw_scenes

        self.eval()
        batch = shown_rows(datamodule)
        predicted = self(batch["x"].to(self.device, next(self.parameters()).dtype)).argmax(dim=1).cpu()
        images, scenes = visible(batch["x"], datamodule).float(), []
        for place, number in enumerate(batch["id"].tolist()):
            truth = batch["y"][place].numpy() if "y" in batch else None
            scenes.append(Scene(number, images[place].numpy(), truth, predicted[place].numpy()))
        names, palette = names_of(datamodule, self.num_classes), palette_of(datamodule, self.num_classes)
        return draw_scenes(scenes, names, palette.numpy())


class DeepLab(SegmentationModule):
    """A segmentation network trained on all labelled images with plain cross-entropy.

    DEAL's DeepLabv3+ (arXiv 2010.08705; the authors' code) without its difficulty branch: what its baselines
    train, and what full supervision reaches. Arguments as :class:`SegmentationModule`.
    """

    def __init__(
        self,
        num_classes: PositiveInt,
        network: SegmenterName,
        weights: str | None,
        root: str,
        cache: str,
        head_lr_factor: PositiveFloat,
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
        scheduler_interval: Literal["epoch", "step"],
    ) -> None:
        super().__init__(
            num_classes,
            network,
            weights,
            root,
            cache,
            head_lr_factor,
            optimizer,
            scheduler,
            scheduler_interval,
        )
        self.save_hyperparameters()


def _row(counts: Tensor) -> dict[str, Any]:
    pixels, right = int(counts.sum()), int(counts.diagonal().sum())
    return {
        "pixels": pixels,
        "right": right,
        "acc": f"{right / max(pixels, 1):.6f}",
        "miou": f"{float(class_iou(counts).nanmean()):.6f}",
    }
