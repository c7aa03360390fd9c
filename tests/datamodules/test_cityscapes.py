"""Cityscapes from a small folder in the published layout."""

from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules import cityscapes
from datamodules.cityscapes import CityscapesDataModule
from harness.errors import UserError
from tests.datamodules.image_files import photograph
from tests.datamodules.segmentation_files import SETTINGS, mask

SIZES = {"train": 10, "val": 4}


def made(root: Path, **keywords: Any) -> CityscapesDataModule:
    settings = SETTINGS | {"height": 8, "width": 8, "num_classes": 19, "num_val": 3, "split_seed": 100}
    return CityscapesDataModule(root=str(root), cache=str(root / "cache"), **{**settings, **keywords})


def ready(root: Path, **keywords: Any) -> CityscapesDataModule:
    data = made(root, **keywords)
    data.prepare_data()
    data.setup()
    return data


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scenes of 32 x 16 pixels; a mask's quarters are road, bicycle, a void id and a plate."""
    monkeypatch.setattr(cityscapes, "SIZES", SIZES)
    for part, size in SIZES.items():
        for number in range(size):
            city = "ulm" if number % 2 else "bonn"
            name = f"{part}/{city}/{city}_{number:06d}_000019"
            photograph(
                tmp_path / f"cityscapes/leftImg8bit/{name}_leftImg8bit.png", (20 * number, 0, 0), (32, 16)
            )
            upper, lower = [7] * 16 + [33] * 16, [14] * 16 + [255] * 16
            mask(tmp_path / f"cityscapes/gtFine/{name}_gtFine_labelIds.png", [upper] * 8 + [lower] * 8)
            mask(tmp_path / f"cityscapes/gtFine/{name}_gtFine_instanceIds.png", [[0]])
    return tmp_path


def test_nineteen_ids_count_and_both_images_and_masks_are_resized(root: Path) -> None:
    data = ready(root)
    scenes = data.splits["test"]
    masks = scenes.masks[torch.arange(4)]
    assert (scenes.images.shape, masks.shape) == ((4, 3, 8, 8), (4, 8, 8))
    assert masks[0, [0, 0, 7, 7], [0, 7, 0, 7]].tolist() == [0, 18, 255, 255]
    assert [number for number, train_id in sorted(cityscapes.LOOKUP.items()) if train_id < 19] == [
        *(7, 8, 11, 12, 13, 17),
        *range(19, 29),
        *(31, 32, 33),
    ]
    assert len(data.class_names) == len(data.palette) == 19


def test_the_validation_set_is_taken_from_training_and_the_published_one_tests(root: Path) -> None:
    data = ready(root)
    assert {split: len(part) for split, part in data.splits.items()} == {"train": 7, "val": 3, "test": 4}
    train, val = data.splits["train"].names, data.splits["val"].names
    assert len({*train, *val}) == 10
    assert all(name.split("/")[0] in ("bonn", "ulm") for name in train)
    assert ready(root, seed=5).splits["val"].names == val
    assert ready(root, split_seed=7).splits["val"].names != val
    assert "val" not in ready(root, num_val=0).splits
    for scenes in data.splits.values():
        numbers = [int(name.split("_")[1]) for name in scenes.names]
        assert scenes.images[:, 0, 0, 0].tolist() == [20 * number for number in numbers]


def test_a_missing_set_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"register at .*cityscapes-dataset.*street_scenes") as told:
        made(tmp_path).prepare_data()
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        (
            "gtFine/val/ulm/ulm_000001_000019_gtFine_labelIds.png",
            r"ulm_000001_.*_gtFine_labelIds\.png is missing",
        ),
        (
            "leftImg8bit/val/ulm/ulm_000001_000019_leftImg8bit.png",
            r"ulm_000001_.*_leftImg8bit\.png is missing",
        ),
    ],
)
def test_a_missing_file_is_told(root: Path, gone: str, message: str) -> None:
    (root / "cityscapes" / gone).unlink()
    with pytest.raises(UserError, match=message):
        made(root).prepare_data()


def test_a_set_that_is_not_whole_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cityscapes, "SIZES", {"train": 11, "val": 4})
    with pytest.raises(UserError, match="holds 10 scenes and should hold 11"):
        made(root).prepare_data()
    with pytest.raises(UserError, match=r"data\.num_val=11 leaves no scene"):
        made(root, num_val=11)
