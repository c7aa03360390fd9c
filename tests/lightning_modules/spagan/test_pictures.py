import numpy as np
import pytest

from lightning_modules.spagan.pictures import (
    draw_attention_spread,
    draw_cost_histogram,
    draw_label_agreement,
    draw_length_attention,
    draw_path_counts,
    draw_unchanged_paths,
    length_label,
)
from tests.figure_text import text_of

NAN = np.nan


def test_a_length_counts_both_ends():
    assert length_label(2) == "2 nodes (1 hop)"
    assert length_label(4) == "4 nodes (3 hops)"


def test_costs_name_their_median():
    text = text_of(draw_cost_histogram(np.array([0.0, 0.5, 0.6, NAN, 1.0])))
    assert "less than 0.55" in text
    assert "Share of edges (%)" in text


def test_graph_without_edges_says_so():
    assert "no edges" in text_of(draw_cost_histogram(np.array([])))


@pytest.mark.parametrize("lengths", [[2], [2, 3], [2, 3, 4, 5]])
def test_path_counts_are_written_out_for_any_number_of_lengths(lengths):
    count = np.arange(len(lengths)) * 1000 + 1234
    text = text_of(draw_path_counts(np.array(lengths), 4 * count, count, np.full(len(lengths), 99)))
    assert "25 %" in text
    assert "1,234" in text
    assert "Number of paths" in text
    assert all(length_label(length) in text for length in lengths)


def test_path_counts_of_a_graph_without_paths():
    assert "none" in text_of(draw_path_counts(np.array([2]), np.array([0]), np.array([0]), np.array([3])))


def test_length_attention_weighs_classes_by_size_and_survives_an_empty_one():
    beta = np.array([[0.9, 0.5, NAN], [0.1, 0.5, NAN]])
    text = text_of(
        draw_length_attention(
            np.array([2, 3]), beta, ["Probabilistic_Methods", "Theory"], np.array([1, 3, 0])
        )
    )
    assert "take 40 % of" in text  # (1 * 0.1 + 3 * 0.5) / 4
    assert "Probabilistic Methods" in text
    assert "class 2" in text
    assert "no nodes" in text


def test_one_length_takes_all_attention():
    assert "one length" in text_of(draw_length_attention(np.array([2]), np.ones((1, 1)), [], np.array([5])))


def test_attention_spread_counts_the_nodes_that_have_a_choice():
    share = {2: np.array([0.2, 0.4, NAN]), 3: np.array([NAN, NAN, NAN])}
    text = text_of(draw_attention_spread(share, {2: np.array([1.0, 1 + 1e-12, NAN]), 3: share[3]}))
    assert "2 of 3 nodes have a choice" in text
    assert "no node has a choice" in text
    assert "30 % (2 nodes)" in text


def test_attention_spread_without_paths_says_so():
    assert "no paths" in text_of(draw_attention_spread({}, {}))


def test_label_agreement_stands_beside_edges_and_chance():
    text = text_of(
        draw_label_agreement(np.array([2, 3]), np.array([0.8, 0.7]), np.array([0.9, NAN]), 0.81, 0.18)
    )
    assert "70 % of kept paths of 3 nodes" in text
    assert "all edges: 81.0 %" in text
    assert "random pairs: 18.0 %" in text
    assert "none" in text


def test_label_agreement_without_any_path():
    text = text_of(draw_label_agreement(np.array([2]), np.array([NAN]), np.array([NAN]), NAN, 1.0))
    assert "there are none" in text


def test_unchanged_paths_are_shown_per_iteration():
    text = text_of(draw_unchanged_paths([{2: 0.995, 3: 0.9}, {2: 1.0, 3: NAN}]))
    assert "1 → 2" in text
    assert "2 → 3" in text
    assert "99.5" in text
    assert "none" in text
    assert "built only once" in text_of(draw_unchanged_paths([]))
