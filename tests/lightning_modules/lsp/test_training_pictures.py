"""The pictures of a student's training: what is drawn of which rows, and what the headlines say."""

from typing import Any

import pytest
from matplotlib.figure import Figure

from harness.curves import PublishedValue
from lightning_modules.lsp.training_pictures import (
    draw_scores,
    draw_training,
    percent_in_words,
    value_in_words,
)
from tests.figure_text import text_of


def rows(epochs: int = 6, with_term: int | None = None) -> list[dict[str, Any]]:
    """Task loss 1, 1/2, ...; lambda * L_LSP a tenth of it for so many epochs."""
    found: list[dict[str, Any]] = []
    for epoch in range(epochs):
        row: dict[str, Any] = {"epoch": epoch, "train/task_loss": 1 / (epoch + 1)}
        row |= {"train/lsp_ruler": 0.04 - 0.001 * epoch, "val/lsp_ruler": 0.05 - 0.001 * epoch}
        row |= {"train/f1": 0.5 + 0.02 * epoch, "val/f1": 0.4 + 0.02 * epoch}
        if with_term is None or epoch < with_term:
            row |= {"train/lsp_term": 0.1 / (epoch + 1), "train/lsp_gradient_share": 0.25}
        found.append(row)
    return found


def lines(figure: Figure) -> list[dict[str, list[float]]]:
    """Values of the named lines of each panel."""
    return [
        {str(one.get_label()): list(one.get_ydata()) for one in axes.lines if str(one.get_label())[0] != "_"}
        for axes in figure.axes
    ]


def legend(figure: Figure) -> str:
    found = [axes.get_legend() for axes in figure.axes] + figure.legends
    return "\n".join(text.get_text() for one in found if one is not None for text in one.get_texts())


def assert_inside(figure: Figure) -> None:
    """Nothing that is written lies outside of the page, the title included."""
    text_of(figure)
    assert figure._suptitle is not None
    texts = [figure._suptitle, *(text for axes in figure.axes for text in axes.texts)]
    texts += [axes._left_title for axes in figure.axes] + [axes._right_title for axes in figure.axes]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    page = figure.bbox
    assert all(page.x0 <= box.x0 and box.x1 <= page.x1 and box.y1 <= page.y1 + 1 for box in boxes)


def test_ratio_and_share_of_the_gradient_are_drawn_in_percent_beneath_the_losses():
    above, weight, ruler = lines(draw_training(rows()))
    assert above["task loss"] == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4, 1 / 5, 1 / 6])
    assert above["λ · L_LSP"] == pytest.approx([0.1 / n for n in range(1, 7)])
    assert weight["λ · L_LSP over the task loss"] == pytest.approx([10.0] * 6)
    assert weight["share of the gradient's length"] == [25.0] * 6
    assert ruler["validation"] == pytest.approx([0.05, 0.049, 0.048, 0.047, 0.046, 0.045])
    assert len(ruler["training"]) == 6


def test_the_headline_says_what_the_term_weighs_and_where_the_ruler_ends():
    assert draw_training(rows()).get_suptitle().replace("\n", " ") == (
        "At the end, λ · L_LSP is 10 % of the task loss and 25 % of the gradient; in validation, L_LSP on the"
        " common ruler ends at 0.045"
    )
    assert_inside(draw_training(rows()))


def test_the_overlap_of_graphs_is_drawn_between_its_limits_where_there_is_one():
    given = [row | {"val/graph_overlap": 0.3 + 0.01 * row["epoch"]} for row in rows()]
    figure = draw_training(given, limits=(0.1, 0.5))
    *others, overlap = lines(figure)
    assert len(others) == 3
    assert overlap["both graphs"] == pytest.approx([30, 31, 32, 33, 34, 35])
    assert (overlap["at most"], overlap["by chance"]) == ([50, 50], [10, 10])
    assert figure.axes[-1].get_ylim()[1] > 50
    assert [axes.get_title(loc="right") for axes in figure.axes] == [
        "",
        "",
        "L_LSP by rbf, σ = 100",
        "of the edges in either graph, validation",
    ]
    assert_inside(figure)
    assert set(lines(draw_training(given))[-1]) == {"both graphs"}
    assert len(draw_training(rows(), limits=(0.1, 0.5)).axes) == 3


def test_a_training_without_the_term_has_no_panel_for_its_weight():
    figure = draw_training(rows(with_term=0))
    assert [set(panel) for panel in lines(figure)] == [{"task loss"}, {"training", "validation"}]
    assert figure.get_suptitle() == "In validation, L_LSP on the common ruler ends at 0.045"


def test_other_terms_are_drawn_beside_the_task_loss():
    given = [row | {"train/kd_loss": 0.3, "train/hint_loss": 0.2} for row in rows(with_term=0)]
    assert set(lines(draw_training(given))[0]) == {
        "task loss",
        "soft labels, unweighted",
        "hints, unweighted",
    }


def test_the_end_of_the_term_is_marked_in_every_panel_between_its_epochs():
    figure = draw_training(rows(with_term=3), lsp_until=3)
    for axes in figure.axes:
        marks = [line for line in axes.lines if list(line.get_xdata()) == [2.5, 2.5]]
        assert len(marks) == 1
    assert "L_LSP ended after 3 epochs" in text_of(figure)
    assert figure.get_suptitle().startswith("Before it ended, λ · L_LSP was 10 % of the task loss")
    assert len(lines(figure)[0]["λ · L_LSP"]) == 3
    assert_inside(figure)


@pytest.mark.parametrize(("given", "until"), [(rows(), 30), (rows(), None), (rows(with_term=0), 3)])
def test_an_end_that_was_not_reached_or_of_no_term_is_not_marked(given, until):
    assert "ended after" not in text_of(draw_training(given, until))


def test_losses_far_apart_have_a_logarithmic_axis_and_those_at_zero_a_linear_one():
    far = [row | {"train/lsp_term": 1e-4} for row in rows()]
    assert draw_training(rows()).axes[0].get_yscale() == "log"  # 1 to 0.1 / 6
    assert draw_training(far).axes[0].get_yscale() == "log"
    assert "Loss, log scale" in text_of(draw_training(far))
    zero = [row | {"train/lsp_term": 0.0} for row in rows()]
    figure = draw_training(zero)
    assert [axes.get_yscale() for axes in figure.axes] == ["linear"] * 3
    assert "λ · L_LSP is 0 % of the task loss" in figure.get_suptitle()
    assert draw_training(rows(epochs=1)).axes[0].get_yscale() == "linear"


@pytest.mark.parametrize("given", [[], [{"epoch": 0}], [{"epoch": 0, "train/task_loss": float("nan")}]])
def test_rows_without_values_are_said_to_be_so(given):
    assert "not logged" in text_of(draw_training(given, 3))
    assert "not logged" in text_of(draw_scores(given, None))


def test_text_of_a_csv_file_is_read_and_gaps_are_left_out():
    given = [{key: str(value) for key, value in row.items()} for row in rows()]
    given[2]["train/lsp_term"] = ""
    above, weight, _ = lines(draw_training(given))
    assert len(above["task loss"]) == 6
    assert len(above["λ · L_LSP"]) == len(weight["λ · L_LSP over the task loss"]) == 5


def test_scores_stand_beside_the_teachers_the_published_and_the_tested_one():
    figure = draw_scores(rows(), 0.773, PublishedValue(0.961, 0.004), (5, 0.48))
    (drawn,) = lines(figure)
    assert drawn["training"] == pytest.approx([50, 52, 54, 56, 58, 60])
    assert drawn["validation"] == pytest.approx([40, 42, 44, 46, 48, 50])
    assert drawn["teacher, validation: 77.3"] == pytest.approx([77.3, 77.3])
    assert drawn["published, test: 96.1 ± 0.4"] == pytest.approx([96.1, 96.1])
    assert drawn["kept weights, test: 48.0"] == [48.0]
    assert set(drawn) == set(legend(figure).splitlines())
    assert figure.get_suptitle() == "The student reaches 50.0 % in validation, 27.3 points below its teacher"
    assert_inside(figure)


def test_without_a_teacher_or_a_published_value_there_is_no_line_for_them():
    figure = draw_scores(rows(), None)
    assert set(lines(figure)[0]) == {"training", "validation"}
    assert figure.get_suptitle() == "The student reaches 50.0 % in validation"


@pytest.mark.parametrize(
    ("teacher", "words"),
    [(0.5, "level with its teacher"), (0.5004, "level with"), (0.45, "5.0 points above"), (0.502, "0.2 po")],
)
def test_the_student_is_compared_in_points_as_they_are_shown(teacher, words):
    assert words in draw_scores(rows(), teacher).get_suptitle()


def test_another_score_can_be_drawn():
    given = [{"epoch": 0, "val/acc": 0.9}]
    figure = draw_scores(given, 0.92, metric="acc", name="Overall accuracy")
    assert lines(figure)[0]["validation"] == [90.0]
    assert "Overall accuracy (%)" in text_of(figure)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0.0, "0"),
        (0.0617, "0.062"),
        (1.57e-5, "1.6·10⁻⁵"),
        (-2e-8, "−2·10⁻⁸"),
        (1234.0, "1.2·10³"),
        (12.4, "12"),
    ],
)
def test_values_are_written_with_two_digits(value, words):
    assert value_in_words(value) == words


@pytest.mark.parametrize(
    ("percent", "words"),
    [(0.0, "0 %"), (0.004, "less than 0.01 %"), (0.123, "0.1 %"), (11.4, "11 %"), (250.0, "250 %")],
)
def test_percentages_are_written_as_short_as_they_can_be(percent, words):
    assert percent_in_words(percent) == words
