from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from lightning_modules.netgraft.loss_picture import draw_phase_losses
from tests.figure_text import text_of

JOINS = {"join_4": (3, 4), "join_5": (3, 4, 5)}
PHASES = [("stage1", 0, 4), ("join_4", 4, 6), ("join_5", 6, 9)]


def rows() -> list[dict[str, Any]]:
    """Blocks 3, 4, 5 train for 4, 2 and 3 epochs; in stage 1 the sum of their losses is logged, too."""
    found: list[dict[str, Any]] = [{"epoch": epoch, "train/loss": 9.0} for epoch in range(4)]
    for block, number in ((3, 4), (4, 2), (5, 3)):
        for epoch in range(number):
            found[epoch][f"train/loss_block{block}"] = block / 10 / (epoch + 1)
    return found + [{"epoch": epoch, "train/loss": 1.0 / epoch} for epoch in range(4, 9)]


def lines(figure: Figure) -> list[tuple[str, list[float], list[float]]]:
    """(label, epochs, losses) of every line with data."""
    drawn = [line for line in figure.axes[0].lines if line.get_linestyle() != "None"]
    return [
        (str(line.get_label()), list(line.get_xdata()), list(line.get_ydata()))
        for line in drawn
        if not str(line.get_label()).startswith("_")
    ]


def triangles(figure: Figure) -> list[list[float]]:
    """Epochs of the marks on the lower edge, line by line."""
    drawn = (line for line in figure.axes[0].lines if line.get_marker() == "v")
    return [list(line.get_xdata()) for line in drawn if len(line.get_xdata())]


def test_each_blocks_line_ends_with_its_epochs_and_each_join_has_a_line_of_its_own():
    figure = draw_phase_losses(rows(), PHASES, JOINS)
    text_of(figure)
    assert [(name, epochs) for name, epochs, _ in lines(figure)] == [
        ("block 3", [0, 1, 2, 3]),
        ("block 4", [0, 1]),
        ("block 5", [0, 1, 2]),
        ("joined blocks", [4, 5]),
        ("joined blocks", [6, 7, 8]),
    ]
    assert lines(figure)[2][2] == pytest.approx([0.5, 0.25, 0.5 / 3])
    assert figure.axes[0].get_yscale() == "log"


def test_the_sum_of_stage_one_is_not_taken_for_a_joined_network():
    assert (
        max(loss for _, _, losses in lines(draw_phase_losses(rows(), PHASES, JOINS)) for loss in losses)
        == 0.5
    )


def test_bands_are_as_wide_as_their_phases_and_named_by_the_blocks_in_them():
    figure = draw_phase_losses(rows(), PHASES, JOINS)
    text = text_of(figure)
    assert all(name in text for name in ("blocks alone", "blocks 3–4 joined", "blocks 3–5 joined"))
    (axes,) = figure.axes
    bands = [(band.get_x(), band.get_x() + band.get_width()) for band in axes.patches]
    assert bands == [(-0.5, 3.5), (3.5, 5.5), (5.5, 8.5)]
    assert axes.get_xlim() == (-0.5, 8.5)


def test_the_headline_compares_the_last_losses_alone_and_joined():
    figure = draw_phase_losses(rows(), PHASES, JOINS)
    assert figure.get_suptitle() == "Joined, the blocks end at a loss of 0.12; alone, at 0.075 to 0.2"
    alone = draw_phase_losses(rows()[:4], PHASES[:1], {})
    assert alone.get_suptitle() == "Alone, the blocks end at a loss of 0.075 to 0.2"


@pytest.mark.parametrize("zero", [0, 0.0, "0.0"])
def test_a_loss_of_zero_lies_on_the_lower_edge_and_is_marked(zero):
    given = rows()
    given[1]["train/loss_block5"] = given[2]["train/loss_block5"] = zero
    figure = draw_phase_losses(given, PHASES, JOINS)
    assert "exactly 0" in text_of(figure)
    floor = figure.axes[0].get_ylim()[0]
    assert 0 < floor < 0.075
    assert lines(figure)[2][2] == pytest.approx([0.5, floor, floor])
    assert triangles(figure) == [[1, 2]]
    assert "alone, at 0 to 0.2" in figure.get_suptitle()


def test_rounding_errors_do_not_stretch_the_axis():
    given = rows()
    given[2]["train/loss_block5"] = 1e-14
    figure = draw_phase_losses(given, PHASES, JOINS)
    assert "0 or below the axis" in text_of(figure)
    assert figure.axes[0].get_ylim()[0] > 1e-3
    assert triangles(figure) == [[2]]
    assert "<0.0001 to 0.2" in figure.get_suptitle()


def test_nothing_but_zeros_can_be_drawn():
    figure = draw_phase_losses([{"epoch": 0, "train/loss_block3": 0.0}], [("stage1", 0, 1)], {})
    assert "exactly 0" in text_of(figure)
    assert figure.get_suptitle() == "Alone, the blocks end at a loss of 0"


@pytest.mark.parametrize("gap", [None, "", float("nan"), float("inf")])
def test_missing_values_are_bridged_and_text_is_read(gap):
    given = [{key: str(value) for key, value in row.items()} for row in rows()]
    given[1]["train/loss_block3"] = gap
    figure = draw_phase_losses(given, PHASES, JOINS)
    text_of(figure)
    assert lines(figure)[0][1] == [0, 2, 3]


def test_phases_of_one_epoch_are_dots_under_names_that_do_not_overlap():
    blocks = {f"train/loss_block{block}": 0.1 for block in range(1, 6)}
    given = [{"epoch": epoch} | blocks for epoch in range(100)]
    given += [{"epoch": 100 + join, "train/loss": 0.2} for join in range(4)]
    phases = [("stage1", 0, 100)] + [(f"join_{2 + join}", 100 + join, 101 + join) for join in range(4)]
    figure = draw_phase_losses(given, phases, {f"join_{last}": range(1, last + 1) for last in range(2, 6)})
    assert "1–5 joined" in text_of(figure)
    joined = [line for line in figure.axes[0].lines if line.get_label() == "joined blocks"]
    assert [line.get_marker() for line in joined] == ["o"] * 4
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert len(boxes) == 5
    assert not any(a.overlaps(b) for place, a in enumerate(boxes) for b in boxes[:place])
    assert all(box.x0 >= 0 and box.x1 <= figure.bbox.x1 for box in boxes)
    title = figure._suptitle
    assert title is not None
    assert max(box.y1 for box in boxes) <= title.get_window_extent().y0


def test_names_of_long_and_short_phases_stand_in_one_line():
    blocks = {f"train/loss_block{block}": 0.1 for block in (3, 4, 5)}
    given = [{"epoch": epoch} | blocks for epoch in range(1000)]
    given += [{"epoch": epoch, "train/loss": 0.2} for epoch in range(1000, 1300)]
    figure = draw_phase_losses(
        given, [("stage1", 0, 1000), ("join_4", 1000, 1150), ("join_5", 1150, 1300)], JOINS
    )
    text = text_of(figure)
    assert "3–4 joined" in text
    assert len({round(name.get_window_extent().y1) for name in figure.axes[0].texts}) == 1


def test_phases_are_named_by_the_blocks_that_stand_together_in_them():
    figure = draw_phase_losses(
        [{"epoch": epoch, "train/loss": 0.5} for epoch in range(4)],
        [("direct_suffix", 0, 1), ("join_4", 1, 2), ("join_3", 2, 3), ("join_all", 3, 4)],
        {"join_4": (4,), "join_3": (2, 4), "join_all": (2, 3, 4)},
    )
    text = text_of(figure)
    assert all(name in text for name in ("direct suffix", "block 4", "2, 4 joined", "2–4 joined"))


@pytest.mark.parametrize("phases", [[], PHASES])
def test_nothing_logged_is_said(phases):
    assert "no loss logged" in text_of(draw_phase_losses([], phases, JOINS))
    assert "no loss logged" in text_of(
        draw_phase_losses([{"epoch": 0, "train/loss_block3": np.nan}], phases, JOINS)
    )
