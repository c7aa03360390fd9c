"""Handwritten digits as images that need no network: scikit-learn's bundled 8 x 8 set.

Source: the test part of the UCI "Optical recognition of handwritten digits" set (Alpaydin and Kaynak,
1998), 1,797 images with values 0..16, as ``sklearn.datasets.load_digits`` gives them. The split is ours, so
no published number belongs to it.
"""

from typing import Literal

import numpy as np
import torch

from datamodules.images import ImageDataModule, LabelledImages, Split, resized, stratified_split
from harness.annotations import NonNegativeInt, PositiveInt
from harness.errors import UserError

_SIZE, _MAX_PIXEL = 8, 16
_SCALE = 15  # of pixels before a resize, so that values in between are not rounded to sixteenths


class DigitsDataModule(ImageDataModule):
    """Digits of 8 x 8 pixels, or resized from there; the digit is the class.

    Args:
        in_channels: colours, 1.
        image_size: pixels of a side, 8; any other resizes the images once.
        num_classes: digits, 10.
        num_train: training images, each digit with its share.
        num_val: validation images, likewise; those that remain are for testing.
        split_seed: seed of the split, and of nothing else.
        mean: subtracted from the pixels after scaling to [0, 1].
        std: what they are divided by then.
        batch_size: images of one optimiser step, over all processes.
        augment: ``none``, or ``shift`` by up to one pixel each way.
        seed: of the order and the augmentation.
    """

    tasks = ("image_classification", "image_generation")

    def __init__(
        self,
        in_channels: PositiveInt,
        image_size: PositiveInt,
        num_classes: PositiveInt,
        num_train: PositiveInt,
        num_val: PositiveInt,
        split_seed: NonNegativeInt,
        mean: list[float],
        std: list[float],
        batch_size: PositiveInt,
        augment: Literal["none", "shift"],
        seed: NonNegativeInt,
    ) -> None:
        super().__init__(
            choice="digits",
            in_channels=in_channels,
            image_size=image_size,
            num_classes=num_classes,
            class_names="0123456789",
            mean=mean,
            std=std,
            batch_size=batch_size,
            augment=augment,
            seed=seed,
            max_pixel=_MAX_PIXEL if image_size == _SIZE else _SCALE * _MAX_PIXEL,
        )
        self.num_train = num_train
        self.num_val = num_val
        self.split_seed = split_seed

    def build(self) -> dict[Split, LabelledImages]:
        from sklearn.datasets import load_digits  # a slow import that only this data set needs

        pixels, labels = load_digits(return_X_y=True)
        num_test = len(labels) - self.num_train - self.num_val
        if num_test < 1:
            raise UserError(
                f"data.num_train={self.num_train} and data.num_val={self.num_val} leave no image for testing:"
                f" there are {len(labels)}. Try data.num_train=1024 data.num_val=256."
            )
        images = torch.from_numpy(pixels.astype(np.uint8)).view(-1, 1, _SIZE, _SIZE)
        if self.image_size != _SIZE:
            images = resized(images * _SCALE, self.image_size)
        classes = torch.from_numpy(labels.astype(np.int64))
        parts = stratified_split(labels, (self.num_train, self.num_val, num_test), self.split_seed)
        train, val, test = (
            LabelledImages(images[index], classes[index], index) for index in map(torch.from_numpy, parts)
        )
        return {"train": train, "val": val, "test": test}
