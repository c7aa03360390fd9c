import numpy as np

from lightning_modules.image_classification.pictures import AT_MOST, draw_confusion, draw_mistakes
from tests.figure_text import text_of

NAMES = ["t_shirt", "trouser", "an_ankle_boot_of_leather"]


def test_confusion_counts_what_is_right_and_names_the_commonest_mistake():
    text = text_of(draw_confusion(np.array([[5, 3, 0], [1, 7, 0], [0, 0, 4]]), NAMES)).replace("\n", " ")
    assert "16 of 20 test images" in text
    assert "t shirt is taken for trouser" in text
    assert "Mistakes (% of the true class)" in text
    assert "an ankle boot o…" in text


def test_confusion_of_a_perfect_classifier_has_no_scale_for_mistakes():
    text = text_of(draw_confusion(np.diag([5, 5, 5]), NAMES))
    assert "15 of 15" in text
    assert "taken for" not in text
    assert "Mistakes" not in text


def test_confusion_of_an_empty_class_and_of_many_classes_can_be_drawn():
    assert "0 of 2" in text_of(draw_confusion(np.array([[0, 2], [0, 0]]), NAMES))
    many = text_of(draw_confusion(np.eye(100, dtype=int), [f"c{index}" for index in range(100)]))
    assert "c0\nc5\nc10" in many, "every fifth name, or they would lie on each other"


def test_mistakes_are_shown_surest_first_with_both_probabilities():
    probabilities = np.array([[0.6, 0.4, 0.0], [0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.995, 0.005, 0.0]])
    images, index = np.random.default_rng(0).random((4, 1, 8, 8)), np.array([40, 41, 42, 43])
    text = text_of(draw_mistakes(images, np.array([1, 1, 1, 1]), probabilities, index, NAMES))
    assert "The 3 mistakes on 4 test images" in text
    assert text.index("no. 43") < text.index("no. 41") < text.index("no. 40")
    assert "no. 42" not in text
    assert "t shirt: 90 %\ntrue trouser: 10 %" in text
    assert "true trouser: <1 %" in text


def test_a_perfect_classifier_and_one_that_is_always_wrong_can_be_drawn():
    images, index, labels = np.zeros((50, 3, 8, 8)), np.arange(50), np.zeros(50, dtype=int)
    right, wrong = np.tile([1.0, 0.0, 0.0], (50, 1)), np.tile([0.0, 1.0, 0.0], (50, 1))
    assert "All 50 test images" in text_of(draw_mistakes(images, labels, right, index, NAMES))
    text = text_of(draw_mistakes(images, labels, wrong, index, NAMES))
    assert f"The {AT_MOST} surest of 50 mistakes" in text
    assert text.count("no. ") == AT_MOST
