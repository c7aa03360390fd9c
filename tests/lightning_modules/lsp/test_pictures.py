"""The pictures of divergences, local structures and costs, from numbers that can be counted by hand."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from lightning_modules.lsp.costs import Cost
from lightning_modules.lsp.pictures import (
    MOST_NEIGHBOURS,
    NodeStructure,
    draw_costs,
    draw_divergences,
    draw_structures,
)
from tests.figure_text import text_of
from tests.lightning_modules.lsp.test_training_pictures import assert_inside


def bars(figure: Figure) -> list[list[float]]:
    """Lengths of the bars of each panel, as they lie."""
    return [[bar.get_height() for bar in axes.patches] for axes in figure.axes]


def test_a_histogram_counts_every_node_once_and_names_the_largest():
    values = np.array([0.01, 0.02, 0.02, 0.03, 0.06])
    figure = draw_divergences(values, ["graph 10, node 4"])
    text = text_of(figure)
    assert sum(bars(figure)[0]) == pytest.approx(100)
    assert sorted({round(height) for height in bars(figure)[0]}) == [0, 20, 40]
    assert "Largest: graph 10, node 4 (0.06)" in text
    assert "median 0.02" in text
    assert figure.get_suptitle() == "Half of the nodes have an S_i below 0.02, one in 100 above 0.059"
    assert "log scale" not in text
    (mark,) = (line for line in figure.axes[0].lines if line.get_marker() == "v")
    assert list(mark.get_xdata()) == [0.06]


def test_divergences_far_apart_lie_on_a_logarithmic_axis_and_zeros_are_counted():
    values = np.array([0.0, -1e-9, 1e-12, *np.geomspace(1e-4, 1.0, 97)])
    figure = draw_divergences(values, [], what="points")
    text = text_of(figure)
    assert figure.axes[0].get_xscale() == "log"
    assert "3 of 100 are smaller or 0" in text
    assert sum(bars(figure)[0]) == pytest.approx(97)
    assert "Share of points (%)" in text
    assert "Half of the points" in text
    assert "Largest" not in text


def test_names_of_the_largest_stand_beside_their_values_in_order():
    names = ["graph 11, node 1999", "graph 11, node 2000", "graph 10, node 2001"]
    figure = draw_divergences(np.linspace(0, 0.1234, 3000), names)
    assert ", ".join(f"{name} (0.12)" for name in names) in text_of(figure)
    assert_inside(figure)


@pytest.mark.parametrize(
    "values", [[], [np.nan, np.inf], [0.0], [0.0, 0.0], [-1e-9, 0.0], [0.3], [1e-8, 1e-9]]
)
def test_any_divergences_can_be_drawn(values: list[float]):
    figure = draw_divergences(np.array(values), [])
    assert_inside(figure)
    assert ("no nodes" in text_of(figure)) == (not np.isfinite(values).any())


def node(teacher: Sequence[float], student: Sequence[float], **others: Any) -> NodeStructure:
    made: dict[str, Any] = {
        "name": "Median, graph 10, node 7",
        "neighbours": [f"n{place}" for place in range(len(teacher))],
        "divergence": 0.0123,
    }
    return NodeStructure(**made | others, teacher=np.array(teacher), student=np.array(student))


def test_even_structures_are_drawn_from_the_equal_share_the_teachers_largest_first():
    figure = draw_structures([node([0.2, 0.35, 0.15, 0.3], [0.25, 0.3, 0.15, 0.3])], "rbf, σ = 100")
    text = text_of(figure)
    teacher, student = bars(figure)[0][:4], bars(figure)[0][4:]
    assert teacher == pytest.approx([10, 5, -5, -10])
    assert student == pytest.approx([5, 5, 0, -10])
    assert [label.get_text() for label in figure.axes[0].get_xticklabels()] == ["n1", "n3", "n0", "n2"]
    assert "Median, graph 10, node 7: 4 neighbours, equal share 25 %, S = 0.012" in text
    assert "minus the equal share (percentage points)" in figure.get_supylabel()
    assert "LS by rbf, σ = 100" in text
    assert figure.get_suptitle().replace("\n", " ") == (
        "At a typical node, the student's share of a neighbour is off by at most 5.0 percentage points"
    )
    assert_inside(figure)


def test_uneven_structures_are_drawn_from_zero_with_the_equal_share_as_a_line():
    figure = draw_structures([node([0.9, 0.05, 0.05, 0.0], [0.25] * 4)], "linear")
    assert bars(figure)[0][:4] == pytest.approx([90, 5, 5, 0])
    assert bars(figure)[0][4:] == pytest.approx([25] * 4)
    assert [list(line.get_ydata()) for line in figure.axes[0].lines] == [[25.0, 25.0]]
    assert figure.get_supylabel() == "Share of a neighbour (%)"
    assert "equal share" in [text.get_text() for text in figure.legends[0].get_texts()]


def test_of_many_neighbours_those_are_shown_that_differ_most():
    number = 40
    teacher, student = np.full(number, 1 / number), np.full(number, 1 / number)
    student[30:35] += [0.001, 0.002, -0.001, -0.002, 0.003]
    name = "99th percentile, graph 24, node 2345"
    figure = draw_structures([node(teacher, student, name=name, divergence=1.2e-5)], "l1exp, σ = 100")
    text_of(figure)
    shown = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert len(shown) == MOST_NEIGHBOURS
    assert {f"n{place}" for place in range(30, 35)} <= set(shown)
    assert f"40 neighbours ({MOST_NEIGHBOURS} shown)" in text_of(figure)
    assert "those that differ most" in figure.axes[0].get_xlabel()
    assert_inside(figure)


def test_the_headline_is_about_the_node_in_the_middle():
    near, far = node([0.5, 0.5], [0.5002, 0.4998]), node([0.9, 0.1], [0.1, 0.9])
    assert "at most 0.02 percentage" in draw_structures([far, near, far], "rbf").get_suptitle().replace(
        "\n", " "
    )
    assert "80.0 percentage points" in draw_structures([near, far, near], "rbf").get_suptitle()


@pytest.mark.parametrize("nodes", [[], [node([], [])], [node([1.0], [1.0])]])
def test_nodes_without_a_choice_can_be_drawn(nodes: list[NodeStructure]):
    figure = draw_structures(nodes, "rbf")
    assert_inside(figure)
    text = text_of(figure)
    assert "no nodes" in text or "no neighbours" in text or "one neighbour, equal share 100 %" in text


def test_costs_have_a_bar_each_and_the_headline_compares_them():
    figure = draw_costs(
        Cost(3_640_748, 2536.0, 812.4), Cost(185_172, 507.2, 203.1), "2 test graphs on 1 CPU thread"
    )
    text = text_of(figure)
    assert [[bar.get_width() for bar in axes.patches] for axes in figure.axes] == [
        [3_640_748, 185_172],
        [2536.0, 507.2],
        [812.4, 203.1],
    ]
    assert all(number in text for number in ("3,640,748", "185,172", "2,536", "507", "812", "203"))
    assert figure.get_suptitle().replace("\n", " ") == (
        "The student has 95 % fewer parameters, is 5.0 times faster and needs 75 % less memory"
    )
    assert "2 test graphs on 1 CPU thread" in figure.get_supxlabel()
    assert_inside(figure)
    titles = [axes._left_title.get_window_extent() for axes in figure.axes]
    assert all(one.x1 < other.x0 for one, other in itertools.pairwise(titles))
    assert titles[-1].x1 <= figure.bbox.x1


@pytest.mark.parametrize(
    ("teacher", "student", "words"),
    [
        (
            Cost(10, 1.0, 1.0),
            Cost(10, 1.02, 1.0),
            "as many parameters, takes as long and needs as much memory",
        ),
        (
            Cost(10, 1.0, 1.0),
            Cost(20, 2.0, 1.5),
            "100 % more parameters, is 2.0 times slower and needs 50 % mo",
        ),
        (Cost(0, 0.0, 0.0), Cost(0, 0.0, 0.0), "as many parameters, takes as long and needs as much memory"),
    ],
)
def test_a_student_that_costs_as_much_or_more_is_said_to(teacher: Cost, student: Cost, words: str):
    assert words in draw_costs(teacher, student, "one graph").get_suptitle().replace("\n", " ")
