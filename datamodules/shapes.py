"""Generated colour images of 32 x 32 pixels with one shape each: five shapes, filled or striped.

Place, size, angle and both colours of a shape are random, so that its class has to be seen in its outline and
its filling. The set stands in for photographs where there is no network; nothing is published for it.
"""

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from datamodules.images import ImageDataModule, LabelledImages, Split
from harness.annotations import NonNegativeInt, PositiveInt

SIZE = 32
SHAPES = ("disk", "square", "triangle", "cross", "ring")
CLASSES = (*SHAPES, *(f"striped {shape}" for shape in SHAPES))
"""Names in the order of the classes."""

CENTRE = (11.0, 21.0)  # from the left and from the top, in pixels
RADIUS = (6.0, 9.5)  # in pixels, of the circle around the shape
ANGLE = 0.3  # radians each way
APART = 0.9  # least sum of the three differences between foreground and background, of colours in [0, 1]
NOISE = 0.06  # standard deviation of each pixel and colour
PERIOD = 4  # pixels from stripe to stripe, along a row or a column

_INNER = 0.55  # radius of a ring's hole
_ARM = 1 / 3  # half the width of a cross's arms
_CHUNK = 512  # images painted at a time: the floats of all at once would take 24 KiB each


class ShapesDataModule(ImageDataModule):
    """Images of 32 x 32 colour pixels, equally many of each of ten classes.

    Args:
        in_channels: colours, 3.
        image_size: pixels of a side, 32.
        num_classes: five shapes, filled and striped, 10.
        num_train: training images.
        num_val: validation images; 0 for none.
        num_test: images for testing.
        split_seed: seed of all that is random about an image, and of nothing else.
        mean: subtracted from each colour after scaling to [0, 1].
        std: what each colour is divided by then.
        batch_size: images of one optimiser step, over all processes.
        augment: a name in :data:`datamodules.augmentation.AUGMENTATIONS`.
        seed: of the order and the augmentation.
    """

    tasks = ("image_classification", "image_generation")

    def __init__(
        self,
        in_channels: PositiveInt,
        image_size: PositiveInt,
        num_classes: PositiveInt,
        num_train: PositiveInt,
        num_val: NonNegativeInt,
        num_test: PositiveInt,
        split_seed: NonNegativeInt,
        mean: list[float],
        std: list[float],
        batch_size: PositiveInt,
        augment: Literal["none", "shift", "flip", "crop_flip", "replicate_crop_flip"],
        seed: NonNegativeInt,
    ) -> None:
        super().__init__(
            choice="shapes",
            in_channels=in_channels,
            image_size=image_size,
            num_classes=num_classes,
            class_names=CLASSES,
            mean=mean,
            std=std,
            batch_size=batch_size,
            augment=augment,
            seed=seed,
        )
        self.sizes: dict[Split, int] = {"train": num_train, "val": num_val, "test": num_test}
        self.split_seed = split_seed

    def build(self) -> dict[Split, LabelledImages]:
        splits: dict[Split, LabelledImages] = {}
        first = 0
        for number, (split, size) in enumerate(self.sizes.items()):
            if size:
                # each split has draws of its own: another num_train changes no test image
                images, labels = draw_shapes(size, self.split_seed, number)
                splits[split] = LabelledImages(images, labels, torch.arange(first, first + size))
            first += size
        return splits


def draw_shapes(count: int, *seeds: int) -> tuple[Tensor, Tensor]:
    """Images of the ten classes in turn.

    Args:
        count: images N, >= 0.
        seeds: what all that is random follows from, each >= 0.

    Returns:
        ``[N, 3, 32, 32]`` uint8 and ``[N]`` long, the class: equally many of each, to within one.
    """
    generator = np.random.default_rng(seeds)
    labels = torch.arange(count) % len(CLASSES)
    centres = torch.from_numpy(generator.uniform(*CENTRE, (count, 2)))
    radii = torch.from_numpy(generator.uniform(*RADIUS, count))
    angles = torch.from_numpy(generator.uniform(-ANGLE, ANGLE, count))
    colours = _colours(count, generator)  # [N, 2, 3]
    images = torch.empty(count, 3, SIZE, SIZE, dtype=torch.uint8)
    for start in range(0, count, _CHUNK):
        part = slice(start, start + _CHUNK)
        cover = covers(labels[part], centres[part], radii[part], angles[part]).float()[:, None]
        front, back = (colours[part, which, :, None, None] for which in (0, 1))
        noise = generator.standard_normal((len(cover), 3, SIZE, SIZE), dtype=np.float32)
        pixels = torch.lerp(back, front, cover) + NOISE * torch.from_numpy(noise)
        images[part] = (255 * pixels).round_().clamp_(0, 255).to(torch.uint8)
    return images, labels


def covers(labels: Tensor, centres: Tensor, radii: Tensor, angles: Tensor) -> Tensor:
    """How much of each pixel is foreground: 1 inside a shape, 0 outside, in between along its outline.

    Args:
        labels: ``[N]``, the class, a number in :data:`CLASSES`.
        centres: ``[N, 2]``, from the left and from the top, in pixels.
        radii: ``[N]``, of the circle around the shape, in pixels.
        angles: ``[N]`` in radians, clockwise.

    Returns:
        ``[N, 32, 32]`` in [0, 1].
    """
    places = torch.arange(SIZE, dtype=centres.dtype) + 0.5  # the middle of a pixel
    right = places[None, None, :] - centres[:, 0, None, None]  # [N, 1, 32]
    down = places[None, :, None] - centres[:, 1, None, None]  # [N, 32, 1]
    cosine, sine = angles.cos()[:, None, None], angles.sin()[:, None, None]
    u, v = cosine * right + sine * down, cosine * down - sine * right  # turned with the shape
    radius = radii[:, None, None]
    shapes, cover = labels % len(SHAPES), torch.empty_like(u)
    for number, outline in enumerate(_OUTLINES):
        some = shapes == number
        cover[some] = (0.5 - outline(u[some], v[some], radius[some])).clamp(0, 1)
    steps = torch.arange(SIZE)
    stripes = (steps[:, None] + steps) % PERIOD < PERIOD // 2  # [32, 32]
    striped = labels >= len(SHAPES)
    return cover * (stripes | ~striped[:, None, None])


# Each outline gives the signed distance of a point (u, v) from the edge of a shape around the origin, in
# pixels, below 0 inside; outside of a corner it may be too short, which a pixel's cover does not show.


def _disk(u: Tensor, v: Tensor, radius: Tensor) -> Tensor:
    return torch.hypot(u, v) - radius


def _square(u: Tensor, v: Tensor, radius: Tensor) -> Tensor:
    return torch.maximum(u.abs(), v.abs()) - radius / math.sqrt(2)


def _triangle(u: Tensor, v: Tensor, radius: Tensor) -> Tensor:
    # one corner on top; the sides are half a radius away from the middle
    return torch.maximum(u.abs() * math.sqrt(3) / 2 - v / 2, v) - radius / 2


def _cross(u: Tensor, v: Tensor, radius: Tensor) -> Tensor:
    long, short = torch.maximum(u.abs(), v.abs()), torch.minimum(u.abs(), v.abs())
    return torch.maximum(long - radius, short - _ARM * radius)


def _ring(u: Tensor, v: Tensor, radius: Tensor) -> Tensor:
    away = torch.hypot(u, v)
    return torch.maximum(away - radius, _INNER * radius - away)


_OUTLINES = (_disk, _square, _triangle, _cross, _ring)


def _colours(count: int, generator: np.random.Generator) -> Tensor:
    """Colours of foreground and background, ``[N, 2, 3]`` float32, uniform among those :data:`APART`."""
    colours = generator.random((count, 2, 3), dtype=np.float32)
    while True:
        alike = np.flatnonzero(np.abs(colours[:, 0] - colours[:, 1]).sum(axis=1) < APART)
        if not len(alike):
            return torch.from_numpy(colours)
        colours[alike] = generator.random((len(alike), 2, 3), dtype=np.float32)
