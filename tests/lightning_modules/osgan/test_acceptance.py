"""One-stage training learns what two-stage training learns: eight kinds of bumps in 900 steps."""

import pytest

from tests.small_runs import fit

pytestmark = pytest.mark.slow


def test_bumps_are_learned_in_one_stage_as_well_as_in_two(tmp_path_factory: pytest.TempPathFactory) -> None:
    found = {}
    for scheme in ("one_stage", "two_stage"):
        run = fit(tmp_path_factory.mktemp(scheme), "model=osgan", "data=bumps16", f"model.scheme={scheme}")
        found[scheme] = run.test()
    for metrics in found.values():
        assert metrics["test/fd_bumps"] < 3.5
        assert metrics["test/modes"] >= 7
    assert found["one_stage"]["test/fd_bumps"] < 1.5 * found["two_stage"]["test/fd_bumps"]
