"""From sweep words to distributions and back."""

import math
from typing import Any

import pytest

from harness.configuration.compose import compose
from harness.errors import UserError
from harness.sweeps.plan import first_combination, read_plan
from harness.sweeps.space import Setting, search_space

distributions = pytest.importorskip("optuna.distributions", reason="optuna is not installed")


def space(*words: str) -> list[Setting]:
    plan = read_plan(words)
    return search_space(plan.varied, plan.values or {})


def fields(setting: Setting) -> dict[str, Any]:
    return {
        "kind": type(setting.distribution).__name__.removesuffix("Distribution"),
        **vars(setting.distribution),
    }


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("8,16", {"kind": "Categorical", "choices": ("8", "16")}),
        ("choice(8,16)", {"kind": "Categorical", "choices": ("8", "16")}),
        ("[1,2],[3]", {"kind": "Categorical", "choices": ("[1,2]", "[3]")}),
        ("sort(3,1)", {"kind": "Categorical", "choices": ("1", "3")}),
        ("range(1,9)", {"kind": "Int", "low": 1, "high": 8, "step": 1, "log": False}),
        ("range(1,9,3)", {"kind": "Int", "low": 1, "high": 7, "step": 3, "log": False}),
        ("range(9,1,-3)", {"kind": "Int", "low": 3, "high": 9, "step": 3, "log": False}),
        ("tag(log,range(1,9))", {"kind": "Int", "low": 1, "high": 8, "step": 1, "log": True}),
        ("range(0.1,0.6,0.1)", {"kind": "Float", "low": 0.1, "high": 0.5, "step": 0.1, "log": False}),
        ("interval(0,1)", {"kind": "Float", "low": 0.0, "high": 1.0, "step": None, "log": False}),
        (
            "tag(log,interval(1e-4,1e-1))",
            {"kind": "Float", "low": 1e-4, "high": 0.1, "step": None, "log": True},
        ),
        ("int(interval(1,8))", {"kind": "Int", "low": 1, "high": 8, "step": 1, "log": False}),
        ("int(tag(log,interval(1,8)))", {"kind": "Int", "low": 1, "high": 8, "step": 1, "log": True}),
    ],
)
def test_each_way_to_write_several_values_has_its_distribution(
    written: str, expected: dict[str, Any]
) -> None:
    assert fields(space(f"model.x={written}")[0]) == expected


def test_the_choices_of_a_group_can_be_searched_by_a_pattern() -> None:
    assert fields(space("model=glob(osgan*)")[0]) == {
        "kind": "Categorical",
        "choices": ("osgan", "osgan_dfkd"),
    }


def test_a_key_that_is_added_keeps_its_plus() -> None:
    assert space("+trainer.max_steps=1,2")[0].word("2") == "+trainer.max_steps=2"


@pytest.mark.parametrize(
    ("written", "part"),
    [
        ("interval(1,0)", "from the lower to the higher"),
        ("interval(0,inf)", "from the lower to the higher"),
        ("tag(log,interval(0,1))", "begins above 0"),
        ("tag(log,int(interval(0,8)))", "begins at 1"),
        ("tag(log,range(0,8))", "begins at 1"),
        ("tag(log,range(1,9,2))", "no steps"),
        ("tag(log,range(0.1,0.9,0.1))", "no steps"),
        ("tag(log,choice(1,2))", "choices have no order"),
        ("tag(fast,interval(0,1))", "the only tag is log, got fast"),
    ],
)
def test_values_that_span_no_range_are_refused_in_the_users_words(written: str, part: str) -> None:
    with pytest.raises(UserError, match=part) as refused:
        space(f"model.x={written}")
    assert f"model.x={written}" in str(refused.value)


def test_seeds_are_not_searched() -> None:
    with pytest.raises(UserError, match="the best of several seeds is luck"):
        space("model.dropout=interval(0,1)", "seed=range(0,10)")


def test_a_search_needs_something_to_vary() -> None:
    with pytest.raises(UserError, match="something to vary"):
        space("model=gat")


@pytest.mark.parametrize(
    ("written", "points", "extremes"),
    [
        ("8,16,32", 3, ["8", "16", "32"]),
        ("range(1,9,3)", 3, [1, 7]),
        ("range(0.1,0.6,0.1)", 5, [0.1, 0.5]),
        ("interval(0,1)", math.inf, [0.0, 1.0]),
        ("int(interval(3,3.5))", 0, []),
    ],
)
def test_the_ends_of_a_range_and_all_choices_are_known_before_the_search(
    written: str, points: float, extremes: list[Any]
) -> None:
    if not points:
        with pytest.raises(UserError):
            space(f"model.x={written}")
        return
    setting = space(f"model.x={written}")[0]
    assert setting.points == points
    assert setting.extremes() == extremes


@pytest.mark.parametrize(
    ("written", "value", "word"),
    [
        ("range(0.1,0.6,0.1)", 0.1 + 2 * 0.1, "0.3"),
        ("interval(0,1)", 0.123456789, "0.123457"),
        # rounding must not lead out of the range
        ("interval(0,0.1234567)", 0.1234567, "0.1234567"),
        ("tag(log,interval(1e-9,1))", 1.23456789e-7, "1.23457e-07"),
        ("int(interval(1,8))", 3, "3"),
        ("null,2", "null", "null"),
    ],
)
def test_a_drawn_value_is_written_so_that_a_person_can_copy_it(written: str, value: Any, word: str) -> None:
    assert space(f"model.x={written}")[0].word(value) == f"model.x={word}"


def test_what_is_drawn_comes_back_as_the_same_value() -> None:
    word = space("model.optimizer.lr=tag(log,interval(1e-9,1))")[0].word(1.23456789e-7)
    assert compose(["model=gat", word]).config["model"]["optimizer"]["lr"] == 1.23457e-07


def test_the_configuration_of_a_search_can_be_shown() -> None:
    words = ["sweep=optuna", "model=gat,gcn", "model.dropout=interval(0,1)", "model.heads=int(interval(1,8))"]
    assert first_combination(words) == ("model=gat", "model.dropout=0.0", "model.heads=1")
