"""Pictures of scenes and of classes."""

import numpy as np
import pytest

from lightning_modules.segmentation.pictures import RIGHT, UNKNOWN, WRONG, Scene, draw_class_iou, draw_scenes
from lightning_modules.segmentation.scenes import palette_of
from tests.figure_text import text_of
from tests.lightning_modules.segmentation.tiny_scenes import NAMES, TinyScenes

COLOURS = palette_of(TinyScenes(), 4).numpy()


def scene(number: int, annotated: bool = True) -> Scene:
    predicted = np.zeros((6, 8), dtype=np.int64)
    truth = predicted.copy()
    truth[0, :6] = 1
    truth[5] = 255
    return Scene(number, np.full((3, 6, 8), 0.5), truth if annotated else None, predicted)


def test_void_is_no_part_of_the_accuracy() -> None:
    assert scene(1).accuracy == pytest.approx(34 / 40)
    assert scene(1, annotated=False).accuracy is None


def test_a_scene_shows_its_number_and_where_it_is_wrong() -> None:
    figure = draw_scenes([scene(41), scene(7)], NAMES, COLOURS)
    text = text_of(figure)
    for piece in ("no. 41", "no. 7", "Annotated", "Predicted", "15.0 % of pixels", "traffic light", "void"):
        assert piece in text
    errors = figure.axes[3].images[0].get_array()
    assert errors[0, 0].tolist() == pytest.approx(WRONG)
    assert errors[0, 7].tolist() == pytest.approx(RIGHT)
    assert errors[5, 0].tolist() == pytest.approx(UNKNOWN)
    assert figure.axes[2].images[0].get_array()[0, 0].tolist() == pytest.approx(COLOURS[0])


def test_a_scene_that_nobody_annotated_is_drawn_without_truth() -> None:
    assert text_of(draw_scenes([scene(1, annotated=False)], NAMES, COLOURS)).count("not annotated") == 2


def test_classes_stand_best_first_and_those_that_are_nowhere_are_left_out() -> None:
    iou, shares = np.array([0.5, 0.9, 0.2, np.nan]), np.array([0.6, 0.35, 0.05, 0.0])
    figure = draw_class_iou(iou, shares, NAMES, COLOURS)
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([90, 50, 20])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["grass", "sky", "traffic light"]
    assert "Mean IoU 53.3 %; hardest is traffic light" in text_of(figure).replace("\n", " ")
    assert "20.0 % (5 % of pixels)" in text_of(figure)


def test_no_class_at_all_is_drawn_too() -> None:
    assert "No class" in text_of(draw_class_iou(np.full(4, np.nan), np.zeros(4), NAMES, COLOURS))
