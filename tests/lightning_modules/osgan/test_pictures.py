"""Grids of images: every pixel a whole number of dots, whatever the size and the number of images."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from harness.figures import DOTS_PER_INCH
from lightning_modules.osgan.pictures import (
    AT_MOST,
    COLUMNS,
    GAP_DOTS,
    ROWS_OF_PROGRESS,
    draw_progress,
    draw_samples,
)
from tests.figure_text import text_of


def images(number: int, size: int = 8, colours: int = 1) -> np.ndarray:
    return np.random.default_rng(0).random((number, colours, size, size)).round(2)


def dots(figure) -> np.ndarray:
    """The drawn picture, ``[height, width, 3]`` bytes."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DOTS_PER_INCH)
    file.seek(0)
    with Image.open(file) as picture:
        return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize(("size", "colours"), [(8, 1), (28, 1), (32, 3), (64, 3)])
@pytest.mark.parametrize("number", [1, 7, AT_MOST])
def test_every_pixel_of_every_image_is_drawn_crisp(size, colours, number):
    given = images(number, size, colours)
    figure = draw_samples(given, "Samples")
    drawn, place = dots(figure), figure.axes[0].get_position()
    high, wide = drawn.shape[:2]
    left, top = round(place.x0 * wide), round((1 - place.y1) * high)
    rows = -(-number // COLUMNS)
    scale = round(place.height * high - GAP_DOTS * (rows - 1)) // (rows * size)
    assert scale >= 2
    step = size * scale + GAP_DOTS
    for index, image in enumerate(given):
        y, x = top + index // COLUMNS * step, left + index % COLUMNS * step
        expected = np.broadcast_to(255 * image.transpose(1, 2, 0), (size, size, 3))
        expected = expected.repeat(scale, axis=0).repeat(scale, axis=1)
        found = drawn[y : y + size * scale, x : x + size * scale].astype(float)
        assert np.abs(found - expected).max() <= 1.01, index
        assert (drawn[y : y + size * scale, x + size * scale] == 255).all(), "white between"


def test_more_images_than_fit_are_left_out_and_tensors_are_taken():
    pages = [
        draw_samples(given, "Samples").axes[0].images[0].get_array()
        for given in (images(300)[:AT_MOST], images(300), torch.from_numpy(images(300)))
    ]
    assert np.array_equal(pages[0], pages[1])
    assert np.array_equal(pages[0], pages[2])


@pytest.mark.parametrize(("generated", "real"), [(1, 1), (5, 3), (64, 64)])
def test_real_images_stand_beside_under_their_own_heading(generated, real):
    figure = draw_samples(images(generated), "Samples", images(real))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["Generated", "Real"]
    left, right = (axes.get_position() for axes in figure.axes)
    assert left.x1 < right.x0 < right.x1 <= 1
    assert left.y1 == pytest.approx(right.y1)


def test_long_titles_stay_above_the_images():
    figure = draw_samples(images(3), "A headline of very many words " * 5)
    figure.draw_without_rendering()
    title = figure._suptitle.get_window_extent()
    assert title.y0 > figure.axes[0].get_window_extent().y1


def rows_of_progress(moments):
    figure = draw_progress([(epoch, images(12)) for epoch in moments])
    return [int(text.get_text().split()[1].replace(",", "")) for text in figure.axes[0].texts]


@pytest.mark.parametrize("moments", [[1, 2, 3], [1, 2, 4, 8, 16, 20], [1, 2, 4, 8, 16, 32, 64, 100]])
def test_progress_has_a_row_for_every_moment_where_there_is_room(moments):
    assert rows_of_progress(moments) == moments


@pytest.mark.parametrize("number", [9, 12, 30])
def test_progress_of_many_moments_keeps_the_first_and_the_last_and_leaves_out_evenly(number):
    found = rows_of_progress(range(1, number + 1))
    assert len(found) == ROWS_OF_PROGRESS
    assert (found[0], found[-1]) == (1, number)
    steps = np.diff(found)
    assert steps.max() - steps.min() <= 1


def test_progress_of_one_moment_and_one_image_can_be_drawn():
    text = text_of(draw_progress([(2000, images(1, 64, 3))], "step"))
    assert "step 2,000" in text


def test_what_is_no_number_is_drawn_grey_and_what_is_too_bright_white():
    given = np.array([[[[np.nan, 2.0], [-1.0, 1.0]]]])
    found = {int(value) for value in np.unique(draw_samples(given, "x").axes[0].images[0].get_array() * 255)}
    assert found == {0, 127, 255}
