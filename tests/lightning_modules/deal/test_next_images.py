"""Which images are listed, and what the rounds before have asked for."""

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from callbacks.savepoints import Savepoints
from datamodules.segmentation import SegmentationDataModule
from harness.build import build_datamodule, build_trainer
from harness.errors import UserError
from lightning_modules.deal.module import scenes_of
from lightning_modules.deal.next_images import images_to_annotate
from lightning_modules.deal.rounds import Rounds
from tests.lightning_modules.deal.deal_runs import FEW, KeepingSavepoints, deal_of, fitted, rows_of
from tests.small_runs import FittedRun, configuration

ONE_EPOCH = "trainer.max_epochs=1"


def queries_of(rounds: Rounds, names: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows that the file should have."""
    rows = []
    for number in sorted(rounds.queries):
        score = dict(zip(rounds.candidates[number].tolist(), rounds.scores[number].tolist(), strict=True))
        for rank, one in enumerate(rounds.queries[number], 1):
            words = (number, rank, one, names[one], f"{score[one]:.6f}")
            rows.append(dict(zip(("round", "rank", "id", "file", "score"), map(str, words), strict=True)))
    return rows


def test_all_rounds_queries_stand_in_a_file_which_a_kill_does_not_change(tmp_path: Path) -> None:
    unbroken = fitted(tmp_path / "unbroken", ONE_EPOCH, savepoints=KeepingSavepoints(tmp_path / "copies"))
    module, names = deal_of(unbroken), scenes_of(unbroken.datamodule).splits["train"].names
    rows = rows_of(unbroken.folder / "queries.csv")
    assert rows == queries_of(module.rounds, names)
    assert [(row["round"], row["rank"]) for row in rows] == [(r, k) for r in "123" for k in "123"]
    assert [row["file"] for row in rows[:3]] == [names[one] for one in module.rounds.queries[1]]
    for first, second in itertools.pairwise(rows):
        if first["round"] == second["round"]:
            assert float(first["score"]) >= float(second["score"])
    listed = rows_of(unbroken.folder / "next_images.csv")
    assert [row["id"] for row in rows[6:]] == [row["id"] for row in listed[:3]]
    # whole after each round, and the same after a run goes on
    kinds = {copy.name.split("_", 1)[1]: copy for copy in sorted((tmp_path / "copies").iterdir())}
    assert not (kinds["round_1_trained"] / "queries.csv").exists()
    assert rows_of(kinds["round_1_done"] / "queries.csv") == rows[:3]
    assert rows_of(kinds["round_2_done"] / "queries.csv") == rows[:6]
    for name in ("round_1_done", "round_2_trained", "round_3_trained"):
        fitted(kinds[name], ONE_EPOCH, savepoints=Savepoints(None))
        assert (kinds[name] / "queries.csv").read_bytes() == (unbroken.folder / "queries.csv").read_bytes()


def test_images_that_another_run_asked_for_are_in_it_without_a_score(tmp_path: Path) -> None:
    other = fitted(tmp_path / "other", "data.seed=5", ONE_EPOCH)
    done = fitted(tmp_path / "run", "model.acquisition=random", f"model.picks_from={other.folder}", ONE_EPOCH)
    theirs, mine = (rows_of(one.folder / "queries.csv") for one in (other, done))
    assert [row["file"] for row in mine[:6]] == [row["file"] for row in theirs[:6]]
    assert [bool(row["score"]) for row in mine] == [False] * 6 + [True] * 3


@pytest.fixture
def some_without(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The last six of the twenty training images have no mask, in every run."""
    real = SegmentationDataModule.setup

    def setup(self: Any, stage: str | None = None) -> None:
        first = not self.splits
        real(self, stage)
        if first:
            self.splits["train"].has_mask[14:] = False
            self._labelled = self.splits["train"].has_mask.long()

    monkeypatch.setattr(SegmentationDataModule, "setup", setup)
    return list(range(14, 20))


def listed(run: FittedRun) -> list[int]:
    return [int(row["id"]) for row in rows_of(run.folder / "next_images.csv")]


@pytest.mark.parametrize("acquisition", ["deal_ds", "coreset"])
def test_where_some_images_have_no_mask_those_alone_are_listed_in_fit_and_predict_alike(
    tmp_path: Path, some_without: list[int], acquisition: str
) -> None:
    words = ("model.rounds=1", "model.initial=5", f"model.acquisition={acquisition}", ONE_EPOCH)
    done = fitted(tmp_path / "run", *words)
    module, data = deal_of(done), scenes_of(done.datamodule)
    assert int((module.rounds.labelled > 0).sum()) == 5
    first = listed(done)
    assert sorted(first) == some_without
    assert module.rounds.candidates[1].tolist() == some_without
    assert module.rounds.queries[1] == first[:3]
    (done.folder / "next_images.csv").unlink()
    build_trainer(done.built).predict(module, datamodule=data)
    assert listed(done) == first


def test_where_all_have_a_mask_the_unlabelled_are_to_annotate(some_without: list[int]) -> None:
    data = scenes_of(build_datamodule(configuration("model=deal", *FEW)))
    assert images_to_annotate(data).tolist() == some_without
    labelled = torch.zeros(20, dtype=torch.long)
    labelled[[3, 5]] = 1
    data.set_labelled(labelled)
    assert images_to_annotate(data).tolist() == some_without
    data.splits["train"].has_mask[:] = True
    assert images_to_annotate(data).tolist() == [one for one in range(20) if one not in (3, 5)]
    data.set_labelled(torch.ones(20, dtype=torch.long))
    assert images_to_annotate(data).tolist() == []


def test_one_labelled_image_does_not_train_a_network_that_pools_whole_images(tmp_path: Path) -> None:
    words = ("model.network=deeplab_mobilenet", "model.initial=1", "model.rounds=2", ONE_EPOCH)
    with pytest.raises(UserError, match=r"^1 labelled image gives one image at a time.*\(model\.initial=2\)"):
        fitted(tmp_path / "run", *words)
