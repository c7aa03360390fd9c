"""What a cross-validation keeps: curves, weights, and what a damaged file is told."""

from typing import Any

import pytest
import torch
from torch import nn

from lightning_modules.graph_prediction.folds import FoldAccuracy, Folds


class Scale(nn.Module):
    """Returns its input times one number, and nothing beside."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, list[Any]]:
        return self.factor * x, []


def test_the_best_epoch_is_that_of_the_folds_mean_and_not_of_any_fold() -> None:
    folds = Folds(curves=[[0.9, 0.6, 0.5], [0.2, 0.8, 0.9]])
    epoch, mean, deviation = folds.best_epoch()
    assert epoch == 1  # means 0.55, 0.7, 0.7: the first of equals
    assert mean == pytest.approx(0.7)
    assert deviation == pytest.approx(0.1 * 2**0.5)


def test_each_graph_is_predicted_by_the_weights_of_its_own_fold() -> None:
    network = Scale(7.0)
    folds = Folds()
    for factor in (1.0, 2.0, 3.0):
        folds.finish(Scale(factor))
    fold = torch.tensor([2, 0, 1, 0])
    assert folds.predict(network, torch.ones(4, 1), fold).flatten().tolist() == [3.0, 1.0, 2.0, 1.0]
    assert network.factor.item() == 7.0


def test_kept_weights_do_not_change_with_the_network() -> None:
    network, folds = Scale(1.0), Folds()
    folds.finish(network)
    with torch.no_grad():
        network.factor.fill_(5.0)
    assert folds.weights[0]["factor"].item() == 1.0


def test_a_fold_that_goes_on_keeps_its_curve() -> None:
    folds = Folds(curves=[[0.5]])
    folds.begin(0)
    folds.begin(1)
    assert folds.curves == [[0.5], []]


def test_the_state_comes_back_as_it_was() -> None:
    folds = Folds(curves=[[0.25, 0.5]])
    folds.finish(Scale(2.0))
    again = Folds.from_state(folds.state())
    assert again.curves == folds.curves
    assert torch.equal(again.weights[0]["factor"], folds.weights[0]["factor"])


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"weights": [], "curves": None},
        {"weights": [3], "curves": []},
        {"weights": [{"a": 1}], "curves": []},
    ],
)
def test_a_damaged_state_is_refused(state: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="folds"):
        Folds.from_state(state)


def test_every_fold_counts_alike_whatever_its_size() -> None:
    metric = FoldAccuracy(2)
    predicted = torch.tensor([[1.0, 0.0]] * 4)
    metric.update(predicted, torch.tensor([0, 1, 1, 0]), torch.tensor([0, 0, 0, 1]))
    found = metric.compute()
    assert found["acc"].item() == pytest.approx((1 / 3 + 1) / 2)
    assert found["acc_std"].item() == pytest.approx((2 / 3) / 2**0.5)
