"""One callback for full-batch modules and for those that train in mini-batches."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from callbacks.best_weights import BestWeights
from callbacks.epoch_metrics import EpochEnd, EpochMetricsCallback
from callbacks.pictures import Pictures
from callbacks.progress import Progress
from tests.small_runs import assert_same_weights, fit

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers", "ignore:.*logging interval")


class Regression(LightningModule):
    """One weight, trained in mini-batches, with Lightning's own validation."""

    def __init__(self, losses: list[float]) -> None:
        super().__init__()
        self.linear = nn.Linear(1, 1)
        self.losses = losses  # what the validation of each epoch measures

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        loss = (self.linear(batch[0]) - 1.0).square().mean()
        self.log("train/loss", loss, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        self.log("val/loss", self.losses[self.current_epoch])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


class LateRegression(Regression):
    """Logs its training loss when the epoch is over, as modules with torchmetrics do."""

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return (self.linear(batch[0]) - 1.0).square().mean()

    def on_train_epoch_end(self) -> None:
        self.log("train/loss", float(self.current_epoch))


class Recorder(EpochMetricsCallback):
    """What the callback is told."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, dict[str, float]]] = []
        self.weights: list[dict[str, Tensor]] = []

    def on_epoch_metrics(
        self, trainer: Trainer, pl_module: LightningModule, epoch: int, metrics: Mapping[str, float]
    ) -> None:
        self.seen.append((epoch, dict(metrics)))
        self.weights.append({name: tensor.clone() for name, tensor in pl_module.state_dict().items()})


def train(
    module: LightningModule, folder: Path, *callbacks: EpochMetricsCallback, max_epochs: int, **settings: int
) -> Trainer:
    data = TensorDataset(torch.linspace(0, 1, 12).unsqueeze(1))
    trainer = Trainer(
        max_epochs=max_epochs,
        **settings,
        accelerator="cpu",
        callbacks=[*callbacks, EpochEnd()],
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    trainer.fit(module, DataLoader(data, batch_size=4), DataLoader(data, batch_size=4))
    return trainer


def test_a_mini_batch_module_reports_once_an_epoch_after_its_validation(tmp_path: Path) -> None:
    watch = Recorder()
    train(Regression([0.5, 0.25, 0.75]), tmp_path, watch, max_epochs=3)
    assert [epoch for epoch, _ in watch.seen] == [0, 1, 2]
    assert [metrics["val/loss"] for _, metrics in watch.seen] == [0.5, 0.25, 0.75]
    assert all(isinstance(value, float) for _, metrics in watch.seen for value in metrics.values())
    assert all("train/loss" in metrics for _, metrics in watch.seen)


def test_what_a_module_logs_at_the_end_of_its_epoch_is_told(tmp_path: Path) -> None:
    watch = Recorder()
    train(LateRegression([0.5, 0.25]), tmp_path, watch, max_epochs=2)
    assert [metrics for _, metrics in watch.seen] == [
        {"train/loss": 0.0, "val/loss": 0.5},
        {"train/loss": 1.0, "val/loss": 0.25},
    ]


def test_an_epoch_without_validation_does_not_repeat_the_last_one(tmp_path: Path) -> None:
    watch = Recorder()
    train(Regression([0.5, 0.25, 0.75, 0.125]), tmp_path, watch, max_epochs=4, check_val_every_n_epoch=2)
    assert [metrics.get("val/loss") for _, metrics in watch.seen] == [None, 0.25, None, 0.125]


def test_patience_and_best_weights_serve_a_mini_batch_module(tmp_path: Path) -> None:
    watch, best = Recorder(), BestWeights("val/loss", "min", 2)
    module = Regression([0.5, 0.25, 0.75, 0.75, 0.75, 0.75])
    trainer = train(module, tmp_path, watch, best, max_epochs=6)
    assert trainer.current_epoch == 4
    assert best.best_epoch == 1
    assert best.restore(module)
    assert_same_weights(module.state_dict(), watch.weights[1])


def test_progress_and_pictures_serve_a_plain_module(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = Pictures()
    train(Regression([0.5, 0.25]), tmp_path, Progress(0.0), pictures, max_epochs=2)
    assert "2 epochs" in capsys.readouterr().err


@pytest.mark.parametrize("epochs_per_call", [1, 3, 10])
def test_a_full_batch_module_reports_every_true_epoch_once(tmp_path: Path, epochs_per_call: int) -> None:
    watch = Recorder()
    fit(
        tmp_path,
        "model=mlp",
        "data=mini_citation",
        "trainer.max_epochs=7",
        f"model.epochs_per_call={epochs_per_call}",
        extra=[watch],
    )
    assert [epoch for epoch, _ in watch.seen] == list(range(7))
    assert {tuple(metrics) for _, metrics in watch.seen} == {
        ("train/loss", "train/acc", "val/loss", "val/acc")
    }
