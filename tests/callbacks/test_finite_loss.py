"""A loss that is no number any more, in mini-batches."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor, nn
from torch.utils.data import DataLoader

from callbacks.epoch_metrics import EpochEnd
from callbacks.finite_loss import FiniteLoss
from harness.errors import UserError


class Spoilt(LightningModule):
    """Its loss is ``bad`` at one step, counted over all epochs from 1."""

    phase = "fit"

    def __init__(
        self, step: int, bad: float = float("nan"), returned: str = "loss", manual: bool = False
    ) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 1)
        self.bad_step, self.bad, self.returned = step, bad, returned
        self.automatic_optimization = not manual
        self.steps = 0

    def training_step(self, batch: Tensor, batch_idx: int) -> Any:
        self.steps += 1
        loss = self.layer(batch).pow(2).mean()
        if self.steps == self.bad_step:
            loss = loss * self.bad
        if not self.automatic_optimization:
            optimizer: Any = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
            self.log("train/d_loss", loss.detach(), on_step=False, on_epoch=True)
        outputs = {"loss": loss, "dict": {"loss": loss, "note": "x"}, "d_loss": {"d_loss": loss.detach()}}
        return outputs.get(self.returned)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(folder: Path, module: Spoilt, every_n_steps: int = 50) -> Trainer:
    trainer = Trainer(
        accelerator="cpu",
        max_epochs=3,
        callbacks=[FiniteLoss(every_n_steps), EpochEnd()],
        default_root_dir=folder,
        logger=False,
        enable_checkpointing=True,  # for EpochEnd, a checkpoint by ancestry
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(module, DataLoader(torch.ones(40, 2), batch_size=10))  # type: ignore[arg-type]
    return trainer


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("returned", ["loss", "dict"])
def test_the_first_bad_loss_ends_the_run_with_epoch_and_step(
    tmp_path: Path, bad: float, returned: str
) -> None:
    module = Spoilt(6, bad, returned)
    with pytest.raises(UserError, match=r"NaN or infinite in epoch 1, step 6 of phase fit\. No checkpoint"):
        fit(tmp_path, module)
    assert module.steps == 6


def test_the_last_good_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    for name in ("best.ckpt", "last.ckpt"):
        (tmp_path / "checkpoints" / name).write_text("")
    with pytest.raises(UserError) as caught:
        fit(tmp_path, Spoilt(2))
    assert f"The last good checkpoint is {tmp_path / 'checkpoints' / 'last.ckpt'}." in str(caught.value)


def test_a_good_run_is_left_alone(tmp_path: Path) -> None:
    assert fit(tmp_path, Spoilt(0)).global_step == 12


@pytest.mark.parametrize("returned", ["d_loss", "nothing"])
def test_manual_optimisation_may_return_a_dict_or_nothing(tmp_path: Path, returned: str) -> None:
    assert fit(tmp_path / "good", Spoilt(0, returned=returned, manual=True)).global_step == 12
    module = Spoilt(6, returned=returned, manual=True)
    with pytest.raises(UserError, match=r"epoch 1, step [68]"):
        fit(tmp_path / "bad", module)
    # what is not returned is seen in the epoch's metrics
    assert module.steps == (6 if returned == "d_loss" else 8)


def test_no_savepoint_is_written_after_a_bad_loss(tmp_path: Path) -> None:
    """A device's note is read before a savepoint, however seldom it is read otherwise."""
    trainer = fit(tmp_path, Spoilt(0))
    (callback,) = (c for c in trainer.callbacks if isinstance(c, FiniteLoss))  # type: ignore[attr-defined]
    trainer.save_checkpoint(tmp_path / "good.ckpt")
    assert (tmp_path / "good.ckpt").exists()
    callback._bad_step = torch.tensor(11)
    with pytest.raises(UserError, match="step 11"):
        trainer.save_checkpoint(tmp_path / "bad.ckpt")
    assert not (tmp_path / "bad.ckpt").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_the_step_is_exact_although_the_look_comes_later(tmp_path: Path) -> None:
    module = Spoilt(6)
    trainer = Trainer(
        accelerator="gpu",
        devices=1,
        max_epochs=3,
        callbacks=[FiniteLoss(4)],
        default_root_dir=tmp_path,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    with pytest.raises(UserError, match="epoch 1, step 6 "):
        trainer.fit(module, DataLoader(torch.ones(40, 2), batch_size=10))  # type: ignore[arg-type]
    assert module.steps == 8
