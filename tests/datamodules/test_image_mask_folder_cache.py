"""How often a user's files are decoded, and what is kept of them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules import decoded_scenes
from harness.errors import UserError
from tests.datamodules.image_files import photograph
from tests.datamodules.image_mask_folders import filled, ready
from tests.datamodules.segmentation_files import mask


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return filled(tmp_path)


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


def test_a_device_gets_the_images_and_masks_of_a_split_alone(folder: Path) -> None:
    data = ready(folder)
    device = torch.device("meta")
    for split, masks in (("train", 4), ("val", 3), ("test", 3)):
        images, annotated = data._on_device(split, device)
        assert (images.device, annotated.device) == (device, device)
        assert images.shape == (len(data.splits[split]), 3, 6, 8)
        assert annotated._values.shape == (masks, 6, 8)
