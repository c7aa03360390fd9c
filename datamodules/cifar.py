"""CIFAR-10, CIFAR-100 and CIFAR-10 (JPEG q75): 60,000 small colour photographs of 32 x 32 pixels.

Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009. There is no formal licence:
research use with citation.

CIFAR-10 and CIFAR-100 are read from the published archive, or from the folder that torchvision unpacks it to.
The batches are pickles of Python 2. The archive's SHA-256 is checked before anything is opened; of single
batches only the MD5 is published, which is checked for an unpacked folder. Either way the reader admits
arrays, lists and words and nothing else.

CIFAR-10 (JPEG q75) holds the same photographs after lossy compression (JPEG of quality 75, chroma halved), in
another order within each class. Accuracy on it must not be compared with that on CIFAR-10. It is published
nowhere under this form, so that it cannot be downloaded.
"""

import hashlib
import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from datamodules.decoded import Files, Read, decoded_images
from datamodules.download import RemoteFile, fetch, locate, read_verified
from datamodules.images import ImageDataModule, LabelledImages, Split, hold_out, resized
from datamodules.restricted_pickle import load_restricted
from harness.annotations import NonNegativeInt, PositiveInt
from harness.errors import UserError

_URL = "https://www.cs.toronto.edu/~kriz"

_ARCHIVES = {
    "cifar10": RemoteFile(
        "cifar-10-python.tar.gz",
        f"{_URL}/cifar-10-python.tar.gz",
        ("6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce",),
    ),
    "cifar100": RemoteFile(
        "cifar-100-python.tar.gz",
        f"{_URL}/cifar-100-python.tar.gz",
        ("85cd44d02ba6437773c5bbd22e183051d648de2e7d6b014e1ef29b855ba677a7",),
    ),
}
_FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
_LABELS = {"cifar10": "labels", "cifar100": "fine_labels"}

# As torchvision lists them.
_MD5 = {
    "cifar10": {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
        "test_batch": "40351d587109b95175f43aff81a1287e",
    },
    "cifar100": {
        "train": "16019d7e3df5f24257cddd939b257f8d",
        "test": "f0ef6b0ae62326f3e7ffdfab6717acfc",
    },
}

_CIFAR10 = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR100 = (
    "apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel"
    " can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur"
    " dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion"
    " lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree"
    " pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea"
    " seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table"
    " tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman"
    " worm"
)
_CLASS_NAMES = {"cifar10": _CIFAR10, "cifar100": tuple(_CIFAR100.split()), "cifar10_jpeg": _CIFAR10}

_PER_CLASS = {"train": 5000, "test": 1000}  # images of the lossy copy
_PARTS: tuple[Literal["train", "test"], ...] = ("train", "test")
_JPEG = {
    part: RemoteFile(f"CIFAR10-jpeg/{part}.tar.gz", "", (sha256,))
    for part, sha256 in {
        "train": "bd0f0141032e59e2f61ac1ea90632f3d750b8371b5fc598ebd4b22ac0c3bb769",
        "test": "6ac8ae753efafc49605709f53821b2eaec12d26de8d34ca1c3f40851c259217d",
    }.items()
}


class CIFARDataModule(ImageDataModule):
    """Small photographs; the published test set, and a validation set taken from the training set.

    Args:
        name: which set; ``cifar10_jpeg`` is CIFAR-10 (JPEG q75), a lossy copy.
        root: folder of data sets, laid out as torchvision's; the lossy copy lies in ``CIFAR10-jpeg``.
        cache: where downloads go when ``root`` is read-only, and the decoded JPEG images.
        in_channels: colours, 3.
        image_size: pixels of a side; 32 is that of the files, any other resizes them.
        num_classes: classes, 10 or 100.
        num_val: validation images, each class with its share; 0 for none.
        split_seed: seed of the validation set, and of nothing else.
        mean: subtracted from each colour after scaling to [0, 1].
        std: what each colour is divided by then.
        batch_size: images of one optimiser step, over all processes.
        augment: a name in :data:`datamodules.augmentation.AUGMENTATIONS`.
        seed: of the order and the augmentation.
    """

    tasks = ("image_classification", "image_generation")

    def __init__(
        self,
        name: Literal["cifar10", "cifar100", "cifar10_jpeg"],
        root: str,
        cache: str,
        in_channels: PositiveInt,
        image_size: PositiveInt,
        num_classes: PositiveInt,
        num_val: NonNegativeInt,
        split_seed: NonNegativeInt,
        mean: list[float],
        std: list[float],
        batch_size: PositiveInt,
        augment: Literal["none", "shift", "flip", "crop_flip"],
        seed: NonNegativeInt,
    ) -> None:
        super().__init__(
            choice=name,
            in_channels=in_channels,
            image_size=image_size,
            num_classes=num_classes,
            class_names=_CLASS_NAMES[name],
            mean=mean,
            std=std,
            batch_size=batch_size,
            augment=augment,
            seed=seed,
        )
        self.root = root
        self.cache = cache
        self.num_val = num_val
        self.split_seed = split_seed

    def prepare_data(self) -> None:
        """Downloads what is missing and verifies everything.

        Raises:
            UserError: see :func:`datamodules.download.fetch`; or CIFAR-10 (JPEG q75) is not there.
        """
        if self.choice == "cifar10_jpeg":
            for file in _JPEG.values():
                if locate(file, self.root, self.cache) is None:
                    raise UserError(
                        f"data=cifar10_jpeg: {file.path} is not under paths.data={self.root}. CIFAR-10 "
                        "(JPEG q75) is not published for download: set paths.data=<folder> to one that "
                        "holds it, or use data=cifar10."
                    )
        elif self._unpacked() is None:
            fetch(self.choice, [_ARCHIVES[self.choice]], self.root, self.cache, stand_in="digits")

    def build(self) -> dict[Split, LabelledImages]:
        if self.choice == "cifar10_jpeg":
            train, test = (self.decoded(part) for part in _PARTS)
        else:
            train, test = self._from_batches()
        return hold_out(self.choice, train, test, self.num_val, self.split_seed)

    def _unpacked(self) -> Path | None:
        """The folder with all batches, or None."""
        for base in (self.root, self.cache):
            folder = Path(base).expanduser() / _FOLDERS[self.choice]
            if all((folder / batch).is_file() for batch in _MD5[self.choice]):
                return folder
        return None

    def _from_batches(self) -> tuple[LabelledImages, LabelledImages]:
        folder = self._unpacked()
        if folder is None:
            content = read_verified(self.choice, _ARCHIVES[self.choice], self.root, self.cache)
            batches = dict(_members(content))
        else:
            batches = {batch: _verified_batch(self.choice, folder / batch) for batch in _MD5[self.choice]}
        parts = {
            batch: load_restricted(batches[batch], f"data={self.choice}: {_FOLDERS[self.choice]}/{batch}")
            for batch in _MD5[self.choice]
        }
        test = [batch for batch in parts if batch.startswith("test")]
        train = [batch for batch in parts if batch not in test]
        first, second = (
            self._images([parts[batch] for batch in some]) for some in (train, test)
        )  # [N, 3, 32, 32]
        return first, second

    def _images(self, parts: list[dict[str, Any]]) -> LabelledImages:
        pixels = np.concatenate([part["data"] for part in parts]).reshape(-1, 3, 32, 32)
        labels = torch.tensor([label for part in parts for label in part[_LABELS[self.choice]]])
        images = resized(torch.from_numpy(pixels), self.image_size)
        return LabelledImages(images, labels, torch.arange(len(labels)))

    def decoded(self, part: Literal["train", "test"]) -> LabelledImages:
        """One part of the lossy copy, in the order of the names, whatever that of the archive."""
        file = _JPEG[part]

        def open_archive() -> Read:
            content = read_verified(self.choice, file, self.root, self.cache)
            members = dict(_members(content, keep_folders=True))
            return lambda index: members[names[index]]

        # Names are known without opening the archive, which a decoded copy spares.
        per_class = _PER_CLASS[part]
        names = [f"{part}/{label}/{number:04d}.jpg" for label in _CIFAR10 for number in range(per_class)]
        images = decoded_images(
            self.choice,
            Files(
                [*file.sha256], open_archive, [f"data={self.choice}: {file.path}: {name}" for name in names]
            ),
            np.arange(len(names)),
            self.cache,
            image_size=32,
            in_channels=3,
        )
        labels = torch.arange(len(_CIFAR10)).repeat_interleave(per_class)
        return LabelledImages(resized(images, self.image_size), labels, torch.arange(len(labels)))


def _members(content: bytes, *, keep_folders: bool = False) -> Iterator[tuple[str, bytes]]:
    """Name and content of each file in a ``.tar.gz``; nothing is written to disk."""
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.isfile() else None
            if stream is not None:
                yield (member.name if keep_folders else Path(member.name).name), stream.read()


def _verified_batch(choice: str, path: Path) -> bytes:
    """Content of one unpacked batch.

    Raises:
        UserError: its MD5 is not the published one.
    """
    content = path.read_bytes()
    expected, found = _MD5[choice][path.name], hashlib.md5(content, usedforsecurity=False).hexdigest()
    if found != expected:
        raise UserError(
            f"data={choice}: {path} is not the published file (altered or truncated): MD5 expected "
            f"{expected}, found {found}. It was not opened. Delete the folder "
            f"{path.parent.name} and run again to use or download the archive."
        )
    return content
