"""Gradients added up over batches, and gradients cut, are what torch's own few lines give."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback

from harness.build import build_datamodule, build_module
from harness.phases import phase_seed
from tests.small_runs import assert_same_weights, configuration, fit

GAT = ("model=gat", "data=mini_citation", "callbacks.best_weights.monitor=null", "trainer.max_epochs=5")
CLASSIFIER = (
    "model=classifier",
    "data=digits",
    "model.network.width=4",
    "data.num_train=128",
    "trainer.log_every_n_steps=1",
    "trainer.max_epochs=2",
    # Adam would turn a rounding of a gradient near zero into a whole step, and BatchNorm's statistics are
    # those of a batch
    "model.optimizer={name: SGD, lr: 0.1}",
    "model.network.norm=none",
    "callbacks.best_weights.monitor=null",
)


class Norms(Callback):
    """Norm of all gradients that each step has used."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        trainer.optimizers[0].register_step_post_hook(self._look)

    def _look(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        norms = [weight.grad.norm() for weight in weights if weight.grad is not None]
        self.seen.append(float(torch.linalg.vector_norm(torch.stack(norms))))


def plain_loop(clip: Callable[[Any], Any], epochs: int) -> dict[str, torch.Tensor]:
    """GAT's training as one would write it, gradients cut by ``clip`` before each step."""
    config = configuration(*GAT)
    graph, module = build_datamodule(config).graph, build_module(config)
    torch.manual_seed(phase_seed(0, 0))
    optimizer = torch.optim.Adam(module.parameters(), lr=0.005, weight_decay=5e-4)
    module.train()
    for _ in range(epochs):
        loss, _ = module.training_loss(graph)
        optimizer.zero_grad()
        loss.backward()
        clip(module.parameters())
        optimizer.step()
    return module.state_dict()


@pytest.mark.parametrize(
    ("algorithm", "limit", "clip"),
    [
        ("norm", 0.01, lambda weights: torch.nn.utils.clip_grad_norm_(weights, 0.01)),
        ("value", 0.001, lambda weights: torch.nn.utils.clip_grad_value_(weights, 0.001)),
    ],
)
def test_a_method_that_steps_by_itself_cuts_its_gradients_as_torch_does(
    tmp_path: Path, algorithm: str, limit: float, clip: Callable[[Any], Any]
) -> None:
    run = fit(
        tmp_path, *GAT, f"trainer.gradient_clip_val={limit}", f"trainer.gradient_clip_algorithm={algorithm}"
    )
    assert_same_weights(run.weights, plain_loop(clip, 5))
    free = plain_loop(lambda weights: None, 5)
    assert any(not torch.equal(run.weights[name], free[name]) for name in free), "nothing was cut"


@pytest.mark.parametrize(
    "words", [GAT, CLASSIFIER, ("model=spagan", *GAT[1:])], ids=["gat", "classifier", "spagan"]
)
def test_no_step_sees_a_larger_norm_than_asked_for(tmp_path: Path, words: tuple[str, ...]) -> None:
    free, cut = Norms(), Norms()
    fit(tmp_path / "free", *words, extra=[free])
    fit(tmp_path / "cut", *words, "trainer.gradient_clip_val=0.01", extra=[cut])
    assert max(free.seen) > 0.011
    assert 0 < max(cut.seen) <= 0.01 * (1 + 1e-4)


def test_half_batches_added_up_give_the_steps_of_whole_ones(tmp_path: Path) -> None:
    whole = fit(tmp_path / "whole", *CLASSIFIER, "data.batch_size=64")
    halves = fit(tmp_path / "halves", *CLASSIFIER, "data.batch_size=32", "trainer.accumulate_grad_batches=2")
    alone = fit(tmp_path / "alone", *CLASSIFIER, "data.batch_size=32")
    assert_close(halves.weights, whole.weights)
    with pytest.raises(AssertionError):
        assert_close(alone.weights, whole.weights)
    one, other = whole.test(), halves.test()
    assert one == pytest.approx(other, abs=1e-5)


def assert_close(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> None:
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
