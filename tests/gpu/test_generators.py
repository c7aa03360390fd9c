"""What a GPU must not change for two players: results beyond rounding, repetition, half precision."""

from pathlib import Path

import pytest
import torch

from tests.small_runs import FittedRun, assert_same_weights, fit

NO_GPU = "torch sees no CUDA device here"
needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)]
on_gpu = pytest.param("gpu", marks=needs_gpu)
on_cpu = pytest.param("cpu", marks=pytest.mark.slow)

WORDS = (
    "model=osgan",
    "data=bumps16",
    "data.num_train=128",
    "data.num_val=32",
    "model.num_samples=64",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
    # Adam would turn a rounding of a gradient near zero into a whole step
    "model.optimizer.name=SGD",
    "~model.optimizer.betas",
)
SCHEMES = ("one_stage", "two_stage", "two_stage_lean", "two_stage_reuse", "simultaneous")


def run_on(folder: Path, accelerator: str, *words: str) -> FittedRun:
    return fit(folder, *WORDS, *words, f"hardware.accelerator={accelerator}")


def difference(one: FittedRun, other: FittedRun) -> float:
    """Largest difference of two runs' weights."""
    first, second = ({k: v.cpu().double() for k, v in run.weights.items()} for run in (one, other))
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.mark.parametrize("accelerator", [on_gpu])
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_gpu_gives_the_cpu_s_results_but_for_rounding(
    tmp_path: Path, scheme: str, accelerator: str
) -> None:
    words = (f"model.scheme={scheme}", "hardware.precision=64-true")
    here, there = run_on(tmp_path / "cpu", "cpu", *words), run_on(tmp_path / "gpu", accelerator, *words)
    assert difference(here, there) < 1e-6
    assert there.test()["test/fd_bumps"] == pytest.approx(here.test()["test/fd_bumps"], rel=1e-3)


@pytest.mark.parametrize(
    ("precision", "accelerator"),
    [
        pytest.param("bf16-mixed", "cpu", marks=pytest.mark.slow),
        pytest.param("bf16-mixed", "gpu", marks=needs_gpu),
        pytest.param("16-mixed", "gpu", marks=needs_gpu),
    ],
)
@pytest.mark.parametrize("scheme", ["one_stage", "two_stage", "simultaneous"])
def test_fewer_digits_only_round(tmp_path: Path, scheme: str, precision: str, accelerator: str) -> None:
    words = (f"model.scheme={scheme}", "model.lr_generator=0.002", "model.lr_discriminator=0.002")
    exact = run_on(tmp_path / "exact", "cpu", *words)
    run = run_on(tmp_path / "run", accelerator, *words, f"hardware.precision={precision}")
    assert {weight.dtype for weight in run.module.parameters()} == {torch.float32}
    assert difference(run, exact) < 0.1


@pytest.mark.parametrize("accelerator", [on_cpu, on_gpu])
@pytest.mark.parametrize("words", [(), ("hardware.channels_last=true",)], ids=["plain", "channels_last"])
def test_a_deterministic_run_repeats_itself_bit_for_bit(
    tmp_path: Path, accelerator: str, words: tuple[str, ...]
) -> None:
    words += ("trainer.deterministic=true",)
    one, two = run_on(tmp_path / "one", accelerator, *words), run_on(tmp_path / "two", accelerator, *words)
    assert_same_weights(one.weights, two.weights)
    assert one.test() == two.test()
