import numpy as np
import pytest
import torch

from lightning_modules.image_classification.predictions_picture import AT_MOST, COLUMNS, draw_predictions
from tests.figure_text import text_of

DIGITS = list("0123456789")


def probabilities(predicted: list[int], sure: list[float], num_classes: int) -> np.ndarray:
    """Rows that are ``sure`` of their predicted class and spread the rest evenly."""
    rows = np.tile(((1 - np.array(sure)) / (num_classes - 1))[:, None], (1, num_classes))
    rows[np.arange(len(predicted)), predicted] = sure
    return rows


def images(count: int, colours: int = 1) -> torch.Tensor:
    return torch.randint(0, 17, (count, colours, 8, 8), generator=torch.Generator().manual_seed(0)).byte()


def test_images_stand_from_the_surest_to_the_least_sure_and_mistakes_name_the_true_class():
    found = probabilities([3, 3, 3, 5], [0.7, 0.998, 0.8, 0.4], 10)
    text = text_of(draw_predictions(images(4), 16, np.array([3, 3, 8, 5]), found, DIGITS))
    assert "4 test images by predicted class" in text
    assert text.index(">99 %") < text.index("80 %, is 8") < text.index("70 %")
    assert text.count("is ") == 1
    assert "3 images" in text
    assert "1 image" in text
    assert "most predicted" not in text


def test_rows_are_spaced_evenly_from_first_to_last():
    sure = np.linspace(0.95, 0.25, 71)  # every percent between, for 8 images each tenth is shown
    found = probabilities([0] * 71, sure.tolist(), 4)
    figure = draw_predictions(images(71), 16, np.zeros(71, dtype=int), found, ["a", "b", "c", "d"])
    shown = [axes.get_xlabel() for axes in figure.axes if axes.images]
    assert shown == [f"{percent} %" for percent in (95, 85, 75, 65, 55, 45, 35, 25)]
    assert len(shown) == COLUMNS


def test_of_many_classes_the_most_predicted_are_drawn():
    predicted = [label for label in range(30) for _ in range(1 + label // 15)]
    found = probabilities(predicted, [0.5] * len(predicted), 40)
    names = [f"a_long_name_{label}" for label in range(40)]
    text = text_of(draw_predictions(images(45, colours=3), 255, np.array(predicted), found, names))
    assert f"the {AT_MOST} most predicted of 40 classes" in text.replace("\n", " ")
    assert text.count("2 images") == AT_MOST
    assert "a long na…" in text


@pytest.mark.parametrize("colours", [1, 3])
def test_one_class_and_one_image_can_be_drawn(colours):
    found = np.array([[1.0, 0.0]])
    text = text_of(draw_predictions(images(1, colours), 16, np.array([1]), found, ["shirt", "shoe"]))
    assert ">99 %\nis shoe" in text
