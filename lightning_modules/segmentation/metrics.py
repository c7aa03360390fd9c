"""Intersection over union from one confusion matrix over a whole set, and the loss beside it."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import Metric

from datamodules.paired_augmentation import VOID


def pixel_loss(logits: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy, mean over the pixels that are not void; 0 where all are.

    Args:
        logits: ``[B, C, H, W]``.
        y: ``[B, H, W]`` long, classes or :data:`VOID`.
    """
    # where torch itself sums on a GPU it is in an order of chance, which trainer.deterministic refuses
    reduction = "none" if logits.is_cuda else "sum"
    total = F.cross_entropy(logits, y, ignore_index=VOID, reduction=reduction).sum()
    return total / (y != VOID).sum().clamp(min=1)


def confusion_counts(predicted: Tensor, y: Tensor, num_classes: int) -> Tensor:
    """Pixels of class row that were taken for class column, ``[C, C]`` long; void ones are left out.

    Without a look at any value, which a histogram of torch or a mask would need: a GPU is not kept waiting.

    Args:
        predicted: ``[...]`` long, in ``[0, C)``.
        y: ``[...]`` long, in ``[0, C)`` or :data:`VOID`.
        num_classes: C.
    """
    places = torch.where(y == VOID, num_classes**2, y * num_classes + predicted).flatten()
    counts = places.new_zeros(num_classes**2 + 1)
    counts.scatter_add_(0, places, torch.ones_like(places))
    return counts[:-1].view(num_classes, num_classes)


def class_iou(counts: Tensor) -> Tensor:
    """Intersection over union of each class, ``[C]``; NaN where the class is neither there nor predicted.

    Args:
        counts: ``[C, C]``, see :func:`confusion_counts`.
    """
    hit = counts.diagonal()
    return hit / (counts.sum(dim=0) + counts.sum(dim=1) - hit)


class SegmentationScores(Metric):
    """``loss``, ``acc``, ``miou``, ``iou`` and ``share`` over all pixels of a set, not means over its images.

    ``loss`` is the mean over pixels, ``acc`` the share of pixels that are right, ``iou`` ``[C]`` one value a
    class, NaN where a class is absent, ``miou`` the mean of the others, and ``share`` ``[C]`` that of each
    class in the labels.

    Args:
        num_classes: C.
    """

    full_state_update = False
    counts: Tensor
    loss: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.add_state(
            "counts", torch.zeros(num_classes, num_classes, dtype=torch.long), dist_reduce_fx="sum"
        )
        self.add_state("loss", torch.zeros(()), dist_reduce_fx="sum")

    def update(self, logits: Tensor, y: Tensor, loss: Tensor) -> None:
        """Adds a batch.

        Args:
            logits: ``[B, C, H, W]``.
            y: ``[B, H, W]`` long.
            loss: its :func:`pixel_loss`.
        """
        counts = confusion_counts(logits.argmax(dim=1), y, self.num_classes)
        self.counts += counts
        self.loss += loss.float() * counts.sum()

    def compute(self) -> dict[str, Tensor]:
        pixels = self.counts.sum()
        iou = class_iou(self.counts)
        return {
            "loss": self.loss / pixels.clamp(min=1),
            "acc": self.counts.diagonal().sum() / pixels.clamp(min=1),
            "miou": iou.nanmean(),
            "iou": iou,
            "share": self.counts.sum(dim=1) / pixels.clamp(min=1),
        }


def named_scores(split: str, scores: dict[str, Any], class_names: tuple[str, ...] = ()) -> dict[str, Tensor]:
    """Scores by the name under which they are logged, ``val/miou``; those of classes only with their names.

    Classes that are nowhere in the set are left out, so that no NaN stands in the results.

    Args:
        split: ``train``, ``val`` or ``test``.
        scores: of :class:`SegmentationScores`.
        class_names: to tell ``<split>/iou_<name>`` as well; empty for none.
    """
    named = {f"{split}/{name}": scores[name] for name in ("loss", "acc", "miou")}
    for name, value in zip(class_names, scores["iou"] if class_names else (), strict=True):
        if not bool(value.isnan()):
            named[f"{split}/iou_{name}"] = value
    return named
