"""Predictions in files that a person can open."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.files import write_atomically

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule
    from torch import Tensor

    from lightning_modules.experiment import ExperimentModule

PREDICTIONS = "predictions.csv"
"""The file's name in a run folder."""


def write_predictions(
    path: Path, module: "ExperimentModule", datamodule: "LightningDataModule", outputs: list[Any]
) -> None:
    """Writes what ``module.prediction_files`` makes of ``outputs`` as CSV, row by row.

    Args:
        path: the CSV file; the method's own files go beside it.
        module: the module that predicted.
        datamodule: its data, for class names.
        outputs: what ``trainer.predict`` returned, one entry a batch.

    Raises:
        UserError: if the method predicts nothing that fits a table.
    """
    rows = iter(module.prediction_files(outputs, datamodule, path.parent))
    first = next(rows, None)
    if first is None:
        raise UserError("mode=predict: this method has no predictions to write. Use mode=test.")

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(first))
            writer.writeheader()
            writer.writerow(first)
            writer.writerows(rows)

    write_atomically(path, write)


def write_images(images: "Tensor", folder: Path, first: int = 0) -> list[Path]:
    """Writes each image as ``folder/<number>.png``, numbers of six digits from ``first`` on.

    Args:
        images: ``[N, C, H, W]`` in [0, 1], C one (grey) or three; values outside are cut off.
        folder: where to; made if it is missing.
        first: number of the first image.

    Returns:
        The paths, in order.

    Raises:
        ValueError: a pixel is no finite number: black would hide it.
    """
    from PIL import Image

    if not bool(images.isfinite().all()):
        raise ValueError("images hold pixels that are not finite")
    pixels = (images.detach().float().clamp(0.0, 1.0) * 255).round().byte().cpu()
    pixels = pixels.permute(0, 2, 3, 1)  # [N, C, H, W] -> [N, H, W, C]
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:06d}.png" for number in range(first, first + len(pixels))]
    for path, image in zip(paths, pixels.numpy(), strict=True):
        Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(path)
    return paths
