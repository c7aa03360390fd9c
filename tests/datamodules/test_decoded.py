"""Image files of other depths than eight bits."""

from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from datamodules.decoded import decode
from harness.errors import UserError


def stored(pixels: NDArray[np.generic], suffix: str) -> bytes:
    sink = BytesIO()
    Image.fromarray(pixels).save(sink, suffix)
    return sink.getvalue()


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_sixteen_bits_are_scaled_to_eight(suffix: str, in_channels: int) -> None:
    deep = np.array([[0, 128, 129, 257], [1000, 25700, 32768, 65535]] * 2, np.uint16)
    image = decode(stored(deep, suffix), 4, in_channels, "deep")
    assert image.shape == (in_channels, 4, 4)
    for channel in image:
        assert channel[:2].tolist() == [[0, 0, 1, 1], [4, 100, 128, 255]]


def test_sixteen_bits_of_the_other_byte_order_are_read() -> None:
    deep = np.full((4, 4), 25700, ">u2")
    assert decode(stored(deep, "tiff"), 4, 1, "deep").tolist() == np.full((1, 4, 4), 100).tolist()


@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_wider_numbers_are_taken_where_eight_bits_hold_them(dtype: type[np.generic]) -> None:
    pixels = np.arange(16).reshape(4, 4) * 17
    assert decode(stored(pixels.astype(dtype), "tiff"), 4, 1, "wide")[0].tolist() == pixels.tolist()


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((4, 4), 256, np.int32),
        np.full((4, 4), -1, np.int32),
        np.full((4, 4), 0.5, np.float32),  # of [0, 1], it seems, and would be black
        np.full((4, 4), np.nan, np.float32),
        np.full((4, 4), 1e4, np.float32),
    ],
)
def test_numbers_of_an_unknown_range_are_refused(pixels: NDArray[np.generic]) -> None:
    with pytest.raises(UserError, match=r"deep\.tiff holds .* Save it with 8 or 16 bits") as refused:
        decode(stored(pixels, "tiff"), 4, 3, "deep.tiff")
    assert "\n" not in str(refused.value)


def test_what_is_no_image_is_said_without_an_address_in_memory() -> None:
    with pytest.raises(UserError) as refused:
        decode(b"no image", 4, 3, "notes.png")
    assert str(refused.value) == "notes.png cannot be read as an image. Replace or delete it."
