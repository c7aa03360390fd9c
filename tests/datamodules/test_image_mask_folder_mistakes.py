"""What is told where something is wrong with a user's images, masks or keys."""

from pathlib import Path
from typing import Any

import pytest

from harness.errors import UserError
from tests.datamodules.image_files import photograph
from tests.datamodules.image_mask_folders import filled, made, ready
from tests.datamodules.segmentation_files import mask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return filled(tmp_path)


def two_masks(folder: Path) -> None:
    for path in sorted((folder / "masks").iterdir())[2:]:
        path.unlink()


def no_masks(folder: Path) -> None:
    for path in (folder / "masks").iterdir():
        path.unlink()


def no_images(folder: Path) -> None:
    for path in (folder / "images").iterdir():
        path.unlink()


def no_folder(folder: Path) -> None:
    no_masks(folder)
    (folder / "masks").rmdir()


MISTAKES = {
    "other size": (
        lambda folder: mask(folder / "masks" / "road 03.png", [[0] * 12] * 16),
        r"road 03\.png has 12 x 16 pixels and its image 16 x 12",
    ),
    "unknown value": (
        lambda folder: mask(folder / "masks" / "road 04.png", [[0] * 15 + [9]] * 12),
        r"road 04\.png holds the value 9; data\.num_classes=3 allows 0 to 2",
    ),
    "colour": (
        lambda folder: photograph(folder / "masks" / "road 05.png", (1, 1, 1), (16, 12)),
        r"road 05\.png is in colour \(mode RGB\)",
    ),
    "unreadable mask": (
        lambda folder: (folder / "masks" / "road 06.png").write_bytes(b"no"),
        r"road 06\.png cannot be read as an image",
    ),
    "unreadable image": (
        lambda folder: (folder / "images" / "road 14.jpg").write_bytes(b"no"),
        r"road 14\.jpg cannot be read as an image",
    ),
    "no masks": (no_masks, "masks holds no mask"),
    "two masks": (two_masks, "2 masks cannot be split .* 3 are the least"),
    "no images": (no_images, "images holds no image"),
    "no folder": (no_folder, "has no folder masks"),
    "link to nowhere": (
        lambda folder: (folder / "images" / "road 20.jpg").symlink_to(folder / "gone.jpg"),
        r"images/road 20\.jpg cannot be read \(No such file",
    ),
    "two images of a stem": (
        lambda folder: photograph(folder / "images" / "road 03.png", (0, 0, 0)),
        r"images/road 03\.jpg and images/road 03\.png have one stem",
    ),
    "mask without image": (
        lambda folder: mask(folder / "masks" / "rod 03.png", [[0]]),
        r"masks/rod 03\.png has no image images/rod 03\.\*",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_told_with_its_file(folder: Path, mistake: str) -> None:
    make, message = MISTAKES[mistake]
    make(folder)  # type: ignore[no-untyped-call]
    with pytest.raises(UserError, match=message):
        ready(folder)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"test_share": 0.0}, r"data\.test_share=0\.0 must leave"),
        ({"val_share": 0.6, "test_share": 0.4}, "must leave images to train on"),
        ({"void_value": 2}, r"data\.void_value=2 must be none of the classes 0 to 2"),
        ({"void_value": 70000}, r"at most 65535"),
        ({"mask_values": [0, 255]}, r"data\.mask_values=\[0, 255\] must be data\.num_classes=3 different"),
        ({"mask_values": [0, 9, 9]}, r"must be data\.num_classes=3 different pixel values"),
        ({"mask_values": [0, 1, 70000]}, r"of 0 to 65535"),
        ({"mask_values": [0, 128, 255]}, r"data\.void_value=255 must be none of .* 0, 128, 255, .*=null"),
        ({"class_names": ["a"]}, r"data\.class_names has 1 name for data\.num_classes=3"),
    ],
)
def test_keys_that_make_no_sense_are_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        made(tmp_path, **changed)


def test_the_folder_has_to_be_given() -> None:
    with pytest.raises(UserError, match=r"data=image_mask_folder needs data\.folder"):
        made(None)
