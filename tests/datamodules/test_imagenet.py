"""ImageNet from a small folder in torchvision's layout: read on demand, tested as published networks are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from datamodules import decoded, images
from datamodules.imagenet import ImageNetDataModule
from datamodules.on_demand import OnDemand
from harness.errors import UserError
from tests.datamodules.image_files import photograph
from tests.datamodules.test_images import trainer_on

WNIDS = ("n01440764", "n01443537", "n02102040")
PER_CLASS = {"train": 6, "val": 2}


def imagenet(root: Path, **keywords: Any) -> ImageNetDataModule:
    settings: dict[str, Any] = {"in_channels": 3, "image_size": 14, "num_classes": 3, "num_val": 0}
    settings |= {"split_seed": 0, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}
    settings |= {"batch_size": 4, "augment": "none", "seed": 0}
    return ImageNetDataModule(root=str(root), cache=str(root / "cache"), **{**settings, **keywords})


def ready(root: Path, **keywords: Any) -> ImageNetDataModule:
    made = imagenet(root, **keywords)
    made.prepare_data()
    made.setup()
    return made


def colour(label: int, number: int) -> tuple[int, int, int]:
    return label * 80, number * 20, 40


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Three classes of six images for training and two for testing, each of its own colour."""
    for part, count in PER_CLASS.items():
        for label, wnid in enumerate(WNIDS):
            for number in range(count):
                path = tmp_path / "imagenet" / part / wnid / f"{wnid}_{number}.JPEG"
                photograph(path, colour(label, number), size=(30 + number, 24))
    return tmp_path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that are decoded, in order of their names."""
    found: list[str] = []
    decode = decoded.decode

    def noted(content: bytes, image_size: int, in_channels: int, label: str, resize_to: int | None) -> Any:
        found.append(Path(label.split(": ")[1]).name)
        return decode(content, image_size, in_channels, label, resize_to)

    monkeypatch.setattr(decoded, "decode", noted)
    return found


def test_images_come_in_torchvision_s_order_with_their_class(root: Path) -> None:
    module = ready(root)
    assert module.class_names == WNIDS
    assert set(module.splits) == {"train", "test"}
    for split, count in (("train", 6), ("test", 2)):
        found = module.splits[split]
        assert found.labels.tolist() == [label for label in range(3) for _ in range(count)]
        assert found.index.tolist() == list(range(3 * count))
        expected = torch.tensor([colour(label, number) for label in range(3) for number in range(count)])
        assert found.images.shape == (3 * count, 3, 14, 14)
        everything = found.images[torch.arange(3 * count)]
        assert (everything[:, :, 7, 7].int() - expected).abs().max() <= 3, "JPEG loses a little"


@pytest.mark.parametrize("size", [(40, 30), (31, 57), (16, 16), (300, 17)])
def test_an_image_is_resized_and_cut_as_torchvision_does(tmp_path: Path, size: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    found = decoded.decode((tmp_path / "image.png").read_bytes(), 14, 3, "image", resize_to=16)
    expected = transforms.Compose([transforms.Resize(16), transforms.CenterCrop(14)])(Image.fromarray(pixels))
    assert np.array_equal(found, np.asarray(expected).transpose(2, 0, 1))


def test_the_shorter_side_has_256_for_224_pixels(root: Path) -> None:
    path = root / "imagenet" / "val" / WNIDS[1] / f"{WNIDS[1]}_0.JPEG"
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    steps = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    expected = torch.from_numpy(np.asarray(steps(Image.open(path))).transpose(2, 0, 1).copy())
    assert torch.equal(ready(root, image_size=224).splits["test"].images[2], expected)


def test_few_images_are_read_once_and_no_other_training_image_is(root: Path, reads: list[str]) -> None:
    module = ready(root, augment="flip")
    assert len(reads) == 6, "those for testing"
    reads.clear()
    kept = module.keep_few(2, 6, batch_size=4)
    expected = sorted(f"{WNIDS[number // 6]}_{number % 6}.JPEG" for number in kept.tolist())
    assert sorted(reads) == expected
    assert isinstance(module.splits["train"].images, torch.Tensor)
    for epoch in range(3):
        loader = module.train_dataloader()
        loader.sampler.set_epoch(epoch)
        assert torch.cat([batch["index"] for batch in loader]).sort().values.tolist() == sorted(kept.tolist())
    module.keep_few(2, 6, batch_size=4)
    assert len(reads) == 6
    assert module.splits["train"].labels.tolist() == [0, 0, 1, 1, 2, 2]


def test_what_is_too_large_for_the_device_is_read_batch_by_batch(
    root: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    small = ready(root)
    small.trainer = trainer_on("cpu")
    whole = [(batch["x"], batch["y"]) for batch in small.train_dataloader()]
    monkeypatch.setattr(images, "DEVICE_BYTES", 1000)
    large = ready(root)
    reads.clear()
    batches = iter(large.train_dataloader())
    first = next(batches)
    assert len(reads) == 4
    assert torch.equal(first["x"], whole[0][0])
    for batch, (x, y) in zip(batches, whole[1:], strict=True):
        assert torch.equal(batch["x"], x)
        assert torch.equal(batch["y"], y)
    assert len(reads) == 18
    list(large.train_dataloader())
    assert len(reads) == 36, "nothing is kept"


def test_what_fits_the_device_is_read_once(root: Path, reads: list[str]) -> None:
    module = ready(root)
    reads.clear()
    assert torch.equal(
        torch.cat([batch["x"] for batch in module.loader("train")]),
        torch.cat([batch["x"] for batch in module.loader("train")]),
    )
    assert len(reads) == 18


def test_images_on_demand_are_indexed_like_a_tensor(root: Path) -> None:
    train = ready(root).splits["train"]
    assert isinstance(train.images, OnDemand)
    everything = train.images[:]
    rows = torch.tensor([7, 0, 7])
    assert torch.equal(train.images[rows], everything[rows])
    assert torch.equal(train.images[2:5], everything[2:5])
    assert train.images.nbytes == everything.nbytes
    assert train.images.shape == everything.shape
    assert (train.images.dtype, train.images.device) == (everything.dtype, everything.device)
    part = train.take(rows)
    assert isinstance(part.images, OnDemand)
    assert torch.equal(part.decoded().images, everything[rows])
    assert part.index.tolist() == [7, 0, 7]
    assert train.images[torch.tensor([], dtype=torch.long)].shape == (0, 3, 14, 14)


def test_a_validation_set_is_held_out_of_training_unread(root: Path, reads: list[str]) -> None:
    module = ready(root, num_val=3)
    assert len(reads) == 6
    assert {name: len(split) for name, split in module.splits.items()} == {"train": 15, "val": 3, "test": 6}
    assert module.splits["val"].labels.tolist() == [0, 1, 2]
    numbers = torch.cat([module.splits["train"].index, module.splits["val"].index])
    assert sorted(numbers.tolist()) == list(range(18))
    batch = next(iter(module.val_dataloader()))
    assert len(reads) == 9
    expected = torch.tensor([colour(number // 6, number % 6) for number in batch["index"].tolist()])
    pixels = 255 * module.denormalise(batch["x"])[:, :, 7, 7]
    assert (pixels - expected).abs().max() <= 3.5


def test_images_for_testing_are_decoded_once(root: Path, reads: list[str]) -> None:
    first = ready(root).splits["test"].images
    assert torch.equal(ready(root).splits["test"].images, first)
    assert len(reads) == 6


def test_the_cache_s_folder_is_looked_at_next(root: Path) -> None:
    module = imagenet(root / "nowhere")
    module.cache = str(root)
    module.prepare_data()
    module.setup()
    assert len(module.splits["train"]) == 18


def test_a_missing_set_is_told_with_where_to_get_it_and_where_it_goes(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        imagenet(tmp_path).prepare_data()
    message = str(caught.value)
    assert "\n" not in message
    for word in (f"{tmp_path}/imagenet", "ILSVRC2012_img_train.tar", "image-net.org", "torchvision.datasets"):
        assert word in message


def test_a_corrupt_file_is_named(root: Path) -> None:
    name = f"{WNIDS[1]}_3.JPEG"
    path = root / "imagenet" / "train" / WNIDS[1] / name
    path.write_bytes(path.read_bytes()[:200])
    module = ready(root)
    with pytest.raises(UserError, match=rf"^data=imagenet: .*{name} cannot be read as an image.*$") as caught:
        module.keep_few(6, 0, batch_size=4)
    assert "\n" not in str(caught.value)
    assert len(module.splits["train"]) == 18, "nothing half done is kept"
    assert len(module.splits["train"].images[torch.tensor([0, 1])]) == 2
    path.unlink()
    with pytest.raises(UserError, match=rf"{name} cannot be read \(No such file"):
        module.keep_few(6, 0, batch_size=4)
    other = root / "imagenet" / "val" / WNIDS[0] / f"{WNIDS[0]}_0.JPEG"
    other.write_bytes(b"no image")
    with pytest.raises(UserError, match=r"n01440764_0\.JPEG cannot be read as an image"):
        ready(root)


@pytest.mark.parametrize("name", ["train/n01440764.tar", "val/ILSVRC2012_val_00000001.JPEG"])
def test_a_set_that_is_not_fully_unpacked_is_refused(root: Path, name: str) -> None:
    (root / "imagenet" / name).write_bytes(b"")
    with pytest.raises(UserError, match=rf"{name} lies beside .* python -c"):
        imagenet(root).prepare_data()


def test_classes_that_are_missing_are_refused(root: Path) -> None:
    with pytest.raises(UserError, match=r"data\.num_classes=1000 .* imagenet has num_classes=3"):
        imagenet(root, num_classes=1000).prepare_data()
    for path in (root / "imagenet" / "train" / WNIDS[2]).iterdir():
        path.unlink()
    with pytest.raises(UserError, match=rf"train/{WNIDS[2]} holds no image"):
        ready(root)
    photograph(root / "imagenet" / "train" / WNIDS[2] / "0.JPEG", (0, 0, 0))
    (root / "imagenet" / "val" / WNIDS[2]).rename(root / "imagenet" / "val" / "n09999999")
    with pytest.raises(UserError, match=rf"val/{WNIDS[2]} cannot be read \(No such file"):
        ready(root)
