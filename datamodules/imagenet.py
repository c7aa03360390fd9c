"""ILSVRC-2012, "ImageNet": 1,281,167 photographs of 1,000 kinds of things, and 50,000 to test with.

Source: Russakovsky et al., "ImageNet large scale visual recognition challenge", arXiv 1409.0575. For
non-commercial research and education, on request from image-net.org, which is why no program can download it.

The files lie as torchvision's ``ImageNet`` unpacks them. The official validation set serves for testing, its
labels being the only ones published beside those of training. Training images are decoded when they are asked
for, so that a method that learns from a few of them reads no other; images for testing are decoded once.
"""

import os
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from datamodules.decoded import SUFFIXES, Files, decoded_images
from datamodules.facts import check_facts
from datamodules.image_folder import read_files
from datamodules.images import ImageDataModule, LabelledImages, Split, hold_out
from datamodules.on_demand import OnDemand, UndecodedImages
from harness.annotations import NonNegativeInt, PositiveInt
from harness.errors import UserError

_FOLDER = "imagenet"
_ARCHIVES = ("ILSVRC2012_img_train.tar", "ILSVRC2012_img_val.tar", "ILSVRC2012_devkit_t12.tar.gz")
_Part = Literal["train", "val"]


class ImageNetDataModule(ImageDataModule):
    """Photographs; the official validation set for testing, a validation set taken from the training set.

    Each is resized until its shorter side has 256 / 224 of ``image_size``, then cut to the centred square, as
    networks of torchvision are tested.

    Args:
        root: folder of data sets; the files lie in ``imagenet``.
        cache: looked at next; and where the decoded images for testing are kept.
        in_channels: colours, 3.
        image_size: pixels of a side.
        num_classes: folders of classes, 1000.
        num_val: validation images, each class with its share; 0 for none.
        split_seed: seed of the validation set, and of nothing else.
        mean: subtracted from each colour after scaling to [0, 1].
        std: what each colour is divided by then.
        batch_size: images of one optimiser step, over all processes.
        augment: a name in :data:`datamodules.augmentation.AUGMENTATIONS`.
        seed: of the order and the augmentation.
    """

    def __init__(
        self,
        root: str,
        cache: str,
        in_channels: Literal[3],
        image_size: PositiveInt,
        num_classes: PositiveInt,
        num_val: NonNegativeInt,
        split_seed: NonNegativeInt,
        mean: list[float],
        std: list[float],
        batch_size: PositiveInt,
        augment: Literal["none", "shift", "flip", "crop_flip", "replicate_crop_flip"],
        seed: NonNegativeInt,
    ) -> None:
        super().__init__(
            choice="imagenet",
            in_channels=in_channels,
            image_size=image_size,
            num_classes=num_classes,
            class_names=(),  # known when the folders have been looked at
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
        """Looks whether the folders of all classes are there.

        Raises:
            UserError: they are not, or something lies beside them.
        """
        folder = self._folder()
        for part in ("train", "val"):
            wnids = _classes(folder / part, folder)
            check_facts(self.choice, {"num_classes": self.num_classes}, {"num_classes": len(wnids)})

    def build(self) -> dict[Split, LabelledImages]:
        folder = self._folder()
        self.class_names = tuple(_classes(folder / "train", folder))
        resize_to = round(self.image_size * 256 / 224)

        names, labels = self._list(folder, "train")
        files = Files([], lambda: read_files(folder, names), _labels(folder, names))
        images = OnDemand(files, self.image_size, self.in_channels, resize_to)
        train = UndecodedImages.of(images, labels, torch.arange(len(labels)))

        test_names, test_labels = self._list(folder, "val")
        pixels = decoded_images(
            self.choice,
            Files(
                # sizes alone: fifty thousand files do not change one by one
                [[name, (folder / name).stat().st_size] for name in test_names],
                lambda: read_files(folder, test_names),
                _labels(folder, test_names),
            ),
            np.arange(len(test_names)),
            self.cache,
            self.image_size,
            self.in_channels,
            resize_to,
        )
        test = LabelledImages(pixels, test_labels, torch.arange(len(test_labels)))
        return hold_out(self.choice, train, test, self.num_val, self.split_seed)

    def _folder(self) -> Path:
        places = [Path(base).expanduser() / _FOLDER for base in (self.root, self.cache)]
        for place in places:
            if all((place / part).is_dir() for part in ("train", "val")):
                return place
        raise UserError(
            f"data=imagenet: neither {places[0]} nor {places[1]} holds the folders train and val, and no"
            f" program can download them. Get {', '.join(_ARCHIVES)} from https://image-net.org (on request),"
            f" put them into {places[0]} and {_unpack(places[0])}; or use data=shapes, which needs no files."
        )

    def _list(self, folder: Path, part: _Part) -> tuple[list[str], torch.Tensor]:
        """Names below ``folder`` in torchvision's order, and the class of each."""
        names: list[str] = []
        labels: list[int] = []
        for label, wnid in enumerate(self.class_names):
            place = folder / part / wnid
            found = sorted(name for name in _entries(place) if name.lower().endswith(SUFFIXES))
            if not found:
                raise UserError(f"data=imagenet: {place} holds no image. Unpack the archive again.")
            names += [f"{part}/{wnid}/{name}" for name in found]
            labels += [label] * len(found)
        return names, torch.tensor(labels)


def _entries(place: Path) -> list[str]:
    try:
        with os.scandir(place) as entries:
            return [entry.name for entry in entries]
    except OSError as error:
        raise UserError(f"data=imagenet: {place} cannot be read ({error.strerror or error}).") from error


def _classes(place: Path, folder: Path) -> list[str]:
    """Names of the classes' folders, sorted.

    Raises:
        UserError: something of the set lies beside them, which torchvision would have put into one.
    """
    wnids: list[str] = []
    others: list[str] = []
    with os.scandir(place) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                (wnids if entry.is_dir() else others).append(entry.name)
    beside = min((name for name in others if name.lower().endswith((*SUFFIXES, ".tar"))), default=None)
    if beside is not None:
        raise UserError(
            f"data=imagenet: {place / beside} lies beside the folders of classes: the set is not fully"
            f" unpacked. Delete the folder {place.name} and {_unpack(folder)}."
        )
    return sorted(wnids)


def _unpack(folder: Path) -> str:
    """How torchvision does it, for messages."""
    code = f"from torchvision.datasets import ImageNet as I; [I('{folder}', p) for p in ('train', 'val')]"
    return f'unpack them by python -c "{code}"'


def _labels(folder: Path, names: list[str]) -> list[str]:
    return [f"data=imagenet: {folder / name}" for name in names]
