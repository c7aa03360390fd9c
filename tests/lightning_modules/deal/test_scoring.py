"""Scores of the pool: of any batch size and number of processes, and no more than is wanted."""

from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch

from datamodules.segmentation import SegmentationDataModule
from harness.build import build_trainer
from lightning_modules.deal.acquisition import select
from lightning_modules.deal.coreset import k_centre_scores
from lightning_modules.deal.module import scenes_of
from lightning_modules.deal.scoring import Acquisition
from tests.command_lines import child, run_folder
from tests.lightning_modules.deal.deal_runs import FEW, ROUNDS, deal_of, fitted, rows_of
from tests.small_runs import assert_same_weights

BATCHES = (1, 4, 20)


@pytest.mark.parametrize("acquisition", get_args(Acquisition))
def test_scores_are_those_of_any_batch_size_and_leave_no_trace(
    tmp_path: Path, acquisition: Acquisition
) -> None:
    words = (f"model.acquisition={acquisition}", "model.rounds=1", "trainer.max_epochs=1", "model.passes=2")
    done = fitted(tmp_path / "run", *words)
    module, data = deal_of(done), scenes_of(done.datamodule)
    assert (module.branch is not None) == acquisition.startswith("deal_")
    trainer = build_trainer(done.built)
    state, random = {k: v.clone() for k, v in module.state_dict().items()}, torch.get_rng_state()
    found = []
    for size in BATCHES:
        module.score_batch_size = size
        with torch.no_grad():
            found.append(module.score(trainer, data, data.unlabelled_ids))
    for one in found[1:]:
        np.testing.assert_allclose(one.scores, found[0].scores, atol=1e-5)
        np.testing.assert_allclose(one.shares, found[0].shares, atol=1e-3)
        assert one.ids.tolist() == data.unlabelled_ids.tolist()
    assert len(set(found[0].scores.tolist())) > 1, "equal scores would show nothing"
    assert_same_weights(module.state_dict(), state)
    assert torch.equal(torch.get_rng_state(), random)


def test_a_round_of_coreset_picks_what_is_wanted_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picked: list[int] = []

    def watched(features: torch.Tensor, labelled: torch.Tensor, number: int) -> torch.Tensor:
        picked.append(number)
        return k_centre_scores(features, labelled, number)

    monkeypatch.setattr("lightning_modules.deal.scoring.k_centre_scores", watched)
    done = fitted(tmp_path / "run", "model.acquisition=coreset", "model.rounds=2", "trainer.max_epochs=1")
    module, data = deal_of(done), scenes_of(done.datamodule)
    assert picked == [3, 12]
    trainer, ids = build_trainer(done.built), data.unlabelled_ids
    few, all_of_them = (
        select(module.score(trainer, data, ids, wanted).scores, ids.tolist(), 4) for wanted in (4, None)
    )
    assert few == all_of_them


def test_images_of_the_pool_that_come_in_another_order_are_not_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = fitted(tmp_path / "run", "model.acquisition=qbc", "model.rounds=1", "trainer.max_epochs=1")
    module, data = deal_of(done), scenes_of(done.datamodule)
    real = SegmentationDataModule.pool_loader

    def turned(self: Any, ids: torch.Tensor, batch_size: int | None = None) -> Any:
        return real(self, ids.flip(0), batch_size)

    monkeypatch.setattr(SegmentationDataModule, "pool_loader", turned)
    with pytest.raises(RuntimeError, match="did not come in the order that was asked for"):
        module.score(build_trainer(done.built), data, data.unlabelled_ids)


@pytest.mark.slow
def test_two_processes_score_as_one(tmp_path: Path) -> None:
    """The same weights list the same images, whoever looks at them."""
    few = ("model=deal", *FEW, "logger=csv", "~callbacks.pictures")
    done = child(*few, *ROUNDS, "model.rounds=2", "hardware=cpu", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    trained = run_folder(done.stdout)
    lists = []
    for hardware in ("cpu", "ddp_cpu"):
        done = child(*few, f"hardware={hardware}", "mode=predict", f"ckpt={trained}", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        lists.append(rows_of(run_folder(done.stdout) / "next_images.csv"))
    one, two = ([(row["rank"], row["file"]) for row in rows] for rows in lists)
    assert one == two
    assert [float(row["score"]) for row in lists[0]] == pytest.approx(
        [float(row["score"]) for row in lists[1]], abs=2e-6
    )
