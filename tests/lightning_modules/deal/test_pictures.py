"""What a reader finds in the pictures of the rounds."""

import numpy as np
import pytest
from matplotlib.text import Text

from lightning_modules.deal.pictures import (
    draw_class_difficulty,
    draw_class_shares,
    draw_iou_by_round,
    draw_miou_by_labels,
    draw_scores,
)
from tests.figure_text import text_of

NAMES = ("sky", "pole", "sign_symbol")
PALETTE = np.linspace(0, 1, 256 * 3).reshape(256, 3)


def test_the_curve_tells_its_last_value_and_its_gain() -> None:
    figure = draw_miou_by_labels([15, 25], [0.5, 0.625], "deal_de", {})
    text = text_of(figure)
    assert "Mean IoU 62.5 % with 25 labelled images, +12.5 points over 15" in text
    (axes,) = figure.axes
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[15, 50], [25, 62.5]]]


def test_published_curves_of_the_strategy_and_of_random_images_stand_beside_it() -> None:
    published = {"labelled": [40, 60], "deal_ds": [51.9, 55.5], "random": [52, 54], "qbc": [51, 54]}
    (axes,) = draw_miou_by_labels([40], [0.5], "deal_ds", published).axes
    legend = axes.get_legend()
    assert legend is not None
    words = [text.get_text() for text in legend.get_texts()]
    assert words == [
        "this run: DEAL, difficulty score",
        "published: random images",
        "published: DEAL, difficulty score",
    ]
    (axes,) = draw_miou_by_labels([40], [0.5], "random", published).axes
    assert len(axes.lines) == 2, "random beside its own published curve, once"


def test_the_table_names_the_class_that_gains_most_and_says_where_one_is_nowhere() -> None:
    text = text_of(draw_iou_by_round(np.array([[0.9, 0.1, np.nan], [0.95, 0.4, np.nan]]), [15, 25], NAMES))
    assert "Pole gains most: +30.0 points of IoU" in text
    assert "sign symbol" in text
    assert text.count("none") == 2
    assert "2\n(25)" in text


@pytest.mark.parametrize(("correlation", "said"), [(0.664, "Spearman 0.66"), (float("nan"), "not defined")])
def test_the_scatter_says_how_error_and_difficulty_agree(correlation: float, said: str) -> None:
    errors, difficulty = np.array([0.1, 0.8, 0.9, np.nan]), np.array([0.05, 0.3, 0.4, np.nan])
    names = (*NAMES[:2], "road", NAMES[2])
    figure = draw_class_difficulty(errors, difficulty, correlation, names, PALETTE, is_calibrated=True)
    assert said in text_of(figure)
    assert "pole" in text_of(figure)
    assert "sign symbol" not in text_of(figure)


def test_of_two_classes_no_rank_correlation_is_told() -> None:
    errors, difficulty = np.array([0.1, 0.8, np.nan]), np.array([0.05, 0.3, np.nan])
    figure = draw_class_difficulty(errors, difficulty, 1.0, NAMES, PALETTE, is_calibrated=True)
    assert "Spearman not defined for fewer than 3" in text_of(figure)


def test_difficulty_is_expected_to_be_the_error_where_the_loss_has_it_so_alone() -> None:
    errors, difficulty = np.array([0.01, 0.02, 0.05]), np.array([0.8, 0.86, 0.9])
    for is_calibrated in (True, False):
        figure = draw_class_difficulty(errors, difficulty, 1.0, NAMES, PALETTE, is_calibrated=is_calibrated)
        (axes,) = figure.axes
        assert len(axes.lines) == int(is_calibrated)
        assert ("difficulty = error" in text_of(figure)) == is_calibrated
        assert ("the order counts" in text_of(figure)) == (not is_calibrated)
    assert axes.get_ylim()[0] > 0.7, "what was found fills the picture"


def test_every_class_is_named_next_to_its_own_dot() -> None:
    errors = np.array([0.5, 0.5, 0.51, 0.9, 0.91, 0.1])
    difficulty = np.array([0.20, 0.21, 0.22, 0.8, 0.8, 0.1])
    names = ("sky", "building", "road", "car", "pole", "sign")
    figure = draw_class_difficulty(errors, difficulty, 0.9, names, PALETTE, is_calibrated=True)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    assert {text.get_text() for text in axes.texts} == set(names)
    boxes = [Text.get_window_extent(text) for text in axes.texts]  # without the line that leads to it
    dots = axes.transData.transform(np.stack([errors, difficulty], axis=1))
    for place, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:place])
        assert not any(box.contains(x, y) for x, y in dots)
        room = axes.get_window_extent()
        assert room.x0 <= box.x0 < box.x1 <= room.x1
        assert room.y0 <= box.y0 < box.y1 <= room.y1


def test_scores_are_counted_apart_in_every_round() -> None:
    scores = np.arange(10.0)
    figure = draw_scores({2: (scores, scores > 6)}, "qbc")
    assert "Scores: round 2 takes the best 3 of 10 images" in text_of(figure)
    assert sum(patch.get_height() for patch in figure.axes[0].patches) == 10  # type: ignore[attr-defined]
    figure = draw_scores({1: (scores, scores > 7), 2: (scores[:6], scores[:6] > 4)}, "qbc")
    assert [axes.get_title(loc="left") for axes in figure.axes] == [
        "round 1: 2 of 10 chosen",
        "round 2: 1 of 6 chosen",
    ]
    assert [sum(patch.get_height() for patch in axes.patches) for axes in figure.axes] == [10, 6]  # type: ignore[attr-defined]
    assert all(axes.get_legend() is None for axes in figure.axes), "none covers bars"


def test_of_many_rounds_some_are_drawn_and_the_last_among_them() -> None:
    scores = np.arange(10.0)
    figure = draw_scores(dict.fromkeys(range(1, 21), (scores, scores > 6)), "random")
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert len(titles) == 9
    assert (titles[0], titles[-1]) == ("round 1: 3 of 10 chosen", "round 20: 3 of 10 chosen")


def test_shares_are_told_with_their_entropy_by_hand() -> None:
    half = np.array([0.5, 0.5, 0.0])
    text = text_of(draw_class_shares(half, np.array([1.0, 0.0, 0.0]), NAMES, PALETTE))
    assert f"labelled pixels: {np.log(2):.3f} nats; in the pool 0.000, as predicted" in " ".join(text.split())
    assert "pool" not in text_of(draw_class_shares(half, np.empty(0), NAMES, PALETTE))
