"""Hardware that is not there is refused before any work."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from harness.errors import UserError
from harness.hardware import apply_threads, check_available, is_first_process
from tests.small_runs import fit

CONF = Path(__file__).parents[2] / "conf" / "hardware"


def hardware(**changes: Any) -> dict[str, Any]:
    return {
        "accelerator": "auto",
        "devices": 1,
        "num_nodes": 1,
        "strategy": "auto",
        "precision": "32-true",
        "threads": 1,
    } | changes


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: request.param)
    return request.param


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("gpus", [0], indirect=True)
@pytest.mark.parametrize("choice", ["gpu", "ddp"])
def test_a_gpu_that_is_not_there_is_refused(gpus: int, choice: str) -> None:
    config = yaml.safe_load((CONF / f"{choice}.yaml").read_text(encoding="utf-8"))
    with pytest.raises(UserError, match=r"no GPU on this machine\. Use hardware=cpu or hardware=auto"):
        check_available(config)


@pytest.mark.parametrize("gpus", [0], indirect=True)
@pytest.mark.parametrize("choice", ["auto", "cpu", "ddp_cpu"])
def test_a_cpu_is_always_there(gpus: int, choice: str) -> None:
    check_available(yaml.safe_load((CONF / f"{choice}.yaml").read_text(encoding="utf-8")))


@pytest.mark.parametrize("gpus", [0], indirect=True)
@pytest.mark.parametrize("accelerator", ["cpu", "auto"])
def test_half_precision_of_gpus_is_refused_on_the_cpu(gpus: int, accelerator: str) -> None:
    with pytest.raises(UserError, match=r"precision=16-mixed needs a GPU.*bf16-mixed"):
        check_available(hardware(accelerator=accelerator, precision="16-mixed"))


@pytest.mark.parametrize("gpus", [2], indirect=True)
def test_more_gpus_than_there_are_are_refused(gpus: int) -> None:
    for devices in (3, [0, 1, 2], [2]):
        with pytest.raises(UserError, match=r"hardware\.devices=.*2 GPU"):
            check_available(hardware(accelerator="gpu", devices=devices))
    for devices in (1, 2, [0, 1], [1], "auto"):
        check_available(hardware(accelerator="gpu", devices=devices, precision="16-mixed"))


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this is an Apple GPU")
def test_an_apple_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(UserError, match="no Apple GPU"):
        check_available(hardware(accelerator="mps"))


def test_threads_are_those_of_the_configuration() -> None:
    apply_threads(2)
    assert torch.get_num_threads() == 2
    apply_threads(1)
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0"}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"RANK": "2", "LOCAL_RANK": "0"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"RANK": "0", "LOCAL_RANK": "0", "NODE_RANK": "0"}, True),
    ],
)
def test_one_process_of_all_writes_and_prints(
    environment: dict[str, str], first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("RANK", "LOCAL_RANK", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() is first


@pytest.mark.parametrize("model", ["mlp", "gcn", "gat", "spagan"])
@pytest.mark.parametrize("precision", ["64-true", "bf16-mixed", "bf16-true"])
def test_every_precision_of_the_cpu_trains(tmp_path: Path, model: str, precision: str) -> None:
    run = fit(
        tmp_path,
        f"model={model}",
        "data=mini_citation",
        "trainer.max_epochs=3",
        f"hardware.precision={precision}",
    )
    assert all(torch.isfinite(weight).all() for weight in run.weights.values())
    assert 0 <= run.test()["test/acc"] <= 1
    expected = {"64-true": torch.float64, "bf16-mixed": torch.float32, "bf16-true": torch.bfloat16}
    assert {weight.dtype for weight in run.weights.values()} == {expected[precision]}
