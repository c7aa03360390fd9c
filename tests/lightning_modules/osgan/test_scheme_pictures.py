from itertools import pairwise

import numpy as np
import pytest

from lightning_modules.osgan.scheme_pictures import draw_costs, draw_schemes
from tests.figure_text import text_of


def run(seconds: float, steps: list[int], distance: list[float]) -> dict[str, list[float]]:
    return {"seconds": [seconds * step for step in steps], "steps": steps, "distance": distance}


def test_lines_are_means_over_seeds_where_all_have_been_measured():
    runs = [run(1.0, [0, 10, 20], [8.0, 4.0, 2.0]), run(2.0, [0, 10, 20], [6.0, 2.0, 1.0])]
    figure = draw_schemes({"one_stage": runs})
    over_time, over_steps = (axes.lines[0] for axes in figure.axes)
    assert over_steps.get_xdata().tolist() == [0, 10, 20]
    assert over_steps.get_ydata().tolist() == [7.0, 3.0, 1.5]
    # the faster seed ends after 20 s; the slower one is then half-way at 2
    assert over_time.get_xdata().tolist() == [0, 10, 20]
    assert over_time.get_ydata().tolist() == [7.0, 4.0, 2.0]
    assert "Mean and range over 2 seeds" in text_of(figure)


def test_schemes_are_named_at_their_lines_in_their_order():
    curves = {name: [run(1.0, [1, 2], [9.0, end])] for name, end in (("one_stage", 1.0), ("own", 1.01))}
    figure = draw_schemes(curves, "FID", "A headline")
    text = text_of(figure)
    assert "FID" in text
    labels = {label.get_text(): label.xy[1] for label in figure.axes[1].texts}
    assert labels["own"] - labels["one stage"] > 0.05


def test_names_of_lines_that_end_at_the_bottom_stay_above_the_axis():
    names = ("one_stage", "two_stage", "two_stage_lean", "two_stage_reuse", "simultaneous")
    figure = draw_schemes({name: [run(1.0, [1, 2500], [200.0, 4.1 + 0.01 * len(name)])] for name in names})
    figure.draw_without_rendering()
    frame = figure.axes[1].get_window_extent()
    boxes = sorted((label.get_window_extent() for label in figure.axes[1].texts), key=lambda box: box.y0)
    assert len(boxes) == len(names)
    assert boxes[0].y0 >= frame.y0 - 1
    assert boxes[-1].y1 <= frame.y1
    assert all(upper.y0 >= lower.y1 - 3 for lower, upper in pairwise(boxes))


@pytest.mark.parametrize(("seconds", "unit"), [(1.0, "(s)"), (10.0, "(min)"), (1000.0, "(h)")])
def test_time_has_the_unit_that_suits_it_and_one_measurement_can_be_drawn(seconds, unit):
    text = text_of(draw_schemes({"one_stage": [run(seconds, [10, 20], [3.0, 0.0])]}))
    assert unit in text
    assert "shared out evenly over the steps" in text.replace("\n", " ")
    text_of(draw_schemes({"one_stage": [run(seconds, [10], [3.0])]}))


def test_costs_state_what_was_measured_and_modelled():
    rows = [
        {"scheme": "one_stage", "measured": 1.0, "modelled": 1.0},
        {"scheme": "two_stage", "measured": 1.47, "modelled": 1.44, "low": 1.4, "high": 1.5},
        {"scheme": "simultaneous", "measured": 1.2, "modelled": None},
    ]
    figure = draw_costs(rows)
    text = text_of(figure)
    assert "two stages take 1.47 times as long" in text
    assert "1.47   model 1.44" in text
    assert "1.20" in text
    assert np.allclose([bar.get_width() for bar in figure.axes[0].patches], [1.0, 1.47, 1.2])
    assert "Time of a step relative to one stage" in text_of(draw_costs(rows[:1]))
