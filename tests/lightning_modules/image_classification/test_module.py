"""Training of the image classifier: gradients, metrics, rows, pictures, checkpoints."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pytorch_lightning import Callback, LightningModule, Trainer
from torchmetrics.functional.classification import multiclass_f1_score

from datamodules.digits import DigitsDataModule
from datamodules.loaders import EpochBatchSampler
from harness.build import build_datamodule, build_module, build_trainer
from lightning_modules.image_classification.classifier import ImageClassifier
from lightning_modules.image_classification.module import Batch, images_of
from tests.figure_text import text_of
from tests.small_runs import configuration, fit

SMALL = ("model=classifier", "data=digits", "model.network.width=4", "data.batch_size=128")


def classifier(*overrides: str) -> ImageClassifier:
    module = build_module(configuration(*SMALL, *overrides))
    assert isinstance(module, ImageClassifier)
    return module


def digits(*overrides: str) -> DigitsDataModule:
    module = build_datamodule(configuration(*SMALL, *overrides))
    assert isinstance(module, DigitsDataModule)
    return module


def random_batch(size: int = 6) -> Batch:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(size, 1, 8, 8, generator=generator)
    return {"x": x, "y": torch.arange(size) % 10, "index": torch.arange(size)}


def gradients(module: ImageClassifier, batch: Batch) -> list[torch.Tensor]:
    loss = module.training_step(batch, 0)
    return list(torch.autograd.grad(loss, list(module.parameters())))


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_one_step_gives_every_parameter_a_gradient(norm: str) -> None:
    found = gradients(classifier(f"model.network.norm={norm}").train(), random_batch())
    assert all(gradient.isfinite().all() and gradient.abs().sum() > 0 for gradient in found)


def test_shares_of_two_processes_average_to_the_gradient_of_one() -> None:
    data, module = digits("data.batch_size=64"), classifier("model.network.norm=none")
    split = data.splits["train"]

    def batch(rank: int, world: int) -> Batch:
        sampler = EpochBatchSampler(len(split), 64, training=True, seed=0, rank=rank, world=world)
        index = next(iter(sampler))
        return {"x": data.normalise(split.images[index] / 16), "y": split.labels[index]}

    alone = gradients(module, batch(0, 1))
    shares = [gradients(module, batch(rank, 2)) for rank in (0, 1)]
    for whole, first, second in zip(alone, *shares, strict=True):
        torch.testing.assert_close((first + second) / 2, whole, rtol=1e-4, atol=1e-6)


def test_label_smoothing_is_part_of_training_alone() -> None:
    module, batch = classifier("model.label_smoothing=0.2", "model.network.norm=none"), random_batch()
    logits = module(batch["x"])
    log_probabilities = logits.log_softmax(dim=1)
    of_label = log_probabilities.gather(1, batch["y"][:, None]).mean()
    expected = -(0.8 * of_label + 0.2 * log_probabilities.mean())
    torch.testing.assert_close(module.training_step(batch, 0), expected)
    module.validation_step(batch, 0)
    torch.testing.assert_close(module.val_metrics.compute()["val/loss"], -of_label.detach())


def test_metrics_are_means_over_samples_and_not_over_batches() -> None:
    module = classifier("model.network.norm=none").eval()
    batch = random_batch(7)
    pieces = [{name: value[part] for name, value in batch.items()} for part in (slice(0, 5), slice(5, 7))]
    for piece in pieces:
        module.test_step(piece, 0)
    logits, y = module(batch["x"]).detach(), batch["y"]
    found = module.test_metrics.compute()
    torch.testing.assert_close(found["test/loss"], F.cross_entropy(logits, y))
    torch.testing.assert_close(found["test/acc"], (logits.argmax(dim=1) == y).float().mean())
    torch.testing.assert_close(found["test/f1_macro"], multiclass_f1_score(logits, y, 10, average="macro"))


def test_each_epoch_has_metrics_of_its_own() -> None:
    module, batch = classifier("model.network.norm=none"), random_batch()
    module.training_step({**batch, "y": (batch["y"] + 1) % 10}, 0)
    module.on_train_epoch_start()
    loss = module.training_step(batch, 0)
    torch.testing.assert_close(module.train_metrics.compute()["train/loss"], loss.detach())


@pytest.mark.parametrize(("interval", "expected"), [("epoch", 2), ("step", 16)])
def test_the_schedule_steps_as_often_as_it_says(tmp_path: Path, interval: str, expected: int) -> None:
    run = fit(
        tmp_path,
        *SMALL,
        "trainer.max_epochs=2",
        "model.optimizer.lr=0.001",
        "model.scheduler={name: ExponentialLR, gamma: 0.9}",
        f"model.scheduler_interval={interval}",
    )
    checkpoint = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 16
    (rate,) = checkpoint["lr_schedulers"][0]["_last_lr"]
    assert rate == pytest.approx(0.001 * 0.9**expected)
    assert run.record.epochs == {"fit": 2}


ONE_CYCLE = "model.scheduler={name: OneCycleLR, max_lr: 0.01, final_div_factor: 100}"


class Rates(Callback):
    """The learning rate of every optimiser step."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self.rates.append(optimizer.param_groups[0]["lr"])


@pytest.mark.filterwarnings("ignore:A `OneCycleLR` scheduler is using 'interval'. 'epoch'")
@pytest.mark.parametrize(
    ("words", "steps", "different"),
    [
        (("model.scheduler_interval=step",), 16, 16),
        (("model.scheduler_interval=epoch", "trainer.max_epochs=4"), 32, 4),
        (("model.scheduler_interval=step", "trainer.accumulate_grad_batches=3"), 6, 6),
        (("model.scheduler_interval=step", "+trainer.limit_train_batches=3"), 6, 6),
        (("model.scheduler_interval=step", "+trainer.limit_train_batches=0.5"), 8, 8),
        (("model.scheduler_interval=step", "+trainer.max_steps=5"), 5, 5),
    ],
)
def test_one_cycle_ends_with_the_last_step(
    tmp_path: Path, words: tuple[str, ...], steps: int, different: int
) -> None:
    seen = Rates()
    words = ("trainer.max_epochs=2", "trainer.log_every_n_steps=1", ONE_CYCLE, *words)
    fit(tmp_path, *SMALL, *words, extra=[seen])
    assert len(seen.rates) == steps
    assert len(set(seen.rates)) == different
    assert seen.rates[0] == pytest.approx(0.01 / 25)
    assert seen.rates[-1] == min(seen.rates) == pytest.approx(0.01 / 25 / 100)


def test_cosine_falls_to_nothing_over_the_epochs_and_an_own_length_is_kept(tmp_path: Path) -> None:
    words = (*SMALL, "trainer.max_epochs=2", "model.optimizer.lr=0.001")
    for name, scheduler, rate in (
        ("filled in", "{name: CosineAnnealingLR}", 0.0),
        ("given", "{name: CosineAnnealingLR, T_max: 4}", 0.0005),
    ):
        fit(tmp_path / name, *words, f"model.scheduler={scheduler}")
        state = torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
        assert state["lr_schedulers"][0]["_last_lr"] == [pytest.approx(rate)]


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    words = ("model=classifier", "data=digits", "trainer.max_epochs=5")
    return fit(tmp_path_factory.mktemp("classifier"), *words)


def test_a_short_training_recognises_most_digits(fitted: Any) -> None:
    tested = fitted.test()
    assert set(tested) == {"test/acc", "test/loss", "test/f1_macro"}
    assert tested["test/acc"] > 0.9


def test_best_weights_are_chosen_by_the_validation_of_their_epoch(fitted: Any) -> None:
    rows = (fitted.folder / "metrics.csv").read_text(encoding="utf-8").splitlines()
    header = rows[0].split(",")
    assert {"train/loss", "train/acc", "val/loss", "val/acc"} <= set(header)
    losses = {
        int(cells[header.index("epoch")]): float(cells[header.index("val/loss")])
        for cells in (row.split(",") for row in rows[1:])
        if cells[header.index("val/loss")]
    }
    assert len(losses) == 5
    assert fitted.best.best_epoch == min(losses, key=losses.__getitem__)
    assert fitted.best.best_value == pytest.approx(min(losses.values()))


def test_a_prediction_names_image_class_and_probabilities(fitted: Any) -> None:
    outputs = build_trainer(fitted.built).predict(fitted.module, datamodule=fitted.datamodule)
    rows = list(fitted.module.prediction_rows(outputs, fitted.datamodule))
    split = fitted.datamodule.splits["test"]
    assert [row["index"] for row in rows] == split.index.tolist()
    assert [row["true"] for row in rows] == [str(label) for label in split.labels.tolist()]
    right = sum(row["true"] == row["predicted"] for row in rows) / len(rows)
    assert right == pytest.approx(fitted.test()["test/acc"])
    for row in rows[:5]:
        probabilities = {name: float(row[f"p({name})"]) for name in "0123456789"}
        assert sum(probabilities.values()) == pytest.approx(1.0, abs=1e-5)
        assert max(probabilities, key=probabilities.__getitem__) == row["predicted"]


def test_pictures_agree_with_the_test(fitted: Any) -> None:
    pictures = {name: text_of(figure) for name, figure in fitted.module.figures(fitted.datamodule, None)}
    assert list(pictures) == ["confusion", "mistakes"]
    right = round(fitted.test()["test/acc"] * 517)
    assert f"{right} of 517 test images" in pictures["confusion"].replace("\n", " ")
    assert "517 test images" in pictures["mistakes"]


def test_a_checkpoint_holds_plain_data_and_rebuilds_the_module(fitted: Any) -> None:
    path = fitted.folder / "checkpoints" / "best.ckpt"
    again = ImageClassifier.load_from_checkpoint(path, weights_only=True)
    assert again.hparams == fitted.module.hparams
    x = random_batch()["x"]
    assert torch.equal(again.eval()(x), fitted.module.eval()(x))


def test_data_without_images_is_our_own_mistake() -> None:
    config = configuration("model=gcn", "data=mini_citation")
    with pytest.raises(TypeError, match="MiniCitationDataModule has no images"):
        images_of(build_datamodule(config))
