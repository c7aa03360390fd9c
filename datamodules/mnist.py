"""MNIST and Fashion-MNIST: 70,000 grey images of 28 x 28 pixels in ten classes each.

Sources: LeCun, Cortes and Burges, "The MNIST database of handwritten digits" (terms commonly given as
CC BY-SA 3.0); Xiao, Rasul and Vollgraf, arXiv 1708.07747 (MIT licence).

The files lie as torchvision's ``MNIST`` and ``FashionMNIST`` put them, gzipped or, of MNIST, unpacked.
Besides the published ``.gz`` another compression of the same MNIST files is known and accepted. Nothing is
opened before its SHA-256 agrees. That of Fashion-MNIST's unpacked files is published nowhere, so that its
``.gz`` files are needed.
"""

import gzip
import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.download import RemoteFile, fetch, locate, read_verified
from datamodules.images import ImageDataModule, LabelledImages, Split, hold_out, resized
from harness.annotations import NonNegativeInt, PositiveInt
from harness.errors import UserError

_FOLDERS = {"mnist": "MNIST/raw", "fashion_mnist": "FashionMNIST/raw"}
_URLS = {
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist",
    "fashion_mnist": "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
}

# Of each .gz, the published one first.
_SHA256: dict[str, dict[str, tuple[str, ...]]] = {
    "mnist": {
        "train-images-idx3-ubyte": (
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "7ff28fd295f802eefc6d40e461175dfe4b969b1842b2abc8c6dc8c20711cf79f",
        ),
        "train-labels-idx1-ubyte": (
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "81a978ae83d39ffdba0db3ce2fcaf80a8921e9629e874428996a2b03242d4b2a",
        ),
        "t10k-images-idx3-ubyte": (
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "197e111ae341b0770be9011ac5e622d0e6cd1c640b32eb0de5dc1dd26cc6e182",
        ),
        "t10k-labels-idx1-ubyte": (
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            "b91679a0acfe4ba0e50a2437a903084cba1f5f92592b016a25a7dfd00455798b",
        ),
    },
    "fashion_mnist": {
        "train-images-idx3-ubyte": ("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",),
        "train-labels-idx1-ubyte": ("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",),
        "t10k-images-idx3-ubyte": ("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",),
        "t10k-labels-idx1-ubyte": ("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",),
    },
}

# Of the unpacked files, taken from files with the md5 that is published for them.
_UNPACKED: dict[str, dict[str, str]] = {
    "mnist": {
        "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    },
    "fashion_mnist": {},
}

_CLASS_NAMES = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": (
        "T-shirt",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    ),
}

_UNSIGNED_BYTES = 8  # the type in an idx file's magic number


class MNISTDataModule(ImageDataModule):
    """Ten classes of grey images; the published test set, and a validation set taken from the training set.

    Args:
        name: which set.
        root: folder of data sets; the files lie in ``MNIST/raw`` or ``FashionMNIST/raw``.
        cache: where downloads go when ``root`` is read-only.
        in_channels: colours, 1.
        image_size: pixels of a side; 28 is that of the files, any other resizes them.
        num_classes: classes, 10.
        num_val: validation images, each class with its share; 0 for none.
        split_seed: seed of the validation set, and of nothing else.
        mean: subtracted from the pixels after scaling to [0, 1].
        std: what they are divided by then.
        batch_size: images of one optimiser step, over all processes.
        augment: a name in :data:`datamodules.augmentation.AUGMENTATIONS`.
        seed: of the order and the augmentation.
    """

    tasks = ("image_classification", "image_generation")

    def __init__(
        self,
        name: Literal["mnist", "fashion_mnist"],
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
            UserError: see :func:`datamodules.download.fetch`.
        """
        files = [self._file(part) for part in _SHA256[self.choice]]
        fetch(self.choice, files, self.root, self.cache, stand_in="digits")

    def build(self) -> dict[Split, LabelledImages]:
        train, test = (self._read(part) for part in ("train", "t10k"))
        return hold_out(self.choice, train, test, self.num_val, self.split_seed)

    def _file(self, part: str) -> RemoteFile:
        """The unpacked file where there is one whose hash is known, else the ``.gz``."""
        path, url = f"{_FOLDERS[self.choice]}/{part}", f"{_URLS[self.choice]}/{part}.gz"
        if part in _UNPACKED[self.choice]:
            unpacked = RemoteFile(path, url, (_UNPACKED[self.choice][part],))
            if locate(unpacked, self.root, self.cache) is not None:
                return unpacked
        return RemoteFile(f"{path}.gz", url, _SHA256[self.choice][part])

    def _read(self, part: str) -> LabelledImages:
        images = torch.from_numpy(self._content(f"{part}-images-idx3-ubyte", dimensions=3))[:, None]
        labels = torch.from_numpy(self._content(f"{part}-labels-idx1-ubyte", dimensions=1)).long()
        return LabelledImages(resized(images, self.image_size), labels, torch.arange(len(labels)))

    def _content(self, part: str, dimensions: int) -> NDArray[np.uint8]:
        file = self._file(part)
        content = read_verified(self.choice, file, self.root, self.cache)
        if file.path.endswith(".gz"):
            content = gzip.decompress(content)
        return parse_idx(content, dimensions, f"data={self.choice}: {file.path}")


def parse_idx(content: bytes, dimensions: int, label: str) -> NDArray[np.uint8]:
    """The array in an idx file of unsigned bytes.

    Such a file begins with two zeros, the code of the type and the number of dimensions, one byte each, then
    has the dimensions as big-endian 32-bit integers, then the values.

    Args:
        content: the file, unpacked.
        dimensions: how many the array has to have.
        label: which file, for the message.

    Raises:
        UserError: the file is of another kind, or shorter or longer than its header says.
    """
    start = 4 + 4 * dimensions
    if content[:4] != bytes([0, 0, _UNSIGNED_BYTES, dimensions]):
        raise UserError(
            f"{label} is no idx file of unsigned bytes in {dimensions} dimension(s): it begins with "
            f"{content[:4].hex(' ') or 'nothing'}. Delete it and run again to download it."
        )
    shape = tuple(np.frombuffer(content[4:start].ljust(4 * dimensions, b"\0"), ">u4").tolist())
    if len(content) != start + math.prod(shape):
        raise UserError(
            f"{label} is truncated or too long: {len(content)} bytes, where its header says "
            f"{start + math.prod(shape)}. Delete it and run again to download it."
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()
