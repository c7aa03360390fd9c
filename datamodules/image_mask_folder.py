"""A user's own images, some of them annotated: ``images/`` and ``masks/`` with files of equal stems.

The value of a pixel in a mask is its class, or says which one it is. Images without a mask are the part of
the pool that nobody has annotated; training begins with all masks that are not held out. Whether an image is
held out follows from its name and ``split_seed`` alone: masks that are added later move none, once every
split has an image of its own. Nothing is decoded twice while images and masks are added.
"""

import logging
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from datamodules.decoded import Files
from datamodules.decoded_scenes import Lookup, MaskFiles, decoded_folder
from datamodules.image_folder import read_files
from datamodules.images import Split
from datamodules.paired_augmentation import VOID
from datamodules.paired_files import paired_files
from datamodules.palette import distinct_colours
from datamodules.scenes import Scenes
from datamodules.segmentation import SegmentationDataModule
from datamodules.steady_split import steady_split
from harness.annotations import NonNegativeInt, PositiveInt, Probability
from harness.errors import UserError
from harness.words import counted

SPLITS: tuple[Split, ...] = ("train", "val", "test")

log = logging.getLogger("tenfold")


class ImageMaskFolderDataModule(SegmentationDataModule):
    """Images with masks for some of them, split at random.

    Args:
        folder: where ``images/`` and ``masks/`` lie, with or without subfolders; None is refused with a hint.
        cache: folder of derived files, such as the decoded images.
        in_channels: colours, 3; grey images become coloured ones.
        height: rows, after resizing.
        width: columns, after resizing.
        num_classes: classes; masks hold 0 to ``num_classes - 1``, or ``mask_values``, and ``void_value``.
        mask_values: pixel values of the classes in their order, each 0 to 65535; None for 0, 1, and so on.
        void_value: pixel value of a mask that says "no class", 0 to 65535; None where there is no such value.
        class_names: names of the classes in order; None calls them by number.
        val_share: chance of an annotated image to serve for validation; 0 for none.
        test_share: chance of an annotated image to serve for testing, above 0.
        split_seed: seed of the split, and of nothing else.
        mean: subtracted from each colour after scaling to [0, 1].
        std: what each colour is divided by then.
        batch_size: images of one optimiser step, over all processes.
        augment: a name in :data:`datamodules.paired_augmentation.PAIRED_AUGMENTATIONS`.
        seed: of the order, the augmentation, the first labelled images and the candidates.
    """

    def __init__(
        self,
        folder: str | None,
        cache: str,
        in_channels: Literal[3],
        height: PositiveInt,
        width: PositiveInt,
        num_classes: PositiveInt,
        mask_values: list[NonNegativeInt] | None,
        void_value: NonNegativeInt | None,
        class_names: list[str] | None,
        val_share: Probability,
        test_share: Probability,
        split_seed: NonNegativeInt,
        mean: list[float],
        std: list[float],
        batch_size: PositiveInt,
        augment: Literal["none", "flip", "deal"],
        seed: NonNegativeInt,
    ) -> None:
        if folder is None:
            raise UserError(
                "data=image_mask_folder needs data.folder=<folder> with images in images/ and masks of equal"
                " names in masks/. Try data=street_scenes, which needs no files."
            )
        if test_share == 0 or val_share + test_share >= 1:
            raise UserError(
                f"data.val_share={val_share} and data.test_share={test_share} must leave images to train on, "
                "and some to test with. Try data.val_share=0.2 data.test_share=0.2."
            )
        values = list(range(num_classes)) if mask_values is None else mask_values
        if len(values) != num_classes or len(set(values)) != num_classes or max(values) > 65535:
            raise UserError(
                f"data.mask_values={values} must be data.num_classes={num_classes} different pixel values of"
                " 0 to 65535, in the order of the classes, or null for 0, 1, and so on."
            )
        if void_value is not None and (void_value in values or void_value > 65535):
            raise UserError(
                f"data.void_value={void_value} must be none of the classes {_listing(values)}, at most"
                " 65535. Set data.void_value=null where every pixel has a class."
            )
        if class_names is not None and len(class_names) != num_classes:
            raise UserError(
                f"data.class_names has {counted(len(class_names), 'name')} for"
                f" data.num_classes={num_classes}. Give one name per class, or null."
            )
        super().__init__(
            choice="image_mask_folder",
            in_channels=in_channels,
            height=height,
            width=width,
            num_classes=num_classes,
            class_names=class_names or (),
            palette=distinct_colours(num_classes),
            mean=mean,
            std=std,
            batch_size=batch_size,
            augment=augment,
            seed=seed,
        )
        self.folder = Path(folder).expanduser()
        self.cache = cache
        self.mask_values = values
        self.void_value = void_value
        self.val_share = val_share
        self.test_share = test_share
        self.split_seed = split_seed

    def prepare_data(self) -> None:
        """Looks whether there are images and enough masks.

        Raises:
            UserError: a folder is missing, holds nothing, two files of one stem or a mask without image; or
                the masks are too few for all splits.
        """
        images, masks = self._files()
        self._parts([stem for stem in images if stem in masks])

    def build(self) -> dict[Split, Scenes]:
        images, masks = self._files()
        parts, borrowed = self._parts([stem for stem in images if stem in masks])
        for stem, split in borrowed.items():
            log.warning(
                "data=%s: %s serves in %s, which had no image yet; more masks may send it back",
                self.choice,
                images[stem],
                split,
            )
        whole = self._decoded(images, masks)
        number_of = {stem: number for number, stem in enumerate(images)}
        held_out = {*parts.get("val", []), *parts["test"]}
        parts["train"] = [stem for stem in images if stem not in held_out]
        splits = {
            split: whole.take(torch.tensor([number_of[stem] for stem in parts[split]]))
            for split in SPLITS
            if split in parts
        }
        self._must_show_classes(splits["train"])
        return splits

    def _must_show_classes(self, train: Scenes) -> None:
        """Refuses masks of which nothing can be learnt: what is void everywhere scores 100 % without a word.

        Raises:
            UserError: they have no pixel of any class; or one of at most two classes nowhere, but void.
        """
        counts = torch.zeros(256, dtype=torch.long)
        for ids in train.has_mask.nonzero()[:, 0].split(64):
            counts += train.masks[ids].flatten().long().bincount(minlength=256)
        missing = [number for number in range(self.num_classes) if not counts[number]]
        if not missing or not counts[VOID]:
            return
        # a few masks of many classes may well lack one of them
        if len(missing) == self.num_classes or self.num_classes <= 2:
            lacking = "any class" if len(missing) == self.num_classes else f"class {missing[0]}"
            raise UserError(
                f"data.folder={self.folder}: the training masks have no pixel of {lacking}, only of"
                f" data.void_value={self.void_value}, which nothing is trained or tested on. For masks of"
                " 0 and 255 set data.mask_values=[0,255] data.void_value=null; else correct masks or keys."
            )

    def _decoded(self, images: dict[str, str], masks: dict[str, str]) -> Scenes:
        """All images of the folder, and masks for those that have one."""
        lookup: Lookup = {value: number for number, value in enumerate(self.mask_values)}
        void = ""
        if self.void_value is not None:
            lookup[self.void_value] = VOID
            void = f", and data.void_value={self.void_value} for pixels of no class"
        allowed = (
            f"data.num_classes={self.num_classes} allows {_listing(self.mask_values)}{void}. Correct the mask"
            " or the keys, or name the classes' values, as in data.mask_values=[0,255] data.void_value=null."
        )
        masked = [number for number, stem in enumerate(images) if stem in masks]
        names = list(images.values())
        annotated = MaskFiles(
            self._listed([masks[stem] for stem in images if stem in masks]),
            np.array(masked, dtype=np.int64),
            lookup,
            allowed,
        )
        return decoded_folder(
            self.choice,
            str(self.folder.resolve()),
            self._listed(names),
            annotated,
            names,
            self.cache,
            self.height,
            self.width,
        )

    def _listed(self, names: list[str]) -> Files:
        facts = []
        for name in names:
            try:
                fact = (self.folder / name).stat()
            except OSError as error:  # such as a link to nowhere
                raise UserError(
                    f"data.folder={self.folder}: {name} cannot be read ({error.strerror}). Replace or delete"
                    " it."
                ) from error
            facts.append([name, fact.st_size, fact.st_mtime_ns])
        return Files(
            facts,
            lambda: read_files(self.folder, names),
            [f"data={self.choice}: {self.folder / name}" for name in names],
        )

    def _files(self) -> tuple[dict[str, str], dict[str, str]]:
        """Names of images and masks below the folder by their stem, sorted."""
        validated = " and one to validate with" * bool(self.val_share)
        return paired_files(self.folder, f"at least one to train on and one to test with{validated}")

    def _parts(self, masked: list[str]) -> tuple[dict[Split, list[str]], dict[str, Split]]:
        """Stems of each split, and where those are that one borrowed; see :func:`steady_split`.

        Raises:
            UserError: there are fewer than splits.
        """
        shares: dict[Split, float] = {"test": self.test_share, "val": self.val_share}
        shares["train"] = 1 - sum(shares.values())
        shares = {split: share for split, share in shares.items() if share}
        if len(masked) < len(shares):
            raise UserError(
                f"data.folder={self.folder}: {counted(len(masked), 'mask')} cannot be split into training,"
                f" validation and test: {len(shares)} are the least. Annotate more images"
                f"{', or set data.val_share=0' * bool(self.val_share)}."
            )
        return steady_split(masked, shares, self.split_seed)


def _listing(values: list[int]) -> str:
    """Values of classes in words."""
    if values == list(range(len(values))):
        return f"0 to {len(values) - 1}"
    return ", ".join(str(value) for value in values)
