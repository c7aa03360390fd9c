"""A split that adds to its parts and moves nothing, but for names that an empty part has borrowed."""

import itertools

import numpy as np
import pytest

import datamodules.steady_split as steady
from datamodules.steady_split import steady_split, uniform

SHARES = {"test": 0.2, "val": 0.2, "train": 0.6}


def part_of(names: list[str], seed: int = 0, shares: dict[str, float] = SHARES) -> dict[str, str]:
    members, borrowed = steady_split(names, shares, seed)
    assert sorted(itertools.chain.from_iterable(members.values())) == sorted(names), "each name once"
    assert all(members.values()), "none is empty"
    assert all(name in members[part] for name, part in borrowed.items())
    return {name: part for part, some in members.items() for name in some}


def set_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names are their own numbers."""
    monkeypatch.setattr(steady, "uniform", lambda name, seed: float(name))


@pytest.mark.parametrize(
    ("names", "test", "val", "train", "borrowed"),
    [
        ("0.1 0.3 0.5 0.19 0.2 0.4", "0.1 0.19", "0.3 0.2", "0.5 0.4", {}),
        ("0.3 0.5 0.6", "0.5", "0.3", "0.6", {"0.5": "test"}),  # 0.3 is its part's only one
        ("0.7 0.5 0.1 0.6", "0.1", "0.5", "0.7 0.6", {"0.5": "val"}),
        ("0.01 0.1 0.18 0.6", "0.01 0.1", "0.18", "0.6", {"0.18": "val"}),
        ("0.7 0.9 0.8", "0.7", "0.8", "0.9", {"0.7": "test", "0.8": "val"}),
        ("0.01 0.02 0.03", "0.01", "0.03", "0.02", {"0.03": "val", "0.02": "train"}),
        ("0.35 0.3 0.25", "0.25", "0.3", "0.35", {"0.25": "test", "0.35": "train"}),
    ],
)
def test_names_lie_where_their_numbers_do_and_an_empty_part_takes_the_nearest(
    monkeypatch: pytest.MonkeyPatch, names: str, test: str, val: str, train: str, borrowed: dict[str, str]
) -> None:
    set_draws(monkeypatch)
    expected = {"test": test.split(), "val": val.split(), "train": train.split()}
    assert steady_split(names.split(), SHARES, 0) == (expected, borrowed)


@pytest.mark.parametrize("seed", range(20))
def test_no_name_moves_when_others_are_added_once_every_part_has_one_of_its_own(seed: int) -> None:
    names = [f"day{number % 3}/{number:04d}" for number in np.random.default_rng(seed).permutation(60)]
    own = [uniform(name, seed) for name in names]
    stretches = [(0.0, 0.2), (0.2, 0.4), (0.4, 1.0)]
    before: dict[str, str] = {}
    steady_steps = 0
    for count in range(3, 61):
        some = names[:count]
        now = part_of(some, seed)
        if all(any(low <= draw < high for draw in own[: count - 1]) for low, high in stretches):
            assert {name: now[name] for name in before} == before, "nothing moved"
            steady_steps += 1
        assert part_of(some[::-1], seed) == now, "the order in which they came says nothing"
        before = now
    assert steady_steps > 30
    assert part_of(names[5:], seed) == {name: before[name] for name in names[5:]}, "nor by removal"


@pytest.mark.parametrize("seed", range(20))
def test_only_borrowed_names_lie_elsewhere(seed: int) -> None:
    names = [f"{number}" for number in range(60)]
    for count in range(3, 61):
        members, borrowed = steady_split(names[:count], SHARES, seed)
        for (part, some), (low, high) in zip(
            members.items(), [(0.0, 0.2), (0.2, 0.4), (0.4, 1.0)], strict=True
        ):
            outside = {name for name in some if not low <= uniform(name, seed) < high}
            assert outside == {name for name, place in borrowed.items() if place == part}
            assert not outside or len(some) == 1


def test_parts_have_their_shares_and_another_seed_another_split() -> None:
    names = [f"{number}" for number in range(4000)]
    found = list(part_of(names).values())
    for part, share in SHARES.items():
        assert found.count(part) / 4000 == pytest.approx(share, abs=0.03)
    assert part_of(names, 1) != part_of(names)


def test_the_share_of_a_part_moves_nothing_of_those_before_it() -> None:
    names = [f"{number}" for number in range(50)]
    with_val, without = (
        steady_split(names, shares, 0)[0] for shares in (SHARES, {"test": 0.2, "train": 0.8})
    )
    assert with_val["test"] == without["test"]
    assert sorted(with_val["val"] + with_val["train"]) == sorted(without["train"])


def test_fewer_names_than_parts_are_refused() -> None:
    with pytest.raises(ValueError, match="2 names cannot fill 3 parts"):
        steady_split(["a", "b"], SHARES, 0)
