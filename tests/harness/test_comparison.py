"""Methods drawn beside each other."""

import pytest

from harness.comparison import Score, draw_method_comparison
from tests.figure_text import text_of


def test_comparison_states_the_gap_and_both_published_values():
    text = text_of(
        draw_method_comparison([Score("GAT", 0.831, 0.83, 0.007), Score("SPAGAN", 0.826, 0.836, 0.005)], 1000)
    )
    assert "SPAGAN is 0.5 points below GAT in this run" in text
    assert "83.0 ± 0.7" in text
    assert "83.6 ± 0.5" in text
    assert "Test accuracy (%)" in text


@pytest.mark.parametrize(
    "scores",
    [
        [],
        [Score("GAT", 0.8)],
        [Score("GAT", None, 0.83), Score("SPAGAN", 0.8)],
        [Score("A", 1.0), Score("B", 1.0)],
    ],
)
def test_comparison_draws_what_there_is(scores):
    assert "Test accuracy (%)" in text_of(draw_method_comparison(scores, 10))
