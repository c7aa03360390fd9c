"""LSUN Churches: 126,227 photographs of churches from outside.

Source: Yu et al., "LSUN: construction of a large-scale image dataset using deep learning with humans in the
loop", arXiv 1506.03365. For research; the photographs belong to others.

Published is an LMDB database, which is read where the package ``lmdb`` is installed; otherwise its images are
expected as files in a folder, as the authors' ``data.py export`` writes them. There are no classes. The
database has 300 validation images besides, too few to judge a generator with, so the splits are our own.
"""

import importlib.util
from pathlib import Path
from typing import Any, Literal

from datamodules.decoded import Files, Read
from datamodules.image_folder import ImageFolderDataModule, list_images
from datamodules.images import LabelledImages, Split
from harness.annotations import NonNegativeInt, PositiveInt, Probability
from harness.errors import UserError

_NAME = "church_outdoor_train"


class LSUNDataModule(ImageFolderDataModule):
    """Churches, cut to the centred square and resized, split at random.

    Args:
        root: folder of data sets, with ``lsun/church_outdoor_train`` (files) or
            ``lsun/church_outdoor_train_lmdb``.
        cache: folder of derived files: the decoded photographs.
        in_channels: colours, 3.
        image_size: pixels of a side.
        num_classes: 1.
        val_share: of the images, for validation.
        test_share: of the images, for testing.
        split_seed: seed of the split, and of nothing else.
        mean: subtracted from each colour after scaling to [0, 1].
        std: what each colour is divided by then.
        batch_size: images of one optimiser step, over all processes.
        augment: a name in :data:`datamodules.augmentation.AUGMENTATIONS`.
        seed: of the order and the augmentation.
    """

    tasks: tuple[str, ...] = ("image_generation",)

    def __init__(
        self,
        root: str,
        cache: str,
        in_channels: Literal[3],
        image_size: PositiveInt,
        num_classes: Literal[1],
        val_share: Probability,
        test_share: Probability,
        split_seed: NonNegativeInt,
        mean: list[float],
        std: list[float],
        batch_size: PositiveInt,
        augment: Literal["none", "shift", "flip", "crop_flip"],
        seed: NonNegativeInt,
    ) -> None:
        folder = Path(root).expanduser() / "lsun" / _NAME
        super().__init__(
            folder=str(folder),
            cache=cache,
            in_channels=in_channels,
            image_size=image_size,
            num_classes=num_classes,
            val_share=val_share,
            test_share=test_share,
            split_seed=split_seed,
            mean=mean,
            std=std,
            batch_size=batch_size,
            augment=augment,
            seed=seed,
            choice="lsun_church",
        )
        self.database = folder.with_name(f"{_NAME}_lmdb")

    def prepare_data(self) -> None:
        """Looks whether the folder or the database is there.

        Raises:
            UserError: neither is, or only the database and the package to read it is missing.
        """
        if self.folder.is_dir():
            super().prepare_data()
        elif not self.database.is_dir():
            raise UserError(
                f"data=lsun_church: neither {self.folder} (image files) nor {self.database.name} (the "
                "published database) is there. Get church_outdoor_train_lmdb.zip as "
                "https://github.com/fyu/lsun says, unzip it there, and set paths.data to the folder above "
                "lsun."
            )
        elif importlib.util.find_spec("lmdb") is None:
            raise UserError(
                f"data=lsun_church: {self.database} needs the package lmdb: pip install lmdb. Or export its "
                f"images as files into {self.folder}."
            )

    def build(self) -> dict[Split, LabelledImages]:
        if self.folder.is_dir():
            return super().build()
        keys, size = self._keys()
        files = Files(
            ["lmdb", str(self.database.resolve()), len(keys), size],
            lambda: self._read(keys),
            [f"data=lsun_church: {self.database}: {key!r}" for key in keys],
        )
        return self._decode_and_split(files, [_NAME] * len(keys))

    def _list(self) -> tuple[list[str], list[str]]:
        names = list_images(self.choice, self.folder)
        return names, [_NAME] * len(names)  # subfolders are made of the first letters of a name

    def _open(self) -> Any:
        import lmdb  # type: ignore[import-not-found]  # only where the database is used

        return lmdb.open(str(self.database), readonly=True, lock=False, readahead=False, max_readers=64)

    def _keys(self) -> tuple[list[bytes], int]:
        """All keys in order, and the bytes of the database."""
        with self._open() as environment, environment.begin() as transaction:
            keys = list(transaction.cursor().iternext(values=False))
            return keys, (self.database / "data.mdb").stat().st_size

    def _read(self, keys: list[bytes]) -> Read:
        environment = self._open()  # closed with the process's last use of it

        def read(index: int) -> bytes:
            with environment.begin() as transaction:
                return bytes(transaction.get(keys[index]))

        return read
