import numpy as np
import pytest
from matplotlib.figure import Figure

from lightning_modules.netgraft.pictures import (
    KINDS,
    against_teacher,
    draw_agreement,
    draw_grafted_accuracies,
    draw_shots,
    signed,
)
from tests.figure_text import text_of

BARS = [
    ("block 3 grafted", 0.923, "graft"),
    ("block 4 grafted", 0.990, "graft"),
    ("blocks 3–4, naive", 0.62, "naive"),
    ("blocks 3–4", 0.951, "joined"),
    ("blocks 3–5, naive", 0.208, "naive"),
    ("blocks 3–5", 0.941, "joined"),
]


def headline(figure: Figure) -> str:
    return figure.get_suptitle().replace("\n", " ")


def lines_by_label(figure: Figure) -> dict[str, list[float]]:
    """Heights of the points of each labelled line, in the order of the legend."""
    (axes,) = figure.axes
    handles, labels = axes.get_legend_handles_labels()
    lines = [handle[0] if isinstance(handle, tuple) else handle for handle in handles]
    return {label: list(line.get_ydata()) for label, line in zip(labels, lines, strict=True)}


def test_a_bar_is_as_long_as_its_accuracy_and_coloured_by_its_kind():
    from matplotlib.colors import to_hex

    (axes,) = draw_grafted_accuracies(BARS, 0.989).axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([92.3, 99.0, 62.0, 95.1, 20.8, 94.1])
    assert [to_hex(bar.get_facecolor()) for bar in axes.patches] == [KINDS[kind][1] for _, _, kind in BARS]
    assert axes.yaxis_inverted(), "the first bar stands at the top"


def test_bars_stand_beside_the_teacher_with_their_points_to_it():
    figure = draw_grafted_accuracies(BARS, 0.989)
    text = text_of(figure)
    assert "92.3  (−6.6)" in text
    assert "99.0  (+0.1)" in text
    assert "teacher 98.9 %" in text
    assert all(label in text for label, _ in KINDS.values())
    (line,) = figure.axes[0].lines
    assert line.get_xdata() == pytest.approx([98.9, 98.9])


def test_the_headline_is_what_stage_two_gained_for_the_whole_student():
    assert "gains 73.3 points over the naive join's 20.8 %" in headline(draw_grafted_accuracies(BARS, 0.989))
    lost = [("all, naive", 0.5, "naive"), ("all", 0.4, "joined")]
    assert "loses 10.0 points against the naive join's 50.0 %" in headline(draw_grafted_accuracies(lost, 0.9))


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        (("graft",), "With one block grafted, the teacher reaches 92.3 to 99.0 %"),
        (("naive",), "Joined without adaptation, the blocks reach 20.8 %, 78.1 points below its teacher"),
        (("graft", "joined"), "The grafted student reaches 94.1 %, 4.8 points below its teacher"),
        ((), "Accuracy of the grafted networks"),
    ],
)
def test_without_both_joins_the_headline_says_what_there_is(kinds, said):
    figure = draw_grafted_accuracies([bar for bar in BARS if bar[2] in kinds], 0.989)
    assert headline(figure) == said
    text = text_of(figure)
    assert [label in text for label, _ in KINDS.values()] == [kind in kinds for kind in KINDS]


@pytest.mark.parametrize("accuracy", [0.05, 0.2, 0.24, 0.3, 0.68, 0.70, 0.8, 1.0])
@pytest.mark.parametrize("teacher", [0.25, 0.6928, 0.98])
def test_no_number_lies_on_the_teachers_line_or_leaves_the_picture(accuracy, teacher):
    figure = draw_grafted_accuracies([("all", accuracy, "joined")], teacher)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    number = axes.texts[0].get_window_extent()
    line = axes.transData.transform((100 * teacher, 0))[0]
    assert not number.x0 <= line <= number.x1
    assert number.x0 >= axes.bbox.x0
    assert number.x1 <= figure.bbox.x1


def test_an_unknown_kind_of_bar_is_refused_with_the_choices():
    with pytest.raises(ValueError, match="'all' must be one of graft, naive, joined, got 'join'"):
        draw_grafted_accuracies([("all", 0.5, "join")], 0.9)


def test_points_are_told_to_a_tenth():
    assert [signed(value) for value in (1.26, -0.04, 0.0, -2)] == ["+1.3", "0.0", "0.0", "−2.0"]
    assert against_teacher(92.89, 92.83) == "0.1 points above its teacher"
    assert against_teacher(92.86, 92.83) == "level with its teacher"


def test_the_histogram_leaves_few_cosines_out_and_says_how_many():
    cosines = np.concatenate([np.linspace(0.96, 1.0, 995), [-0.5, 0.1, 0.2, 0.3, 0.4], [np.nan]])
    figure = draw_agreement(cosines, 0.962)
    text = text_of(figure)
    assert headline(figure) == "Student and teacher agree on 96.2 % of 1,000 test images"
    assert "5 of 1,000 lie below 0.95, the lowest at −0.5000" in text
    assert "median 0.9799" in text
    (axes,) = figure.axes
    assert axes.get_xlim() == pytest.approx((0.95, 1.0))
    assert sum(bar.get_height() for bar in axes.patches) == pytest.approx(99.5)


@pytest.mark.parametrize(
    ("cosines", "low"),
    [
        ([1.0], 0.99999),
        ([1 + 1e-7] * 9, 0.99999),
        ([0.9999, 1.0], 0.9999),
        ([0.7, 1.0], 0.5),
        ([-1.0, 1.0], -1.0),
    ],
)
def test_the_axis_of_cosines_suits_them_all(cosines, low):
    figure = draw_agreement(np.array(cosines), 1.0, "what else is to be said")
    assert "what else is to be said" in text_of(figure)
    assert figure.axes[0].get_xlim() == pytest.approx((low, 1.0), abs=1e-9)
    assert sum(bar.get_height() for bar in figure.axes[0].patches) == pytest.approx(100)


@pytest.mark.parametrize(
    ("share", "said"),
    [(1.0, "on 100 %"), (0.9999, "more than 99.9 %"), (0.0, "on 0 %"), (1e-4, "less than 0.1 %")],
)
def test_all_or_none_agree_only_where_it_is_so(share, said):
    assert said in headline(draw_agreement(np.array([0.9, 1.0]), share))


def test_no_cosines_are_said():
    assert "no cosines" in text_of(draw_agreement(np.array([np.nan]), 0.5))


def test_shots_are_drawn_in_percent_over_a_tick_for_each_number():
    curves = {
        "netgraft": [(10, 0.94, 0.01, 15), (1, 0.8, 0.03, 15), (5, 0.92, 0.01, 15)],
        "kd_from_scratch": [(5, 0.19, 0.03, 5), (10, 0.26, float("nan"), 1)],
    }
    figure = draw_shots(curves, 0.989, [(1, 0.9, 0.005), (20, 0.95, 0.001)])
    assert headline(figure) == "From 10 images per class, netgraft reaches 94.0 % (teacher 98.9 %)"
    assert lines_by_label(figure) == {
        "teacher, 98.9 %": pytest.approx([98.9, 98.9]),
        "netgraft (15 runs each)": pytest.approx([80, 92, 94]),
        "kd from scratch (1 to 5 runs each)": pytest.approx([19, 26]),
        "published": pytest.approx([90, 95]),
    }
    text_of(figure)
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "5", "10", "20"]


def test_the_deviation_of_shots_is_drawn_to_both_sides():
    (axes,) = draw_shots({"netgraft": [(1, 0.8, 0.03, 15), (5, 0.9, float("nan"), 1)]}).axes
    bars = [segment[:, 1].tolist() for segment in axes.collections[0].get_segments()]
    assert bars == [pytest.approx([77, 83]), pytest.approx([90, 90])]


def test_one_run_of_one_number_and_nothing_can_be_drawn():
    one = draw_shots({"netgraft": [(1, 0.8, float("nan"), 1)]})
    assert headline(one) == "From one image per class, netgraft reaches 80.0 %"
    assert "netgraft (1 run each)" in text_of(one)
    assert headline(draw_shots({})) == "Accuracy against the number of images per class"
