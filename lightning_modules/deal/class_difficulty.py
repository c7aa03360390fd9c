"""Whether the map is high where the segmentation is bad: difficulty of each class beside its error."""

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from datamodules.paired_augmentation import VOID


class ClassDifficulty(Metric):
    """Mean of the difficulty map over the pixels that have class c as label or prediction, ``[C]``.

    The mean of the error mask over the same pixels is ``1 - IoU_c``, exactly, so that the two can be compared
    class by class. Void pixels are left out; NaN where a class is neither there nor predicted.

    Args:
        num_classes: C.
    """

    full_state_update = False
    sums: Tensor
    pixels: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        # of many millions of pixels: a sum in float32 would stop growing
        zeros = torch.zeros(num_classes, dtype=torch.float64)
        self.add_state("sums", zeros, dist_reduce_fx="sum")
        self.add_state("pixels", torch.zeros(num_classes, dtype=torch.long), dist_reduce_fx="sum")

    def update(self, difficulty: Tensor, predicted: Tensor, y: Tensor) -> None:
        """Adds a batch.

        Args:
            difficulty: ``[B, 1, H, W]`` in (0, 1).
            predicted: ``[B, H, W]`` long, classes.
            y: ``[B, H, W]`` long, classes or 255.
        """
        values = difficulty.flatten().to(self.sums.dtype)
        labels, found = y.flatten(), predicted.flatten()
        # a pixel that is right counts once; what counts nowhere goes to one class more
        nowhere = torch.full_like(labels, self.num_classes)
        as_label = torch.where(labels == VOID, nowhere, labels)
        as_found = torch.where((labels == VOID) | (labels == found), nowhere, found)
        sums = self.sums.new_zeros(self.num_classes + 1)
        pixels = self.pixels.new_zeros(self.num_classes + 1)
        for places in (as_label, as_found):
            sums.scatter_add_(0, places, values)
            pixels.scatter_add_(0, places, torch.ones_like(places))
        self.sums += sums[:-1]
        self.pixels += pixels[:-1]

    def compute(self) -> Tensor:
        return self.sums / self.pixels


def spearman(first: np.ndarray, second: np.ndarray) -> float:
    """Rank correlation of two lists, equal values sharing their mean rank; NaN where one of them is constant.

    Args:
        first: ``[n]``; pairs of which one is NaN are left out.
        second: ``[n]``.
    """
    known = ~(np.isnan(first) | np.isnan(second))
    if known.sum() < 2:
        return float("nan")
    ranks = [_ranks(values[known]) for values in (first, second)]
    ranks = [values - values.mean() for values in ranks]
    lengths = float(np.sqrt((ranks[0] ** 2).sum() * (ranks[1] ** 2).sum()))
    return float((ranks[0] * ranks[1]).sum() / lengths) if lengths else float("nan")


def _ranks(values: np.ndarray) -> np.ndarray:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = counts.cumsum()
    means: np.ndarray = (ends - (counts - 1) / 2)[places]
    return means
