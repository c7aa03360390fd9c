"""Predictions in a file that a person can open."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.files import write_atomically

if TYPE_CHECKING:
    from pytorch_lightning import LightningDataModule

    from lightning_modules.experiment import ExperimentModule

PREDICTIONS = "predictions.csv"
"""The file's name in a run folder."""


def write_predictions(
    path: Path, module: "ExperimentModule", datamodule: "LightningDataModule", outputs: list[Any]
) -> None:
    """Writes what ``module.prediction_rows`` makes of ``outputs`` as CSV, row by row.

    Args:
        path: the CSV file.
        module: the module that predicted.
        datamodule: its data, for class names.
        outputs: what ``trainer.predict`` returned, one entry a batch.

    Raises:
        UserError: if the method predicts nothing that fits a table.
    """
    rows = iter(module.prediction_rows(outputs, datamodule))
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
