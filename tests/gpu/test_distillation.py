"""What a GPU must not change for networks of graphs or clouds and their students: results, repetition."""

from pathlib import Path

import pytest
import torch

from harness.build import Run, build_callbacks, build_datamodule, build_loggers, build_module
from harness.phases import fit_phases
from lightning_modules.experiment import ExperimentModule
from tests.lightning_modules.lsp.networks import teacher as graph_teacher
from tests.small_runs import FittedRun, assert_same_weights, configuration

NO_GPU = "torch sees no CUDA device here"
needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)]
on_gpu = pytest.param("gpu", marks=needs_gpu)
on_cpu = pytest.param("cpu", marks=pytest.mark.slow)
ACCELERATORS = [on_cpu, on_gpu]

# Adam would turn a rounding of a gradient near zero into a whole step
GRAPHS = ("data=mini_ppi", "trainer.max_epochs=2", "model.optimizer={name: SGD, lr: 0.05}")
CLOUDS = (
    "data=mini_modelnet",
    "data.num_points=32",
    "data.train_per_class=4",
    "data.batch_size=16",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
    "model.widths=[6,7,8]",
    "model.embedding=12",
    "model.classifier=[10]",
    "model.k=4",
    "model.dropout=0.0",  # a GPU draws other masks from the same seed
    "model.optimizer.lr=0.01",
)
METHODS = {
    "inductive_gat": ("model=inductive_gat", *GRAPHS),
    "lsp": ("model=lsp", *GRAPHS),
    "lsp_kd": ("model=lsp", "model.distill=lsp+kd", "model.kernel=l1exp", *GRAPHS),
    "lsp_fitnet": ("model=lsp", "model.distill=fitnet", *GRAPHS),
    "dgcnn": ("model=dgcnn", *CLOUDS),
    "lsp_dgcnn": ("model=lsp_dgcnn", *CLOUDS),
}


def cloud_teacher() -> torch.nn.Module:
    """A frozen teacher of four EdgeConvs, as drawn."""
    words = ("model.widths=[5,6,7,9]", "model.embedding=16", "model.k=6")
    return build_module(configuration("model=dgcnn", *CLOUDS, *words)).eval().requires_grad_(False)


def run_on(folder: Path, method: str, accelerator: str, *words: str, pictures: bool = False) -> FittedRun:
    """A run of two epochs; a student's teacher is as drawn."""
    given = (*METHODS[method], f"hardware.accelerator={accelerator}", *words)
    config = configuration(*given, pictures=pictures)
    (folder / "checkpoints").mkdir(parents=True)
    module = build_module(config)
    assert isinstance(module, ExperimentModule)
    if module.prerequisites:
        with torch.random.fork_rng(devices=[]):
            source = cloud_teacher() if method == "lsp_dgcnn" else graph_teacher()
        module.on_prerequisites({"teacher": source})
    data, callbacks = build_datamodule(config), build_callbacks(config["callbacks"])
    run = Run(config, folder, module, data, callbacks, build_loggers(config["logger"], folder))
    return FittedRun(run, fit_phases(run))


def difference(one: FittedRun, other: FittedRun) -> float:
    """Largest difference of two runs' weights."""
    first, second = ({k: v.cpu().double() for k, v in run.weights.items()} for run in (one, other))
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.mark.parametrize("accelerator", ACCELERATORS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_is_tested(tmp_path: Path, method: str, accelerator: str) -> None:
    run = run_on(tmp_path, method, accelerator, pictures=True)
    (tmp_path / "figures").mkdir(exist_ok=True)
    tested = run.test()
    assert tested["test/loss"] > 0
    assert all(torch.isfinite(weight).all() for weight in run.weights.values())
    assert any((tmp_path / "figures").glob("*.png"))
    if "lsp" in method:
        assert run.record.metrics["lsp_ruler"] > 0


@pytest.mark.parametrize("accelerator", [on_gpu])
@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_gives_the_cpu_s_results_but_for_rounding(
    tmp_path: Path, method: str, accelerator: str
) -> None:
    words = ("hardware.precision=64-true",)
    here = run_on(tmp_path / "cpu", method, "cpu", *words)
    there = run_on(tmp_path / "gpu", method, accelerator, *words)
    # a teacher's answers are kept in single precision
    assert difference(here, there) < 1e-4
    assert there.test()["test/loss"] == pytest.approx(here.test()["test/loss"], abs=1e-3)


@pytest.mark.parametrize("accelerator", ACCELERATORS)
@pytest.mark.parametrize("method", METHODS)
def test_a_deterministic_run_repeats_itself_bit_for_bit(
    tmp_path: Path, method: str, accelerator: str
) -> None:
    one, two = (
        run_on(tmp_path / name, method, accelerator, "trainer.deterministic=true") for name in ("one", "two")
    )
    assert_same_weights(one.weights, two.weights)
    assert one.test() == two.test()
