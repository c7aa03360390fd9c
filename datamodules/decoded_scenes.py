"""Images and masks from files, decoded once to one height and width and kept under ``paths.cache``.

:func:`decoded_scenes` is for a published split, each of whose images has a mask; :func:`decoded_folder` for a
folder that grows, a few of whose images have one.
"""

import hashlib
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from datamodules.decoded import Files, cached_pixels, fill, opened, readable
from datamodules.decoded_rows import Decode, cached_rows
from datamodules.scenes import Masks, Scenes
from harness.errors import UserError

Lookup = dict[int, int]
"""The class, or 255, of each pixel value that a mask may hold."""

_REFUSED = 254  # never a class
_ON_THEIR_SIDE = (5, 6, 7, 8)  # orientations of EXIF that exchange rows and columns


@dataclass(frozen=True)
class MaskFiles:
    """Masks of numbered images.

    Attributes:
        files: of the M masks.
        image_of: ``[M]``, the number of each mask's image, rising.
        lookup: the class or 255 of each pixel value.
        allowed: what values there may be and what to do, in words that end a message.
    """

    files: Files
    image_of: NDArray[np.int64]
    lookup: Lookup
    allowed: str


def decode_scene(content: bytes, height: int, width: int, label: str) -> NDArray[np.uint8]:
    """One image of another size, by antialiased bilinear interpolation; its shape may change.

    Args:
        content: the file.
        height: rows H.
        width: columns W.
        label: which file, for the message.

    Returns:
        ``[3, H, W]``.

    Raises:
        UserError: the file is no image or broken.
    """
    with readable(label):
        image = opened(content, 3, label)
        if image.size != (width, height):
            image = image.resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.uint8).transpose(2, 0, 1)


def decode_mask(
    content: bytes, of: bytes, height: int, width: int, lookup: Lookup, allowed: str, label: str
) -> NDArray[np.uint8]:
    """One mask of another size, each pixel taken from the nearest.

    Image and mask are each turned the right way up by the orientation in their own EXIF, where there is one,
    before they are compared.

    Args:
        content: the file: one channel, or numbers of a palette, the pixel value saying the class.
        of: the file of its image, for the size.
        height: rows H.
        width: columns W.
        lookup: the class or 255 of each pixel value.
        allowed: what values there may be and what to do, for the message.
        label: which file, for messages.

    Returns:
        ``[1, H, W]``, classes and 255.

    Raises:
        UserError: the file is no image, has colours, another size than its image, or a value without class.
    """
    with readable(label):
        with Image.open(io.BytesIO(of)) as image:
            size = image.size
            if image.getexif().get(ExifTags.Base.Orientation) in _ON_THEIR_SIDE:
                size = size[::-1]
        with Image.open(io.BytesIO(content)) as stored:
            mask = ImageOps.exif_transpose(stored)
            if mask.mode not in ("1", "L", "P", "I") and not mask.mode.startswith("I;16"):
                raise UserError(
                    f"{label} is in colour (mode {mask.mode}), and a mask holds the number of the class in"
                    " each pixel. Save it with one channel of 8 bits, or with a palette whose numbers are the"
                    " classes."
                )
            if mask.size != size:
                raise UserError(
                    f"{label} has {mask.size[0]} x {mask.size[1]} pixels and its image {size[0]} x {size[1]}."
                    " Both must be of one size: annotate the image as it is shown, the right way up."
                )
            values = np.asarray(mask).astype(np.int64)
    table = np.full(max(256, 1 + max(lookup, default=0)), _REFUSED, np.uint8)
    table[list(lookup)] = list(lookup.values())
    known = (values >= 0) & (values < len(table))
    classes = np.where(known, table[np.where(known, values, 0)], _REFUSED).astype(np.uint8)
    refused = values[classes == _REFUSED]
    if len(refused):
        raise UserError(f"{label} holds the value {int(refused.max())}; {allowed}")
    resized = Image.fromarray(classes).resize((width, height), Image.Resampling.NEAREST)
    return np.asarray(resized, dtype=np.uint8)[None]


def decoded_scenes(
    name: str,
    images: Files,
    masks: MaskFiles,
    names: Sequence[str],
    cache: str,
    height: int,
    width: int,
) -> Scenes:
    """All images and masks of a split, from the cache or decoded into it.

    Args:
        name: the ``data=`` choice.
        images: the N files.
        masks: one for each image.
        names: what tells a person which image is meant.
        cache: ``paths.cache``.
        height: rows H.
        width: columns W.

    Raises:
        UserError: a file cannot be read as an image or is no mask of its image, or a set too large for memory
            cannot be cached.
    """
    count = len(images.labels)
    assert masks.image_of.tolist() == list(range(count))
    stem = f"{name}_{height}x{width}"
    pixels = cached_pixels(
        name,
        stem,
        [name, "scenes", images.made_of, height, width],
        (count, 3, height, width),
        cache,
        lambda array: fill(array, _image_decoder(images, height, width), list(range(count))),
    )
    classes = cached_pixels(
        name,
        f"{stem}_masks",
        [
            name,
            "masks, the right way up",
            images.made_of,
            masks.files.made_of,
            hashlib.sha256(masks.image_of.tobytes()).hexdigest(),
            sorted(masks.lookup.items()),
            height,
            width,
        ],
        (count, 1, height, width),
        cache,
        lambda array: fill(array, _mask_decoder(images, masks, height, width), list(range(count))),
    )
    return Scenes(pixels, Masks(classes[:, 0]), torch.ones(count, dtype=torch.bool), tuple(names))


def decoded_folder(
    name: str,
    folder: str,
    images: Files,
    masks: MaskFiles,
    names: Sequence[str],
    cache: str,
    height: int,
    width: int,
) -> Scenes:
    """All images of a folder and the masks that there are, from the cache or decoded into it.

    The array of the images does not depend on which of them have masks, and that of the masks has a row for
    each mask alone. Where files are added or change, only they are decoded; see
    :mod:`datamodules.decoded_rows`.

    Args:
        name: the ``data=`` choice.
        folder: which folder it is, whatever it holds.
        images: the N files; ``made_of`` has one element for each.
        masks: of some of the images; ``made_of`` has one element for each.
        names: what tells a person which image is meant.
        cache: ``paths.cache``.
        height: rows H.
        width: columns W.

    Raises:
        UserError: a file cannot be read as an image or is no mask of its image, or a set too large for memory
            cannot be cached.
    """
    size, count = f"{height}x{width}", len(images.labels)
    stem = f"{name}_{size}_{_short([folder])}"
    pixels = cached_rows(
        name,
        stem,
        [name, "scenes", folder, height, width],
        images.made_of,
        (3, height, width),
        cache,
        lambda: _image_decoder(images, height, width),
    )
    lookup = sorted(masks.lookup.items())
    image_of = masks.image_of.tolist()
    classes = cached_rows(
        name,
        # masks read in another way are another kind
        f"{stem}_masks_{_short(lookup)}",
        [name, "masks", folder, lookup, height, width],
        # a mask is refused where its image has another size
        [
            [made_of, images.made_of[number]]
            for made_of, number in zip(masks.files.made_of, image_of, strict=True)
        ],
        (1, height, width),
        cache,
        lambda: _mask_decoder(images, masks, height, width),
    )
    of_image = torch.full((count,), -1)
    of_image[image_of] = torch.arange(len(image_of))
    return Scenes(pixels, Masks(classes[:, 0], of_image), of_image >= 0, tuple(names))


def _short(facts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:12]


def _image_decoder(images: Files, height: int, width: int) -> Decode:
    """What decodes image number i, ``[3, H, W]``."""
    read = images.open()

    def decoded(number: int) -> NDArray[np.uint8]:
        label = images.labels[number]
        with readable(label):
            content = read(number)
        return decode_scene(content, height, width, label)

    return decoded


def _mask_decoder(images: Files, masks: MaskFiles, height: int, width: int) -> Decode:
    """What decodes mask number i, ``[1, H, W]``."""
    read_image, read_mask = images.open(), masks.files.open()

    def decoded(number: int) -> NDArray[np.uint8]:
        label = masks.files.labels[number]
        with readable(label):
            contents = read_mask(number), read_image(int(masks.image_of[number]))
        return decode_mask(*contents, height, width, masks.lookup, masks.allowed, label)

    return decoded
