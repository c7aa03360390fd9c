"""Generated street scenes of 32 x 48 pixels: a stand-in for CamVid that needs no network.

Source: the stand-in of the DEAL specification, which leaves colours, noise and proportions open. Every image
has sky, buildings and a road, most have cars. About 30 % are hard: one to three poles, most with a sign, thin
things of rare classes for which an image is worth annotating. The lowest row is void.
"""

from typing import Literal

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from datamodules.images import Split
from datamodules.paired_augmentation import VOID
from datamodules.scenes import Masks, Scenes
from datamodules.segmentation import SegmentationDataModule
from harness.annotations import NonNegativeInt, PositiveInt

HEIGHT, WIDTH = 32, 48
CLASSES = ("sky", "building", "road", "car", "pole", "sign")
PALETTE = ((128, 128, 128), (128, 0, 0), (128, 64, 128), (64, 0, 128), (192, 192, 128), (192, 128, 128))
HARD_SHARE = {"train": 0.3, "val": 0.5, "test": 0.5}
"""Of the images of each split."""

# Colours in [0, 1], close to each other where shapes are to be told apart by more than their colour.
COLOURS = np.array(
    [
        [0.62, 0.66, 0.72],  # sky
        [0.50, 0.46, 0.44],  # building
        [0.40, 0.40, 0.42],  # road
        [0.48, 0.38, 0.42],  # car
        [0.58, 0.57, 0.49],  # pole
        [0.65, 0.51, 0.43],  # sign
    ]
)
SPREAD = 0.033  # standard deviation of a thing's own colour
LIGHT = 0.05  # of the light of a whole image
NOISE = 0.057  # of each pixel and colour
_SIGNED = 0.8  # share of the poles that carry a sign
_CARS = (0.25, 0.45, 0.3)  # shares of images with 0, 1 and 2 cars


class StreetScenesDataModule(SegmentationDataModule):
    """Scenes of six classes; about a third of the pool, and half of the others, with poles and signs.

    Args:
        in_channels: colours, 3.
        height: rows, 32.
        width: columns, 48.
        num_classes: 6.
        num_train: images of the pool.
        num_val: validation images; 0 for none.
        num_test: images for testing.
        scene_seed: seed of all that is random about a scene, and of nothing else.
        mean: subtracted from each colour after scaling to [0, 1].
        std: what each colour is divided by then.
        batch_size: images of one optimiser step, over all processes.
        augment: a name in :data:`datamodules.paired_augmentation.PAIRED_AUGMENTATIONS`.
        seed: of the order, the augmentation, the first labelled images and the candidates.
    """

    def __init__(
        self,
        in_channels: Literal[3],
        height: PositiveInt,
        width: PositiveInt,
        num_classes: PositiveInt,
        num_train: PositiveInt,
        num_val: NonNegativeInt,
        num_test: PositiveInt,
        scene_seed: NonNegativeInt,
        mean: list[float],
        std: list[float],
        batch_size: PositiveInt,
        augment: Literal["none", "flip", "deal"],
        seed: NonNegativeInt,
    ) -> None:
        super().__init__(
            choice="street_scenes",
            in_channels=in_channels,
            height=height,
            width=width,
            num_classes=num_classes,
            class_names=CLASSES,
            palette=PALETTE,
            mean=mean,
            std=std,
            batch_size=batch_size,
            augment=augment,
            seed=seed,
        )
        self.sizes: dict[Split, int] = {"train": num_train, "val": num_val, "test": num_test}
        self.scene_seed = scene_seed
        self.hard: dict[Split, Tensor] = {}
        """By split which images are hard, ``[N]`` bool, once they are made; for whoever judges a query."""

    def build(self) -> dict[Split, Scenes]:
        splits: dict[Split, Scenes] = {}
        for number, (split, size) in enumerate(self.sizes.items()):
            if size:
                # each split has draws of its own: another num_train changes no test image
                images, masks, hard = draw_scenes(size, HARD_SHARE[split], self.scene_seed, number)
                names = tuple(f"{split} scene {place}" for place in range(size))
                splits[split] = Scenes(images, Masks(masks), torch.ones(size, dtype=torch.bool), names)
                self.hard[split] = hard
        return splits


def draw_scenes(count: int, hard_share: float, *seeds: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scenes, hard ones among them.

    Args:
        count: images N.
        hard_share: of them, to within one image.
        seeds: what all that is random follows from, each >= 0.

    Returns:
        images ``[N, 3, 32, 48]`` uint8, masks ``[N, 32, 48]`` uint8, and ``[N]`` bool, which are hard.
    """
    generator = np.random.default_rng(seeds)
    hard = np.zeros(count, bool)
    hard[generator.permutation(count)[: round(hard_share * count)]] = True
    images = np.empty((count, 3, HEIGHT, WIDTH), np.uint8)
    masks = np.empty((count, HEIGHT, WIDTH), np.uint8)
    for number in range(count):
        images[number], masks[number] = _scene(bool(hard[number]), generator)
    return torch.from_numpy(images), torch.from_numpy(masks), torch.from_numpy(hard)


class _Canvas:
    """Pixels and classes of one scene; what is drawn later lies in front."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.pixels = np.empty((HEIGHT, WIDTH, 3))
        self.mask = np.empty((HEIGHT, WIDTH), np.uint8)

    def box(self, label: str, top: int, bottom: int, left: int, right: int, shade: float = 0.0) -> None:
        """Fills rows top to bottom, columns left to right, ends left out, in a colour of this thing's own."""
        number = CLASSES.index(label)
        part = slice(max(top, 0), max(bottom, 0)), slice(max(left, 0), max(right, 0))
        self.pixels[part] = COLOURS[number] + shade + SPREAD * self.generator.standard_normal(3)
        self.mask[part] = number


def _scene(hard: bool, generator: Generator) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    canvas = _Canvas(generator)
    canvas.box("sky", 0, HEIGHT, 0, WIDTH)
    canvas.pixels += 0.1 * (0.5 - np.arange(HEIGHT) / HEIGHT)[:, None, None]  # brighter above
    street = int(generator.integers(18, 24))
    left = -int(generator.integers(0, 6))
    while left < WIDTH:
        right = left + int(generator.integers(6, 15))
        top = int(generator.integers(4, street - 4))
        canvas.box("building", top, street, left, right)
        _windows(canvas, top, street, left, right)
        left = right + int(generator.choice([0, 0, 0, 3]))
    canvas.box("road", street, HEIGHT, 0, WIDTH)
    for _ in range(int(generator.choice(3, p=_CARS))):
        _car(canvas, street)
    if hard:
        for _ in range(int(generator.integers(1, 4))):
            _pole(canvas, street)
    light = 1 + LIGHT * generator.standard_normal()
    noisy = light * canvas.pixels + NOISE * generator.standard_normal(canvas.pixels.shape)
    canvas.mask[-1] = VOID
    return (255 * noisy).round().clip(0, 255).astype(np.uint8).transpose(2, 0, 1), canvas.mask


def _windows(canvas: _Canvas, top: int, bottom: int, left: int, right: int) -> None:
    """Darker or lighter spots, which are building all the same."""
    shade = canvas.generator.uniform(-0.1, 0.1)
    rows, columns = (
        np.arange(max(start, 0), max(min(end, size), 0))
        for start, end, size in ((top + 2, bottom - 1, HEIGHT), (left + 1, right - 1, WIDTH))
    )
    chosen = (rows % 4 < 2)[:, None] & (columns % 4 < 2)
    canvas.pixels[np.ix_(rows, columns)] += shade * chosen[..., None]


def _car(canvas: _Canvas, street: int) -> None:
    generator = canvas.generator
    width, height = int(generator.integers(8, 14)), int(generator.integers(4, 7))
    bottom = int(generator.integers(street + 3, HEIGHT))
    left = int(generator.integers(0, WIDTH - width))
    shade = generator.uniform(-0.15, 0.15)
    canvas.box("car", bottom - height // 2, bottom, left, left + width, shade)
    canvas.box("car", bottom - height, bottom - height // 2, left + 2, left + width - 2, shade)


def _pole(canvas: _Canvas, street: int) -> None:
    generator = canvas.generator
    left = int(generator.integers(3, WIDTH - 5))
    top = int(generator.integers(3, 11))
    canvas.box("pole", top, street + int(generator.integers(0, 4)), left, left + 2)
    if generator.random() < _SIGNED:
        height, width = int(generator.integers(4, 7)), int(generator.integers(4, 7))
        canvas.box("sign", top, top + height, left + 1 - width // 2, left + 1 + (width + 1) // 2)
