"""What the difficulty branch learns: the pixels where the segmentation errs."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from datamodules.paired_augmentation import VOID

DifficultyLoss = Literal["bce", "wce"]


def error_mask(logits: Tensor, y: Tensor) -> Tensor:
    """1 where the most likely class is not the labelled one, else 0, void included; no gradient.

    The mean over all pixels that have class c as label or prediction is ``1 - IoU_c``, exactly.

    Args:
        logits: ``[B, C, H, W]``.
        y: ``[B, H, W]`` long, 255 for void.

    Returns:
        ``[B, H, W]``, of the logits' type.
    """
    wrong = (logits.argmax(dim=1) != y) & (y != VOID)
    return wrong.to(logits.dtype)


def difficulty_loss(
    difficulty: Tensor,
    errors: Tensor,
    y: Tensor,
    kind: DifficultyLoss = "wce",
    void_in_difficulty: bool = False,
) -> Tensor:
    """Cross-entropy of the difficulty map with the mask of errors.

    ``bce`` is its mean over pixels. ``wce`` weighs right and wrong pixels apart, as the runs in the authors'
    scripts do: with ``n_r`` and ``n_e`` of them in the batch, ``w_r mean_right + w_e mean_wrong`` with
    weights in proportion to ``1/sqrt(n_r + 1)`` and ``1/sqrt(n_e + 1)`` that sum to 1; an empty group counts
    0.

    Args:
        difficulty: logits of the map, ``[B, 1, H, W]`` or ``[B, H, W]``: the sigmoid is part of the loss, for
            exact gradients far from 0 and because autocast refuses probabilities.
        errors: ``[B, H, W]``, see :func:`error_mask`.
        y: ``[B, H, W]`` long; says which pixels are void.
        kind: which of the two.
        void_in_difficulty: void pixels count as right, as in the authors' code, and are not left out.

    Returns:
        A scalar.
    """
    each = F.binary_cross_entropy_with_logits(
        difficulty.view_as(errors).float(), errors.float(), reduction="none"
    )
    counted = torch.ones_like(each) if void_in_difficulty else (y != VOID).to(each.dtype)
    if kind == "bce":
        return (each * counted).sum() / counted.sum().clamp(min=1)
    wrong = errors.to(each.dtype) * counted
    right = counted - wrong
    n_right, n_wrong = right.sum(), wrong.sum()
    w_right, w_wrong = (n_right + 1).rsqrt(), (n_wrong + 1).rsqrt()
    mean_right = (each * right).sum() / n_right.clamp(min=1)
    mean_wrong = (each * wrong).sum() / n_wrong.clamp(min=1)
    return (w_right * mean_right + w_wrong * mean_wrong) / (w_right + w_wrong)
