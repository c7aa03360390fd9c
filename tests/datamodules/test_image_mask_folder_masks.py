"""What the pixels of a user's masks and images become."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import decoded
from datamodules.loaders import ArrayLoader
from harness.errors import UserError
from tests.datamodules.image_mask_folders import filled, ready
from tests.datamodules.segmentation_files import mask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return filled(tmp_path)


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
    assert len(ready(folder, num_classes=4).splits["train"]) == 9


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
    assert torch.equal(found.bool(), scenes.images[torch.tensor([0])][0, 0] > 127)


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


def seen(folder: Path, name: str) -> tuple[np.ndarray, np.ndarray | None]:
    """An image ``[3, 6, 8]`` and its mask ``[6, 8]``, decoded in the plainest way."""
    image = Image.open(folder / name).convert("RGB").resize((8, 6), Image.Resampling.BILINEAR)
    annotated = folder / name.replace("images/", "masks/").replace(".jpg", ".png")
    if not annotated.exists():
        return np.asarray(image).transpose(2, 0, 1), None
    classes = np.asarray(Image.open(annotated).resize((8, 6), Image.Resampling.NEAREST))
    return np.asarray(image).transpose(2, 0, 1), classes


def noisy(folder: Path) -> None:
    """Images and masks of which no two are alike."""
    draws = np.random.default_rng(0)
    for path in sorted((folder / "images").iterdir()):
        Image.fromarray(draws.integers(0, 256, (12, 16, 3), np.uint8)).save(path)
    for path in sorted((folder / "masks").iterdir()):
        mask(path, draws.choice([0, 1, 2, 255], (12, 16)))


@pytest.mark.parametrize("mapped", [False, True])
def test_batches_hold_the_very_bits_of_a_plain_decoding(
    folder: Path, monkeypatch: pytest.MonkeyPatch, mapped: bool
) -> None:
    if mapped:
        monkeypatch.setattr(decoded, "DEVICE_BYTES", 1)
    noisy(folder)
    data = ready(folder)
    mask(folder / "masks" / "road 13.png", np.full((12, 16), 2))
    for grown in (data, ready(folder)):
        loaders: dict[str, list[ArrayLoader]] = {
            "train": [grown.train_dataloader(), grown.pool_loader(torch.arange(len(grown.splits["train"])))],
            "val": [grown.loader("val")],
            "test": [grown.loader("test")],
        }
        for split, some in loaders.items():
            scenes = grown.splits[split]  # type: ignore[index]
            for loader in some:
                for batch in loader:
                    for place, number in enumerate(batch["id"].tolist()):
                        pixels, classes = seen(folder, scenes.names[number])
                        x = (torch.tensor(pixels).float() / 255 - 0.5) / 0.5
                        assert torch.equal(batch["x"][place], x)
                        if "y" in batch:
                            assert batch["y"][place].tolist() == classes.tolist()  # type: ignore[union-attr]
