"""What DEAL is for, on the street scenes: it asks for hard images, and learns more from them. Minutes."""

import statistics
from pathlib import Path

import pytest

from tests.lightning_modules.deal.deal_runs import deal_of
from tests.small_runs import FittedRun, fit

SEEDS = (0, 1, 2)

pytestmark = pytest.mark.slow


def test_mean_difficulty_finds_the_hard_images_and_its_network_is_no_worse(tmp_path: Path) -> None:
    """The specification's acceptance, section 5: means of three seeds."""

    def run(acquisition: str, seed: int) -> FittedRun:
        words = ("model=deal", "data=street_scenes", f"model.acquisition={acquisition}", f"seed={seed}")
        return fit(tmp_path / f"{acquisition}_{seed}", *words)

    chosen = [run("deal_ds", seed) for seed in SEEDS]
    drawn = [run("random", seed) for seed in SEEDS]

    def mean(runs: list[FittedRun], metric: str) -> float:
        return statistics.mean(run.record.metrics[metric] for run in runs)

    pool = mean(chosen, "queries/hard_share_of_pool")
    assert pool == pytest.approx(0.3)
    assert mean(chosen, "queries/hard_share") >= pool + 0.1
    assert mean(chosen, "round_4/miou") >= mean(drawn, "round_4/miou")
    assert mean(chosen, "round_4/spearman") >= 0.5
    assert [int((deal_of(one).rounds.labelled > 0).sum()) for one in chosen] == [45] * 3
