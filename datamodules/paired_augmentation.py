"""Random changes of training images and their masks together, as functions of numbers drawn elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

VOID = 255
"""What a mask holds where a pixel has no class."""

SCALE = (0.8, 1.2)
"""Range of the factor by which an image's sides are multiplied."""
COLOUR = (0.5, 1.5)
"""Range of the factors of brightness, contrast and saturation."""


@dataclass(frozen=True)
class PairedAugmentation:
    """A change of a batch of images and their masks.

    Attributes:
        draws: random numbers that it needs for one image.
        apply: (images ``[B, 3, H, W]`` in [0, 1], masks ``[B, H, W]`` integer, draws ``[B, draws]`` in
            [0, 1)) to images and masks of those shapes.
    """

    draws: int
    apply: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


def flip_both(images: Tensor, masks: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Half of the images mirrored, left for right, each with its mask.

    Args:
        images: ``[B, 3, H, W]``.
        masks: ``[B, H, W]``.
        draws: ``[B, 1]`` in [0, 1); below 0.5 mirrors.
    """
    mirrored = draws[:, :, None] < 0.5  # [B, 1, 1]
    return (
        torch.where(mirrored[..., None], images.flip(-1), images),
        torch.where(mirrored, masks.flip(-1), masks),
    )


def scale_crop(images: Tensor, masks: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """Images scaled by a factor in :data:`SCALE`, then cut, or filled up, to the size they had.

    The place of the cut is uniform. What lies outside of a smaller image is black, and void in its mask.
    Images are interpolated bilinearly, in one step and without antialiasing, unlike the authors' Pillow;
    masks take the nearest pixel.

    Args:
        images: ``[B, 3, H, W]``.
        masks: ``[B, H, W]`` integer.
        draws: ``[B, 3]`` in [0, 1): the factor, the place from the top, the place from the left.
    """
    height, width = masks.shape[1:]
    scale = _between(SCALE, draws[:, 0])[:, None]  # [B, 1]
    rows, columns = (
        # pixel i of the cut is pixel i + offset of the scaled image, which comes from there in the image
        ((torch.arange(size, device=draws.device) + 0.5 + draws[:, place, None] * (scale - 1) * size) / scale)
        for place, size in ((1, height), (2, width))
    )  # [B, H] and [B, W], in pixels from the edge
    inside = ((rows >= 0) & (rows < height))[:, :, None] & ((columns >= 0) & (columns < width))[:, None]
    grid = torch.stack(
        torch.broadcast_tensors(2 * columns[:, None] / width - 1, 2 * rows[:, :, None] / height - 1), dim=-1
    )  # [B, H, W, 2]
    warped = F.grid_sample(
        images, grid.to(images.dtype), "bilinear", padding_mode="border", align_corners=False
    )
    nearest_rows = rows.floor().long().clamp(0, height - 1)[:, :, None]
    nearest_columns = columns.floor().long().clamp(0, width - 1)[:, None]
    batch = torch.arange(len(masks), device=masks.device)[:, None, None]
    moved = masks[batch, nearest_rows, nearest_columns]
    return warped * inside[:, None], torch.where(inside, moved, VOID)


def colour_jitter(images: Tensor, draws: Tensor) -> Tensor:
    """Images of other brightness, contrast and saturation, changed in this order and cut off each time.

    Factors are in :data:`COLOUR`; 1 changes nothing. Greys are those of ITU-R BT.601, as torchvision's.

    Args:
        images: ``[B, 3, H, W]`` in [0, 1].
        draws: ``[B, 3]`` in [0, 1).
    """
    brightness, contrast, saturation = (
        factor[:, None, None, None] for factor in _between(COLOUR, draws).to(images.dtype).unbind(1)
    )
    images = (images * brightness).clamp(0, 1)
    mean = _grey(images).mean(dim=(1, 2, 3), keepdim=True)
    images = torch.lerp(mean, images, contrast).clamp(0, 1)
    return torch.lerp(_grey(images), images, saturation).clamp(0, 1)


def deal(images: Tensor, masks: Tensor, draws: Tensor) -> tuple[Tensor, Tensor]:
    """All changes of DEAL's training: :func:`colour_jitter`, :func:`scale_crop` and :func:`flip_both`.

    Args:
        images: ``[B, 3, H, W]`` in [0, 1].
        masks: ``[B, H, W]`` integer.
        draws: ``[B, 7]`` in [0, 1): three of colours, three of scale and place, one of the flip.
    """
    images, masks = scale_crop(colour_jitter(images, draws[:, :3]), masks, draws[:, 3:6])
    return flip_both(images, masks, draws[:, 6:])


def _between(ends: tuple[float, float], draws: Tensor) -> Tensor:
    return ends[0] + (ends[1] - ends[0]) * draws


def _grey(images: Tensor) -> Tensor:
    """``[B, 1, H, W]``."""
    red, green, blue = images.split(1, dim=1)
    return 0.2989 * red + 0.587 * green + 0.114 * blue


PAIRED_AUGMENTATIONS: dict[str, PairedAugmentation] = {
    "none": PairedAugmentation(0, lambda images, masks, draws: (images, masks)),
    "flip": PairedAugmentation(1, flip_both),
    "deal": PairedAugmentation(7, deal),
}
"""By the name that ``data.augment`` gives."""
