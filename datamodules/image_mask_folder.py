"""A user's own images, some of them annotated: ``images/`` and ``masks/`` with files of equal stems.

The value of a pixel in a mask is its class, or says which one it is. Images without a mask are the part of
the pool that nobody has annotated; training begins with all masks that are not held out. Which images are
held out follows from their names: a mask that is added moves few others, if any, from one split to another.
"""

import hashlib
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.decoded import SUFFIXES, Files
from datamodules.decoded_scenes import Lookup, MaskFiles, decoded_scenes
from datamodules.image_folder import read_files
from datamodules.images import Split
from datamodules.paired_augmentation import VOID
from datamodules.scenes import Scenes
from datamodules.segmentation import Colour, SegmentationDataModule
from harness.annotations import NonNegativeInt, PositiveInt, Probability
from harness.errors import UserError
from harness.words import counted

_IMAGES, _MASKS = "images", "masks"


class ImageMaskFolderDataModule(SegmentationDataModule):
    """Images with masks for some of them, split at random.

    Args:
        folder: where ``images/`` and ``masks/`` lie; None is refused with a hint.
        cache: folder of derived files, such as the decoded images.
        in_channels: colours, 3; grey images become coloured ones.
        height: rows, after resizing.
        width: columns, after resizing.
        num_classes: classes; masks hold 0 to ``num_classes - 1``, or ``mask_values``, and ``void_value``.
        mask_values: pixel values of the classes in their order, each 0 to 65535; None for 0, 1, and so on.
        void_value: pixel value of a mask that says "no class", 0 to 65535; None where there is no such value.
        class_names: names of the classes in order; None calls them by number.
        val_share: of the annotated images, for validation; 0 for none.
        test_share: of the annotated images, for testing, above 0.
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
            palette=palette_of(num_classes),
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
        self._held_out(sorted(stem for stem in images if stem in masks))

    def build(self) -> dict[Split, Scenes]:
        images, masks = self._files()
        val, test = self._held_out(sorted(stem for stem in images if stem in masks))
        pool = [stem for stem in images if stem not in {*val, *test}]
        parts: dict[Split, list[str]] = {"train": pool, "val": val, "test": test}
        splits = {split: self._scenes(stems, images, masks) for split, stems in parts.items() if stems}
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

    def _scenes(self, stems: list[str], images: dict[str, str], masks: dict[str, str]) -> Scenes:
        masked = [stem for stem in stems if stem in masks]
        places = {stem: place for place, stem in enumerate(masked)}
        lookup: Lookup = {value: number for number, value in enumerate(self.mask_values)}
        void = ""
        if self.void_value is not None:
            lookup[self.void_value] = VOID
            void = f", and data.void_value={self.void_value} for pixels of no class"
        allowed = (
            f"data.num_classes={self.num_classes} allows {_listing(self.mask_values)}{void}. Correct the mask"
            " or the keys, or name the classes' values, as in data.mask_values=[0,255] data.void_value=null."
        )
        annotated = MaskFiles(
            self._listed([masks[stem] for stem in masked]),
            np.array([places.get(stem, -1) for stem in stems], dtype=np.int64),
            lookup,
            allowed,
        )
        names = [images[stem] for stem in stems]
        return decoded_scenes(
            self.choice, self._listed(names), annotated, names, self.cache, self.height, self.width
        )

    def _listed(self, names: list[str]) -> Files:
        facts = [(self.folder / name).stat() for name in names]
        return Files(
            [
                str(self.folder.resolve()),
                *([name, fact.st_size, fact.st_mtime_ns] for name, fact in zip(names, facts, strict=True)),
            ],
            lambda: read_files(self.folder, names),
            [f"data={self.choice}: {self.folder / name}" for name in names],
        )

    def _files(self) -> tuple[dict[str, str], dict[str, str]]:
        """Names of images and masks below the folder by their stem, sorted."""
        images, masks = (self._stems(kind) for kind in (_IMAGES, _MASKS))
        if not images:
            raise UserError(
                f"data.folder={self.folder}: {_IMAGES} holds no image. Files must end in"
                f" {', '.join(SUFFIXES)}."
            )
        if not masks:
            raise UserError(
                f"data.folder={self.folder}: {_MASKS} holds no mask, and at least one to train on"
                f" and one to test with {'and one to validate with ' * bool(self.val_share)}are needed."
                " Annotate a few images: one channel, the pixel value being the class."
            )
        alone = min(set(masks) - set(images), default=None)
        if alone is not None:
            raise UserError(
                f"data.folder={self.folder}: {masks[alone]} has no image {_IMAGES}/{alone}.*. Rename or"
                " delete the mask."
            )
        return images, masks

    def _stems(self, kind: str) -> dict[str, str]:
        place = self.folder / kind
        if not place.is_dir():
            raise UserError(
                f"data.folder={self.folder} has no folder {kind}. Put images into {_IMAGES}/ and masks of"
                f" equal names into {_MASKS}/."
            )
        names = sorted(
            name
            for name in (entry.name for entry in place.iterdir())
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        )
        stems: dict[str, str] = {}
        for name in names:
            stem = Path(name).stem
            if stem in stems:
                raise UserError(
                    f"data.folder={self.folder}: {stems[stem]} and {kind}/{name} have one stem, so that"
                    " nothing says which is meant. Rename or delete one."
                )
            stems[stem] = f"{kind}/{name}"
        return stems

    def _held_out(self, masked: list[str]) -> tuple[list[str], list[str]]:
        """Stems for validation and for testing, sorted."""
        num_test = max(1, round(self.test_share * len(masked)))
        num_val = max(1, round(self.val_share * len(masked))) if self.val_share else 0
        if len(masked) - num_test - num_val < 1:
            raise UserError(
                f"data.folder={self.folder}: {counted(len(masked), 'mask')} cannot be split into training,"
                f" validation and test: {2 + bool(self.val_share)} are the least. Annotate more images"
                f"{', or set data.val_share=0' * bool(self.val_share)}."
            )
        order = sorted(masked, key=lambda stem: hashlib.sha256(f"{self.split_seed}/{stem}".encode()).digest())
        return sorted(order[num_test : num_test + num_val]), sorted(order[:num_test])


def _listing(values: list[int]) -> str:
    """Values of classes in words."""
    if values == list(range(len(values))):
        return f"0 to {len(values) - 1}"
    return ", ".join(str(value) for value in values)


def palette_of(num_classes: int) -> list[Colour]:
    """Colours that differ, for classes of which nothing is known: the bits of a number, spread over three."""
    colours: NDArray[np.int64] = np.zeros((num_classes, 3), np.int64)
    numbers = np.arange(1, num_classes + 1)
    for bit in range(8):
        for colour in range(3):
            colours[:, colour] |= (numbers >> (3 * bit + colour) & 1) << (7 - bit)
    return [(int(red), int(green), int(blue)) for red, green, blue in colours]
