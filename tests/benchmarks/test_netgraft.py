"""What NetGraft's benchmark compares: that both ways compute the same, and whole runs of seconds."""

from pathlib import Path

import pytest
import torch

from benchmarks.authors_grafting import authors_loss
from benchmarks.grafting_runs import (
    SETTINGS,
    Candidates,
    Setting,
    check,
    run_authors,
    run_ours,
    stage1_seconds,
)
from benchmarks.netgraft import technique_table, whole_tables
from harness.configuration.check import check as check_configuration
from harness.configuration.compose import compose

# what harness/run_log.py keeps off the console, and Lightning's doubt about blocks that stay as they are
pytestmark = pytest.mark.filterwarnings("ignore:.*(many workers|logging interval|in eval mode).*:UserWarning")

TEACHER = {
    "name": "vgg",
    "widths": [[4], [6], [8]],
    "head": 8,
    "head_norm": True,
    "linear_std": 0.3,
}
WORDS = (
    "model.student={name: vgg, widths: [[4], [4], [4]], head: 8, head_norm: false, linear_std: 0.3}",
    "model.grafted=[1, 2, 3]",
    "model.shots=2",
    "model.stage1_epochs=[2, 1, 1]",
    "model.stage2_epochs=2",
    "data.num_train=40",
    "data.num_val=0",
    "data.num_test=40",
)
COMPLETE = Setting("complete", WORDS, TEACHER)
SCALED = Setting("scaled", WORDS, TEACHER, epochs=1, num_test=400)


def test_their_loss_by_hand() -> None:
    # (3, 4) and (1, 0) have a cosine of 3/5
    assert authors_loss(torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 4.0]])) == pytest.approx(0.8)


def test_both_ways_have_the_same_losses_and_gradients_in_every_phase(tmp_path: Path) -> None:
    check(Candidates(COMPLETE, tmp_path))


def test_the_check_notices_another_loss(tmp_path: Path) -> None:
    candidates = Candidates(Setting("mse", (*WORDS, "model.loss=mse"), TEACHER), tmp_path)
    with pytest.raises(AssertionError, match="not close"):
        check(candidates)


def test_a_complete_run_of_both_has_all_phases_and_its_own_time(tmp_path: Path) -> None:
    candidates = Candidates(COMPLETE, tmp_path)
    theirs, ours = run_authors(candidates), run_ours(candidates)
    assert [*theirs.phases] == ["block_1", "block_2", "block_3", "join_2", "join_3"]
    assert [*ours.phases] == ["stage1", "join_2", "join_3"]
    for whole in (theirs, ours):
        assert whole.seconds == whole.measured
        assert 0 < sum(wall for wall, _ in whole.phases.values()) < whole.seconds[0]
        assert whole.accuracy is not None
        assert 0 <= whole.accuracy <= 1


def test_a_scaled_run_says_what_it_measured(tmp_path: Path) -> None:
    candidates = Candidates(SCALED, tmp_path)
    whole, theirs = whole_tables(candidates, 1)
    assert "extrapolated from 1 epochs of each phase and 40 of 400 test images" in whole[0].title
    (row,) = whole[0].rows
    assert row["authors' s"] > 0 < row["of it measured, ours s"]
    assert theirs.accuracy is None
    table = technique_table(candidates, 1, theirs)
    assert [row["ratio"] > 0 for row in table.rows] == [True] * 4


def test_stage_1_is_extrapolated_by_how_many_blocks_are_still_trained() -> None:
    # three epochs each, the first not counted; 60 epochs with all blocks, 40 with the longest alone
    times = [(9.0, 9.0), (2.0, 1.0), (2.0, 1.0), (9.0, 9.0), (1.0, 0.5), (1.0, 0.5)]
    assert stage1_seconds(times, 3, [60, 100]) == (60 * 2 + 40 * 1, 60 * 1 + 40 * 0.5)


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_of_the_benchmark_is_a_good_command(name: str) -> None:
    composed = compose(SETTINGS[name].command)
    check_configuration(composed.config, composed.choices)
