"""CelebA: 202,599 photographs of faces with forty attributes each, aligned by the eyes.

Source: Liu, Luo, Wang and Tang, "Deep learning face attributes in the wild", ICCV 2015. For non-commercial
research only; the photographs belong to others.

The files lie as torchvision's ``CelebA`` puts them. They are published on a file-sharing service that no
program can download from reliably, so they have to be put there by hand. The two lists are checked by the MD5
that torchvision publishes; the photographs themselves are only counted.
"""

import hashlib
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.decoded import Files, decoded_images
from datamodules.image_folder import read_files
from datamodules.images import ImageDataModule, LabelledImages, Split
from harness.annotations import NonNegativeInt, PositiveInt
from harness.errors import UserError

_ATTRIBUTES = "list_attr_celeba.txt"
_PARTITION = "list_eval_partition.txt"
_PHOTOGRAPHS = "img_align_celeba"
_MD5 = {_ATTRIBUTES: "75e246fa4810816ffd6ee81facbd244c", _PARTITION: "d32c9cbf5e040fd4025c592c306e6668"}
_SPLITS: tuple[Split, ...] = ("train", "val", "test")  # 0, 1, 2 in the list


class CelebADataModule(ImageDataModule):
    """Faces, cut to the centred square and resized; published split; one attribute is the class.

    Args:
        root: folder of data sets; the files lie in ``celeba``.
        cache: folder of derived files: the decoded photographs.
        attribute: which of the forty is the class, ``Smiling``.
        in_channels: colours, 3.
        image_size: pixels of a side.
        num_classes: without and with the attribute, 2.
        mean: subtracted from each colour after scaling to [0, 1].
        std: what each colour is divided by then.
        batch_size: images of one optimiser step, over all processes.
        augment: a name in :data:`datamodules.augmentation.AUGMENTATIONS`.
        seed: of the order and the augmentation.
        check_lists: False accepts other lists than the published ones.
    """

    tasks = ("image_classification", "image_generation")

    def __init__(
        self,
        root: str,
        cache: str,
        attribute: str,
        in_channels: Literal[3],
        image_size: PositiveInt,
        num_classes: PositiveInt,
        mean: list[float],
        std: list[float],
        batch_size: PositiveInt,
        augment: Literal["none", "shift", "flip", "crop_flip"],
        seed: NonNegativeInt,
        check_lists: bool,
    ) -> None:
        super().__init__(
            choice="celeba",
            in_channels=in_channels,
            image_size=image_size,
            num_classes=num_classes,
            class_names=(f"not {attribute}", attribute),
            mean=mean,
            std=std,
            batch_size=batch_size,
            augment=augment,
            seed=seed,
        )
        self.folder = Path(root).expanduser() / "celeba"
        self.cache = cache
        self.attribute = attribute
        self.check_lists = check_lists

    def prepare_data(self) -> None:
        """Looks whether everything is there.

        Raises:
            UserError: the photographs or a list are missing.
        """
        missing = [name for name in (_PHOTOGRAPHS, *_MD5) if not (self.folder / name).exists()]
        if missing:
            raise UserError(
                f"data=celeba: {', '.join(missing)} must lie in {self.folder}; it cannot be downloaded by a "
                f"program. Get img_align_celeba.zip, {_ATTRIBUTES} and {_PARTITION} from "
                "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, unzip the first, and set paths.data to "
                "the folder above celeba."
            )

    def build(self) -> dict[Split, LabelledImages]:
        names, partition = parse_partition(self._list(_PARTITION))
        labels = parse_attribute(self._list(_ATTRIBUTES), self.attribute)
        unlabelled = next((name for name in names if name not in labels), None)
        if unlabelled is not None:
            raise UserError(f"data=celeba: {unlabelled} of {_PARTITION} is not in {_ATTRIBUTES}.")
        photographs = self.folder / _PHOTOGRAPHS
        absent = next((name for name in names if not (photographs / name).is_file()), None)
        if absent is not None:
            raise UserError(
                f"data=celeba: {photographs / absent} is missing. Unzip img_align_celeba.zip again."
            )
        images = decoded_images(
            "celeba",
            Files(
                # sizes alone: two hundred thousand files do not change one by one
                [[name, (photographs / name).stat().st_size] for name in names],
                lambda: read_files(photographs, names),
                [f"data=celeba: {photographs / name}" for name in names],
            ),
            np.arange(len(names)),
            self.cache,
            self.image_size,
            self.in_channels,
        )
        y = torch.tensor([labels[name] for name in names])
        whole = LabelledImages(images, y, torch.tensor([int(Path(name).stem) for name in names]))
        return {
            split: whole.take(torch.from_numpy(np.flatnonzero(partition == number)))
            for number, split in enumerate(_SPLITS)
        }

    def _list(self, name: str) -> str:
        path = self.folder / name
        content = path.read_bytes()
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if self.check_lists and found != _MD5[name]:
            raise UserError(
                f"data=celeba: {path} is not the published list (altered or truncated): MD5 expected "
                f"{_MD5[name]}, found {found}. Get it again, or set data.check_lists=false for one of "
                "your own."
            )
        return content.decode("utf-8")


def parse_partition(text: str) -> tuple[list[str], NDArray[np.int64]]:
    """Names and the part of each, 0, 1 or 2, of lines such as ``000001.jpg 0``.

    Raises:
        UserError: a line is of another form.
    """
    names, parts = [], []
    for line in text.splitlines():
        words = line.split()
        if len(words) != 2 or words[1] not in ("0", "1", "2"):
            raise UserError(f"data=celeba: {_PARTITION} has a line that is no name with 0, 1 or 2: {line!r}.")
        names.append(words[0])
        parts.append(int(words[1]))
    return names, np.array(parts)


def parse_attribute(text: str, attribute: str) -> dict[str, int]:
    """By name whether an image has the attribute, 1 or 0.

    The list has the number of images, then the names of the attributes, then lines of a name and -1 or 1 for
    each attribute.

    Raises:
        UserError: there is no such attribute, or a line is of another form.
    """
    lines = text.splitlines()
    attributes = lines[1].split() if len(lines) > 1 else []
    if attribute not in attributes:
        raise UserError(
            f"data.attribute={attribute} is none of CelebA's: {', '.join(attributes) or 'the list is empty'}."
        )
    column = 1 + attributes.index(attribute)
    labels = {}
    for line in lines[2:]:
        words = line.split()
        if len(words) != 1 + len(attributes) or words[column] not in ("-1", "1"):
            raise UserError(f"data=celeba: {_ATTRIBUTES} has a line of another form: {line[:60]!r}.")
        labels[words[0]] = int(words[column] == "1")
    return labels
