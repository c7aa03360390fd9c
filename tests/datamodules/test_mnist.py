"""MNIST's files: found in every form, verified, parsed, resized, split."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from datamodules import mnist
from datamodules.images import LabelledImages, hold_out, resized
from datamodules.mnist import MNISTDataModule, parse_idx
from harness.errors import UserError
from tests.datamodules.image_files import gzipped, idx, sha256, write

PARTS = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def module(root: Path, name: Any = "mnist", **keywords: Any) -> MNISTDataModule:
    settings: dict[str, Any] = {"in_channels": 1, "image_size": 28, "num_classes": 10, "num_val": 20}
    settings |= {"split_seed": 0, "mean": [0.1307], "std": [0.3081], "batch_size": 32, "augment": "none"}
    return MNISTDataModule(name, str(root), str(root / "cache"), **{**settings, "seed": 0, **keywords})


@pytest.fixture
def contents(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Files of a hundred training and twenty test images, whose hashes are taken for the published ones."""
    generator = np.random.default_rng(0)
    made = {}
    for part, count in (("train", 100), ("t10k", 20)):
        labels = (np.arange(count) % 10).astype(np.uint8)
        images = generator.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        made[f"{part}-images-idx3-ubyte"] = idx(images)
        made[f"{part}-labels-idx1-ubyte"] = idx(labels)
    for name in ("mnist", "fashion_mnist"):
        packed = {part: (sha256(gzipped(content)),) for part, content in made.items()}
        monkeypatch.setitem(mnist._SHA256, name, packed)
    unpacked = {part: sha256(content) for part, content in made.items()}
    monkeypatch.setitem(mnist._UNPACKED, "mnist", unpacked)
    return made


def put(folder: Path, contents: dict[str, bytes], *, packed: bool) -> None:
    for part, content in contents.items():
        write(folder / (f"{part}.gz" if packed else part), gzipped(content) if packed else content)


@pytest.mark.parametrize("packed", [True, False])
def test_packed_and_unpacked_files_are_read(tmp_path: Path, contents: dict[str, bytes], packed: bool) -> None:
    put(tmp_path / "MNIST/raw", contents, packed=packed)
    made = module(tmp_path)
    made.prepare_data()
    made.setup()
    sizes = {name: len(split) for name, split in made.splits.items()}
    assert sizes == {"train": 80, "val": 20, "test": 20}
    test = made.splits["test"]
    assert test.images.shape == (20, 1, 28, 28)
    assert test.images.numpy().tobytes() == contents["t10k-images-idx3-ubyte"][16:]
    assert test.labels.tolist() == [number % 10 for number in range(20)]
    assert made.splits["val"].labels.bincount().tolist() == [2] * 10, "each class with its share"
    numbers = torch.cat([made.splits[split].index for split in ("train", "val")])
    assert sorted(numbers.tolist()) == list(range(100))


def test_fashion_mnist_lies_in_its_own_folder_and_needs_the_packed_files(
    tmp_path: Path, contents: dict[str, bytes], no_network: None
) -> None:
    put(tmp_path / "FashionMNIST/raw", contents, packed=False)
    with pytest.raises(UserError, match=r"FashionMNIST/raw/train-images-idx3-ubyte\.gz is neither"):
        module(tmp_path, "fashion_mnist").prepare_data()
    put(tmp_path / "FashionMNIST/raw", contents, packed=True)
    made = module(tmp_path, "fashion_mnist")
    made.prepare_data()
    made.setup()
    assert made.class_names[-1] == "ankle boot"


def test_without_network_another_set_is_offered(tmp_path: Path, no_network: None) -> None:
    with pytest.raises(UserError, match=r"use data=digits, which needs no network"):
        module(tmp_path).prepare_data()


@pytest.mark.parametrize("packed", [True, False])
def test_an_altered_file_is_not_opened(tmp_path: Path, contents: dict[str, bytes], packed: bool) -> None:
    folder = tmp_path / "MNIST/raw"
    put(folder, contents, packed=packed)
    path = next(path for path in folder.iterdir() if path.name.startswith("t10k-images"))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match="not the published file"):
        module(tmp_path).prepare_data()
    with pytest.raises(UserError, match="not the published file"):
        module(tmp_path).setup()


def test_another_size_resizes_once_and_keeps_a_constant(tmp_path: Path, contents: dict[str, bytes]) -> None:
    put(tmp_path / "MNIST/raw", contents, packed=True)
    made = module(tmp_path, image_size=64)
    made.setup()
    assert made.splits["train"].images.shape == (80, 1, 64, 64)
    assert torch.equal(
        resized(torch.full((2, 1, 28, 28), 7, dtype=torch.uint8), 32), torch.full((2, 1, 32, 32), 7)
    )
    board = torch.tensor([[0, 100], [200, 60]], dtype=torch.uint8).repeat(4, 4)[None, None]
    assert torch.equal(resized(board, 8), board)
    assert resized(board, 2).float().mean() == pytest.approx(90, abs=1), "antialiased: none is passed over"
    assert (resized(board, 2).float() - 90).abs().max() < 30


def test_a_validation_set_that_leaves_nothing_is_refused(tmp_path: Path, contents: dict[str, bytes]) -> None:
    put(tmp_path / "MNIST/raw", contents, packed=True)
    with pytest.raises(UserError, match=r"data\.num_val=100 leaves no image .* mnist has 100"):
        module(tmp_path, num_val=100).setup()
    made = module(tmp_path, num_val=0)
    made.setup()
    assert set(made.splits) == {"train", "test"}


def test_the_validation_set_follows_from_its_seed() -> None:
    labels = torch.arange(40) % 4
    train = LabelledImages(torch.zeros(40, 1, 2, 2, dtype=torch.uint8), labels, torch.arange(40))
    first, again, other = (hold_out("toy", train, train, 8, seed)["val"].index for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_rows_in_a_stretch_are_a_view() -> None:
    whole = LabelledImages(torch.zeros(9, 1, 2, 2, dtype=torch.uint8), torch.arange(9), torch.arange(9))
    assert whole.take(torch.arange(3, 6)).labels.tolist() == [3, 4, 5]
    assert whole.take(torch.arange(3, 6)).images.data_ptr() == whole.images[3:].data_ptr()
    assert whole.take(torch.tensor([5, 3])).labels.tolist() == [5, 3]
    assert len(whole.take(torch.arange(0))) == 0


def test_an_idx_file_is_read_as_it_was_written() -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    assert np.array_equal(parse_idx(idx(array), 3, "toy"), array)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "begins with nothing"),
        (idx(np.zeros((2, 2), np.uint8)), "no idx file .* 3 dimension"),
        (b"\x1f\x8b\x08\x00 packed twice", "begins with 1f 8b 08 00"),
        (idx(np.zeros((2, 2, 2), np.uint8))[:-1], "23 bytes, where its header says 24"),
        (idx(np.zeros((2, 2, 2), np.uint8)) + b"!", "25 bytes, where its header says 24"),
        (idx(np.zeros((2, 2, 2), np.uint8))[:9], "truncated"),
    ],
)
def test_an_idx_file_of_another_form_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(UserError, match=message):
        parse_idx(content, 3, "data=toy: file")


def test_the_real_files_hold_what_is_known_of_them(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "MNIST" / "raw"
    if not folder.is_dir():
        pytest.skip(f"MNIST is not in {shared_data}")
    made = module(shared_data, num_val=5000)
    made.prepare_data()
    made.setup()
    labels = torch.cat([made.splits[split].labels for split in ("train", "val")])
    assert labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test = made.splits["test"]
    assert test.labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    pixels = made.splits["train"].images.float() / 255
    assert float(pixels.mean()) == pytest.approx(0.1307, abs=1e-3)
    assert float(pixels.std()) == pytest.approx(0.3081, abs=1e-3)
    shutil.copytree(folder, tmp_path / "MNIST" / "raw")
    from torchvision.datasets import MNIST
    from torchvision.datasets.utils import extract_archive

    for part in PARTS:
        extract_archive(tmp_path / "MNIST" / "raw" / f"{part}.gz")
    theirs = MNIST(str(tmp_path), train=False, download=False)
    assert torch.equal(test.images[:, 0], theirs.data)
    assert torch.equal(test.labels, theirs.targets)
