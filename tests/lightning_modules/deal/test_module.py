"""Training in rounds: what a round begins with, what it minimises, every switch and precision."""

from pathlib import Path
from typing import get_args

import pytest
import torch
import torch.nn.functional as F

from harness.build import build_module
from lightning_modules.deal.losses import DifficultyLoss, difficulty_loss, error_mask
from lightning_modules.deal.module import Deal, scenes_of
from tests.lightning_modules.deal.deal_runs import FEW, ROUNDS, deal_of, fitted
from tests.small_runs import FittedRun, assert_same_weights, configuration


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FittedRun:
    return fitted(tmp_path_factory.mktemp("deal") / "run")


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


def test_without_its_loss_the_branch_changes_nothing_of_a_plain_training(tmp_path: Path) -> None:
    words = ("model.initial=null", "model.rounds=1", "model.alpha=0", "model.detach_difficulty=true")
    deal, plain = fitted(tmp_path / "deal", *words), fitted(tmp_path / "plain", model="deeplab")
    network = {name: value for name, value in deal.weights.items() if name.startswith("network.")}
    assert_same_weights(network, dict(plain.weights))
    assert deal.test()["test/miou"] == plain.test()["test/miou"]


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


def test_the_picture_of_training_has_the_difficulty_s_loss_and_gamma(run: FittedRun) -> None:
    row = {"epoch": 0, "train/loss": 1.2, "train/miou": 0.2, "train/loss_dif": 0.6, "train/gamma": 0.1}
    figure = deal_of(run).training_figure([row])
    labels = [axes.get_ylabel() for axes in figure.axes]
    assert labels == ["Loss", "Mean IoU (%)", "Difficulty loss\n(bce)", "γ"]
    without = deal_of(run).training_figure([{"epoch": 0, "train/loss": 1.2, "train/miou": 0.2}])
    assert len(without.axes) == 2


def test_scenes_are_drawn_where_no_picture_of_difficulties_shows_them(
    run: FittedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = fitted(tmp_path / "run", "model.acquisition=random", "model.rounds=2", "trainer.max_epochs=1")
    for done, own in ((run, "difficulty"), (plain, "scenes")):
        done.test()
        names = [name for name, _ in done.module.figures(done.datamodule, None)]
        assert {"scenes", "difficulty"} & set(names) == {own}
        assert len(set(names)) == len(names)
    monkeypatch.setattr(Deal, "_draw_scenes", None)  # which is not even called
    assert len(list(run.module.figures(run.datamodule, None)))
