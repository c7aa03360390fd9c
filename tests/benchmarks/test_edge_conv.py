"""The forms that EdgeConv is timed against compute the same."""

import pytest
import torch

from benchmarks import edge_conv
from benchmarks.edge_conv import (
    check,
    neighbours_of,
    row,
    whole_network,
    with_normalisation,
    without_normalisation,
)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    for name, value in (("CLOUDS", 2), ("POINTS", 40), ("K", 5)):
        monkeypatch.setattr(edge_conv, name, value)


def test_both_forms_of_a_layer_are_one() -> None:
    check(with_normalisation(3, 8, torch.float64))
    check(without_normalisation(3, 8, torch.float64))


def test_another_form_is_noticed() -> None:
    ours, _ = with_normalisation(3, 8, torch.float64)
    _, theirs = with_normalisation(3, 8, torch.float64)  # other weights
    with pytest.raises(AssertionError):
        check((ours, theirs))


def test_both_forms_of_the_network_have_the_same_gradients() -> None:
    check(whole_network(torch.float64))


def test_a_line_has_both_times_and_the_ratio_with_its_quartiles() -> None:
    found = row({"what": "neighbours"}, neighbours_of(3), 3)
    assert list(found) == ["what", "ours ms", "theirs ms", "ratio", "25 %", "75 %"]
    assert found["25 %"] <= found["ratio"] <= found["75 %"]
