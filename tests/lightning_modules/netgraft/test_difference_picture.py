import numpy as np
import pytest

from lightning_modules.netgraft.difference_picture import draw_confusion_difference
from tests.figure_text import text_of

NAMES = ["t_shirt", "trouser", "an_ankle_boot_of_leather"]
TEACHER = np.array([[90, 10, 0], [0, 50, 0], [0, 0, 20]])
STUDENT = np.array([[80, 15, 5], [0, 50, 0], [1, 0, 19]])


def test_cells_are_differences_of_the_shares_of_a_class():
    figure = draw_confusion_difference(STUDENT, TEACHER, NAMES)
    text_of(figure)
    cells = {text.get_position()[::-1]: text.get_text() for text in figure.axes[0].texts}
    assert cells == {(0, 0): "−10.0", (0, 1): "+5.0", (0, 2): "+5.0", (2, 0): "+5.0", (2, 2): "−5.0"}


def test_less_on_the_diagonal_and_more_elsewhere_have_the_colour_of_worse():
    (image,) = draw_confusion_difference(STUDENT, TEACHER, NAMES).axes[0].images
    assert np.asarray(image.get_array()) == pytest.approx(np.array([[-10, -5, -5], [0, 0, 0], [-5, 0, -5]]))
    assert image.get_clim() == (-10, 10)
    red, _, blue, _ = image.to_rgba(np.array([[-10.0]]))[0, 0]
    assert red > blue
    (other,) = draw_confusion_difference(TEACHER, STUDENT, NAMES).axes[0].images
    assert np.asarray(other.get_array()) == pytest.approx(-np.asarray(image.get_array()))


def test_the_headline_names_the_class_that_lost_most():
    text = text_of(draw_confusion_difference(STUDENT, TEACHER, NAMES)).replace("\n", " ")
    # 149 of 170 against 160 of 170
    assert "The student is 6.5 points below its teacher" in text
    assert "no class loses more than t shirt, from 90.0 to 80.0 %" in text
    assert "an ankle boot o…" in text
    assert "← worse (points of the true class) better →" in text


def test_equal_matrices_and_empty_classes_can_be_drawn():
    empty = np.array([[3, 1, 0], [0, 0, 0], [0, 0, 2]])
    figure = draw_confusion_difference(empty, empty, NAMES)
    text = text_of(figure).replace("\n", " ")
    assert "The student is level with its teacher; no class loses" in text
    assert "more than" not in text
    assert not figure.axes[0].texts
    text_of(draw_confusion_difference(np.zeros((3, 3), int), np.zeros((3, 3), int), NAMES))


def test_of_many_classes_every_fifth_is_named_and_no_cell_has_a_number():
    rng = np.random.default_rng(0)
    student, teacher = (rng.multinomial(100, np.full(100, 0.01), size=100) for _ in range(2))
    figure = draw_confusion_difference(student, teacher, [f"c{index}" for index in range(100)])
    assert "c0\nc5\nc10" in text_of(figure)
    assert not figure.axes[0].texts


def test_of_twenty_classes_numbers_are_whole():
    student = 100 * np.eye(20, dtype=int)
    teacher = student.copy()
    student[0, :2], teacher[0, :2] = (900, 100), (1000, 0)
    student[1, :3] = (1, 998, 1)
    figure = draw_confusion_difference(student, teacher, NAMES)
    assert sorted(text.get_text() for text in figure.axes[0].texts) == ["+10", "−10"]
    assert "class 19" in text_of(figure)
