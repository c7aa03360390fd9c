"""A user's own images with masks for a few: how they are split, and which of them are labelled."""

from pathlib import Path

import pytest
import torch

from harness.errors import UserError
from tests.datamodules.image_files import photograph
from tests.datamodules.image_mask_folders import filled, made, ready
from tests.datamodules.segmentation_files import mask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return filled(tmp_path)


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
        data.set_labelled(data.labelled.index_fill(0, data.unlabelled_ids[:1], 2))


def test_a_new_mask_is_noticed_and_training_grows(folder: Path) -> None:
    before = ready(folder)
    mask(folder / "masks" / "road 12.png", [[1] * 16] * 12)
    after = ready(folder)
    count = [sum(int(scenes.has_mask.sum()) for scenes in data.splits.values()) for data in (before, after)]
    assert count == [10, 11]


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
        data.set_labelled(data.labelled.index_fill(0, bare[:1], 2))
