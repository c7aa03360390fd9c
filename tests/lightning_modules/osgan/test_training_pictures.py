import numpy as np
import pytest

from lightning_modules.osgan.training_pictures import draw_logits, draw_training, spread_apart
from tests.figure_text import text_of

EVERYTHING = {
    "train/loss_real": 0.5,
    "train/loss_fake": 0.6,
    "train/loss_g": 1.5,
    "train/gamma_median": -2.0,
    "train/gamma_low": -20.0,
    "train/gamma_high": -0.5,
    "train/floored": 0.1,
    "train/below_minus_14": 0.0,
    "train/grad_norm_g": 0.3,
    "train/grad_norm_d": 3.0,
    "val/fd_classifier": 7.0,
}


def rows(number: int, **changed: object) -> list[dict[str, object]]:
    given = EVERYTHING | changed
    return [{"epoch": epoch} | {k: v for k, v in given.items() if v is not None} for epoch in range(number)]


def panels(figure) -> list[str]:
    return [axes.get_title(loc="left") for axes in figure.axes]


def test_the_headline_counts_pairs_and_ties_by_half():
    real, fake = np.array([1.0, 2.0, np.nan]), np.array([0.0, 1.0, 3.0, np.inf])
    # of six pairs: 1 > 0, 1 = 1, 2 > 0, 2 > 1, so 3.5 of 6
    text = text_of(draw_logits(real, fake)).replace("\n", " ")
    assert "In 58 % of pairs" in text
    assert "real median 1.50" in text
    assert "generated median 1.00" in text


@pytest.mark.parametrize(
    ("higher", "share"), [(996, "more than 99"), (4, "less than 1"), (1000, "100"), (0, "0")]
)
def test_the_headline_says_all_or_none_only_where_it_is_so(higher, share):
    real, fake = np.array([0.0]), np.repeat([-1.0, 1.0], [higher, 1000 - higher])
    assert f"In {share} % of pairs" in text_of(draw_logits(real, fake)).replace("\n", " ")


@pytest.mark.parametrize("logits", [[0.0], [-1e4, 1e4], [-2.0] * 50])
def test_equal_logits_cannot_be_told_apart_and_can_be_drawn(logits):
    assert "In 50 % of pairs" in text_of(draw_logits(np.array(logits), np.array(logits)))


def test_no_logits_are_said():
    assert "no logits" in text_of(draw_logits(np.array([]), np.array([np.nan])))


@pytest.mark.parametrize("number", [1, 30])
def test_all_panels_are_drawn_of_any_number_of_epochs(number):
    figure = draw_training(rows(number), "A run")
    text = text_of(figure)
    assert panels(figure) == [
        "Loss",
        "Ratio −γ of the players' gradients: median, 5 to 95 %",
        "Share of generated images (%)",
        "Norm of the gradient",
        "Fréchet distance (classifier), best 7",
    ]
    assert "D on generated" in text


def test_what_is_not_logged_leaves_its_panel_out():
    gone = dict.fromkeys(EVERYTHING) | {"train/loss_g": 1.0}
    assert panels(draw_training(rows(3, **gone))) == ["Loss"]
    assert "nothing logged" in text_of(draw_training(rows(3, **dict.fromkeys(EVERYTHING))))
    assert "nothing logged" in text_of(draw_training([]))


def test_shares_that_stay_at_zero_are_left_out():
    assert "Share of generated images (%)" not in panels(draw_training(rows(3, **{"train/floored": 0.0})))


def test_epochs_are_counted_from_one():
    (axes,) = draw_training(rows(3, **dict.fromkeys(EVERYTHING) | {"train/loss_g": 1.0})).axes
    assert axes.lines[0].get_xdata().tolist() == [1, 2, 3]


def test_rows_of_a_csv_file_with_gaps_can_be_drawn():
    given = [{key: str(value) for key, value in row.items()} for row in rows(4)]
    given[1]["train/loss_g"] = given[2]["train/gamma_low"] = ""
    figure = draw_training(given)
    text_of(figure)
    assert "Ratio −γ of the players' gradients: median" in panels(figure), "no band where a bound is missing"


@pytest.mark.parametrize("gamma", [-1.0, 0.5, 0.0])
def test_a_constant_ratio_and_one_above_zero_can_be_drawn(gamma):
    keys = ("train/gamma_median", "train/gamma_low", "train/gamma_high")
    figure = draw_training(rows(5, **dict.fromkeys(keys, gamma)))
    text_of(figure)
    assert ("−γ" in panels(figure)[1]) == (gamma < 0)


def test_fid_is_called_fid_and_others_by_their_names():
    only_fid = draw_training(rows(3, **{"val/fid": 20.0, "val/fd_classifier": None}))
    assert panels(only_fid)[-1] == "FID, best 20"
    both = draw_training(rows(3, **{"val/fid": 20.0, "val/kid": 0.1}))
    assert panels(both)[-1] == "Fréchet distances, best marked"
    assert {"FID", "classifier"} <= set(text_of(both).split("\n"))


def test_labels_are_moved_apart_as_little_as_needed():
    assert spread_apart([0.0, 1.0, 5.0], 0.5) == [0.0, 1.0, 5.0]
    assert spread_apart([1.0, 1.0], 0.5) == [0.75, 1.25]
    assert spread_apart([0.0, 0.0, 0.6], 0.5) == pytest.approx([-0.3, 0.2, 0.7])
    assert spread_apart([], 0.5) == []


def test_labels_stay_within_their_bounds_and_apart():
    assert spread_apart([0.0, 0.1, 0.9], 0.25, 0.1, 1.0) == pytest.approx([0.1, 0.35, 0.9])
    assert spread_apart([0.5, 1.0, 1.0], 0.25, 0.0, 1.0) == pytest.approx([0.5, 0.75, 1.0])
    assert spread_apart([0.7, 1.0, 1.0], 0.25, 0.0, 1.0) == pytest.approx([0.5, 0.75, 1.0])
    assert spread_apart([0.0] * 4, 0.5, 0.0, 1.0) == pytest.approx([0.0, 0.5, 1.0, 1.5])
