"""Image files that are decoded when they are asked for: a run may need few, or memory hold no more."""

from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor

from datamodules.decoded import Files, decoder, fill
from datamodules.images import LabelledImages


class OnDemand:
    """Images ``[N, C, image_size, image_size]`` uint8, indexed like a tensor and decoded each time.

    Args:
        files: image files.
        image_size: pixels of a side.
        in_channels: 1 for grey, 3 for colour.
        resize_to: see :func:`datamodules.decoded.decode`.
        numbers: ``[N]`` long, the file of each row; None for every file in order.
    """

    device = torch.device("cpu")
    dtype = torch.uint8

    def __init__(
        self,
        files: Files,
        image_size: int,
        in_channels: int,
        resize_to: int | None = None,
        numbers: Tensor | None = None,
    ) -> None:
        self.files = files
        self.image_size = image_size
        self.in_channels = in_channels
        self.resize_to = resize_to
        self.numbers = torch.arange(len(files.labels)) if numbers is None else numbers
        self._decoder = decoder(files, image_size, in_channels, resize_to)

    def __len__(self) -> int:
        return len(self.numbers)

    @property
    def shape(self) -> torch.Size:
        return torch.Size((len(self), self.in_channels, self.image_size, self.image_size))

    @property
    def nbytes(self) -> int:
        """Of all images, decoded."""
        return self.shape.numel()

    def __getitem__(self, rows: Tensor | slice) -> Tensor:
        numbers = self.numbers[rows]
        images = np.empty((len(numbers), *self.shape[1:]), np.uint8)
        fill(images, self._decoder, numbers.tolist())
        return torch.from_numpy(images)

    def part(self, rows: Tensor) -> "OnDemand":
        """Some rows, none of them decoded."""
        return OnDemand(self.files, self.image_size, self.in_channels, self.resize_to, self.numbers[rows])

    def to(self, device: torch.device | str) -> Tensor:
        """All images, decoded, on ``device``."""
        return self[:].to(device)


@dataclass(frozen=True)
class UndecodedImages(LabelledImages):
    """A split whose ``images`` are an :class:`OnDemand`, which loaders index as they do a tensor."""

    @classmethod
    def of(cls, images: OnDemand, labels: Tensor, index: Tensor) -> "UndecodedImages":
        """A split of images, their classes and their numbers in the data set's own files."""
        return cls(cast(Tensor, images), labels, index)

    def take(self, rows: Tensor) -> LabelledImages:
        """Those of some rows, ``[n]`` long; none is decoded."""
        images = cast(OnDemand, self.images).part(rows)
        return UndecodedImages.of(images, self.labels[rows], self.index[rows])

    def decoded(self) -> LabelledImages:
        return LabelledImages(self.images[:], self.labels, self.index)
