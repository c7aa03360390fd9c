"""The files of a user's folder: images in ``images/`` and masks of equal stems in ``masks/``.

Subfolders count as part of a name: ``images/day1/0001.jpg`` belongs to ``masks/day1/0001.png``. Files and
folders that begin with a dot, and files of other kinds, are passed over.
"""

import os
from pathlib import Path, PurePosixPath

from datamodules.decoded import SUFFIXES
from harness.errors import UserError

IMAGES, MASKS = "images", "masks"


def paired_files(folder: Path, at_least: str) -> tuple[dict[str, str], dict[str, str]]:
    """Images and masks, ``{stem: name}`` each; stems and names are below the folder and sorted by name.

    Args:
        folder: where ``images`` and ``masks`` lie.
        at_least: how many masks are needed, in words, for a message.

    Returns:
        Names as ``images/day1/0001.jpg`` by stems as ``day1/0001``; those of the masks are among those of the
        images.

    Raises:
        UserError: a folder is missing, cannot be read or holds nothing, two files have one stem, or a mask
            has no image.
    """
    images, masks = (_by_stem(folder, kind) for kind in (IMAGES, MASKS))
    if not images:
        raise UserError(
            f"data.folder={folder}: {IMAGES} holds no image. Files must end in {', '.join(SUFFIXES)}."
        )
    if not masks:
        raise UserError(
            f"data.folder={folder}: {MASKS} holds no mask, and {at_least} are needed. Annotate a few images:"
            " one channel, the pixel value being the class."
        )
    alone = min(set(masks) - set(images), default=None)
    if alone is not None:
        last = PurePosixPath(alone).name
        like = [stem for stem in images if PurePosixPath(stem).name == last]
        ending = PurePosixPath(masks[alone]).suffix
        hint = f": is it {MASKS}/{like[0]}{ending}?" if len(like) == 1 else "."
        raise UserError(
            f"data.folder={folder}: {masks[alone]} has no image {IMAGES}/{alone}.*. Rename, move or delete"
            f" the mask{hint}"
        )
    return images, masks


def _by_stem(folder: Path, kind: str) -> dict[str, str]:
    place = folder / kind
    if not place.is_dir():
        raise UserError(
            f"data.folder={folder} has no folder {kind}. Put images into {IMAGES}/ and masks of equal names"
            f" into {MASKS}/."
        )
    stems: dict[str, str] = {}
    for name in sorted(_below(place)):
        stem = PurePosixPath(name).with_suffix("").as_posix()
        if stem in stems:
            raise UserError(
                f"data.folder={folder}: {stems[stem]} and {kind}/{name} have one stem, so that nothing says"
                " which is meant. Rename or delete one."
            )
        stems[stem] = f"{kind}/{name}"
    return stems


def _below(place: Path) -> list[str]:
    """Names of image files below a folder, in subfolders and behind links to folders too."""

    def refuse(error: OSError) -> None:
        raise UserError(
            f"data.folder: {error.filename} cannot be read ({error.strerror}). Allow it, or move it away."
        ) from error

    names = []
    for base, folders, files in os.walk(place, onerror=refuse, followlinks=True):
        here = Path(base)
        # a link to a folder above would be walked for ever
        folders[:] = [name for name in folders if not name.startswith(".") and not _is_loop(here, name)]
        names += [
            (here / name).relative_to(place).as_posix()
            for name in files
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        ]
    return names


def _is_loop(here: Path, name: str) -> bool:
    folder = here / name
    return folder.is_symlink() and here.resolve().is_relative_to(folder.resolve())
