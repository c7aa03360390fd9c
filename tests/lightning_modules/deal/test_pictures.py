"""What a reader finds in the pictures of the rounds."""

import numpy as np
import pytest

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
    errors, difficulty = np.array([0.1, 0.8, np.nan]), np.array([0.05, 0.3, np.nan])
    text = text_of(draw_class_difficulty(errors, difficulty, correlation, NAMES, PALETTE))
    assert said in text
    assert "pole" in text
    assert "sign symbol" not in text


def test_labels_of_equally_hard_classes_lie_apart() -> None:
    figure = draw_class_difficulty(np.ones(3), np.full(3, 0.2), float("nan"), NAMES, PALETTE)
    heights = sorted(text.xyann[1] for text in figure.axes[0].texts[1:])  # type: ignore[attr-defined]
    assert len(heights) == 3
    assert min(np.diff(heights)) > 0.03


def test_scores_are_counted_apart() -> None:
    scores = np.arange(10.0)
    figure = draw_scores(scores, scores > 6, "qbc", 2)
    assert "Scores of round 2: the best 3 of 10 images are chosen" in text_of(figure)
    assert sum(patch.get_height() for patch in figure.axes[0].patches) == 10  # type: ignore[attr-defined]


def test_shares_are_told_with_their_entropy_by_hand() -> None:
    half = np.array([0.5, 0.5, 0.0])
    text = text_of(draw_class_shares(half, np.array([1.0, 0.0, 0.0]), NAMES, PALETTE))
    assert f"labelled pixels: {np.log(2):.3f} nats; in the pool 0.000, as predicted" in " ".join(text.split())
    assert "pool" not in text_of(draw_class_shares(half, np.empty(0), NAMES, PALETTE))
