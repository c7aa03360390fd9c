"""Random changes of training images, as functions of the images and of numbers drawn elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """A change of a batch of images.

    Attributes:
        draws: random numbers that it needs for one image.
        apply: (images ``[B, C, H, W]`` in [0, 1], draws ``[B, draws]`` in [0, 1)) to images of that shape.
    """

    draws: int
    apply: Callable[[Tensor, Tensor], Tensor]


def shift(images: Tensor, draws: Tensor) -> Tensor:
    """Images moved by up to an eighth of their size, down and right by numbers drawn; zeros move in.

    Args:
        images: ``[B, C, H, W]``, square.
        draws: ``[B, 2]`` in [0, 1); 0 moves up (left) by most, 0.5 not at all.

    Returns:
        ``[B, C, H, W]``.
    """
    size = images.size(-1)
    most = size // 8
    padded = F.pad(images, (most,) * 4)
    moves = (draws * (2 * most + 1)).long()  # [B, 2], in 0..2 * most
    places = 2 * most - moves[:, :, None] + torch.arange(size)  # [B, 2, H], rows and columns to take
    rows, columns = places[:, 0, None, :, None], places[:, 1, None, None, :]
    batch = torch.arange(len(images))[:, None, None, None]
    channels = torch.arange(images.size(1))[None, :, None, None]
    return padded[batch, channels, rows, columns]


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": Augmentation(0, lambda images, draws: images),
    "shift": Augmentation(2, shift),
}
"""By the name that ``data.augment`` gives."""
