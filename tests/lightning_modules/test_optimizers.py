"""Optimisers and schedules from plain dictionaries."""

from typing import Any

import pytest
import torch
from torch import nn

from harness.errors import UserError
from lightning_modules.optimizers import build_optimizer, build_scheduler


def groups(*layers: nn.Module) -> list[dict[str, Any]]:
    return [{"params": list(layer.parameters())} for layer in layers]


def test_the_class_and_its_arguments_are_those_of_the_dictionary() -> None:
    spec = {"name": "SGD", "lr": 0.5, "momentum": 0.9, "nesterov": True}
    optimizer = build_optimizer(groups(nn.Linear(2, 1)), spec)
    assert type(optimizer) is torch.optim.SGD
    group = optimizer.param_groups[0]
    assert (group["lr"], group["momentum"], group["nesterov"]) == (0.5, 0.9, True)
    assert spec["name"] == "SGD", "the dictionary is left as it was: it is saved in checkpoints"


def test_a_group_s_own_settings_go_before_those_of_the_dictionary() -> None:
    first, second = groups(nn.Linear(2, 2), nn.Linear(2, 1))
    optimizer = build_optimizer(
        [first, second | {"weight_decay": 0.0}], {"name": "Adam", "lr": 0.01, "weight_decay": 5e-4}
    )
    assert [group["weight_decay"] for group in optimizer.param_groups] == [5e-4, 0.0]
    assert [group["lr"] for group in optimizer.param_groups] == [0.01, 0.01]


def test_parameters_out_of_play_are_left_out() -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 1)
    first.weight.requires_grad_(False)
    second.requires_grad_(False)
    optimizer = build_optimizer(groups(first, second), {"name": "Adam", "lr": 0.01})
    assert [group["params"] for group in optimizer.param_groups] == [[first.bias]]


def test_the_groups_given_are_not_changed() -> None:
    given = groups(nn.Linear(2, 1))
    given[0]["params"][0].requires_grad_(False)
    build_optimizer(given, {"name": "Adam", "lr": 0.01})
    assert len(given[0]["params"]) == 2
    assert set(given[0]) == {"params"}


@pytest.mark.parametrize("name", ["Adam", "AdamW", "SGD", "RMSprop", "Adagrad", "NAdam", "RAdam", "Adadelta"])
def test_every_usual_optimiser_takes_a_step(name: str) -> None:
    layer = nn.Linear(2, 1)
    optimizer = build_optimizer(groups(layer), {"name": name, "lr": 0.1})
    before = layer.weight.clone()
    layer(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    assert not torch.equal(layer.weight, before)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("adam", r"got 'adam'\. Did you mean 'Adam'\?"),
        ("Optimizer", "got 'Optimizer'"),
        ("lr_scheduler", "got 'lr_scheduler'"),
        ("__builtins__", "got '__builtins__'"),
        ("os.system", r"got 'os\.system'"),
        (None, "got None"),
    ],
)
def test_only_optimisers_of_torch_are_found(name: Any, says: str) -> None:
    with pytest.raises(UserError, match=r"model\.optimizer\.name must be a class of torch\.optim, " + says):
        build_optimizer(groups(nn.Linear(2, 1)), {"name": name, "lr": 0.1})


@pytest.mark.parametrize("keywords", [{"lr": -1.0}, {"lr": 0.1, "momentun": 0.9}, {"betas": (2.0, 0.9)}])
def test_what_the_class_refuses_is_a_user_s_mistake(keywords: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"model\.optimizer: Adam refuses "):
        build_optimizer(groups(nn.Linear(2, 1)), {"name": "Adam", **keywords})


def test_a_schedule_sets_the_learning_rate() -> None:
    optimizer = build_optimizer(groups(nn.Linear(2, 1)), {"name": "SGD", "lr": 1.0})
    scheduler = build_scheduler(optimizer, {"name": "ExponentialLR", "gamma": 0.5})
    rates = []
    for _ in range(3):
        optimizer.step()
        scheduler.step()
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == [0.5, 0.25, 0.125]


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ({"name": "StepLr", "step_size": 3}, r"got 'StepLr'\. Did you mean 'StepLR'\?"),
        ({"name": "Adam"}, "got 'Adam'"),
        ({"name": "LRScheduler"}, "got 'LRScheduler'"),
        ({}, "got None"),
        ({"name": "StepLR"}, "StepLR refuses"),
        ({"name": "StepLR", "step_size": 3, "gama": 0.1}, "StepLR refuses"),
    ],
)
def test_only_schedules_of_torch_with_their_own_arguments_are_built(spec: dict[str, Any], says: str) -> None:
    optimizer = build_optimizer(groups(nn.Linear(2, 1)), {"name": "SGD", "lr": 1.0})
    with pytest.raises(UserError, match=says):
        build_scheduler(optimizer, spec)


@pytest.mark.parametrize(
    ("spec", "key", "value"),
    [
        ({"name": "CosineAnnealingLR"}, "T_max", 7),
        ({"name": "CosineAnnealingLR", "T_max": 3}, "T_max", 3),
        ({"name": "OneCycleLR", "max_lr": 0.1}, "total_steps", 7),
        ({"name": "OneCycleLR", "max_lr": 0.1, "total_steps": 5}, "total_steps", 5),
        ({"name": "OneCycleLR", "max_lr": 0.1, "epochs": 2, "steps_per_epoch": 4}, "total_steps", 8),
    ],
)
def test_a_schedule_is_as_long_as_training_unless_it_says_otherwise(
    spec: dict[str, Any], key: str, value: int
) -> None:
    optimizer = build_optimizer(groups(nn.Linear(2, 1)), {"name": "SGD", "lr": 1.0})
    before = dict(spec)
    assert vars(build_scheduler(optimizer, spec, length=7))[key] == value
    assert spec == before, "it is saved in checkpoints"


def test_training_of_no_length_still_has_a_schedule() -> None:
    optimizer = build_optimizer(groups(nn.Linear(2, 1)), {"name": "SGD", "lr": 1.0})
    build_scheduler(optimizer, {"name": "CosineAnnealingLR"}, length=0)
    build_scheduler(optimizer, {"name": "OneCycleLR", "max_lr": 0.1}, length=0)
    with pytest.raises(UserError, match="CosineAnnealingLR refuses"):
        build_scheduler(optimizer, {"name": "CosineAnnealingLR"})
