"""Losses and metrics of the five kinds of targets, by hand."""

import math
from typing import get_args

import pytest
import torch

from lightning_modules.graph_prediction.targets import (
    Target,
    in_order,
    is_multi_label,
    is_of_nodes,
    shown,
    target_metrics,
    task_loss,
    update_metrics,
)


def test_nodes_are_weighted_by_what_their_class_lacks_of_the_batch() -> None:
    predicted = torch.tensor([[2.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    y = torch.tensor([0, 0, 0, 1])
    each = [math.log(1 + math.exp(-2)), math.log(2), math.log(1 + math.e), math.log(2)]
    weights = [0.25, 0.25, 0.25, 0.75]
    expected = sum(w * e for w, e in zip(weights, each, strict=True)) / sum(weights)
    assert task_loss("node_class", predicted, y).item() == pytest.approx(expected, rel=1e-6)


def test_a_batch_of_one_class_alone_has_a_finite_loss() -> None:
    assert task_loss("node_class", torch.zeros(3, 2), torch.ones(3).long()).item() == pytest.approx(
        math.log(2)
    )


def test_numbers_are_judged_by_their_absolute_difference() -> None:
    predicted, y = torch.tensor([[1.0], [3.0]]), torch.tensor([2.0, 1.0])
    assert task_loss("value", predicted, y).item() == 1.5
    metrics = target_metrics("value", "val", 1)
    update_metrics(metrics, "value", torch.tensor(1.5), predicted, y)
    assert metrics.compute()["val/mae"] == 1.5


@pytest.mark.parametrize("target", ["multi_label", "node_multi_label"])
def test_labels_are_present_where_their_logit_is_above_zero(target: Target) -> None:
    # 0.3 is a logit here, a probability to whoever guesses
    predicted, y = torch.tensor([[0.3, -0.2], [0.1, 0.4]]), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    metrics = target_metrics(target, "test", 2)
    update_metrics(metrics, target, torch.tensor(0.5), predicted, y)
    found = metrics.compute()
    assert found["test/f1"].item() == pytest.approx(2 * 2 / (2 * 2 + 1 + 0))
    assert found["test/acc"] == 0.5
    assert list(in_order(found)) == ["test/f1", "test/acc", "test/loss"]


@pytest.mark.parametrize("target", ["multi_label", "node_multi_label"])
def test_the_loss_of_labels_is_the_mean_over_all_of_them(target: Target) -> None:
    predicted, y = torch.tensor([[2.0, 0.0], [-1.0, 0.0]]), torch.tensor([[1, 0], [1, 1]])
    each = [math.log(1 + math.exp(-2)), math.log(2), math.log(1 + math.e), math.log(2)]
    assert task_loss(target, predicted, y).item() == pytest.approx(sum(each) / 4, rel=1e-6)
    assert torch.equal(shown(target, predicted), predicted.sigmoid())


def test_a_target_says_whose_it_is_and_whether_labels_exclude_each_other() -> None:
    assert [is_of_nodes(target) for target in get_args(Target)] == [False, False, False, True, True]
    assert [is_multi_label(target) for target in get_args(Target)] == [True, False, False, False, True]


def test_the_accuracy_of_nodes_is_the_mean_of_the_classes_recalls() -> None:
    predicted = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]])
    metrics = target_metrics("node_class", "test", 2)
    update_metrics(metrics, "node_class", torch.tensor(0.5), predicted, torch.tensor([0, 0, 1, 1]))
    assert metrics.compute()["test/acc"] == 0.75


def test_a_mean_loss_is_one_over_samples_and_not_over_batches() -> None:
    metrics = target_metrics("class", "val", 2)
    update_metrics(metrics, "class", torch.tensor(1.0), torch.zeros(3, 2), torch.zeros(3).long())
    update_metrics(metrics, "class", torch.tensor(5.0), torch.zeros(1, 2), torch.zeros(1).long())
    assert metrics.compute()["val/loss"] == 2.0


def test_predictions_are_shown_as_probabilities_or_numbers() -> None:
    logits = torch.tensor([[0.0, 1.0]])
    assert torch.equal(shown("multi_label", logits), logits.sigmoid())
    assert shown("class", logits).sum() == pytest.approx(1)
    assert torch.equal(shown("value", logits[:, :1]), logits[:, :1])
