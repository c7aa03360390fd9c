"""Image files, decoded once: cut to a square, resized, kept as one array under ``paths.cache``.

The array is named after what it was made of, so that another size or a changed file makes another one. Its
SHA-256 is written beside it, and an array that is damaged is made again. What does not fit on a training
device as a whole (:data:`datamodules.images.DEVICE_BYTES`) is mapped from its file instead of being read.
"""

import contextlib
import hashlib
import io
import json
import logging
import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import PIL.features
import torch
from filelock import FileLock
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from datamodules.images import DEVICE_BYTES
from datamodules.kept_arrays import intact, write_array
from harness.errors import UserError

log = logging.getLogger("tenfold")

Read = Callable[[int], bytes]
"""The content of image file number i."""

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff")
"""Endings of image files, in lower case."""

_CHUNK = 1024  # images decoded before they are written
# The first is to be raised where the same file gives other pixels; another Pillow may round otherwise.
DECODERS = [2, PIL.__version__, PIL.features.version_codec("jpg")]


def decode(
    content: bytes, image_size: int, in_channels: int, label: str, resize_to: int | None = None
) -> NDArray[np.uint8]:
    """One image, resized (antialiased, bilinear) until its shorter side fits, then cut to the centred square.

    Args:
        content: the file.
        image_size: pixels of a side.
        in_channels: 1 for grey, 3 for colour.
        label: which file, for the message.
        resize_to: pixels of the shorter side before the square is cut, at least ``image_size``; None for
            ``image_size``, whatever the fractions of a pixel.

    Returns:
        ``[C, image_size, image_size]``.

    Raises:
        UserError: the file is no image, broken, or of numbers whose range is unknown.
    """
    with readable(label):
        image = opened(content, in_channels, label)
        if resize_to is not None:
            image = _resize_and_crop(image, resize_to, image_size)
        elif image.size != (image_size, image_size):
            image = ImageOps.fit(image, (image_size, image_size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image, dtype=np.uint8).reshape(image_size, image_size, in_channels)
    return pixels.transpose(2, 0, 1)


@contextlib.contextmanager
def readable(label: str) -> Iterator[None]:
    """Tells of whatever goes wrong within that the file cannot be read as an image.

    Args:
        label: which file, for the message.

    Raises:
        UserError: instead of any other error.
    """
    try:
        yield
    except UserError:
        raise
    except UnidentifiedImageError as error:  # whose text is the address of the bytes in memory
        raise UserError(f"{label} cannot be read as an image. Replace or delete it.") from error
    except Exception as error:  # a broken file can raise nearly anything
        raise UserError(
            f"{label} cannot be read as an image ({type(error).__name__}: {error}). Replace or delete it."
        ) from error


def opened(content: bytes, in_channels: int, label: str) -> Image.Image:
    """An image the right way up, grey or coloured, of eight bits; to be called within :func:`readable`.

    Args:
        content: the file.
        in_channels: 1 for grey, 3 for colour.
        label: which file, for messages.
    """
    with Image.open(io.BytesIO(content)) as image:
        upright = _of_eight_bits(ImageOps.exif_transpose(image), label)
    return upright.convert("L" if in_channels == 1 else "RGB")


def _resize_and_crop(image: Image.Image, resize_to: int, image_size: int) -> Image.Image:
    """What torchvision's ``Resize(resize_to)`` and ``CenterCrop(image_size)`` make, to the pixel."""
    shorter = min(image.size)
    width, height = (resize_to if side == shorter else int(resize_to * side / shorter) for side in image.size)
    left, top = round((width - image_size) / 2), round((height - image_size) / 2)
    return image.resize((width, height), Image.Resampling.BILINEAR).crop(
        (left, top, left + image_size, top + image_size)
    )


def _of_eight_bits(image: Image.Image, label: str) -> Image.Image:
    """``image`` with at most eight bits a colour: Pillow's own conversion turns all above 255 white."""
    if image.mode.startswith("I;16"):
        deep = np.asarray(image).astype(np.uint32)
        return Image.fromarray(((deep + 128) // 257).astype(np.uint8))  # 65535 = 255 * 257
    if image.mode not in ("I", "F"):
        return image
    numbers = np.asarray(image)
    kept = np.nan_to_num(numbers).clip(0, 255).astype(np.uint8)
    if not np.array_equal(kept, numbers):
        raise UserError(
            f"{label} holds numbers from {numbers.min():g} to {numbers.max():g}, and nothing says which of"
            " them is white. Save it with 8 or 16 bits a colour."
        )
    return Image.fromarray(kept)


@dataclass(frozen=True)
class Files:
    """Image files, numbered.

    Attributes:
        made_of: what tells these files from any others, such as their names and sizes; plain data.
        open: called once if anything has to be decoded; what it gives is called from several threads.
        labels: which file each is, for messages.
    """

    made_of: list[Any]
    open: Callable[[], Read]
    labels: list[str]


def decoder(
    files: Files, image_size: int, in_channels: int, resize_to: int | None = None
) -> Callable[[int], NDArray[np.uint8]]:
    """What reads and decodes file number i; the files are opened here.

    Args:
        files: the files.
        image_size: pixels of a side.
        in_channels: 1 for grey, 3 for colour.
        resize_to: see :func:`decode`.
    """
    read = files.open()

    def decoded(number: int) -> NDArray[np.uint8]:
        try:
            content = read(number)
        except OSError as error:
            raise UserError(f"{files.labels[number]} cannot be read ({error.strerror}).") from error
        return decode(content, image_size, in_channels, files.labels[number], resize_to)

    return decoded


def fill(images: NDArray[np.uint8], decoded: Callable[[int], NDArray[np.uint8]], numbers: list[int]) -> None:
    """Writes image ``numbers[i]``, decoded, into row i of ``images``, ``[N, C, H, W]``."""
    # threads: Pillow decodes without holding the interpreter
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(numbers), _CHUNK):
            for row, image in enumerate(pool.map(decoded, numbers[start : start + _CHUNK]), start):
                images[row] = image


def decoded_images(
    name: str,
    files: Files,
    order: NDArray[np.int64],
    cache: str,
    image_size: int,
    in_channels: int,
    resize_to: int | None = None,
) -> Tensor:
    """All images of a set, from the cache or decoded into it.

    Args:
        name: the ``data=`` choice.
        files: the N files.
        order: ``[N]``, the number of the file that each row comes from.
        cache: ``paths.cache``.
        image_size: pixels of a side.
        in_channels: 1 for grey, 3 for colour.
        resize_to: see :func:`decode`.

    Returns:
        ``[N, C, image_size, image_size]`` uint8; mapped from a file if large.

    Raises:
        UserError: a file cannot be read as an image, or a set too large for memory cannot be cached.
    """
    facts = [name, files.made_of, hashlib.sha256(order.tobytes()).hexdigest(), image_size, in_channels]
    facts += [] if resize_to is None else [resize_to]
    shape = (len(order), in_channels, image_size, image_size)

    def make(images: NDArray[np.uint8]) -> None:
        fill(images, decoder(files, image_size, in_channels, resize_to), order.tolist())

    return cached_pixels(name, f"{name}_{image_size}", facts, shape, cache, make)


def cached_pixels(
    name: str,
    stem: str,
    facts: list[Any],
    shape: tuple[int, ...],
    cache: str,
    make: Callable[[NDArray[np.uint8]], None],
) -> Tensor:
    """An array of pixels, from the cache or made into it.

    Args:
        name: the ``data=`` choice, for messages.
        stem: what the file's name begins with.
        facts: all that the array follows from; plain data.
        shape: of the array.
        cache: ``paths.cache``.
        make: writes all elements.

    Returns:
        ``shape`` uint8; mapped from a file if large.

    Raises:
        UserError: an array too large for memory cannot be cached.
    """
    key = hashlib.sha256(json.dumps([*facts, *DECODERS]).encode()).hexdigest()[:16]
    path = Path(cache).expanduser() / "decoded" / f"{stem}_{key}.npy"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if not intact(path, np.dtype(np.uint8), shape):
                write_array(path, np.dtype(np.uint8), shape, make)
    except OSError as error:
        return made_in_memory(name, path, shape, make, error)
    return loaded(path)


def loaded(path: Path) -> Tensor:
    """An array from its file, mapped if large."""
    # "c": pages that are written to are copied, which torch wants to be possible although nobody writes
    return torch.from_numpy(np.load(path, mmap_mode="c" if path.stat().st_size > DEVICE_BYTES else None))


def made_in_memory(
    name: str, path: Path, shape: tuple[int, ...], make: Callable[[NDArray[np.uint8]], None], error: OSError
) -> Tensor:
    """An array of pixels that cannot be cached, with a warning.

    Args:
        name: the ``data=`` choice, for messages.
        path: where it should have been.
        shape: of the array.
        make: writes all elements.
        error: why it cannot be cached.

    Raises:
        UserError: it is too large for memory.
    """
    if math.prod(shape) > DEVICE_BYTES:
        raise UserError(
            f"data={name}: {path} cannot be written ({error.strerror or error}). Set paths.cache=<folder>"
            f" to one with {math.prod(shape) >> 20} MiB to spare."
        ) from error
    log.warning("data=%s: not cached in %s (%s), decoded in memory", name, path.parent, error)
    images = np.empty(shape, np.uint8)
    make(images)
    return torch.from_numpy(images)
