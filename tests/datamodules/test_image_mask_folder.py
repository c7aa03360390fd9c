"""A user's own images with masks for a few: how they are split, and what is told where something is wrong."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import decoded, decoded_scenes
from datamodules.image_mask_folder import ImageMaskFolderDataModule
from datamodules.loaders import ArrayLoader
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
    assert (len(train), len(val), len(test)) == (9, 3, 3)
    assert bool(val.has_mask.all())
    assert bool(test.has_mask.all())
    bare = [f"images/road {number:02d}.jpg" for number in range(10, 15)]
    assert [name for name, has in zip(train.names, train.has_mask, strict=True) if not has] == bare
    assert data.labelled.tolist() == train.has_mask.long().tolist()
    assert len({*train.names, *val.names, *test.names}) == 15
    for scenes in data.splits.values():
        for number, name in enumerate(scenes.names):
            place = int(name[-6:-4])
            red = int(scenes.images[torch.tensor([number])][0, 0, 0, 0])
            assert abs(red - 16 * place) <= 3, "JPEG loses a little"
            if place < 10:
                expected = [255] * 4 + [place % 3] * 4
                assert scenes.masks[torch.tensor([number])][0].tolist() == [expected] * 6
    assert data.class_names == ("class 0", "class 1", "class 2")
    assert sorted(torch.cat([batch["id"] for batch in data.train_dataloader()]).tolist()) == [
        number for number in range(9) if train.has_mask[number]
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


def test_a_device_gets_the_images_and_masks_of_a_split_alone(folder: Path) -> None:
    data = ready(folder)
    device = torch.device("meta")
    for split, masks in (("train", 4), ("val", 3), ("test", 3)):
        images, annotated = data._on_device(split, device)
        assert (images.device, annotated.device) == (device, device)
        assert images.shape == (len(data.splits[split]), 3, 6, 8)
        assert annotated._values.shape == (masks, 6, 8)


class Counted:
    """Counts what is decoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.labels: list[str] = []
        for name in ("decode_scene", "decode_mask"):
            monkeypatch.setattr(decoded_scenes, name, self._counting(getattr(decoded_scenes, name)))

    def _counting(self, decode: Any) -> Any:
        def counting(*args: Any) -> Any:
            self.labels.append(Path(args[-1]).stem)
            return decode(*args)

        return counting

    def taken(self) -> list[str]:
        found, self.labels = sorted(self.labels), []
        return found


def kept(folder: Path) -> dict[str, int]:
    """Images and masks that the cache holds, in rows."""
    arrays = [np.load(path) for path in (folder / "cache" / "decoded").glob("*.npy")]
    return {{3: "images", 1: "masks"}[array.shape[1]]: len(array) for array in arrays} | {
        "arrays": len(arrays)
    }


def test_each_file_is_decoded_once_while_masks_and_images_are_added(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted = Counted(monkeypatch)
    ready(folder)
    assert len(counted.taken()) == 15 + 10
    assert kept(folder) == {"images": 15, "masks": 10, "arrays": 2}
    ready(folder, val_share=0.5, split_seed=3)
    assert counted.taken() == [], "whatever the splits"
    mask(folder / "masks" / "road 12.png", [[1] * 16] * 12)
    ready(folder)
    assert counted.taken() == ["road 12"], "the mask alone"
    assert kept(folder) == {"images": 15, "masks": 11, "arrays": 2}
    photograph(folder / "images" / "road 00b.jpg", (9, 9, 9), (16, 12))
    (folder / "masks" / "road 03.png").unlink()
    photograph(folder / "images" / "road 05.jpg", (1, 1, 1), (16, 12))
    ready(folder)
    assert counted.taken() == ["road 00b", "road 05", "road 05"], "a changed image and its mask"
    assert kept(folder) == {"images": 16, "masks": 10, "arrays": 2}
    photograph(folder / "images" / "road 06.jpg", (1, 1, 1), (12, 16))
    with pytest.raises(UserError, match="has 16 x 12 pixels and its image 12 x 16"):
        ready(folder)


def test_arrays_of_other_folders_and_sizes_stay(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    for kind in ("images", "masks"):
        (other / kind).symlink_to(folder / kind)
    cache = str(folder / "cache")
    for place, size in ((folder, 6), (folder, 12), (other, 6)):
        ready(place, cache=cache, height=size)
    ready(folder, num_classes=4)  # masks that are read in another way
    before = {path.name for path in (folder / "cache" / "decoded").iterdir()}
    assert sum(name.endswith(".npy") for name in before) == 3 * 2 + 1
    mask(folder / "masks" / "road 12.png", [[1] * 16] * 12)
    ready(folder)
    after = {path.name for path in (folder / "cache" / "decoded").iterdir()}
    gone, new = ({name.rpartition(".")[2] for name in some} for some in (before - after, after - before))
    assert gone == new == {"npy", "json", "sha256"}
    assert len(before - after) == len(after - before) == 3, "the masks of this folder and size alone"


@pytest.mark.parametrize("val_share", [0.0, 0.2])
def test_few_masks_fill_every_split_and_more_move_none_once_they_do(folder: Path, val_share: float) -> None:
    for path in (folder / "masks").iterdir():
        path.unlink()
    before: dict[str, str] = {}
    for count in range(1, 15):
        mask(folder / "masks" / f"road {count:02d}.png", [[count % 3] * 16] * 12)
        data = made(folder, val_share=val_share)
        if count < 2 + bool(val_share):
            with pytest.raises(UserError, match=f"{2 + bool(val_share)} are the least"):
                data.prepare_data()
            continue
        data.setup()
        assert set(data.splits) == {"train", "test", *["val"] * bool(val_share)}
        assert all(bool(scenes.has_mask.any()) for scenes in data.splits.values())
        now = {name: split for split, scenes in data.splits.items() for name in scenes.names}
        assert len(now) == 15
        if count > 7:  # number 7 is of the test split, 1 and 3 are of val, 2 is for training
            assert {name for name in now if now[name] != before[name]} <= {f"images/road {count:02d}.jpg"}
        before = now


def test_a_borrowed_image_is_told(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    ready(folder)
    assert not caplog.text
    for number in (0, 7, 9):  # those of the test split
        (folder / "masks" / f"road {number:02d}.png").unlink()
    data = ready(folder)
    assert data.splits["test"].names == ("images/road 01.jpg",)
    assert "images/road 01.jpg serves in test, which had no image yet" in caplog.text


def test_images_in_subfolders_are_known_by_their_paths(tmp_path: Path) -> None:
    for day in (2, 1):
        for number in range(6):
            photograph(tmp_path / "images" / f"day{day}" / f"{number}.jpg", (99 * day, 0, 0), (16, 12))
            if number < 4:
                mask(tmp_path / "masks" / f"day{day}" / f"{number}.png", [[day] * 16] * 12)
    data = ready(tmp_path)
    names = [name for scenes in data.splits.values() for name in scenes.names]
    assert sorted(names) == [f"images/day{day}/{number}.jpg" for day in (1, 2) for number in range(6)]
    for scenes in data.splits.values():
        assert list(scenes.names) == sorted(scenes.names)
        for number, name in enumerate(scenes.names):
            day, row = int(name[10]), torch.tensor([number])
            assert abs(int(scenes.images[row][0, 0, 0, 0]) - 99 * day) <= 3
            assert bool((scenes.masks[row] == (day if int(name[12]) < 4 else 255)).all())
    bare = data.unlabelled_ids
    assert [data.splits["train"].names[int(number)] for number in bare] == [
        f"images/day{day}/{number}.jpg" for day in (1, 2) for number in (4, 5)
    ]
    with pytest.raises(UserError, match=r"images/day1/4\.jpg cannot be trained on without a mask"):
        data.label_images(bare[:1], 2)


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
