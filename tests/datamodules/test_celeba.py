"""CelebA and LSUN Churches, from small folders laid out as theirs."""

from pathlib import Path
from typing import Any

import pytest

from datamodules import celeba
from datamodules.celeba import CelebADataModule, parse_attribute, parse_partition
from datamodules.lsun import LSUNDataModule
from harness.errors import UserError
from tests.datamodules.image_files import photograph

SETTINGS: dict[str, Any] = {"in_channels": 3, "image_size": 8, "mean": [0.5] * 3, "std": [0.5] * 3}
SETTINGS |= {"batch_size": 4, "augment": "none", "seed": 0}
ATTRIBUTES = "8\nSmiling Young\n" + "".join(
    f"{number:06d}.jpg  {1 if number % 2 else -1} -1\n" for number in range(1, 9)
)
PARTITION = "".join(f"{number:06d}.jpg {(number > 4) + (number > 6)}\n" for number in range(1, 9))


def faces(root: Path, **keywords: Any) -> CelebADataModule:
    settings = SETTINGS | {"attribute": "Smiling", "num_classes": 2, "check_lists": False}
    return CelebADataModule(root=str(root), cache=str(root / "cache"), **{**settings, **keywords})


def churches(root: Path, **keywords: Any) -> LSUNDataModule:
    settings = SETTINGS | {"num_classes": 1, "val_share": 0.2, "test_share": 0.2, "split_seed": 0}
    return LSUNDataModule(root=str(root), cache=str(root / "cache"), **{**settings, **keywords})


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Eight faces: four to train, two to validate, two to test; the odd ones smile."""
    for number in range(1, 9):
        photograph(tmp_path / f"celeba/img_align_celeba/{number:06d}.jpg", (number * 20, 0, 0), (18, 22))
    (tmp_path / "celeba" / "list_attr_celeba.txt").write_text(ATTRIBUTES)
    (tmp_path / "celeba" / "list_eval_partition.txt").write_text(PARTITION)
    return tmp_path


def test_faces_come_in_their_published_split_with_the_attribute_as_class(root: Path) -> None:
    made = faces(root)
    made.prepare_data()
    made.setup()
    assert {name: split.index.tolist() for name, split in made.splits.items()} == {
        "train": [1, 2, 3, 4],
        "val": [5, 6],
        "test": [7, 8],
    }
    assert made.splits["train"].labels.tolist() == [1, 0, 1, 0]
    assert made.class_names == ("not Smiling", "Smiling")
    for split in made.splits.values():
        assert (split.images[:, 0, 4, 4].int() - split.index * 20).abs().max() <= 3, "JPEG loses a little"


def test_missing_faces_are_told_with_the_place_to_put_them(tmp_path: Path, root: Path) -> None:
    with pytest.raises(UserError, match=r"img_align_celeba, list_attr.* must lie in .*celeba; .*mmlab"):
        faces(tmp_path / "nowhere").prepare_data()
    (root / "celeba/img_align_celeba/000005.jpg").unlink()
    with pytest.raises(UserError, match=r"000005\.jpg is missing"):
        faces(root).setup()


def test_lists_that_differ_from_the_published_ones_are_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"list_eval_partition\.txt is not the published list .*MD5"):
        faces(root, check_lists=True).setup()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("list_eval_partition.txt", PARTITION + "000009.jpg 3\n", "no name with 0, 1 or 2"),
        ("list_eval_partition.txt", PARTITION + "000009.jpg 2\n", r"000009\.jpg of .* is not in"),
        ("list_attr_celeba.txt", ATTRIBUTES + "000009.jpg 1\n", "line of another form"),
        ("list_attr_celeba.txt", "", "the list is empty"),
    ],
)
def test_a_broken_list_is_refused(root: Path, name: str, text: str, message: str) -> None:
    (root / "celeba" / name).write_text(text)
    with pytest.raises(UserError, match=message):
        faces(root).setup()


def test_an_unknown_attribute_is_answered_with_those_there_are(root: Path) -> None:
    with pytest.raises(UserError, match=r"data\.attribute=Smilng is none of CelebA's: Smiling, Young"):
        faces(root, attribute="Smilng").setup()
    assert parse_attribute(ATTRIBUTES, "Young") == {f"{number:06d}.jpg": 0 for number in range(1, 9)}
    names, parts = parse_partition(PARTITION)
    assert names[0] == "000001.jpg"
    assert parts.tolist() == [0, 0, 0, 0, 1, 1, 2, 2]
    assert set(celeba._MD5) == {"list_attr_celeba.txt", "list_eval_partition.txt"}


def test_churches_are_one_class_however_their_folders_are_named(tmp_path: Path) -> None:
    for number in range(10):
        photograph(tmp_path / f"lsun/church_outdoor_train/{number % 3}/a/{number}.webp", (number, 0, 0))
    made = churches(tmp_path)
    made.prepare_data()
    made.setup()
    assert {name: len(split) for name, split in made.splits.items()} == {"train": 6, "val": 2, "test": 2}
    assert made.tasks == ("image_generation",)
    assert made.class_names == ("church_outdoor_train",)


def test_missing_churches_are_told_with_the_place_to_put_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"neither .*church_outdoor_train .* nor church_outdoor_train_lmdb"):
        churches(tmp_path).prepare_data()


def test_the_database_needs_its_package(tmp_path: Path) -> None:
    import importlib.util

    if importlib.util.find_spec("lmdb") is not None:
        pytest.skip("lmdb is installed here")
    (tmp_path / "lsun" / "church_outdoor_train_lmdb").mkdir(parents=True)
    with pytest.raises(UserError, match=r"pip install lmdb"):
        churches(tmp_path).prepare_data()
