"""A folder of image files: a class for each subfolder, or one class where there are none.

Each image is cut to its largest centred square and resized. Decoded images are kept under ``paths.cache``, by
the names, sizes and times of the files, so that a changed folder is decoded anew.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.decoded import SUFFIXES, Files, Read, decoded_images
from datamodules.facts import check_facts
from datamodules.images import DEVICE_BYTES, ImageDataModule, LabelledImages, Split, stratified_split
from harness.annotations import NonNegativeInt, PositiveInt, Probability
from harness.errors import UserError
from harness.words import counted

ONE_CLASS = "images"
"""Name of the class of a folder without subfolders."""


class ImageFolderDataModule(ImageDataModule):
    """A user's own images, split at random.

    Args:
        folder: where they lie; None is refused with a hint.
        cache: folder of derived files, such as the decoded images.
        in_channels: colours: 1 reads all images as grey, 3 as colour.
        image_size: pixels of a side, after cutting and resizing.
        num_classes: subfolders with images, or 1.
        val_share: of each class, for validation; 0 for none.
        test_share: of each class, for testing, above 0.
        split_seed: seed of the split, and of nothing else.
        mean: subtracted from each colour after scaling to [0, 1].
        std: what each colour is divided by then.
        batch_size: images of one optimiser step, over all processes.
        augment: a name in :data:`datamodules.augmentation.AUGMENTATIONS`.
        seed: of the order and the augmentation.
        choice: the ``data=`` choice, for messages.
    """

    tasks: tuple[str, ...] = ("image_classification", "image_generation")

    def __init__(
        self,
        folder: str | None,
        cache: str,
        in_channels: Literal[1, 3],
        image_size: PositiveInt,
        num_classes: PositiveInt,
        val_share: Probability,
        test_share: Probability,
        split_seed: NonNegativeInt,
        mean: list[float],
        std: list[float],
        batch_size: PositiveInt,
        augment: Literal["none", "shift", "flip", "crop_flip"],
        seed: NonNegativeInt,
        choice: Literal["image_folder", "lsun_church"] = "image_folder",
    ) -> None:
        if folder is None:
            raise UserError(
                "data=image_folder needs data.folder=<folder of images>, with a subfolder for each class or "
                "none. Try data=digits, which needs no files."
            )
        if test_share == 0 or val_share + test_share >= 1:
            raise UserError(
                f"data.val_share={val_share} and data.test_share={test_share} must leave images to train on, "
                "and some to test with. Try data.val_share=0.1 data.test_share=0.1."
            )
        super().__init__(
            choice=choice,
            in_channels=in_channels,
            image_size=image_size,
            num_classes=num_classes,
            class_names=(),  # known when the folder has been looked at
            mean=mean,
            std=std,
            batch_size=batch_size,
            augment=augment,
            seed=seed,
        )
        self.folder = Path(folder).expanduser()
        self.cache = cache
        self.val_share = val_share
        self.test_share = test_share
        self.split_seed = split_seed

    def prepare_data(self) -> None:
        """Looks whether there are images, of as many classes as stated.

        Raises:
            UserError: there is no such folder, none in it, or ``num_classes`` is wrong.
        """
        check_facts(
            self.choice, {"num_classes": self.num_classes}, {"num_classes": len(set(self._list()[1]))}
        )

    def build(self) -> dict[Split, LabelledImages]:
        names, classes = self._list()
        facts = [(self.folder / name).stat() for name in names]
        files = Files(
            [
                str(self.folder.resolve()),
                *([name, fact.st_size, fact.st_mtime_ns] for name, fact in zip(names, facts, strict=True)),
            ],
            lambda: read_files(self.folder, names),
            [f"data={self.choice}: {self.folder / name}" for name in names],
        )
        return self._decode_and_split(files, classes)

    def _list(self) -> tuple[list[str], list[str]]:
        """Names below the folder and the class of each."""
        names = list_images(self.choice, self.folder)
        return names, classes_of(self.choice, self.folder, names)

    def _decode_and_split(self, files: Files, classes: Sequence[str]) -> dict[Split, LabelledImages]:
        self.class_names = tuple(sorted(set(classes)))
        numbers = {label: number for number, label in enumerate(self.class_names)}
        labels = np.array([numbers[label] for label in classes], dtype=np.int64)
        parts = self._parts(labels)
        order = np.arange(len(labels))
        if len(order) * self.in_channels * self.image_size**2 > DEVICE_BYTES:
            # Too large to be copied: kept in the order of the splits, so that each is a stretch of the file.
            order = np.concatenate(list(parts.values()))
        images = decoded_images(self.choice, files, order, self.cache, self.image_size, self.in_channels)
        place = np.argsort(order)
        whole = LabelledImages(images, torch.from_numpy(labels[order]), torch.from_numpy(order))
        return {split: whole.take(torch.from_numpy(place[part])) for split, part in parts.items()}

    def _parts(self, labels: NDArray[np.int64]) -> dict[Split, NDArray[np.int64]]:
        """Numbers of the images of each split."""
        num_val, num_test = (round(share * len(labels)) for share in (self.val_share, self.test_share))
        num_val = max(num_val, 1) if self.val_share else 0
        num_test = max(num_test, 1)
        num_train = len(labels) - num_val - num_test
        if num_train < 1:
            raise UserError(
                f"data={self.choice}: {counted(len(labels), 'image')} in {self.folder} cannot be split into "
                f"training, validation and test: {2 + bool(self.val_share)} are the least. Add some."
            )
        train, val, test = stratified_split(labels, (num_train, num_val, num_test), self.split_seed)
        parts: dict[Split, NDArray[np.int64]] = {"train": train, "val": val, "test": test}
        return {split: part for split, part in parts.items() if len(part)}


def list_images(choice: str, folder: Path) -> list[str]:
    """Names of the images below ``folder``, sorted, in subfolders too.

    Files of other kinds and those that begin with a dot are passed over.

    Raises:
        UserError: there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise UserError(f"data.folder={folder} is no folder (data={choice}). Set it to a folder of images.")
    names = sorted(
        (Path(place) / name).relative_to(folder).as_posix()
        for place, _, files in os.walk(folder)
        for name in files
        if name.lower().endswith(SUFFIXES) and not name.startswith(".")
    )
    if not names:
        raise UserError(
            f"data.folder={folder} holds no image (data={choice}). Files must end in {', '.join(SUFFIXES)}."
        )
    return names


def classes_of(choice: str, folder: Path, names: Sequence[str]) -> list[str]:
    """The class of each image: the first folder of its name, or :data:`ONE_CLASS` where there are no folders.

    Raises:
        UserError: some images lie in subfolders and some beside them.
    """
    beside = next((name for name in names if "/" not in name), None)
    if beside is not None and any("/" in name for name in names):
        raise UserError(
            f"data.folder={folder} holds images in subfolders and, such as {beside}, beside them "
            f"(data={choice}). Put every image into the subfolder of its class, or all into one folder."
        )
    return [name.partition("/")[0] if beside is None else ONE_CLASS for name in names]


def read_files(folder: Path, names: Sequence[str]) -> Read:
    """Reads file ``names[i]`` of a folder."""
    return lambda index: (folder / names[index]).read_bytes()
