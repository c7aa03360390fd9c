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
    most = images.size(-1) // 8
    return _cropped(F.pad(images, (most,) * 4), most, draws)


def _cropped(padded: Tensor, padding: int, draws: Tensor) -> Tensor:
    """The part ``[B, C, H, W]`` of ``[B, C, H + 2p, W + 2p]`` that the draws ``[B, 2]`` choose."""
    size = padded.size(-1) - 2 * padding
    moves = (draws * (2 * padding + 1)).long()  # [B, 2], in 0..2 * padding
    within = torch.arange(size, device=padded.device)
    places = 2 * padding - moves[:, :, None] + within  # [B, 2, H], rows and columns to take
    rows, columns = places[:, 0, None, :, None], places[:, 1, None, None, :]
    batch = torch.arange(len(padded), device=padded.device)[:, None, None, None]
    channels = torch.arange(padded.size(1), device=padded.device)[None, :, None, None]
    return padded[batch, channels, rows, columns]


def flip(images: Tensor, draws: Tensor) -> Tensor:
    """Half of the images mirrored, left for right.

    Args:
        images: ``[B, C, H, W]``.
        draws: ``[B, 1]`` in [0, 1); below 0.5 mirrors.

    Returns:
        ``[B, C, H, W]``.
    """
    return torch.where(draws[:, :, None, None] < 0.5, images.flip(-1), images)


def crop_flip(images: Tensor, draws: Tensor) -> Tensor:
    """A random crop of the image padded by an eighth with zeros, then :func:`flip`: CIFAR's usual changes.

    At 32 pixels that is a padding of 4, as in He et al., arXiv 1512.03385, section 4.2. Zero is black here;
    where images are normalised first it is their mean.

    Args:
        images: ``[B, C, H, W]``, square.
        draws: ``[B, 3]`` in [0, 1): two of :func:`shift`, one of :func:`flip`.

    Returns:
        ``[B, C, H, W]``.
    """
    return flip(shift(images, draws[:, :2]), draws[:, 2:])


def replicate_crop_flip(images: Tensor, draws: Tensor) -> Tensor:
    """A random crop of the image padded by a tenth with copies of its border, then :func:`flip`.

    At 32 pixels that is a padding of 3. For images whose background has a colour of its own, where a black
    margin would be a thing that no test image has.

    Args:
        images: ``[B, C, H, W]``, square.
        draws: ``[B, 3]`` in [0, 1): two move as in :func:`shift`, one of :func:`flip`.

    Returns:
        ``[B, C, H, W]``.
    """
    most = round(images.size(-1) / 10)
    padded = F.pad(images, (most,) * 4, mode="replicate")
    return flip(_cropped(padded, most, draws[:, :2]), draws[:, 2:])


AUGMENTATIONS: dict[str, Augmentation] = {
    "none": Augmentation(0, lambda images, draws: images),
    "shift": Augmentation(2, shift),
    "flip": Augmentation(1, flip),
    "crop_flip": Augmentation(3, crop_flip),
    "replicate_crop_flip": Augmentation(3, replicate_crop_flip),
}
"""By the name that ``data.augment`` gives."""
