"""A user's own images with masks for a few: how they are split, and what is told where something is wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules.image_mask_folder import ImageMaskFolderDataModule, palette_of
from harness.errors import UserError
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Fifteen images of 16 x 12 pixels, the first ten with a mask of their class and a void left half."""
    for number in range(15):
        photograph(tmp_path / "images" / f"road {number:02d}.jpg", (16 * number, 0, 0), (16, 12))
        if number < 10:
            mask(tmp_path / "masks" / f"road {number:02d}.png", [[255] * 8 + [number % 3] * 8] * 12)
    return tmp_path


def test_masked_images_are_split_and_the_others_are_the_pool(folder: Path) -> None:
    data = ready(folder)
    train, val, test = (data.splits[split] for split in ("train", "val", "test"))
    assert (len(train), len(val), len(test)) == (11, 2, 2)
    assert bool(val.has_mask.all())
    assert bool(test.has_mask.all())
    bare = [f"images/road {number:02d}.jpg" for number in range(10, 15)]
    assert [name for name, has in zip(train.names, train.has_mask, strict=True) if not has] == bare
    assert data.labelled.tolist() == train.has_mask.long().tolist()
    assert len({*train.names, *val.names, *test.names}) == 15
    for scenes in data.splits.values():
        for number, name in enumerate(scenes.names):
            place = int(name[-6:-4])
            assert abs(int(scenes.images[number, 0, 0, 0]) - 16 * place) <= 3, "JPEG loses a little"
            if place < 10:
                expected = [255] * 4 + [place % 3] * 4
                assert scenes.masks[torch.tensor([number])][0].tolist() == [expected] * 6
    assert data.class_names == ("class 0", "class 1", "class 2")
    assert sorted(torch.cat([batch["id"] for batch in data.train_dataloader()]).tolist()) == [
        number for number in range(11) if train.has_mask[number]
    ]


def test_an_image_nobody_annotated_cannot_be_labelled(folder: Path) -> None:
    data = ready(folder)
    with pytest.raises(UserError, match=r"images/road 1[0-4]\.jpg cannot be trained on without a mask"):
        data.label_images(data.unlabelled_ids[:1], 2)


def test_a_new_mask_is_noticed_and_training_grows(folder: Path) -> None:
    before = ready(folder)
    mask(folder / "masks" / "road 12.png", [[1] * 16] * 12)
    after = ready(folder)
    count = [sum(int(scenes.has_mask.sum()) for scenes in data.splits.values()) for data in (before, after)]
    assert count == [10, 11]


def test_names_values_and_palettes_are_the_user_s(folder: Path) -> None:
    for path in (folder / "masks").iterdir():
        values = np.asarray(Image.open(path)).copy()
        values[values == 255] = 7
        indexed = Image.fromarray(values).convert("P")
        indexed.putpalette(bytes(range(256)) * 3)
        indexed.save(path)
    data = ready(folder, void_value=7, class_names=["a", "b", "c"])
    assert data.class_names == ("a", "b", "c")
    assert set(data.splits["val"].masks[torch.arange(2)].unique().tolist()) <= {0, 1, 2, 255}
    assert len(set(palette_of(200))) == 200


def rewritten(folder: Path, as_value: dict[int, int]) -> None:
    """Masks with other values in place of those that ``folder`` has."""
    for path in (folder / "masks").iterdir():
        mask(path, np.vectorize(as_value.__getitem__)(np.asarray(Image.open(path))))


def test_masks_of_black_and_white_are_told_how_to_be_read_and_read_so(folder: Path) -> None:
    rewritten(folder, {255: 0, 0: 255, 1: 255, 2: 255})
    with pytest.raises(
        UserError, match=r"no pixel of class 1, .*mask_values=\[0,255\] data\.void_value=null"
    ):
        ready(folder, num_classes=2)
    data = ready(folder, num_classes=2, mask_values=[0, 255], void_value=None)
    masks = data.splits["test"].masks[torch.arange(2)]
    assert masks.tolist() == [[[0] * 4 + [1] * 4] * 6] * 2
    data = ready(folder, num_classes=2, mask_values=[255, 0], void_value=None)
    assert torch.equal(data.splits["test"].masks[torch.arange(2)], 1 - masks)


def test_masks_that_are_void_everywhere_are_refused(folder: Path) -> None:
    rewritten(folder, dict.fromkeys((0, 1, 2, 255), 255))
    with pytest.raises(UserError, match="the training masks have no pixel of any class"):
        ready(folder)


def test_masks_of_many_classes_may_lack_one(folder: Path) -> None:
    assert len(ready(folder, num_classes=4).splits["train"]) == 11


def test_without_a_void_value_every_pixel_needs_a_class(folder: Path) -> None:
    with pytest.raises(UserError, match=r"holds the value 255; data\.num_classes=3 allows 0 to 2\. Correct"):
        ready(folder, void_value=None)


def turned(path: Path, orientation: int) -> None:
    """Says in the file's EXIF that its pixels lie otherwise, and leaves them."""
    image = Image.open(path)
    image.load()
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(path, exif=exif)


@pytest.mark.parametrize("mask_too", [False, True])
@pytest.mark.parametrize(("orientation", "quarters"), [(3, 2), (6, -1), (8, 1)])
def test_images_and_masks_lie_as_their_exif_says(
    tmp_path: Path, orientation: int, quarters: int, mask_too: bool
) -> None:
    values = np.zeros((12, 16), np.uint8)
    values[:6, :8] = 1  # a bright corner, upper left as it is stored
    upright = np.rot90(values, quarters)
    for number in range(3):
        photo, annotated = tmp_path / "images" / f"{number}.png", tmp_path / "masks" / f"{number}.png"
        photo.parent.mkdir(exist_ok=True)
        Image.fromarray(np.repeat(255 * values[..., None], 3, axis=2)).save(photo)
        turned(photo, orientation)
        mask(annotated, values if mask_too else upright)
        if mask_too:
            turned(annotated, orientation)
    height, width = upright.shape
    scenes = ready(tmp_path, height=height, width=width, num_classes=2).splits["test"]
    found = scenes.masks[torch.tensor([0])][0]
    assert found.tolist() == upright.tolist()
    assert torch.equal(found.bool(), scenes.images[0, 0] > 127)


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
