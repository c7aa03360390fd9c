"""Generated images of one bright bump each, in eight kinds, on which generators can be judged exactly.

A pixel p holds ``exp(-|p - c|^2 / 2 w^2)`` in [0, 1], with the centre c near one of four places and one of
two widths w. Which of the eight modes an image belongs to can be measured, so that a generator which has
forgotten some of them is found out. Settings are ours; nothing is published for this set.
"""

import math

import numpy as np
import torch
from torch import Tensor

from datamodules.images import ImageDataModule, LabelledImages, Split
from harness.annotations import NonNegativeInt, PositiveInt

SIZE = 16
CENTRES = ((4.0, 4.0), (4.0, 11.0), (11.0, 4.0), (11.0, 11.0))  # row and column, in pixels
WIDTHS = (1.2, 2.4)  # in pixels
JITTER = 0.5  # standard deviation of a centre's row and column, in pixels
MODES = tuple((centre, width) for centre in CENTRES for width in WIDTHS)
"""The class is the number of the mode."""

NEAR = 2.0  # pixels between an image's centroid and a mode's, at most
ALIKE = 0.5  # pixels between their spreads, at most
_LIT = 1e-6  # a mass below this is that of a dark image, which has no centroid


class Bumps16DataModule(ImageDataModule):
    """Images of 16 x 16 grey pixels, equally many of each of the eight modes; the mode is the class.

    Args:
        in_channels: colours, 1.
        image_size: pixels of a side, 16.
        num_classes: modes, 8.
        num_train: training images.
        num_val: validation images.
        num_test: images for testing.
        split_seed: seed of the jitter of every image, and of nothing else.
        mean: subtracted from the pixels after scaling to [0, 1].
        std: what they are divided by then.
        batch_size: images of one optimiser step, over all processes.
        seed: of the order of the images.
    """

    tasks = ("image_classification", "image_generation")
    sample_name = "bumps"

    def __init__(
        self,
        in_channels: PositiveInt,
        image_size: PositiveInt,
        num_classes: PositiveInt,
        num_train: PositiveInt,
        num_val: PositiveInt,
        num_test: PositiveInt,
        split_seed: NonNegativeInt,
        mean: list[float],
        std: list[float],
        batch_size: PositiveInt,
        seed: NonNegativeInt,
    ) -> None:
        super().__init__(
            choice="bumps16",
            in_channels=in_channels,
            image_size=image_size,
            num_classes=num_classes,
            class_names=[f"{row:.0f},{column:.0f} w={width}" for (row, column), width in MODES],
            mean=mean,
            std=std,
            batch_size=batch_size,
            augment="none",  # a flip would turn one mode into another
            seed=seed,
        )
        self.sizes: dict[Split, int] = {"train": num_train, "val": num_val, "test": num_test}
        self.split_seed = split_seed

    def build(self) -> dict[Split, LabelledImages]:
        splits: dict[Split, LabelledImages] = {}
        first = 0
        for number, (split, size) in enumerate(self.sizes.items()):
            # each split has draws of its own: another num_train changes no test image
            images, labels = draw_bumps(size, self.split_seed, number)
            splits[split] = LabelledImages(images, labels, torch.arange(first, first + size))
            first += size
        return splits

    def sample_features(self, images: Tensor) -> Tensor:
        return bump_features(images)

    def sample_metrics(self, images: Tensor) -> dict[str, float]:
        """``modes``: how many of the eight are hit; ``on_mode``: share of the images that hit one."""
        hits = hit_modes(images)
        found = hits[hits >= 0]
        return {"modes": float(len(found.unique())), "on_mode": len(found) / max(len(hits), 1)}


def draw_bumps(count: int, *seeds: int) -> tuple[Tensor, Tensor]:
    """Images of the eight modes in turn.

    Args:
        count: images N, >= 0.
        seeds: what the jitter follows from, each >= 0.

    Returns:
        ``[N, 1, 16, 16]`` uint8, ``round(255 exp(...))``, and ``[N]`` long, the mode. The modes are equally
        many: two such sets of 4,000 are at a Frechet distance of 0.001 over the features below, two sets
        whose modes are drawn at random, as a perfect generator would draw them, at 0.012.
    """
    labels = torch.arange(count) % len(MODES)
    centres, widths = _modes()
    jitter = torch.from_numpy(np.random.default_rng(seeds).normal(0.0, JITTER, (count, 2)))
    bumps = ideal_bumps(centres[labels] + jitter, widths[labels])
    return (255 * bumps).round().to(torch.uint8), labels


def ideal_bumps(centres: Tensor, widths: Tensor) -> Tensor:
    """``exp(-|p - c|^2 / 2 w^2)`` of each pixel p.

    Args:
        centres: ``[N, 2]``, row and column in pixels.
        widths: ``[N]`` in pixels, above 0.

    Returns:
        ``[N, 1, 16, 16]`` in [0, 1].
    """
    places = torch.arange(SIZE, dtype=centres.dtype, device=centres.device)
    squares = (places - centres[:, :, None]) ** 2  # [N, 2, 16], of rows and of columns
    distances = squares[:, 0, :, None] + squares[:, 1, None, :]  # [N, 16, 16]
    return torch.exp(-distances / (2 * widths[:, None, None] ** 2))[:, None]


def bump_features(images: Tensor) -> Tensor:
    """Five numbers that describe a bump: mass / 10, centroid's row and column, spread, 3 x the peak.

    The spread is the root of the mean of the variances along rows and along columns, the mass being the
    weight. The factors bring all five to comparable sizes, on which a Frechet distance depends.

    Args:
        images: ``[N, 1, H, W]`` in [0, 1]; of more colours the mean is taken.

    Returns:
        ``[N, 5]``, in pixels where it is a length; a dark image has centroid and spread 0.
    """
    grey = images.float().mean(dim=1)  # [N, H, W]
    mass = grey.sum(dim=(1, 2))
    weights = grey / mass.clamp(min=_LIT)[:, None, None]
    rows = torch.arange(grey.size(1), dtype=grey.dtype, device=grey.device)
    columns = torch.arange(grey.size(2), dtype=grey.dtype, device=grey.device)
    by_row, by_column = weights.sum(dim=2), weights.sum(dim=1)  # [N, H], [N, W]
    row, column = by_row @ rows, by_column @ columns
    variance_of_rows = (by_row * (rows - row[:, None]) ** 2).sum(dim=1)
    variance_of_columns = (by_column * (columns - column[:, None]) ** 2).sum(dim=1)
    spread = ((variance_of_rows + variance_of_columns) / 2).sqrt()
    return torch.stack([mass / 10, row, column, spread, 3 * grey.amax(dim=(1, 2))], dim=1)


def hit_modes(images: Tensor) -> Tensor:
    """The mode that each image hits: its centroid within 2 pixels of the mode's and its spread within 0.5.

    Both are compared with those of the ideal bump at the mode's place, which the edge of the image cuts.

    Args:
        images: ``[N, 1, 16, 16]`` in [0, 1].

    Returns:
        ``[N]`` long; -1 where none is hit, the one of nearest spread where two are.
    """
    features = bump_features(images)
    ideal = bump_features(ideal_bumps(*_modes())).to(features.device)  # [8, 5]
    away = torch.cdist(features[:, 1:3], ideal[:, 1:3], compute_mode="donot_use_mm_for_euclid_dist")
    unlike = (features[:, None, 3] - ideal[None, :, 3]).abs()  # [N, 8]
    hit = (away <= NEAR) & (unlike <= ALIKE)
    nearest = unlike.masked_fill(~hit, math.inf).argmin(dim=1)
    return torch.where(hit.any(dim=1), nearest, -1)


def _modes() -> tuple[Tensor, Tensor]:
    """Centres ``[8, 2]`` and widths ``[8]`` in float64."""
    centres = torch.tensor([centre for centre, _ in MODES], dtype=torch.float64)
    return centres, torch.tensor([width for _, width in MODES], dtype=torch.float64)
