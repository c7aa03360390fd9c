"""Averages over an epoch's steps and over a network's weights."""

import copy

import pytest
import torch
from torch import nn

from lightning_modules.osgan.averages import StepAverages, average_weights


def test_numbers_are_averaged_over_steps_by_name() -> None:
    averages = StepAverages(("a", "b"))
    for values in ([1.0, 10.0], [3.0, 20.0]):
        averages.update(torch.tensor(values))
    assert {name: float(value) for name, value in averages.compute().items()} == {"a": 2.0, "b": 15.0}
    averages.reset()
    averages.update(torch.tensor([5.0, 5.0]))
    assert float(averages.compute()["a"]) == 5.0


def test_a_step_that_overflowed_is_left_out_of_what_it_spoilt() -> None:
    averages = StepAverages(("a", "b"))
    for values in ([1.0, torch.inf], [3.0, 20.0], [5.0, torch.nan]):
        averages.update(torch.tensor(values))
    assert {name: float(value) for name, value in averages.compute().items()} == {"a": 3.0, "b": 20.0}


def test_weights_and_statistics_move_and_counters_follow() -> None:
    old = nn.Sequential(nn.Linear(1, 1, bias=False), nn.BatchNorm1d(1))
    new = copy.deepcopy(old)
    with torch.no_grad():
        old[0].weight.fill_(0.0)
        new[0].weight.fill_(1.0)
    new[1].running_mean.fill_(2.0)  # type: ignore[union-attr, operator]
    new[1].num_batches_tracked.fill_(7)  # type: ignore[union-attr, operator]
    average_weights(old, new, decay=0.9, step=10**6)
    assert old[0].weight.item() == pytest.approx(0.1)
    assert old[1].running_mean.item() == pytest.approx(0.2)  # type: ignore[union-attr, operator]
    assert old[1].num_batches_tracked.item() == 7  # type: ignore[union-attr, operator]


def test_the_average_begins_quickly() -> None:
    old, new = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        old.weight.fill_(0.0)
        new.weight.fill_(1.0)
    average_weights(old, new, decay=0.999, step=0)
    assert old.weight.item() == pytest.approx(0.9)  # 1 - 1/10
