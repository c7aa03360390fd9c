"""What pictures and tables need to know of a data module of labelled scenes."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from datamodules.paired_augmentation import VOID
from datamodules.palette import distinct_colours

VOID_COLOUR = (0, 0, 0)
SHOWN = 4
"""Test images in a picture."""


def names_of(datamodule: Any, num_classes: int) -> tuple[str, ...]:
    """Class names of a data module, ``class 0``, ... where it has none."""
    names = getattr(datamodule, "class_names", None)
    return tuple(names) if names else tuple(f"class {index}" for index in range(num_classes))


def image_names_of(datamodule: Any, split: str) -> Sequence[str] | None:
    """What a data module calls the images of a split, by their numbers; None where it has no names."""
    splits: Mapping[str, Any] = getattr(datamodule, "splits", {})
    names: Sequence[str] | None = getattr(splits.get(split), "names", None)
    return names


def palette_of(datamodule: Any, num_classes: int) -> Tensor:
    """Colours of the classes, ``[256, 3]`` in [0, 1]; void, and any other number, is black.

    Args:
        datamodule: whose ``palette``, RGB triples up to 255, is taken if it has one.
        num_classes: number of classes.
    """
    own: Sequence[Sequence[int]] | None = getattr(datamodule, "palette", None)
    given = own or distinct_colours(num_classes)
    colours = torch.tensor(VOID_COLOUR).repeat(VOID + 1, 1)
    colours[:num_classes] = torch.tensor([tuple(colour) for colour in given[:num_classes]])
    return colours / 255


def paint(labels: Tensor, palette: Tensor) -> Tensor:
    """Label maps ``[B, H, W]`` as images ``[B, 3, H, W]`` in [0, 1].

    Args:
        labels: in 0 .. 255.
        palette: ``[256, 3]``.
    """
    return palette[labels.long()].permute(0, 3, 1, 2)


def visible(x: Tensor, datamodule: Any) -> Tensor:
    """Images ``[B, 3, H, W]`` of a batch as a person knows them, in [0, 1].

    Args:
        x: normalised.
        datamodule: whose ``denormalise`` undoes that; without one the values are stretched over [0, 1].
    """
    undo = getattr(datamodule, "denormalise", None)
    if undo is not None:
        pixels: Tensor = undo(x)
        return pixels
    low, high = x.amin(), x.amax()
    return (x - low) / (high - low).clamp(min=1e-12)


def shown_rows(datamodule: Any) -> dict[str, Tensor]:
    """A few test images, evenly spaced, as a test gets them: one batch on the CPU, and no other is read.

    Args:
        datamodule: set up, with ``splits`` and a ``loader`` as those of
            :class:`datamodules.segmentation.SegmentationDataModule`.
    """
    size = len(datamodule.splits["test"])
    ids = torch.linspace(0, size - 1, min(SHOWN, size)).long()
    # all of them in this process: the first one alone draws
    batches = list(datamodule.loader("test", shared=False, ids=ids))
    return {name: torch.cat([batch[name].cpu() for batch in batches]) for name in batches[0]}
