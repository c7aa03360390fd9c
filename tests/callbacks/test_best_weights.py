"""Best weights and patience, on sequences worked out by hand."""

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from callbacks.best_weights import BestWeights
from harness.errors import UserError
from tests.small_runs import assert_same_weights, fit

NAN = math.nan


def trainer(min_epochs: int | None = 1) -> Any:
    return SimpleNamespace(check_val_every_n_epoch=1, min_epochs=min_epochs, should_stop=False)


def epochs_until_stop(callback: BestWeights, values: list[float], min_epochs: int | None = 1) -> int | None:
    """How many epochs run when ``values`` are measured; None where nothing ends them."""
    fake, module = trainer(min_epochs), nn.Linear(1, 1)
    callback.setup(fake, module, "fit")
    for epoch, value in enumerate(values):
        callback.on_epoch_metrics(fake, module, epoch, {"val/loss": value})
        if fake.should_stop:
            return epoch + 1
    return None


@pytest.mark.parametrize(
    ("values", "patience", "epochs", "best"),
    [
        # the best is at epoch 2; 1, then 2 epochs have passed without a better one
        ([3, 2, 1, 4, 4, 4], 2, 5, 2),
        ([3, 2, 1, 4, 4, 4], 3, 6, 2),
        ([3, 2, 1, 4, 4, 4], 4, None, 2),
        # a new best value starts the waiting anew, in the last moment too
        ([3, 4, 2, 4, 1, 4, 4], 2, 7, 4),
        ([3, 4, 4, 2], 2, 3, 0),
        ([1, 2], 1, 2, 0),
        # an equal value is not better: the first of them counts
        ([2, 1, 1, 1, 1], 2, 4, 1),
        ([1, 1, 1], 2, 3, 0),
        # what is not a number is never the best, but time passes
        ([NAN, 3, NAN, NAN], 2, 4, 1),
        ([2, NAN, 1, NAN, NAN], 2, 5, 2),
        ([NAN, NAN, NAN, NAN], 3, 4, -1),
        ([math.inf, 3, 4, 4], 2, 4, 1),
        ([-1, -2, -1, -1], 2, 4, 1),
        ([3, 2, 1], None, None, 2),
    ],
)
def test_patience_ends_a_phase_at_the_epoch_worked_out_by_hand(
    values: list[float], patience: int | None, epochs: int | None, best: int
) -> None:
    callback = BestWeights("val/loss", "min", patience)
    assert epochs_until_stop(callback, values) == epochs
    assert callback.best_epoch == best


@pytest.mark.parametrize(
    ("min_epochs", "epochs"), [(None, 4), (0, 4), (1, 4), (3, 4), (4, 5), (5, 6), (9, 10), (10, None)]
)
def test_more_than_the_minimum_of_epochs_are_done_before_patience_counts(
    min_epochs: int | None, epochs: int | None
) -> None:
    # patience alone would end it after 4 epochs
    callback = BestWeights("val/loss", "min", 3)
    assert epochs_until_stop(callback, [1.0] + [2.0] * 9, min_epochs) == epochs


def test_higher_is_better_where_the_mode_says_so() -> None:
    callback = BestWeights("val/loss", "max", 2)
    assert epochs_until_stop(callback, [0.1, 0.5, 0.5, 0.4]) == 4
    assert (callback.best_epoch, callback.best_value) == (1, 0.5)


def test_each_fit_starts_anew() -> None:
    callback = BestWeights("val/loss", "min", 2)
    epochs_until_stop(callback, [0.1, 5, 5])
    assert epochs_until_stop(callback, [9, 8, 7, 7, 7]) == 5
    assert (callback.best_epoch, callback.best_value) == (2, 7)


def test_a_fit_without_a_best_value_does_not_restore_the_one_before() -> None:
    callback = BestWeights("val/loss", "min", None)
    epochs_until_stop(callback, [1.0])
    epochs_until_stop(callback, [NAN])
    assert not callback.restore(nn.Linear(1, 1))


def test_the_weights_of_the_best_epoch_come_back() -> None:
    callback, fake, module = BestWeights("val/loss", "min", None), trainer(), nn.Linear(3, 2)
    callback.setup(fake, module, "fit")
    seen = []
    for epoch, value in enumerate([3.0, 1.0, 2.0, 1.0]):
        with torch.no_grad():
            module.weight.add_(1.0)
        seen.append({name: tensor.clone() for name, tensor in module.state_dict().items()})
        callback.on_epoch_metrics(fake, module, epoch, {"val/loss": value})
    assert callback.restore(module)
    assert_same_weights(module.state_dict(), seen[1])


def test_buffers_come_back_too() -> None:
    callback, fake, module = BestWeights("val/loss", "min", None), trainer(), nn.BatchNorm1d(2)
    callback.setup(fake, module, "fit")
    module(torch.randn(8, 2, generator=torch.Generator().manual_seed(0)))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    callback.on_epoch_metrics(fake, module, 0, {"val/loss": 1.0})
    module(torch.randn(8, 2, generator=torch.Generator().manual_seed(1)))
    callback.on_epoch_metrics(fake, module, 1, {"val/loss": 2.0})
    callback.restore(module)
    assert_same_weights(module.state_dict(), before)


def test_without_a_monitor_nothing_is_kept_and_nothing_ends() -> None:
    callback = BestWeights(None, "min", 1)
    assert epochs_until_stop(callback, [1.0, 2.0, 3.0, 4.0]) is None
    assert not callback.restore(nn.Linear(1, 1))


def test_an_unknown_monitor_is_answered_with_the_nearest() -> None:
    callback, metrics = BestWeights("val/los", "min", 5), {"train/loss": 1.0, "val/loss": 1.0, "val/acc": 0.5}
    with pytest.raises(
        UserError, match=r"monitor must be one of .*got 'val/los'\. Did you mean 'val/loss'\?"
    ):
        callback.on_epoch_metrics(trainer(), nn.Linear(1, 1), 0, metrics)


def test_a_graph_without_validation_nodes_keeps_its_last_weights() -> None:
    callback, fake, module = BestWeights("val/loss", "min", 1), trainer(), nn.Linear(1, 1)
    callback.setup(fake, module, "fit")
    for epoch in range(5):
        callback.on_epoch_metrics(fake, module, epoch, {"train/loss": 1.0 + epoch, "train/acc": 0.5})
    assert not fake.should_stop
    assert not callback.restore(module)


def test_its_state_goes_through_a_checkpoint() -> None:
    callback = BestWeights("val/loss", "min", 2)
    epochs_until_stop(callback, [2, 1, 3])
    again = BestWeights("val/loss", "min", 2)
    again.load_state_dict(callback.state_dict())
    assert (again.best_epoch, again.best_value) == (1, 1)
    assert again.restore(nn.Linear(1, 1))


def test_a_method_s_training_stops_by_the_same_rule(tmp_path: Path) -> None:
    run = fit(
        tmp_path,
        "model=mlp",
        "data=mini_citation",
        "model.optimizer.lr=0.5",
        "trainer.max_epochs=100",
        "callbacks.best_weights.patience=7",
        "model.epochs_per_call=4",
    )
    assert run.record.epochs["fit"] == run.record.best_epochs["fit"] + 8
