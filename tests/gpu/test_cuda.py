"""What a GPU must not change: results beyond rounding, repetition, continuation.

``make test ARGS="-m gpu"`` runs them all where there is a GPU. Among the slow tests most of them run on the
CPU too, so that a machine without one executes what stands here; only what compares the two needs one.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.graph import GraphDataModule
from harness.build import build_datamodule, build_module
from lightning_modules.node_classification.graph import prepare
from lightning_modules.spagan.layers import PathIndex
from lightning_modules.spagan.path_search import find_paths
from tests.small_runs import FittedRun, assert_same_weights, configuration, fit

ROOT = Path(__file__).parents[2]
NO_GPU = "torch sees no CUDA device here"
needs_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason=NO_GPU)]
on_gpu = pytest.param("gpu", marks=needs_gpu)
on_cpu = pytest.param("cpu", marks=pytest.mark.slow)
ACCELERATORS = [on_cpu, on_gpu]

CLASSIFIER = (
    "model=classifier",
    "data=digits",
    "model.network.width=8",
    "data.num_train=256",
    "trainer.max_epochs=3",
    "trainer.log_every_n_steps=1",
)
GRAPH = ("data=mini_citation", "trainer.max_epochs=12", "callbacks.best_weights.monitor=null")
METHODS = {
    "classifier": CLASSIFIER,
    "mlp": ("model=mlp", *GRAPH),
    "gcn": ("model=gcn", *GRAPH),
    "gat": ("model=gat", *GRAPH),
    "spagan": ("model=spagan", *GRAPH),
    "spagan_hop_limited": ("model=spagan", "model.path_search=hop_limited", *GRAPH),
}
# a GPU draws other masks from the same seed; the classifier's network has no dropout of its own accord
WITHOUT_DROPOUT = {method: () if method == "classifier" else ("model.dropout=0.0",) for method in METHODS}


def run_on(folder: Path, accelerator: str, *words: str) -> FittedRun:
    return fit(folder, *words, f"hardware.accelerator={accelerator}")


def difference(one: FittedRun, other: FittedRun) -> float:
    """Largest difference of two runs' weights."""
    first, second = ({k: v.cpu().double() for k, v in run.weights.items()} for run in (one, other))
    assert first.keys() == second.keys()
    return max(float((first[name] - second[name]).abs().max()) for name in first)


@pytest.mark.parametrize("accelerator", ACCELERATORS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_and_is_tested(tmp_path: Path, method: str, accelerator: str) -> None:
    run = fit(tmp_path, *METHODS[method], f"hardware.accelerator={accelerator}", pictures=True)
    (tmp_path / "figures").mkdir(exist_ok=True)
    tested = run.test()
    assert all(torch.isfinite(weight).all() for weight in run.weights.values())
    assert tested["test/acc"] > 1 / 10
    assert any((tmp_path / "figures").glob("*.png"))
    if "spagan" in method:  # its own pictures need the graph and the network in one place
        assert (tmp_path / "figures" / "neighbourhood.png").exists()


@pytest.mark.parametrize("accelerator", [on_gpu])
@pytest.mark.parametrize("method", METHODS)
def test_a_gpu_gives_the_cpu_s_results_but_for_rounding(
    tmp_path: Path, method: str, accelerator: str
) -> None:
    words = (*METHODS[method], *WITHOUT_DROPOUT[method], "hardware.precision=64-true")
    here, there = run_on(tmp_path / "cpu", "cpu", *words), run_on(tmp_path / "gpu", accelerator, *words)
    # GCN's edge weights are float32 whatever the precision, and a device rounds them in its own way
    assert difference(here, there) < 1e-5
    assert there.test() == pytest.approx(here.test(), abs=1e-5)


@pytest.mark.parametrize(
    ("precision", "accelerator", "apart"),
    [
        pytest.param("bf16-mixed", "cpu", 0.1, marks=pytest.mark.slow),
        pytest.param("32-true", "gpu", 1e-2, marks=needs_gpu),
        pytest.param("bf16-mixed", "gpu", 0.1, marks=needs_gpu),
        pytest.param("16-mixed", "gpu", 0.1, marks=needs_gpu),
    ],
)
@pytest.mark.parametrize("method", ["classifier", "gat", "spagan"])
def test_fewer_digits_only_round(
    tmp_path: Path, method: str, precision: str, accelerator: str, apart: float
) -> None:
    # SGD: Adam turns a rounding of a gradient near zero into a whole step
    words = (*METHODS[method], *WITHOUT_DROPOUT[method], "model.optimizer={name: SGD, lr: 0.05}")
    exact = run_on(tmp_path / "exact", "cpu", *words)
    run = run_on(tmp_path / "run", accelerator, *words, f"hardware.precision={precision}")
    assert {weight.dtype for weight in run.module.parameters()} == {torch.float32}
    assert difference(run, exact) < apart
    assert run.test()["test/loss"] == pytest.approx(exact.test()["test/loss"], abs=apart)


@pytest.mark.parametrize("accelerator", ACCELERATORS)
@pytest.mark.parametrize("algorithm", ["norm", "value"])
@pytest.mark.parametrize("method", ["classifier", "gat"])
def test_gradients_are_cut_after_their_scale_is_taken_off(
    tmp_path: Path, method: str, algorithm: str, accelerator: str
) -> None:
    """16-mixed multiplies the loss by 65,536: gradients that were cut before the division would vanish."""
    precision = "16-mixed" if accelerator == "gpu" else "32-true"
    words = (
        *METHODS[method],
        *WITHOUT_DROPOUT[method],
        "model.optimizer={name: SGD, lr: 0.05}",
        "trainer.gradient_clip_val=0.05",
        f"trainer.gradient_clip_algorithm={algorithm}",
    )
    exact = run_on(tmp_path / "exact", "cpu", *words)
    run = run_on(tmp_path / "run", accelerator, *words, f"hardware.precision={precision}")
    start = build_module(configuration(*words)).state_dict()
    moved = max(float((exact.weights[name] - start[name]).abs().max()) for name in start)
    assert difference(run, exact) < 0.5 * moved


@pytest.mark.parametrize("accelerator", ACCELERATORS)
@pytest.mark.parametrize("method", METHODS)
def test_a_deterministic_run_repeats_itself_bit_for_bit(
    tmp_path: Path, method: str, accelerator: str
) -> None:
    words = (*METHODS[method], "trainer.deterministic=true")
    one, two = run_on(tmp_path / "one", accelerator, *words), run_on(tmp_path / "two", accelerator, *words)
    assert_same_weights(one.weights, two.weights)
    assert one.test() == two.test()


@pytest.mark.parametrize("accelerator", ACCELERATORS)
def test_channels_last_gives_the_same_numbers(tmp_path: Path, accelerator: str) -> None:
    words = (*CLASSIFIER, "model.optimizer={name: SGD, lr: 0.05}", "trainer.deterministic=true")
    usual = run_on(tmp_path / "usual", accelerator, *words)
    last = run_on(tmp_path / "last", accelerator, *words, "hardware.channels_last=true")
    assert difference(last, usual) < 1e-3
    assert last.test()["test/loss"] == pytest.approx(usual.test()["test/loss"], abs=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("accelerator", [on_gpu])
def test_compiling_gives_the_same_numbers(tmp_path: Path, accelerator: str) -> None:
    words = (*CLASSIFIER, "model.network.depth=2", "model.optimizer={name: SGD, lr: 0.05}")
    usual = run_on(tmp_path / "usual", accelerator, *words)
    compiled = run_on(tmp_path / "compiled", accelerator, *words, "hardware.compile=true")
    assert difference(compiled, usual) < 1e-3
    assert compiled.test()["test/loss"] == pytest.approx(usual.test()["test/loss"], abs=1e-3)


def outputs(device: str, model: str) -> dict[str, Tensor]:
    """Output and gradients of an untrained network in float64, computed on ``device``."""
    datamodule = build_datamodule(configuration("data=mini_citation", f"model={model}"))
    assert isinstance(datamodule, GraphDataModule)
    graph = datamodule.transfer_batch_to_device(datamodule.graph, torch.device(device), 0)
    network = build_module(configuration("data=mini_citation", f"model={model}")).network.double().eval()
    edges = datamodule.graph.edge_index
    paths = find_paths(edges, torch.ones(edges.size(1)), 600, max_path_nodes=3, path_ratio=0.5)
    network.to(device)
    index = (PathIndex.build(paths.to(device), 600),) if model == "spagan" else ()
    out = network(prepare(graph), *index)
    (out * torch.linspace(-1, 1, out.numel(), dtype=out.dtype, device=device).view_as(out)).sum().backward()
    gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
    return {"out": out.detach()} | gradients


@pytest.mark.parametrize("way", ["torch", pytest.param("cuda", marks=needs_gpu)])
@pytest.mark.parametrize("model", ["gat", "spagan"])
def test_attention_in_torch_s_operations_equals_the_compiled_loops(
    model: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = outputs("cpu", model)
    if way == "torch":  # a GPU's way, taken on the CPU
        for module in ("node_classification.attention", "spagan.path_pooling"):
            monkeypatch.setattr(f"lightning_modules.{module}.uses_kernels", lambda x: False)
    found = outputs("cuda" if way == "cuda" else "cpu", model)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name].cpu(), value, rtol=1e-9, atol=1e-11, msg=name)


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=needs_gpu)])
@pytest.mark.parametrize("ratio", [0.5, None])
def test_hop_limited_search_finds_the_same_paths_everywhere(device: str, ratio: float | None) -> None:
    graph = build_datamodule(configuration("data=mini_citation")).graph
    costs = torch.rand(graph.edge_index.size(1), generator=torch.Generator().manual_seed(1))
    arguments: dict[str, Any] = {"max_path_nodes": 4, "path_ratio": ratio, "search": "hop_limited"}
    here = find_paths(graph.edge_index, costs, 600, **arguments)
    there = find_paths(graph.edge_index.to(device), costs.to(device), 600, **arguments)
    assert here.found == there.found
    for length, nodes in here.nodes.items():
        assert there.nodes[length].device.type == device
        assert torch.equal(there.nodes[length].cpu(), nodes)
        assert torch.equal(there.cost[length].cpu(), here.cost[length])


def started(folder: Path, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "run.py"), *words, "logger=csv", f"paths.cache={folder / 'cache'}"]
    return subprocess.Popen(
        [*command, "callbacks.savepoints.every_seconds=0", "~callbacks.pictures"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "accelerator"),
    [
        ("classifier", "cpu"),
        pytest.param("classifier", "gpu", marks=needs_gpu),
        pytest.param("spagan", "gpu", marks=needs_gpu),
    ],
)
def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path, method: str, accelerator: str) -> None:
    words = [
        *METHODS[method],
        f"hardware={accelerator}",
        "trainer.deterministic=true",
        "trainer.min_epochs=1",
    ]
    longer = (  # than it takes to be killed
        ["trainer.max_epochs=40", "data.augment=shift"]
        if method == "classifier"
        else ["trainer.max_epochs=300", "model.epochs_per_call=1"]
    )
    name = "classifier_digits" if method == "classifier" else "spagan_mini_citation"
    whole = started(tmp_path, *words, *longer, "paths.runs=whole")
    assert whole.wait(300) == 0, whole.stdout and whole.stdout.read()
    killed = started(tmp_path, *words, *longer, "paths.runs=killed")
    wait_for_savepoint(tmp_path / "killed", killed)
    killed.send_signal(signal.SIGKILL)
    killed.wait(60)
    again = started(tmp_path, *words, *longer, "paths.runs=killed", "resume=auto")
    assert again.wait(300) == 0, again.stdout and again.stdout.read()
    (one,), (two,) = ((tmp_path / runs / name).iterdir() for runs in ("whole", "killed"))
    weights = [
        torch.load(run / "checkpoints" / "best.ckpt", map_location="cpu", weights_only=True)["state_dict"]
        for run in (one, two)
    ]
    assert_same_weights(*weights)
    for process in (whole, killed, again):
        assert process.stdout is not None
        process.stdout.close()


def wait_for_savepoint(runs: Path, process: subprocess.Popen[str], seconds: float = 200) -> None:
    """Returns once a run has written its second savepoint; fails if it ends before."""
    end = time.monotonic() + seconds
    while not list(runs.glob("*/*/checkpoints/previous.ckpt")):
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two GPUs")
def test_two_gpus_that_share_each_batch_give_the_results_of_one(tmp_path: Path) -> None:
    words = [
        *CLASSIFIER,
        "model.network.norm=none",
        "model.optimizer={name: SGD, lr: 0.05}",
        "trainer.min_epochs=1",
    ]
    found = []
    for runs, hardware in (("one", ["hardware=gpu"]), ("two", ["hardware=ddp", "hardware.devices=2"])):
        process = started(tmp_path, *words, *hardware, f"paths.runs={runs}")
        output, _ = process.communicate(timeout=300)
        assert process.returncode == 0, output
        (folder,) = (tmp_path / runs / "classifier_digits").iterdir()
        best = folder / "checkpoints" / "best.ckpt"
        found.append(torch.load(best, map_location="cpu", weights_only=True)["state_dict"])
    torch.testing.assert_close(found[0], found[1], rtol=1e-3, atol=1e-4)
