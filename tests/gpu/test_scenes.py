"""What a GPU must not change for segmentation, rounds of it and the choice of images: results, repetition."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules.deal.module import Deal
from tests.small_runs import FittedRun, assert_same_weights, fit

NO_GPU = "torch sees no CUDA device here"
needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)]
on_gpu = pytest.param("gpu", marks=needs_gpu)
on_cpu = pytest.param("cpu", marks=pytest.mark.slow)
ACCELERATORS = [on_cpu, on_gpu]

SCENES = (
    "data=street_scenes",
    "data.num_train=16",
    "data.num_val=4",
    "data.num_test=6",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
)
ROUNDS = ("model=deal", "model.initial=6", "model.step=4", "model.rounds=2", "model.passes=3", *SCENES)
METHODS = {
    "deeplab": ("model=deeplab", *SCENES),
    "deeplab_mobilenet": (
        "model=deeplab",
        *SCENES,
        "model.network=deeplab_mobilenet",
        "data.num_train=8",
        "trainer.max_epochs=1",
    ),
    "deal_ds": ROUNDS,
    "deal_de": (*ROUNDS, "model.acquisition=deal_de"),
    "entropy": (*ROUNDS, "model.acquisition=entropy"),
    "qbc": (*ROUNDS, "model.acquisition=qbc"),
    "coreset": (*ROUNDS, "model.acquisition=coreset"),
}


@pytest.fixture
def without_dropout(monkeypatch: pytest.MonkeyPatch) -> None:
    """A GPU draws other masks from the same seed."""

    def kept(x: Tensor, *_: Any, **__: Any) -> Tensor:
        return x

    monkeypatch.setattr(torch.nn.functional, "dropout", kept)


def run_on(folder: Path, accelerator: str, *words: str, pictures: bool = False) -> FittedRun:
    return fit(folder, *words, f"hardware.accelerator={accelerator}", pictures=pictures)


def difference(one: FittedRun, other: FittedRun) -> float:
    """Largest difference of two runs' weights."""
    first, second = ({k: v.cpu().double() for k, v in run.weights.items()} for run in (one, other))
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.mark.parametrize("accelerator", ACCELERATORS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_is_tested(tmp_path: Path, method: str, accelerator: str) -> None:
    run = run_on(tmp_path, accelerator, *METHODS[method], pictures=True)
    (tmp_path / "figures").mkdir(exist_ok=True)
    assert run.test()["test/miou"] > 0
    assert all(torch.isfinite(weight).all() for weight in run.weights.values())
    assert (tmp_path / "figures" / "class_iou.png").exists()
    if isinstance(run.module, Deal):
        assert (tmp_path / "next_images.csv").is_file()
        assert (tmp_path / "figures" / "next_images.png").exists()
        assert sorted(run.module.rounds.scores) == [1, 2]


@pytest.mark.parametrize("accelerator", [on_gpu])
@pytest.mark.parametrize("method", [name for name in METHODS if name != "qbc"])  # whose votes are of dropout
@pytest.mark.usefixtures("without_dropout")
def test_a_gpu_gives_the_cpu_s_results_but_for_rounding(
    tmp_path: Path, method: str, accelerator: str
) -> None:
    words = (*METHODS[method], "hardware.precision=64-true")
    here, there = run_on(tmp_path / "cpu", "cpu", *words), run_on(tmp_path / "gpu", accelerator, *words)
    assert difference(here, there) < 1e-5
    assert there.test() == pytest.approx(here.test(), abs=1e-4)
    if isinstance(here.module, Deal) and isinstance(there.module, Deal):
        mine, theirs = here.module.rounds, there.module.rounds
        assert theirs.queries == mine.queries
        for number in (1, 2):
            torch.testing.assert_close(theirs.scores[number], mine.scores[number], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("precision", "accelerator"),
    [
        pytest.param("bf16-mixed", "cpu", marks=pytest.mark.slow),
        pytest.param("bf16-mixed", "gpu", marks=needs_gpu),
        pytest.param("16-mixed", "gpu", marks=needs_gpu),
    ],
)
@pytest.mark.parametrize("method", ["deeplab", "deal_ds"])
@pytest.mark.usefixtures("without_dropout")
def test_fewer_digits_only_round(tmp_path: Path, method: str, precision: str, accelerator: str) -> None:
    # a round that is none: a query that rounding changes would change everything
    words = (
        *METHODS[method],
        *(["model.rounds=1"] if method == "deal_ds" else []),
        "model.optimizer.lr=0.003",
    )
    exact = run_on(tmp_path / "exact", "cpu", *words)
    run = run_on(tmp_path / "run", accelerator, *words, f"hardware.precision={precision}")
    assert {weight.dtype for weight in run.module.parameters()} == {torch.float32}
    assert difference(run, exact) < 0.1
    assert run.test()["test/loss"] == pytest.approx(exact.test()["test/loss"], abs=0.1)


@pytest.mark.parametrize("accelerator", ACCELERATORS)
@pytest.mark.parametrize("method", ["deeplab_mobilenet", "deal_ds", "qbc"])
def test_a_deterministic_run_repeats_itself_bit_for_bit(
    tmp_path: Path, method: str, accelerator: str
) -> None:
    words = (*METHODS[method], "trainer.deterministic=true")
    one, two = run_on(tmp_path / "one", accelerator, *words), run_on(tmp_path / "two", accelerator, *words)
    assert_same_weights(one.weights, two.weights)
    assert one.test() == two.test()


@pytest.mark.parametrize("accelerator", [on_gpu])
def test_scoring_does_not_wait_for_the_gpu(tmp_path: Path, accelerator: str) -> None:
    """All numbers of a batch's images are known on the CPU: nothing is read back before the end."""
    for method in ("deal_ds", "deal_de", "entropy", "qbc", "coreset"):
        run = run_on(tmp_path / method, accelerator, *METHODS[method], "trainer.max_epochs=1")
        module, data = run.module, run.datamodule
        assert isinstance(module, Deal)
        module.to("cuda").eval()
        batch = next(iter(data.test_dataloader()))
        x, numbers = batch["x"].cuda(), batch["id"].cpu()
        look = module.looking.look
        with torch.no_grad():
            look(module.network, module.branch, x, numbers, 0)  # what is set up once may wait
            try:
                torch.cuda.set_sync_debug_mode("error")
                look(module.network, module.branch, x, numbers, 0)
            finally:
                torch.cuda.set_sync_debug_mode("default")
