"""The short form of ``python -m benchmarks.kill_resume``: real processes, real signals."""

import random
import shutil
import signal
from pathlib import Path

import pytest
import torch

from benchmarks.kill_resume import CASES, differences, kill_and_resume, unbroken

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=CASES)
def reference(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path, float]:
    return request.param, *unbroken(CASES[request.param], tmp_path_factory.mktemp("unbroken"))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_stopped_and_continued_run_equals_the_unbroken_one(
    reference: tuple[str, Path, float], tmp_path: Path, how: signal.Signals
) -> None:
    case, folder, seconds = reference
    trial = kill_and_resume(CASES[case], tmp_path, folder, seconds, random.Random(1), how)
    assert trial.kills
    assert trial.differences == []


def test_a_difference_of_one_bit_is_found(reference: tuple[str, Path, float], tmp_path: Path) -> None:
    _, folder, _ = reference
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    assert differences(other, folder) == []
    path = other / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    name, value = next((n, v) for n, v in content["state_dict"].items() if v.is_floating_point())
    value.view(-1).view(torch.int32)[0] ^= 1
    torch.save(content, path)
    with (other / "metrics.csv").open("a") as file:
        file.write("\n")
    assert differences(other, folder) == [f"best.ckpt: /state_dict/{name}", "metrics.csv"]
