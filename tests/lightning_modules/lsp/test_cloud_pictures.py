"""Divergences by class: what is drawn of which clouds, and what the headline says."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure

from lightning_modules.lsp.cloud_pictures import AT_MOST, draw_class_divergences
from tests.figure_text import text_of
from tests.lightning_modules.lsp.test_training_pictures import assert_inside

MEANS, LABELS, NUMBERS = np.array([1.0, 3.0, 8.0, 4.0, 4.0]), np.array([0, 0, 2, 2, 1]), np.arange(10, 15)
NAMES = ("cup", "night_stand", "door")


def classes(figure: Figure) -> list[str]:
    return [label.get_text() for label in figure.axes[0].get_yticklabels()]


def diamonds(figure: Figure) -> list[float]:
    (found,) = (line for line in figure.axes[0].lines if line.get_marker() == "D")
    return list(found.get_xdata())


def test_classes_stand_in_the_order_of_their_means():
    figure = draw_class_divergences(MEANS, LABELS, NUMBERS, NAMES)
    assert classes(figure) == ["door", "night stand", "cup"]
    assert diamonds(figure) == [6.0, 4.0, 2.0]
    dots = [sorted(one.get_offsets().tolist()) for one in figure.axes[0].collections]  # type: ignore[union-attr]
    assert dots == [[[4, 0], [8, 0]], [[4, 1]], [[1, 2], [3, 2]]]
    assert "mean of all" in text_of(figure)
    assert 4.0 in [line.get_xdata()[0] for line in figure.axes[0].lines if line.get_marker() != "D"]


def test_the_headline_names_the_class_and_the_line_below_the_clouds():
    figure = draw_class_divergences(MEANS, LABELS, NUMBERS, NAMES)
    assert figure.get_suptitle().replace("\n", " ") == (
        "Local structure differs most on the class door, whose S_i is 1.5 times the mean"
    )
    assert "Largest: door 12 (8), door 13 (4), night stand 14 (4)" in text_of(figure)


def test_what_is_not_finite_is_left_out():
    means = np.array([np.nan, 3.0, np.inf, 4.0, 4.0])
    assert diamonds(draw_class_divergences(means, LABELS, NUMBERS, NAMES)) == [4.0, 4.0, 3.0]
    empty = draw_class_divergences(np.full(5, np.nan), LABELS, NUMBERS, NAMES)
    assert "no clouds" in text_of(empty)


@pytest.mark.parametrize("value", [0.0, -1e-9])
def test_a_student_that_is_its_teacher_is_drawn_without_a_ratio(value: float):
    figure = draw_class_divergences(np.full(5, value), LABELS, NUMBERS, NAMES)
    assert "times" not in figure.get_suptitle()
    low, high = figure.axes[0].get_xlim()
    assert low <= value < high


def test_a_single_class_has_no_other_to_be_compared_with():
    figure = draw_class_divergences(MEANS, np.ones(5, dtype=int), NUMBERS, NAMES)
    assert "the one class, night stand, have a mean S_i of 4" in figure.get_suptitle().replace("\n", " ")


def test_many_classes_of_long_names_stay_on_the_page():
    labels = np.arange(3 * (AT_MOST + 5)) % (AT_MOST + 5)
    means = 1e-7 * (1 + np.linspace(0, 8, labels.size))
    names = [f"a_class_of_a_long_name_{number}" for number in range(AT_MOST + 5)]
    figure = draw_class_divergences(means, labels, labels + 2400, names)
    assert len(classes(figure)) == AT_MOST
    assert f"{AT_MOST} of {AT_MOST + 5} classes" in text_of(figure)
    boxes = [label.get_window_extent() for label in figure.axes[0].get_yticklabels()]
    assert all(one.y0 >= other.y1 - 1 for one, other in itertools.pairwise(boxes))
    assert_inside(draw_class_divergences(means, labels, labels + 2400, [name[9:] for name in names]))
