"""One-stage training learns what two-stage training learns: eight kinds of bumps, 900 steps, three seeds."""

from pathlib import Path
from statistics import mean

import pytest

from tests.small_runs import fit

pytestmark = pytest.mark.slow

SEEDS = range(3)


def test_bumps_are_learned_in_one_stage_as_well_as_in_two(tmp_path: Path) -> None:
    distances = {}
    for scheme in ("one_stage", "two_stage"):
        words = ("model=osgan", "data=bumps16", f"model.scheme={scheme}")
        found = [fit(tmp_path / f"{scheme}_{seed}", *words, f"seed={seed}").test() for seed in SEEDS]
        for seed, metrics in zip(SEEDS, found, strict=True):
            assert metrics["test/fd_bumps"] < 3.5, (scheme, seed)
            assert metrics["test/modes"] >= 7, (scheme, seed)
        distances[scheme] = mean(metrics["test/fd_bumps"] for metrics in found)
    assert distances["one_stage"] < 1.5 * distances["two_stage"]
