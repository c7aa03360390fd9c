"""Predictions reach their file row by row, whole or not at all."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import LightningDataModule

from harness.errors import UserError
from harness.predictions import write_images, write_predictions
from lightning_modules.experiment import ExperimentModule


class Counting(ExperimentModule):
    """Predicts rows that are made while they are written."""

    def __init__(self, rows: int, fails_at: int = -1) -> None:
        super().__init__()
        self.rows = rows
        self.fails_at = fails_at
        self.alive = self.most_alive = 0

    def prediction_rows(
        self, outputs: list[Any], datamodule: LightningDataModule
    ) -> Iterator[dict[str, Any]]:
        for number in range(self.rows):
            if number == self.fails_at:
                raise ZeroDivisionError("a bug")
            row = Row(self, number=number, name='a "quoted", name')
            yield row
            del row


class Row(dict[str, Any]):
    def __init__(self, module: Counting, **values: Any) -> None:
        super().__init__(values)
        self.module = module
        module.alive += 1
        module.most_alive = max(module.most_alive, module.alive)

    def __del__(self) -> None:
        self.module.alive -= 1


def write(path: Path, module: ExperimentModule) -> None:
    write_predictions(path, module, LightningDataModule(), [])


def test_rows_are_written_as_they_come(tmp_path: Path) -> None:
    module = Counting(1000)
    write(tmp_path / "predictions.csv", module)
    with (tmp_path / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["number"]) for row in rows] == list(range(1000))
    assert rows[7]["name"] == 'a "quoted", name'
    assert module.most_alive <= 3, "they are not gathered first"


def test_a_failure_leaves_no_file_and_no_old_one_harmed(tmp_path: Path) -> None:
    path = tmp_path / "predictions.csv"
    with pytest.raises(ZeroDivisionError):
        write(path, Counting(10, fails_at=5))
    assert list(tmp_path.iterdir()) == []
    write(path, Counting(2))
    before = path.read_bytes()
    with pytest.raises(ZeroDivisionError):
        write(path, Counting(10, fails_at=5))
    assert path.read_bytes() == before


def test_a_method_without_rows_is_a_user_s_mistake(tmp_path: Path) -> None:
    for module in (Counting(0), ExperimentModule()):
        with pytest.raises(UserError, match="no predictions to write"):
            write(tmp_path / "predictions.csv", module)
    assert list(tmp_path.iterdir()) == []


class Drawing(ExperimentModule):
    """Predicts images, in files that its rows name."""

    def prediction_files(
        self, outputs: list[Any], datamodule: LightningDataModule, folder: Path
    ) -> Iterator[dict[str, Any]]:
        for first in (0, 2):
            assert not (folder / "predictions.csv").exists(), "the table comes last"
            for path in write_images(torch.rand(2, 1, 4, 4), folder / "samples", first):
                yield {"file": path.relative_to(folder).as_posix()}


def test_a_method_writes_files_beside_the_table_that_names_them(tmp_path: Path) -> None:
    write(tmp_path / "predictions.csv", Drawing())
    with (tmp_path / "predictions.csv").open(encoding="utf-8", newline="") as file:
        named = [row["file"] for row in csv.DictReader(file)]
    assert named == [f"samples/00000{number}.png" for number in range(4)]
    assert all((tmp_path / name).is_file() for name in named)


@pytest.mark.parametrize("colours", [1, 3])
def test_images_are_written_pixel_by_pixel(tmp_path: Path, colours: int) -> None:
    pixels = torch.randint(0, 256, (3, colours, 4, 5), generator=torch.Generator().manual_seed(0)).byte()
    paths = write_images(pixels / 255, tmp_path / "samples", first=41)
    assert [path.name for path in paths] == ["000041.png", "000042.png", "000043.png"]
    for path, image in zip(paths, pixels, strict=True):
        with Image.open(path) as read:
            found = np.asarray(read).reshape(4, 5, colours)
        assert (found == image.permute(1, 2, 0).numpy()).all()


def test_values_outside_are_cut_off_and_no_number_is_no_pixel(tmp_path: Path) -> None:
    (path,) = write_images(torch.tensor([[[[-0.5, 0.5, 1.5]]]]), tmp_path)
    with Image.open(path) as read:
        assert np.asarray(read).tolist() == [[0, 128, 255]]
    with pytest.raises(ValueError, match="not finite"):
        write_images(torch.full((1, 1, 2, 2), float("nan")), tmp_path)
