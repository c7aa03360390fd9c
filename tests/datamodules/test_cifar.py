"""CIFAR's pickles: from the archive or unpacked, verified before they are opened; and its lossy copy."""

import os
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from datamodules import cifar
from datamodules.cifar import CIFARDataModule
from datamodules.download import RemoteFile, fetch
from harness.errors import UserError
from tests.datamodules.image_files import md5, pickled, sha256, tar_gz, write
from tests.datamodules.test_download import Server, server

__all__ = ["server"]  # a fixture

CHOICES = {"cifar10": 10, "cifar100": 100}


def module(root: Path, name: Any = "cifar10", **keywords: Any) -> CIFARDataModule:
    settings: dict[str, Any] = {"in_channels": 3, "image_size": 32, "num_classes": CHOICES.get(name, 10)}
    settings |= {"num_val": 10, "split_seed": 0, "mean": [0.5] * 3, "std": [0.5] * 3, "batch_size": 10}
    settings |= {"augment": "crop_flip", "seed": 0}
    return CIFARDataModule(name, str(root), str(root / "cache"), **{**settings, **keywords})


def batches(name: str) -> dict[str, bytes]:
    """Pickles of one image of each class per batch, each image being of one number."""
    classes = CHOICES[name]
    made = {}
    for number, batch in enumerate(cifar._MD5[name]):
        pixels = np.repeat((np.arange(classes) + number)[:, None], 3072, axis=1).astype(np.uint8)
        made[batch] = pickled(
            {"data": pixels, cifar._LABELS[name]: list(range(classes)), "batch_label": batch}
        )
    return made


@pytest.fixture(params=CHOICES)
def published(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> tuple[str, dict[str, bytes]]:
    """A choice and its batches, whose hashes are taken for the published ones."""
    name = request.param
    made = batches(name)
    archive = tar_gz({f"{cifar._FOLDERS[name]}/{batch}": content for batch, content in made.items()})
    before = cifar._ARCHIVES[name]
    monkeypatch.setitem(cifar._ARCHIVES, name, RemoteFile(before.path, before.url, (sha256(archive),)))
    monkeypatch.setitem(cifar._MD5, name, {batch: md5(content) for batch, content in made.items()})
    return name, made | {"archive": archive}


def put(root: Path, name: str, made: dict[str, bytes], *, unpacked: bool) -> None:
    if unpacked:
        for batch in cifar._MD5[name]:
            write(root / cifar._FOLDERS[name] / batch, made[batch])
    else:
        write(root / cifar._ARCHIVES[name].path, made["archive"])


@pytest.mark.parametrize("unpacked", [True, False])
def test_archive_and_folder_hold_the_same_images(
    tmp_path: Path, published: tuple[str, dict[str, bytes]], unpacked: bool
) -> None:
    name, made = published
    put(tmp_path, name, made, unpacked=unpacked)
    data = module(tmp_path, name, num_val=0)
    data.prepare_data()
    data.setup()
    train, test = data.splits["train"], data.splits["test"]
    num_batches = len(cifar._MD5[name]) - 1
    assert train.images.shape == (num_batches * CHOICES[name], 3, 32, 32)
    assert train.labels.tolist() == list(range(CHOICES[name])) * num_batches
    assert torch.equal(train.images[:, 0, 0, 0], train.labels + train.index // CHOICES[name])
    assert torch.equal(test.images[:, 2, 31, 31], test.labels + num_batches)
    assert not any(path.suffix != ".gz" and not unpacked for path in tmp_path.rglob("*") if path.is_file())


def test_an_altered_archive_or_batch_is_not_opened(
    tmp_path: Path, published: tuple[str, dict[str, bytes]]
) -> None:
    name, made = published
    attack = pickled({"data": Attack(tmp_path / "made")})
    put(tmp_path, name, made | {"archive": tar_gz({"test_batch": attack})}, unpacked=False)
    with pytest.raises(UserError, match=r"SHA-256 expected .* It was not opened"):
        module(tmp_path, name).prepare_data()
    put(tmp_path, name, {**made, next(iter(cifar._MD5[name])): attack}, unpacked=True)
    with pytest.raises(UserError, match=r"MD5 expected .* It was not opened"):
        module(tmp_path, name).setup()
    assert not (tmp_path / "made").exists()


class Attack:
    """Makes a folder when unpickled without care."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def test_a_batch_whose_hash_agrees_still_runs_no_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = {batch: pickled({"data": Attack(tmp_path / "made")}) for batch in cifar._MD5["cifar10"]}
    monkeypatch.setitem(cifar._MD5, "cifar10", {batch: md5(content) for batch, content in made.items()})
    put(tmp_path, "cifar10", made, unpacked=True)
    with pytest.raises(UserError, match=r"data_batch_1 was refused: .* arrays, lists and words"):
        module(tmp_path).setup()
    assert not (tmp_path / "made").exists()


def test_without_network_another_set_is_offered(tmp_path: Path, no_network: None) -> None:
    with pytest.raises(UserError, match=r"cifar-10-python\.tar\.gz is neither .* use data=digits"):
        module(tmp_path).prepare_data()
    with pytest.raises(UserError, match=r"CIFAR-10 \(JPEG q75\) is not published for download"):
        module(tmp_path, "cifar10_jpeg").prepare_data()


def test_a_missing_archive_is_downloaded_and_read(
    tmp_path: Path, published: tuple[str, dict[str, bytes]], monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    name, made = published
    server.content = made["archive"]
    file = cifar._ARCHIVES[name]
    monkeypatch.setitem(cifar._ARCHIVES, name, RemoteFile(file.path, server.url, file.sha256))
    monkeypatch.setattr(cifar, "fetch", partial(fetch, allow_loopback_http=True))
    data = module(tmp_path, name)
    data.prepare_data()
    data.setup()
    assert len(data.splits["test"]) == CHOICES[name]
    assert (tmp_path / file.path).read_bytes() == made["archive"]


def test_every_class_has_a_name() -> None:
    for name, classes in (CHOICES | {"cifar10_jpeg": 10}).items():
        names = cifar._CLASS_NAMES[name]
        assert len(set(names)) == classes
        assert list(names) == sorted(names), "the official order is that of the alphabet"


def test_the_lossy_copy_is_decoded_once_in_the_order_of_its_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cifar, "_PER_CLASS", {"train": 3, "test": 2})
    files = {}
    for part, count in cifar._PER_CLASS.items():
        members = {}
        for label, name in enumerate(cifar._CIFAR10):
            for number in range(count):
                sink = BytesIO()
                Image.new("RGB", (32, 32), (label * 10, number * 50, 0)).save(sink, "JPEG", quality=75)
                members[f"{part}/{name}/{number:04d}.jpg"] = sink.getvalue()
        archive = tar_gz(dict(reversed(members.items())))
        path = cifar._JPEG[part].path
        files[part] = RemoteFile(path, "", (sha256(archive),))
        write(tmp_path / path, archive)
    monkeypatch.setattr(cifar, "_JPEG", files)

    def read() -> CIFARDataModule:
        data = module(tmp_path, "cifar10_jpeg")
        data.prepare_data()
        data.setup()
        return data

    data = read()
    assert {name: len(split) for name, split in data.splits.items()} == {"train": 20, "val": 10, "test": 20}
    test = data.splits["test"]
    assert test.labels.tolist() == [label for label in range(10) for _ in range(2)]
    colours = test.images[:, :, 16, 16].int()
    expected = torch.tensor([[label * 10, number * 50, 0] for label in range(10) for number in range(2)])
    assert (colours - expected).abs().max() <= 4, "JPEG loses a little"
    made = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache" / "decoded").glob("*.npy")}
    assert len(made) == 2
    assert torch.equal(read().splits["test"].images, test.images)
    assert {path: path.stat().st_mtime_ns for path in made} == made, "not decoded again"


@pytest.mark.slow
def test_the_real_lossy_copy_holds_what_is_known_of_it(shared_data: Path, tmp_path: Path) -> None:
    """Half a minute's decoding is spared: the test set alone."""
    if not (shared_data / "CIFAR10-jpeg").is_dir():
        pytest.skip(f"CIFAR-10 (JPEG q75) is not in {shared_data}")
    data = CIFARDataModule(
        "cifar10_jpeg",
        str(shared_data),
        str(tmp_path),
        in_channels=3,
        image_size=32,
        num_classes=10,
        num_val=0,
        split_seed=0,
        mean=[0.5] * 3,
        std=[0.5] * 3,
        batch_size=10,
        augment="none",
        seed=0,
    )
    test = data.decoded("test")
    assert test.labels.bincount().tolist() == [1000] * 10
    means = (test.images.float() / 255).mean(dim=(0, 2, 3))
    assert means.tolist() == pytest.approx([0.4942, 0.4851, 0.4504], abs=3e-3)
