"""The page about adding a method shows code that works."""

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch_geometric.data import Data

PAGE = (Path(__file__).parents[2] / "docs" / "adding_a_method.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the page's Python defines."""
    found: dict[str, Any] = {"__name__": "page"}
    for block in blocks("python"):
        exec(compile(block, "docs/adding_a_method.md", "exec"), found)
    return found


@pytest.fixture
def chain() -> Data:
    """Three nodes in a row, one feature each."""
    everyone = torch.ones(3, dtype=torch.bool)
    return Data(
        x=torch.tensor([[1.0], [0.0], [2.0]]),
        edge_index=torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]]),
        y=torch.tensor([0, 1, 0]),
        train_mask=everyone,
        val_mask=everyone,
        test_mask=everyone,
    )


@pytest.fixture
def settings() -> dict[str, Any]:
    values = yaml.safe_load(blocks("yaml")[0])
    del values["_target_"]
    return values | {"in_channels": 1, "num_classes": 2}


def test_keys_of_the_yaml_are_the_constructor_arguments(names, settings):
    assert set(settings) == set(inspect.signature(names["SGCClassifier"]).parameters)


def test_the_model_averages_over_the_hops(names, settings, chain):
    model = names["SGCClassifier"](**settings)
    # Degrees with self-loops are 2, 3, 2.
    a = torch.tensor([[1 / 2, 6**-0.5, 0], [6**-0.5, 1 / 3, 6**-0.5], [0, 6**-0.5, 1 / 2]])
    linear = model.network.linear
    expected = (a @ a @ chain.x @ linear.weight + linear.bias).log_softmax(dim=-1)
    torch.testing.assert_close(model(chain), expected)


def test_every_parameter_gets_a_gradient(names, settings, chain):
    model = names["SGCClassifier"](**settings)
    loss, _ = model.training_loss(chain)
    loss.backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_a_network_to_start_from_is_no_part_of_the_state(names, settings):
    student, teacher = names["SGCStudent"](**settings), names["SGCClassifier"](**settings)
    own = set(student.state_dict())
    student.on_prerequisites({"teacher": teacher})
    assert set(student.state_dict()) == own
    assert not set(teacher.parameters()) & set(student.parameters())
