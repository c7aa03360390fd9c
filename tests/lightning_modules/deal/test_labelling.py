"""What is labelled in each round, what is read of it and what is reported."""

from pathlib import Path
from typing import Any

import pytest
import torch

from datamodules.segmentation import SegmentationDataModule
from lightning_modules.deal.module import scenes_of
from tests.command_lines import metrics_rows
from tests.lightning_modules.deal.deal_runs import deal_of, fitted
from tests.small_runs import FittedRun


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FittedRun:
    return fitted(tmp_path_factory.mktemp("deal") / "run")


def test_the_labelled_images_grow_by_the_step_and_none_is_asked_for_twice(run: FittedRun) -> None:
    module, data = deal_of(run), scenes_of(run.datamodule)
    rounds = module.rounds
    assert [int((rounds.labelled == number).sum()) for number in range(4)] == [9, 5, 3, 3]
    assert data.labelled.tolist() == rounds.labelled.tolist()
    assert sorted([*data.labelled_ids.tolist(), *data.unlabelled_ids.tolist()]) == list(range(20))
    for number in (1, 2):
        assert sorted(rounds.queries[number]) == (rounds.labelled == number + 1).nonzero()[:, 0].tolist()
        ids, scores = rounds.candidates[number].tolist(), rounds.scores[number].tolist()
        unlabelled = ((rounds.labelled == 0) | (rounds.labelled > number)).nonzero()[:, 0].tolist()
        assert set(ids) <= set(unlabelled)
        assert len(ids) == round(0.5 * len(unlabelled))
        order = sorted(zip(scores, ids, strict=True), key=lambda pair: (-pair[0], pair[1]))
        assert rounds.queries[number] == [one for _, one in order[:3]]
    assert rounds.candidates[3].tolist() == (rounds.labelled == 0).nonzero()[:, 0].tolist()


def test_each_round_reports_what_it_found_and_the_last_one_is_the_test(run: FittedRun) -> None:
    metrics, tested = run.record.metrics, run.test()
    assert [metrics[f"round_{number}/labelled"] for number in (1, 2, 3)] == [5, 8, 11]
    assert metrics["round_3/miou"] == pytest.approx(tested["test/miou"], abs=1e-6)
    assert metrics["round_3/iou_road"] == pytest.approx(tested["test/iou_road"], abs=1e-6)
    assert {"round_1/gamma", "round_1/spearman", "round_1/label_entropy"} <= set(metrics)
    data: Any = run.datamodule
    acquired = [*deal_of(run).rounds.queries[1], *deal_of(run).rounds.queries[2]]
    assert metrics["queries/hard_share"] == pytest.approx(float(data.hard["train"][acquired].float().mean()))
    rows = [row for row in metrics_rows(run.folder) if row["al/miou"]]
    assert [float(row["al/labelled"]) for row in rows] == [5, 8, 11]
    assert [float(row["al/miou"]) for row in rows] == [metrics[f"round_{one}/miou"] for one in (1, 2, 3)]
    trained = [row for row in metrics_rows(run.folder) if row["train/loss_dif"]]
    assert len(trained) == 6
    assert any(float(row["train/gamma"]) != 0 for row in trained)


class GuardedMasks:
    """Masks that refuse to be read where no image may be."""

    def __init__(self, masks: Any, data: SegmentationDataModule) -> None:
        self.masks, self.data, self.read = masks, data, set[int]()

    def __len__(self) -> int:
        return len(self.masks)

    def __getitem__(self, ids: torch.Tensor) -> torch.Tensor:
        hidden = ids[self.data.labelled[ids.cpu()] == 0].tolist()
        assert not hidden, f"labels of {hidden} were read before anybody gave them"
        self.read |= set(ids.tolist())
        found: torch.Tensor = self.masks[ids]
        return found

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    nbytes = 0


@pytest.mark.parametrize("acquisition", ["deal_ds", "coreset"])
def test_no_label_of_an_unlabelled_image_is_ever_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, acquisition: str
) -> None:
    guards: list[GuardedMasks] = []
    real = SegmentationDataModule.setup

    def guarded(self: Any, stage: str | None = None) -> None:
        first = not self.splits
        real(self, stage)
        if first:
            from dataclasses import replace

            guards.append(GuardedMasks(self.splits["train"].masks, self))
            self.splits["train"] = replace(self.splits["train"], masks=guards[-1])

    monkeypatch.setattr(SegmentationDataModule, "setup", guarded)
    done = fitted(tmp_path / "run", f"model.acquisition={acquisition}")
    module, data = deal_of(done), scenes_of(done.datamodule)
    done.test()
    assert [name for name, _ in module.figures(data, None)]
    assert guards[0].read == set(data.labelled_ids.tolist()), "the guard saw the labels that were read"


def test_strategies_share_the_first_images_and_a_round_s_candidates(tmp_path: Path) -> None:
    one, other = (
        deal_of(
            fitted(tmp_path / name, f"model.acquisition={name}", "model.rounds=2", "trainer.max_epochs=1")
        )
        for name in ("entropy", "random")
    )
    assert torch.equal(one.rounds.labelled == 1, other.rounds.labelled == 1)
    assert torch.equal(one.rounds.candidates[1], other.rounds.candidates[1])
    assert one.rounds.queries[1] != other.rounds.queries[1]
