"""Cityscapes: 3,475 finely annotated scenes of 2048 x 1024 pixels from streets of fifty cities.

Source: Cordts et al., "The Cityscapes dataset for semantic urban scene understanding", arXiv 1604.01685. For
non-commercial use, after registration at cityscapes-dataset.com, which is why no program can download it.

The files lie as the published archives unpack, which is also torchvision's layout. The published validation
set serves for testing, since labels of the test set are not given out; a validation set is taken from the
training scenes, the rest of which is the pool. As in DEAL's code scenes and masks are both resized.
"""

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from datamodules.decoded import Files
from datamodules.decoded_scenes import Lookup, MaskFiles, decoded_scenes
from datamodules.image_folder import read_files
from datamodules.images import Split
from datamodules.paired_augmentation import VOID
from datamodules.scenes import Scenes
from datamodules.segmentation import SegmentationDataModule
from harness.annotations import NonNegativeInt, PositiveInt
from harness.errors import UserError

# Label id, name and colour of the classes that count, as the authors' scripts list them.
LABELS = (
    (7, "road", (128, 64, 128)),
    (8, "sidewalk", (244, 35, 232)),
    (11, "building", (70, 70, 70)),
    (12, "wall", (102, 102, 156)),
    (13, "fence", (190, 153, 153)),
    (17, "pole", (153, 153, 153)),
    (19, "traffic light", (250, 170, 30)),
    (20, "traffic sign", (220, 220, 0)),
    (21, "vegetation", (107, 142, 35)),
    (22, "terrain", (152, 251, 152)),
    (23, "sky", (70, 130, 180)),
    (24, "person", (220, 20, 60)),
    (25, "rider", (255, 0, 0)),
    (26, "car", (0, 0, 142)),
    (27, "truck", (0, 0, 70)),
    (28, "bus", (0, 60, 100)),
    (31, "train", (0, 80, 100)),
    (32, "motorcycle", (0, 0, 230)),
    (33, "bicycle", (119, 11, 32)),
)
# Ids go to 33; a licence plate is -1, which eight bits hold as 255.
LOOKUP: Lookup = dict.fromkeys((*range(34), 255), VOID)
LOOKUP |= {number: train_id for train_id, (number, _, _) in enumerate(LABELS)}
SIZES = {"train": 2975, "val": 500}

_FOLDER = "cityscapes"
_ARCHIVES = "leftImg8bit_trainvaltest.zip and gtFine_trainvaltest.zip"
_IMAGE, _MASK = "_leftImg8bit.png", "_gtFine_labelIds.png"
_Part = Literal["train", "val"]


class CityscapesDataModule(SegmentationDataModule):
    """Street scenes in nineteen classes; the published validation set for testing.

    Args:
        root: folder of data sets; ``leftImg8bit`` and ``gtFine`` lie in ``cityscapes``.
        cache: looked at next; and where decoded scenes are kept.
        in_channels: colours, 3.
        height: rows after resizing, of scenes and masks; 688 in DEAL.
        width: columns after resizing; 688 in DEAL.
        num_classes: 19.
        num_val: validation scenes taken from the training set; 0 for none.
        split_seed: seed of the validation set, and of nothing else.
        mean: subtracted from each colour after scaling to [0, 1].
        std: what each colour is divided by then.
        batch_size: images of one optimiser step, over all processes.
        augment: a name in :data:`datamodules.paired_augmentation.PAIRED_AUGMENTATIONS`.
        seed: of the order, the augmentation, the first labelled images and the candidates.
    """

    def __init__(
        self,
        root: str,
        cache: str,
        in_channels: Literal[3],
        height: PositiveInt,
        width: PositiveInt,
        num_classes: PositiveInt,
        num_val: NonNegativeInt,
        split_seed: NonNegativeInt,
        mean: list[float],
        std: list[float],
        batch_size: PositiveInt,
        augment: Literal["none", "flip", "deal"],
        seed: NonNegativeInt,
    ) -> None:
        super().__init__(
            choice="cityscapes",
            in_channels=in_channels,
            height=height,
            width=width,
            num_classes=num_classes,
            class_names=[name for _, name, _ in LABELS],
            palette=[colour for _, _, colour in LABELS],
            mean=mean,
            std=std,
            batch_size=batch_size,
            augment=augment,
            seed=seed,
        )
        if num_val >= SIZES["train"]:
            raise UserError(
                f"data.num_val={num_val} leaves no scene for training: there are {SIZES['train']}. Try"
                " data.num_val=300."
            )
        self.root = root
        self.cache = cache
        self.num_val = num_val
        self.split_seed = split_seed

    def prepare_data(self) -> None:
        """Looks whether every scene and its mask are there.

        Raises:
            UserError: they are not.
        """
        folder = self._folder()
        for part in ("train", "val"):
            self._names(folder, part)

    def build(self) -> dict[Split, Scenes]:
        folder = self._folder()
        train = self._names(folder, "train")
        order = np.random.default_rng(self.split_seed).permutation(len(train))
        val, pool = np.sort(order[: self.num_val]), np.sort(order[self.num_val :])
        splits = {"train": self._scenes(folder, "train", _some(train, pool))}
        if self.num_val:
            splits["val"] = self._scenes(folder, "train", _some(train, val))
        return {**splits, "test": self._scenes(folder, "val", self._names(folder, "val"))}  # type: ignore[dict-item]

    def _scenes(self, folder: Path, part: _Part, names: list[str]) -> Scenes:
        images, masks = (
            Files(
                # sizes alone: thousands of files do not change one by one
                [[path, (folder / path).stat().st_size] for path in paths],
                lambda paths=paths: read_files(folder, paths),  # type: ignore[misc]
                [f"data=cityscapes: {folder / path}" for path in paths],
            )
            for paths in (
                [f"leftImg8bit/{part}/{name}{_IMAGE}" for name in names],
                [f"gtFine/{part}/{name}{_MASK}" for name in names],
            )
        )
        allowed = "label ids go from 0 to 33. Unpack the archive again."
        annotated = MaskFiles(masks, np.arange(len(names)), LOOKUP, allowed)
        return decoded_scenes(self.choice, images, annotated, names, self.cache, self.height, self.width)

    def _folder(self) -> Path:
        places = [Path(base).expanduser() / _FOLDER for base in (self.root, self.cache)]
        for place in places:
            if (place / "leftImg8bit").is_dir() and (place / "gtFine").is_dir():
                return place
        raise UserError(
            f"data=cityscapes: neither {places[0]} nor {places[1]} holds the folders leftImg8bit and gtFine,"
            f" and no program can download them: register at https://www.cityscapes-dataset.com, unpack"
            f" {_ARCHIVES} into {places[0]}; or use data=street_scenes, which needs no files."
        )

    def _names(self, folder: Path, part: _Part) -> list[str]:
        """City and name of each scene, ``ulm/ulm_000000_000019``, sorted."""
        images, masks = (
            {
                path.relative_to(folder / kind / part).as_posix().removesuffix(suffix)
                for path in (folder / kind / part).glob(f"*/*{suffix}")
            }
            for kind, suffix in (("leftImg8bit", _IMAGE), ("gtFine", _MASK))
        )
        alone = min(images ^ masks, default=None)
        if alone is not None:
            absent = (
                f"gtFine/{part}/{alone}{_MASK}" if alone in images else f"leftImg8bit/{part}/{alone}{_IMAGE}"
            )
            raise UserError(f"data=cityscapes: {folder / absent} is missing. Unpack {_ARCHIVES} again.")
        if len(images) != SIZES[part]:
            raise UserError(
                f"data=cityscapes: {folder / 'leftImg8bit' / part} holds {len(images)} scenes and should hold"
                f" {SIZES[part]}. Unpack {_ARCHIVES} again."
            )
        return sorted(images)


def _some(names: list[str], numbers: NDArray[np.int64]) -> list[str]:
    return [names[number] for number in numbers]
