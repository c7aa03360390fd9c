"""Hardware from configuration: what is refused, and what does not change a result."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from pytorch_lightning.strategies import DDPStrategy

import run as entry
from harness.build import Run, build_module, build_trainer
from harness.configuration.agreement import data_for_task
from harness.configuration.check import check
from harness.configuration.compose import compose
from harness.configuration.schema import HARDWARE
from harness.configuration.targets import KINDS, resolve_class
from harness.errors import UserError
from harness.hardware import apply_threads, check_available, doubts
from lightning_modules.node_classification.module import NodeClassifier
from tests.small_runs import FittedRun, assert_same_weights, configuration, fit

CONF = Path(__file__).parents[2] / "conf"
CHOICES = sorted(path.stem for path in (CONF / "hardware").glob("*.yaml"))
MODELS = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
CLASSIFIER = (
    "model=classifier",
    "data=digits",
    "model.network.width=4",
    "data.num_train=128",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
)


def hardware(**changes: Any) -> dict[str, Any]:
    return choice("cpu") | {"accelerator": "auto"} | changes


def choice(name: str) -> dict[str, Any]:
    node: dict[str, Any] = yaml.safe_load((CONF / "hardware" / f"{name}.yaml").read_text(encoding="utf-8"))
    return node


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)
    return request.param


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)


@pytest.fixture(autouse=True)
def nothing_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_STEP_NUM_TASKS", "WORLD_SIZE", "CXX"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("gpus", [0], indirect=True)
@pytest.mark.parametrize("name", ["gpu", "ddp"])
def test_a_gpu_that_is_not_there_is_refused(gpus: int, name: str) -> None:
    with pytest.raises(UserError, match=r"no GPU on this machine\. Use hardware=cpu or hardware=auto"):
        check_available(choice(name))


@pytest.mark.parametrize("gpus", [0], indirect=True)
@pytest.mark.parametrize("name", ["auto", "cpu", "ddp_cpu"])
def test_a_cpu_is_always_there(gpus: int, name: str) -> None:
    check_available(choice(name))


@pytest.mark.parametrize("gpus", [0], indirect=True)
@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_half_precision_of_gpus_is_refused_on_the_cpu(gpus: int, accelerator: str) -> None:
    with pytest.raises(UserError, match=r"precision=16-mixed needs a GPU.*bf16-mixed"):
        check_available(hardware(accelerator=accelerator, precision="16-mixed"))


@pytest.mark.parametrize("gpus", [0], indirect=True)
def test_batch_normalisation_over_processes_is_refused_on_the_cpu(gpus: int) -> None:
    with pytest.raises(UserError, match=r"sync_batchnorm=true needs GPUs"):
        check_available(choice("ddp_cpu") | {"sync_batchnorm": True})


@pytest.mark.parametrize("gpus", [2], indirect=True)
def test_more_gpus_than_there_are_are_refused(gpus: int) -> None:
    for devices in (3, [0, 1, 2], [2]):
        with pytest.raises(UserError, match=r"hardware\.devices=.*2 GPU"):
            check_available(hardware(accelerator="gpu", devices=devices))
    for devices in (1, 2, [0, 1], [1], "auto"):
        check_available(
            hardware(accelerator="gpu", devices=devices, precision="16-mixed", sync_batchnorm=True)
        )


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this is an Apple GPU")
def test_an_apple_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="no Apple GPU"):
        check_available(hardware(accelerator="mps"))


@pytest.mark.parametrize(
    ("started", "devices", "nodes"), [(2, 1, 1), (2, 4, 1), (4, 2, 1), (2, 2, 2), (2, [0], 1)]
)
def test_a_launcher_and_the_configuration_must_agree_on_the_number_of_processes(
    started: int, devices: int | list[int], nodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "WORLD_SIZE": str(started)}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=rf"make \d process.*torchrun has started {started}"):
        check_available(hardware(accelerator="cpu", devices=devices, num_nodes=nodes))
    check_available(hardware(accelerator="cpu", devices=started))
    check_available(hardware(accelerator="cpu", num_nodes=started))
    check_available(hardware(accelerator="cpu", devices="auto"))  # only Lightning knows how many that are


def test_tasks_of_srun_need_a_number_per_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_PROCID": "0", "SLURM_JOB_ID": "7"}
    for name, value in tasks.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("SLURM_NTASKS_PER_NODE", raising=False)
    with pytest.raises(UserError, match="--ntasks-per-node in place of --ntasks"):
        check_available(choice("ddp_cpu"))
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "2")
    check_available(choice("ddp_cpu"))


def test_compiling_without_a_compiler_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "g++-of-nowhere")
    with pytest.raises(UserError, match=r"compile=true needs a C\+\+ compiler, .*'g\+\+-of-nowhere'"):
        check_available(hardware(compile=True))
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"compile=true needs a C\+\+ compiler"):
        check_available(hardware(compile=True))


def test_threads_are_those_of_the_configuration() -> None:
    apply_threads(2)
    assert torch.get_num_threads() == 2
    apply_threads(1)
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"threads": 4}, []),
        ({"threads": 5}, ["hardware.threads=5 is more than the 4 cores"]),
        ({"accelerator": "cpu", "devices": 2, "threads": 2}, []),
        ({"accelerator": "cpu", "devices": 2, "threads": 3}, ["hardware.threads=3 in each of 2 processes"]),
    ],
)
def test_more_threads_than_cores_are_doubted(
    changes: dict[str, Any], says: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.hardware.usable_cores", lambda: 4)
    found = doubts(hardware(**changes))
    assert len(found) == len(says)
    assert all(text in line for text, line in zip(says, found, strict=True))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("name", CHOICES)
def test_every_hardware_goes_with_every_method(name: str, model: str) -> None:
    target = yaml.safe_load((CONF / "model" / f"{model}.yaml").read_text(encoding="utf-8"))["_target_"]
    data = data_for_task(resolve_class(target, KINDS["model"], "model").task)[0]
    composed = compose([f"model={model}", f"data={data}", f"hardware={name}"])
    check(composed.config, composed.choices)
    assert composed.config["hardware"].keys() == HARDWARE.keys()


@pytest.mark.parametrize("name", CHOICES)
def test_every_hardware_makes_a_trainer(name: str, tmp_path: Path) -> None:
    config = configuration("model=mlp", "data=mini_citation", f"hardware={name}")
    node = config["hardware"]
    asked = node["devices"] if isinstance(node["devices"], int) else 4
    # what a machine without GPUs can show: the strategy and the number of processes
    node |= {"accelerator": "cpu", "devices": asked}
    trainer = build_trainer(Run(config, tmp_path, build_module(config), None))  # type: ignore[arg-type]
    assert (trainer.num_devices, trainer.num_nodes) == (asked, node["num_nodes"])
    assert trainer.world_size == asked * node["num_nodes"]
    assert isinstance(trainer.strategy, DDPStrategy) is (node["strategy"] == "ddp")


@pytest.mark.parametrize("model", ["mlp", "gcn", "gat", "spagan", "classifier"])
@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed", "bf16-true"])
def test_every_precision_of_the_cpu_trains(tmp_path: Path, model: str, precision: str) -> None:
    small = CLASSIFIER if model == "classifier" else (f"model={model}", "data=mini_citation")
    run = fit(tmp_path, *small, "trainer.max_epochs=3", f"hardware.precision={precision}")
    weights = dict(run.module.named_parameters())
    assert all(torch.isfinite(weight).all() for weight in weights.values())
    assert 0 <= run.test()["test/acc"] <= 1
    expected = {"64-true": torch.float64, "bf16-mixed": torch.float32, "bf16-true": torch.bfloat16}
    assert {weight.dtype for weight in weights.values()} == {expected[precision]}


def test_half_precision_only_rounds(tmp_path: Path) -> None:
    exact = fit(tmp_path / "exact", *CLASSIFIER)
    mixed = fit(tmp_path / "mixed", *CLASSIFIER, "hardware.precision=bf16-mixed")
    assert 0 < difference(mixed, exact) < 0.05


def difference(one: FittedRun, other: FittedRun) -> float:
    """Largest difference of two runs' weights."""
    assert one.weights.keys() == other.weights.keys()
    return max(float((one.weights[name] - other.weights[name]).abs().max()) for name in one.weights)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("hardware.compile=true", r"compile=true is not for model=gat: torch\.compile cannot trace"),
        ("hardware.channels_last=true", r"channels_last=true is for methods that read images; model=gat"),
        ("hardware.compile=1", r"hardware\.compile must be true or false, got 1"),
        ("+trainer.sync_batchnorm=true", r"write hardware\.sync_batchnorm instead"),
    ],
)
def test_what_a_method_cannot_use_is_refused_before_any_work(override: str, says: str) -> None:
    composed = compose(["model=gat", "data=mini_citation", override])
    with pytest.raises(UserError, match=says):
        check(composed.config, composed.choices)


def test_channels_last_changes_the_order_in_memory_and_no_result(tmp_path: Path) -> None:
    usual = fit(tmp_path / "usual", *CLASSIFIER)
    last = fit(tmp_path / "last", *CLASSIFIER, "hardware.channels_last=true")
    four = [weight for weight in last.weights.values() if weight.dim() == 4 and weight.size(1) > 1]
    assert four
    assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in four)
    assert difference(last, usual) < 1e-4
    assert last.test()["test/loss"] == pytest.approx(usual.test()["test/loss"], abs=1e-4)
    assert_interchangeable(last, usual)


def test_images_enter_a_network_in_channels_last() -> None:
    module = build_module(configuration(*CLASSIFIER, "data.in_channels=3", "hardware.channels_last=true"))
    seen = []
    module.network.stages[0].register_forward_pre_hook(lambda _, inputs: seen.extend(inputs))
    module(torch.rand(2, 3, 8, 8))
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert not seen[0].is_contiguous()


def assert_interchangeable(special: FittedRun, usual: FittedRun) -> None:
    """A checkpoint of one loads into the other and means the same there."""
    content = torch.load(special.folder / "checkpoints" / "best.ckpt", weights_only=True)
    usual.module.load_state_dict(content["state_dict"])
    assert_same_weights(usual.weights, special.weights)
    assert usual.test()["test/loss"] == pytest.approx(special.test()["test/loss"], abs=1e-4)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:::torch")
def test_compiling_changes_no_result_and_no_name(tmp_path: Path) -> None:
    small = (*CLASSIFIER, "model.network.depth=1")
    usual = fit(tmp_path / "usual", *small)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    compiled = fit(tmp_path / "compiled", *small, "hardware.compile=true")
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0, "nothing was compiled"
    assert difference(compiled, usual) < 1e-4
    assert_interchangeable(compiled, usual)


def run_words(folder: Path, *words: str) -> list[str]:
    small = ("hardware=cpu", "logger=csv", "trainer.min_epochs=1", "~callbacks.pictures")
    return [*words, *small, f"paths.runs={folder / 'runs'}", f"paths.cache={folder / 'cache'}"]


def test_an_operation_without_a_reproducible_form_is_named_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def loss(module: NodeClassifier, batch: Any) -> Any:
        places = torch.zeros(2, dtype=torch.long)
        return module(batch).sum() + torch.zeros(3).put_(places, torch.ones(2)).sum(), {}

    monkeypatch.setattr(NodeClassifier, "training_loss", loss)
    words = run_words(tmp_path, "model=mlp", "data=mini_citation", "trainer.max_epochs=1")
    assert entry.run([*words, "trainer.deterministic=true"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: trainer.deterministic=true, but put_ has no reproducible implementation")
    assert not list(tmp_path.rglob("config.yaml"))
    assert entry.run(words) == 0


@pytest.mark.filterwarnings("ignore:::torch")
def test_a_network_that_cannot_be_compiled_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(NodeClassifier, "not_compiled", None)
    monkeypatch.setattr("harness.configuration.agreement._check_networks", lambda *_: [])
    words = run_words(tmp_path, "model=mlp", "data=mini_citation", "trainer.max_epochs=1")
    assert entry.run([*words, "hardware.compile=true"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: hardware.compile=true, but torch cannot compile this network: ")
    assert error.endswith("Use hardware.compile=false.")


def test_a_deterministic_run_repeats_itself(tmp_path: Path) -> None:
    words = (*CLASSIFIER, "trainer.deterministic=true")
    assert_same_weights(fit(tmp_path / "one", *words).weights, fit(tmp_path / "two", *words).weights)
