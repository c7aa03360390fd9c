import math

import pytest

from harness.curves import PhaseMark, PublishedValue, training_curves


def epochs(count, **values):
    return [{"epoch": epoch} | {key: value(epoch) for key, value in values.items()} for epoch in range(count)]


def full_rows(count):
    keys = ("train/loss", "val/loss", "train/acc", "val/acc")
    return [{"epoch": epoch} | dict.fromkeys(keys, 1 / (epoch + 1)) for epoch in range(count)]


def legend_of(figure):
    return [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def drawn(axes):
    """Lines of data, not the vertical and horizontal marks."""
    return [line for line in axes.lines if len(line.get_xdata()) and line.get_transform() == axes.transData]


def test_both_axes_are_labelled_and_metric_is_in_percent():
    figure = training_curves(full_rows(10), published=PublishedValue(0.836, 0.005))
    above, below = figure.axes
    assert above.get_ylabel() == "Loss"
    assert below.get_ylabel() == "Accuracy (%)"
    assert below.get_xlabel() == "Epoch"
    assert max(max(line.get_ydata()) for line in drawn(below)) == pytest.approx(100)
    assert "published (test): 83.6 ± 0.5" in legend_of(figure)


def test_line_is_broken_and_marked_at_the_phase_switch():
    marks = [PhaseMark("nodes", 0, 2), PhaseMark("paths", 4, 7, 0.5)]
    figure = training_curves(full_rows(8), marks)
    above, below = figure.axes
    assert any(list(line.get_xdata()) == [3.5, 3.5] for line in above.lines)
    train_parts = [list(line.get_xdata()) for line in above.lines if len(line.get_xdata()) == 4]
    assert train_parts == [[0, 1, 2, 3], [4, 5, 6, 7]] * 2
    assert [text.get_text() for text in above.texts] == ["1: nodes (best epoch 2)", "2: paths (best epoch 7)"]
    assert {"best epoch, restored", "test, restored weights"} <= set(legend_of(figure))
    assert below.get_xlabel() == "Epoch, counted across phases"


def test_one_epoch_is_drawn_as_a_point():
    figure = training_curves(full_rows(1))
    figure.draw_without_rendering()
    assert all(line.get_marker() == "o" for axes in figure.axes for line in drawn(axes))


def test_missing_validation_is_left_out_of_the_legend():
    figure = training_curves(epochs(5, **{"train/loss": lambda e: 1.0, "val/loss": lambda e: ""}))
    figure.draw_without_rendering()
    assert legend_of(figure) == ["training"]
    assert figure.axes[1].texts[0].get_text() == "not logged"


@pytest.mark.parametrize("hole", [math.nan, math.inf, None, ""])
def test_holes_are_skipped_and_text_is_read(hole):
    rows = [
        {"epoch": "0", "val/loss": "2.0"},
        {"epoch": "1", "val/loss": hole},
        {"epoch": "2", "val/loss": "1.0"},
    ]
    (line,) = drawn(training_curves(rows).axes[0])
    assert list(line.get_xdata()) == [0, 2]
    assert list(line.get_ydata()) == [2, 1]


def test_loss_over_decades_is_logarithmic():
    assert training_curves(epochs(20, **{"train/loss": lambda e: 10.0**-e})).axes[0].get_yscale() == "log"
    assert (
        training_curves(epochs(20, **{"train/loss": lambda e: 2.0 - e / 20})).axes[0].get_yscale() == "linear"
    )


def test_empty_log_still_gives_a_picture():
    figure = training_curves([], [PhaseMark("fit", 0)], PublishedValue(0.8))
    figure.draw_without_rendering()


def test_names_of_short_phases_do_not_overlap():
    marks = [PhaseMark(f"a phase with a long name {k}", 5 * k) for k in range(5)]
    figure = training_curves(full_rows(25), marks)
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert max(box.x1 for box in boxes) <= figure.bbox.x1


def test_further_keys_have_axes_of_their_own_if_they_have_values():
    rows = [{**row, "train/gamma": 0.1 * number} for number, row in enumerate(full_rows(4))]
    more = (("train/gamma", "γ"), ("train/nothing", "nothing"))
    figure = training_curves(rows, [PhaseMark("one", 0), PhaseMark("two", 2)], more=more)
    assert [axes.get_ylabel() for axes in figure.axes] == ["Loss", "Accuracy (%)", "γ"]
    assert [axes.get_xlabel() for axes in figure.axes] == ["", "", "Epoch, counted across phases"]
    *pieces, switch = figure.axes[-1].lines
    assert [list(line.get_ydata()) for line in pieces] == [pytest.approx([0, 0.1]), pytest.approx([0.2, 0.3])]
    assert list(switch.get_xdata()) == [1.5, 1.5]
