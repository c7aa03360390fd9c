"""Whole runs of rounds: what is labelled, what is read, what a killed run does, and what is left behind."""

import csv
import json
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from callbacks.savepoints import Savepoints
from datamodules.segmentation import SegmentationDataModule
from harness.build import build_module, build_trainer
from lightning_modules.deal.acquisition import select
from lightning_modules.deal.coreset import k_centre_scores
from lightning_modules.deal.losses import DifficultyLoss, difficulty_loss, error_mask
from lightning_modules.deal.module import Deal, scenes_of
from lightning_modules.deal.scoring import Acquisition
from tests.command_lines import Output, child, command, metrics_rows, refusal, run_folder
from tests.lightning_modules.deal.deal_runs import FEW, ROUNDS, KeepingSavepoints, deal_of, fitted
from tests.small_runs import FittedRun, assert_same_weights, configuration

BATCHES = (1, 4, 20)


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


def test_every_round_begins_anew(run: FittedRun) -> None:
    module = deal_of(run)
    trained = {name: value.clone() for name, value in module.state_dict().items()}
    torch.manual_seed(0)
    module.start_anew()
    first = {name: value.clone() for name, value in module.state_dict().items()}
    torch.manual_seed(0)
    module.start_anew()
    assert_same_weights(first, module.state_dict())
    assert not module.branch.gamma.any()  # type: ignore[union-attr]
    assert not any(torch.equal(first[name], trained[name]) for name in first if name.endswith("0.weight"))
    module.load_state_dict(trained)


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


def test_a_run_that_is_killed_in_any_round_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    words = ("model.rounds=2", "model.acquisition=deal_de", "data.num_train=12")
    unbroken = fitted(tmp_path / "unbroken", *words, savepoints=KeepingSavepoints(tmp_path / "copies"))
    tested = unbroken.test()
    copies = sorted((tmp_path / "copies").iterdir())
    kinds = {copy.name.split("_", 1)[1]: copy for copy in reversed(copies)}
    assert set(kinds) == {
        *(f"round_{number}_{stage}" for number in (1, 2) for stage in ("batch", "epoch", "trained")),
        "round_1_done",
    }
    for copy in kinds.values():
        again = fitted(copy, *words, savepoints=Savepoints(None))
        assert_same_weights(again.weights, unbroken.weights)
        assert again.record.metrics == unbroken.record.metrics
        mine, other = deal_of(again).rounds.state(), deal_of(unbroken).rounds.state()
        assert repr(mine) == repr(other), "the same queries, scores and labels"
        for name in ("metrics.csv", "next_images.csv"):
            assert (copy / name).read_bytes() == (unbroken.folder / name).read_bytes()
        assert again.test() == tested


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


def test_without_its_loss_the_branch_changes_nothing_of_a_plain_training(tmp_path: Path) -> None:
    words = ("model.initial=null", "model.rounds=1", "model.alpha=0", "model.detach_difficulty=true")
    deal, plain = fitted(tmp_path / "deal", *words), fitted(tmp_path / "plain", model="deeplab")
    network = {name: value for name, value in deal.weights.items() if name.startswith("network.")}
    assert_same_weights(network, dict(plain.weights))
    assert deal.test()["test/miou"] == plain.test()["test/miou"]


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


@pytest.mark.parametrize(
    "words",
    [
        ("model.difficulty_loss=wce", "model.void_in_difficulty=true"),
        ("model.attention=false",),
        ("model.difficulty_from=features", "model.ds_uncertainty=margin"),
        ("model.acquisition=deal_de", "model.levels=5", "model.levels_range=unit", "model.att_stride=5"),
    ],
)
def test_switches_train_and_their_checkpoint_is_loaded_again(tmp_path: Path, words: tuple[str, ...]) -> None:
    from harness.checkpoints import load_checkpoint

    done = fitted(tmp_path / "run", *words, "model.rounds=1", "trainer.max_epochs=1")
    module = deal_of(done)
    assert module.branch is not None
    again = Deal(**module.hparams)
    load_checkpoint(again, done.folder)
    assert_same_weights(again.state_dict(), module.state_dict())
    assert repr(again.rounds.state()) == repr(module.rounds.state())
    assert repr(again.report.state()) == repr(module.report.state())


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
@pytest.mark.parametrize("acquisition", ["deal_ds", "coreset"])
def test_a_round_ends_in_every_precision(tmp_path: Path, precision: str, acquisition: str) -> None:
    words = (f"hardware.precision={precision}", f"model.acquisition={acquisition}", "model.rounds=2")
    done = fitted(tmp_path / "run", *words, "data.num_train=12", "trainer.max_epochs=1")
    kind = {"64-true": torch.float64, "bf16-true": torch.bfloat16}.get(precision, torch.float32)
    assert {parameter.dtype for parameter in deal_of(done).parameters()} == {kind}
    assert sorted(deal_of(done).rounds.scores) == [1, 2]
    assert done.test()["test/miou"] == pytest.approx(done.record.metrics["round_2/miou"], abs=1e-6)


def test_training_s_loss_is_that_of_the_pixels_and_alpha_times_that_of_their_difficulty() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, 16, 24, generator=generator)
    y = torch.randint(5, (2, 16, 24), generator=generator)
    y[:, :6] = 255
    totals = []
    for kind in get_args(DifficultyLoss):
        for void in (False, True):
            words = (f"model.difficulty_loss={kind}", f"model.void_in_difficulty={str(void).lower()}")
            module = build_module(configuration("model=deal", *FEW, *ROUNDS, *words, "model.alpha=2"))
            assert isinstance(module, Deal)
            torch.manual_seed(0)
            module.start_anew()
            loss, logits, own = module.eval().training_loss({"x": x, "y": y})
            torch.testing.assert_close(own, F.cross_entropy(logits, y, ignore_index=255))
            _, difficulty = module.with_difficulty(x)
            assert difficulty is not None
            second = difficulty_loss(difficulty, error_mask(logits, y), y, kind, void)
            torch.testing.assert_close(loss, own + 2 * second)
            totals.append(round(float(loss.detach()), 5))
    assert len(set(totals)) == 4, "equal losses would show nothing"


def test_one_step_gives_every_parameter_a_gradient(run: FittedRun) -> None:
    data, module = scenes_of(run.datamodule), deal_of(run)
    batch = next(iter(data.loader("test")))
    loss, _, own = module.train().training_loss(batch)
    gradients = torch.autograd.grad(loss, list(module.parameters()))
    assert float(loss.detach()) > float(own.detach()) > 0
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Fourteen images of 24 x 16 pixels, nine of them with a mask: a bright square on a dark ground."""
    generator = np.random.default_rng(0)
    made = tmp_path / "mine"
    for kind in ("images", "masks"):
        (made / kind).mkdir(parents=True)
    for number in range(14):
        mask = np.zeros((16, 24), np.uint8)
        top, left = generator.integers(0, 9), generator.integers(0, 16)
        mask[top : top + 6, left : left + 6] = 1
        pixels = 60 + 120 * mask[..., None] + generator.integers(0, 40, (16, 24, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(made / "images" / f"shot {number:02d}.png")
        if number < 9:
            Image.fromarray(mask).save(made / "masks" / f"shot {number:02d}.png")
    return made


SMALL = ("model.network=small_unet", "model.weights=null", "data.height=16", "data.width=24")


@pytest.mark.usefixtures("as_before")
def test_one_command_lists_which_images_of_a_folder_to_annotate_next(
    folder: Path, tmp_path: Path, capsys: Output
) -> None:
    words = ("model=deal", "data=image_mask_folder", f"data.folder={folder}", *SMALL)
    assert command(tmp_path, *words, "trainer.max_epochs=2", "model.step=2") == 0
    out, err = capsys.readouterr()
    made = run_folder(out)
    assert f"5 unlabelled images, those to annotate next first: {made / 'next_images.csv'}" in err
    rows = rows_of(made / "next_images.csv")
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert {row["file"] for row in rows} == {f"images/shot {number:02d}.png" for number in range(9, 14)}
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert all(Path(row["path"]).is_file() and row["path"].endswith(row["file"]) for row in rows)
    assert (made / "figures" / "next_images.png").is_file()
    found = json.loads((made / "results.json").read_text(encoding="utf-8"))["metrics"]
    assert found["round_1/labelled"] == 6  # two masks are for validation, one for the test

    assert command(tmp_path, *words, "mode=predict", f"ckpt={made}", "~callbacks.pictures") == 0
    out, err = capsys.readouterr()
    assert rows_of(run_folder(out) / "next_images.csv") == rows
    # once the first is annotated, it stands in no list any more
    first = rows[0]["file"].replace("images/", "masks/")
    Image.fromarray(np.ones((16, 24), np.uint8)).save(folder / first)
    assert command(tmp_path, *words, "mode=predict", f"ckpt={made}", "~callbacks.pictures") == 0
    out, err = capsys.readouterr()
    assert rows[0]["file"] not in {row["file"] for row in rows_of(run_folder(out) / "next_images.csv")}


@pytest.mark.usefixtures("as_before")
def test_where_everything_is_annotated_that_is_told_and_the_run_ends_well(
    folder: Path, tmp_path: Path, capsys: Output
) -> None:
    for number in range(9, 14):
        Image.fromarray(np.ones((16, 24), np.uint8)).save(folder / "masks" / f"shot {number:02d}.png")
    words = ("model=deal", "data=image_mask_folder", f"data.folder={folder}", *SMALL)
    assert command(tmp_path, *words, "trainer.max_epochs=1", "~callbacks.pictures") == 0
    out, err = capsys.readouterr()
    assert "all training images are labelled: there is nothing to annotate next" in err
    assert not (run_folder(out) / "next_images.csv").exists()


@pytest.mark.slow
def test_a_command_runs_two_rounds_and_draws_them(tmp_path: Path) -> None:
    done = child("model=deal", *FEW, *ROUNDS, "model.rounds=2", "hardware=cpu", "logger=csv", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    made = run_folder(done.stdout)
    drawn = {path.stem for path in (made / "figures").iterdir()}
    assert {"miou_by_labels", "iou_by_round", "class_difficulty", "class_shares", "scores"} <= drawn
    assert {"difficulty", "next_images", "class_iou", "training_curves"} <= drawn
    assert "could not be drawn" not in done.stderr
    found = json.loads((made / "results.json").read_text(encoding="utf-8"))["metrics"]
    assert found["round_2/miou"] == pytest.approx(found["test/miou"], abs=1e-6)


@pytest.mark.usefixtures("as_before")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("model.step=0",), "model.step"),
        (("model.candidates=1.5",), "model.candidates=1.5 must be above 0 and at most 1"),
        (("model.candidates=0",), "model.candidates"),
        (("model.levels=256",), "model.levels=256 must be at most 255"),
        (("model.acquisition=deal_dss",), "Did you mean 'deal_ds'?"),
        (("data=digits",), "semantic_segmentation"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_any_work(
    tmp_path: Path, capsys: Output, words: tuple[str, ...], expected: str
) -> None:
    few = () if words[0].startswith("data=") else (*FEW, *ROUNDS)
    assert expected in refusal(tmp_path, capsys, "model=deal", *few, *words)


@pytest.mark.usefixtures("as_before")
@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("model.initial=21", "Set model.initial to at most 20"),
        ("model.rounds=9", "Set model.rounds=6 at most"),
    ],
)
def test_a_plan_for_a_larger_pool_is_refused_before_training_and_leaves_nothing(
    tmp_path: Path, capsys: Output, word: str, expected: str
) -> None:
    assert command(tmp_path, "model=deal", *FEW, *ROUNDS, word) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {word}: data=street_scenes has 20 training images with a mask")
    assert expected in error
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


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


@pytest.mark.slow
def test_two_processes_go_through_the_rounds_together(tmp_path: Path) -> None:
    words = ("model=deal", *FEW, *ROUNDS, "model.acquisition=coreset", "logger=csv", "~callbacks.pictures")
    done = child(*words, "hardware=ddp_cpu", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((run_folder(done.stdout) / "results.json").read_text(encoding="utf-8"))["metrics"]
    assert [found[f"round_{number}/labelled"] for number in (1, 2, 3)] == [5, 8, 11]
    assert len(rows_of(run_folder(done.stdout) / "next_images.csv")) == 9
