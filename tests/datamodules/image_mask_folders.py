"""A folder of images, some with masks, and its data module."""

from pathlib import Path
from typing import Any

from datamodules.image_mask_folder import ImageMaskFolderDataModule
from tests.datamodules.image_files import photograph
from tests.datamodules.segmentation_files import SETTINGS, mask


def made(folder: Path | None, **keywords: Any) -> ImageMaskFolderDataModule:
    settings = SETTINGS | {"height": 6, "width": 8, "num_classes": 3, "void_value": 255, "class_names": None}
    settings |= {"mask_values": None, "val_share": 0.2, "test_share": 0.2, "split_seed": 0}
    settings |= {"cache": str((folder or Path()) / "cache")}
    return ImageMaskFolderDataModule(
        folder=None if folder is None else str(folder), **{**settings, **keywords}
    )


def ready(folder: Path, **keywords: Any) -> ImageMaskFolderDataModule:
    data = made(folder, **keywords)
    data.prepare_data()
    data.setup()
    return data


def filled(folder: Path) -> Path:
    """Fifteen images of 16 x 12 pixels, the first ten with a mask of their class and a void left half."""
    for number in range(15):
        photograph(folder / "images" / f"road {number:02d}.jpg", (16 * number, 0, 0), (16, 12))
        if number < 10:
            mask(folder / "masks" / f"road {number:02d}.png", [[255] * 8 + [number % 3] * 8] * 12)
    return folder
