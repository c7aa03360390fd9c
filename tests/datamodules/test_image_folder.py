"""Folders of image files: classes, splits, decoding, the cache; and the two sets that are read like them."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import decoded, image_folder, images
from datamodules.decoded import decode
from datamodules.image_folder import ImageFolderDataModule
from harness.errors import UserError
from tests.datamodules.image_files import photograph

COLOURS = {"blue": (0, 0, 200), "green": (0, 200, 0), "red": (200, 0, 0)}
MISSING = "data.folder=<folder of images>"


def module(folder: Path | None, cache: Path, **keywords: Any) -> ImageFolderDataModule:
    settings: dict[str, Any] = {"in_channels": 3, "image_size": 8, "num_classes": 3, "val_share": 0.2}
    settings |= {"test_share": 0.2, "split_seed": 0, "mean": [0.5] * 3, "std": [0.5] * 3, "batch_size": 4}
    settings |= {"augment": "none", "seed": 0}
    name = None if folder is None else str(folder)
    return ImageFolderDataModule(folder=name, cache=str(cache), **{**settings, **keywords})


def ready(folder: Path, cache: Path, **keywords: Any) -> ImageFolderDataModule:
    made = module(folder, cache, **keywords)
    made.prepare_data()
    made.setup()
    return made


def whole(made: ImageFolderDataModule) -> torch.Tensor:
    """All images in the order of their files."""
    pixels = torch.cat([split.images for split in made.splits.values()])
    return pixels[torch.cat([split.index for split in made.splits.values()]).argsort()]


@pytest.fixture
def coloured(tmp_path: Path) -> Path:
    """Ten images of each of three colours, one deeper than the others."""
    folder = tmp_path / "pictures"
    for name, colour in COLOURS.items():
        for number in range(10):
            place = folder / name / ("deeper" if number == 9 else "")
            photograph(place / f"{number}.png", colour, size=(20 + number, 16))
    (folder / "notes.txt").write_text("no image")
    (folder / "red" / ".hidden.png").write_text("no image either")
    return folder


def test_each_subfolder_is_a_class(coloured: Path, tmp_path: Path) -> None:
    made = ready(coloured, tmp_path / "cache")
    assert made.class_names == ("blue", "green", "red")
    assert {name: len(split) for name, split in made.splits.items()} == {"train": 18, "val": 6, "test": 6}
    for split in made.splits.values():
        assert split.labels.bincount().tolist() == [len(split) // 3] * 3
        for image, label in zip(split.images, split.labels, strict=True):
            expected = torch.tensor(list(COLOURS.values())[label], dtype=torch.uint8)
            assert torch.equal(image, expected[:, None, None].expand(3, 8, 8))
    numbers = torch.cat([split.index for split in made.splits.values()])
    assert sorted(numbers.tolist()) == list(range(30))


def test_a_folder_without_subfolders_is_one_class(tmp_path: Path) -> None:
    for number in range(5):
        photograph(tmp_path / "flat" / f"{number}.jpg", (9, 9, 9))
    made = ready(tmp_path / "flat", tmp_path / "cache", num_classes=1)
    assert made.class_names == ("images",)
    assert {name: len(split) for name, split in made.splits.items()} == {"train": 3, "val": 1, "test": 1}
    assert set(ready(tmp_path / "flat", tmp_path / "cache", num_classes=1, val_share=0.0).splits) == {
        "train",
        "test",
    }


def test_the_centred_square_is_kept_and_resized(tmp_path: Path) -> None:
    pixels = np.zeros((4, 12, 3), np.uint8)
    pixels[:, :4] = 50  # cut off
    pixels[:, 4:6] = 100
    pixels[:, 6:8] = 200
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    content = (tmp_path / "wide.png").read_bytes()
    image = decode(content, 4, 3, "wide")
    assert image.shape == (3, 4, 4)
    assert image[0].tolist() == [[100, 100, 200, 200]] * 4
    # Half the size takes neighbours with weights 1, 3, 3, 1, beyond the square too: resized, then cut.
    assert decode(content, 2, 1, "wide")[0].tolist() == [[106, 163]] * 2
    turned = Image.fromarray(pixels)
    exif = turned.getexif()
    exif[0x0112] = 6  # to be shown turned by a quarter
    turned.save(tmp_path / "turned.jpg", exif=exif, quality=100)
    upright = decode((tmp_path / "turned.jpg").read_bytes(), 4, 1, "turned")
    assert np.abs(upright[0].astype(int) - np.array([[100], [100], [200], [200]])).max() < 12


def test_images_are_decoded_once_until_one_changes(coloured: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    first = ready(coloured, cache)
    (array,) = (cache / "decoded").glob("*.npy")
    before = array.stat().st_mtime_ns
    assert torch.equal(whole(ready(coloured, cache, split_seed=1)), whole(first))
    assert array.stat().st_mtime_ns == before
    assert len(list((cache / "decoded").glob("*.npy"))) == 1, "another split is made of the same images"
    photograph(coloured / "red" / "0.png", (1, 2, 3), size=(99, 99))
    assert whole(ready(coloured, cache))[20, :, 0, 0].tolist() == [1, 2, 3]
    ready(coloured, cache, image_size=4)
    assert len(list((cache / "decoded").glob("*.npy"))) == 3


@pytest.mark.parametrize("damage", ["flipped", "cut", "no_hash", "rubbish"])
def test_a_damaged_cache_is_made_again(coloured: Path, tmp_path: Path, damage: str) -> None:
    cache = tmp_path / "cache"
    first = whole(ready(coloured, cache))
    (array,) = (cache / "decoded").glob("*.npy")
    content = array.read_bytes()
    if damage == "no_hash":
        array.with_suffix(".sha256").unlink()
    else:
        flipped = content[:-1] + bytes([content[-1] ^ 255])
        array.write_bytes({"flipped": flipped, "cut": content[:-9], "rubbish": b"rubbish"}[damage])
    assert torch.equal(whole(ready(coloured, cache)), first)
    assert array.read_bytes() == content


def test_a_large_set_is_mapped_and_each_split_is_a_stretch_of_it(
    coloured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ready(coloured, tmp_path / "cache")
    for place in (decoded, image_folder, images):
        monkeypatch.setattr(place, "DEVICE_BYTES", 1000)
    large = ready(coloured, tmp_path / "cache")
    assert torch.equal(whole(large), whole(small))
    starts = [split.images.data_ptr() for split in large.splits.values()]
    assert np.diff(starts).tolist() == [18 * 192, 6 * 192], "none was copied"
    for one, other in zip(small.test_dataloader(), large.test_dataloader(), strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_cache_that_cannot_be_written_only_costs_time(
    coloured: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with caplog.at_level(logging.WARNING, "tenfold"):
        made = ready(coloured, tmp_path / "file" / "cache")
    assert "not cached" in caplog.text
    assert len(whole(made)) == 30
    for place in (decoded, image_folder):
        monkeypatch.setattr(place, "DEVICE_BYTES", 1000)
    with pytest.raises(UserError, match=r"cannot be written .* Set paths\.cache"):
        ready(coloured, tmp_path / "file" / "cache")


@pytest.mark.parametrize("content", [b"", b"no image", None])
def test_a_broken_image_is_named(coloured: Path, tmp_path: Path, content: bytes | None) -> None:
    path = coloured / "green" / "3.png"
    path.write_bytes(path.read_bytes()[:60] if content is None else content)
    with pytest.raises(UserError, match=r"green/3\.png cannot be read as an image"):
        ready(coloured, tmp_path / "cache")
    assert not list((tmp_path / "cache" / "decoded").glob("*.npy")), "nothing half done is kept"


def test_mistakes_about_the_folder_are_refused(coloured: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=MISSING):
        module(None, tmp_path)
    with pytest.raises(UserError, match=r"data\.folder=.*nowhere is no folder"):
        ready(tmp_path / "nowhere", tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"holds no image"):
        ready(tmp_path / "empty", tmp_path)
    with pytest.raises(UserError, match=r"data\.num_classes=2 .* Set data\.num_classes=3"):
        ready(coloured, tmp_path, num_classes=2)
    with pytest.raises(UserError, match=r"data\.test_share=0\.6 must leave images"):
        module(coloured, tmp_path, val_share=0.4, test_share=0.6)
    photograph(tmp_path / "single" / "0.png", (0, 0, 0))
    with pytest.raises(UserError, match=r"1 image in .*single cannot be split"):
        ready(tmp_path / "single", tmp_path, num_classes=1)
    photograph(coloured / "beside.png", (0, 0, 0))
    with pytest.raises(UserError, match=r"such as beside\.png, beside them"):
        ready(coloured, tmp_path)
