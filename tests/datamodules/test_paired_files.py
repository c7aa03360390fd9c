"""Which files of a user's folder belong together."""

import os
from pathlib import Path

import pytest

from datamodules.paired_files import paired_files
from harness.errors import UserError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def found(folder: Path) -> tuple[dict[str, str], dict[str, str]]:
    return paired_files(folder, "at least two")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    touch(tmp_path, "images/a b.JPG", "images/a.jpg", "images/day2/0001.png", "images/day1/0001.jpeg")
    touch(tmp_path, "images/day1/late/x.y.tif", "masks/day1/0001.PNG", "masks/a.png")
    return tmp_path


def test_subfolders_are_part_of_the_name_and_the_order_is_that_of_the_names(folder: Path) -> None:
    images, masks = found(folder)
    assert images == {
        "a b": "images/a b.JPG",
        "a": "images/a.jpg",
        "day1/0001": "images/day1/0001.jpeg",
        "day1/late/x.y": "images/day1/late/x.y.tif",
        "day2/0001": "images/day2/0001.png",
    }
    assert list(images.values()) == sorted(images.values())
    assert masks == {"a": "masks/a.png", "day1/0001": "masks/day1/0001.PNG"}


def test_hidden_and_other_files_are_passed_over(folder: Path) -> None:
    expected = found(folder)
    touch(folder, "images/.b.jpg", "images/.hidden/c.jpg", "images/day1/.d.png", "images/list.txt")
    touch(folder, "masks/.thumbs/e.png", "masks/day1/notes.md")
    (folder / "images" / "folder.png").mkdir()
    assert found(folder) == expected


def test_links_to_folders_are_followed_and_loops_are_not(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("disk")
    touch(elsewhere, "0007.png")
    images, _ = found(folder)
    (folder / "images" / "day3").symlink_to(elsewhere)
    (folder / "images" / "day1" / "again").symlink_to(folder / "images")
    (elsewhere / "itself").symlink_to(elsewhere)
    assert found(folder)[0] == images | {"day3/0007": "images/day3/0007.png"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("images/day1/0001.png", r"images/day1/0001\.jpeg and images/day1/0001\.png have one stem"),
        ("masks/day1/a.png", r"masks/day1/a\.png has no image images/day1/a\.\*\. .* is it masks/a\.png\?$"),
        ("masks/0001.png", r"masks/0001\.png has no image images/0001\.\*\. Rename, .* the mask\.$"),
        ("masks/day1/0002.png", r"masks/day1/0002\.png has no image images/day1/0002\.\*\. .* the mask\.$"),
    ],
)
def test_what_does_not_belong_together_is_told_by_its_whole_name(
    folder: Path, more: str, message: str
) -> None:
    touch(folder, more)
    with pytest.raises(UserError, match=message):
        found(folder)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read every folder")
def test_a_subfolder_that_cannot_be_read_is_not_passed_over(folder: Path) -> None:
    (folder / "images" / "day2").chmod(0)
    try:
        with pytest.raises(UserError, match=r"day2 cannot be read \(Permission denied\)"):
            found(folder)
    finally:
        (folder / "images" / "day2").chmod(0o700)
