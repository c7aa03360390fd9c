"""What a reader finds in the pictures of scenes and their difficulty maps."""

import numpy as np

from lightning_modules.deal.image_pictures import NAME_LENGTH, _draw_grid, short_names
from tests.figure_text import text_of


def test_images_of_equal_names_are_told_apart_by_their_folders() -> None:
    pool = ["images/day1/0001.png", "images/day2/0001.png", "images/day2/0002.png"]
    assert short_names(pool[:2], pool) == ["day1/0001.png", "day2/0001.png"]
    assert short_names(pool[1:2], pool[1:]) == ["0001.png"]
    assert short_names(["train scene 3"], ["train scene 1", "train scene 3"]) == ["train scene 3"]
    assert short_names(["a/b.png"], ["a/b.png"]) == ["b.png"]


def test_a_long_name_is_cut_in_its_middle() -> None:
    long = "recordings of the second summer/camera 3/0001.png"
    (name,) = short_names([long], [long, "x/0.png"])
    assert name == "record…era 3/0001.png"
    assert len(name) == NAME_LENGTH


def test_maps_share_colours_over_their_own_range_and_its_numbers_stand_beside_them() -> None:
    maps = np.stack([np.full((4, 6), 0.84), np.full((4, 6), 0.86)])
    figure = _draw_grid(np.zeros((2, 4, 6, 3)), maps, ["one", "two"], [0.5, 0.25], 3)
    text = text_of(figure)
    assert "1. one\nscore 0.5000" in text
    shown = [
        image.get_clim() for axes in figure.axes for image in axes.images if image.get_cmap().name == "magma"
    ]
    assert shown == [(0.84, 0.86)] * 2
    assert "Difficulty" in text
    bare = _draw_grid(np.zeros((2, 4, 6, 3)), None, ["one", "two"], [0.5, 0.25], 3)
    assert "Difficulty" not in text_of(bare)
