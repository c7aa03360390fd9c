"""Free space, looked at before the first epoch."""

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from pytorch_lightning import LightningModule
from torch import nn

from harness.errors import UserError
from harness.guards import check_space, free_bytes, needed_bytes

ROOT = Path(__file__).parents[2]
MEGABYTE = 10**6


class Net(LightningModule):
    def __init__(self, parameters: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(parameters, dtype=dtype))
        self.register_buffer("mean", torch.zeros(10, dtype=dtype))


def places(folder: Path) -> dict[str, str]:
    return {"runs": str(folder / "runs"), "cache": str(folder / "cache"), "data": str(folder / "data")}


def refusal(paths: Mapping[str, str], needed: int, free: int) -> str:
    with pytest.raises(UserError) as caught:
        check_space(paths, needed, lambda folder: free)
    return str(caught.value)


def test_a_run_needs_several_times_its_parameters_and_a_floor() -> None:
    small, large, half = (needed_bytes(Net(*a), "fit") for a in ((1,), (10**7,), (10**7, torch.float16)))
    assert 100 * MEGABYTE <= small < 101 * MEGABYTE
    # two savepoints and one being written, of weights, two moments and the best weights, 4 bytes each
    assert 3 * 4 * 40 * MEGABYTE < large - small < 16 * 40 * MEGABYTE
    assert (large - small) == pytest.approx(2 * (half - small), rel=1e-3)
    assert needed_bytes(Net(10**7), "test") < 100 * MEGABYTE, "a test writes no checkpoint"


def test_a_full_place_is_named_with_what_is_free_and_needed_and_the_fix(tmp_path: Path) -> None:
    message = refusal(places(tmp_path), 150 * MEGABYTE, 30 * MEGABYTE + 1)
    assert message == (
        f"paths.runs={tmp_path / 'runs'}: 30 MB are free there, and this run needs about 150 MB."
        " Free some, or give another place with paths.runs=<folder>."
    )


def test_a_full_cache_is_refused_too(tmp_path: Path) -> None:
    # both lie on one file system: the run alone would fit
    message = refusal(places(tmp_path), 150 * MEGABYTE, 155 * MEGABYTE)
    assert message.startswith(f"paths.cache={tmp_path / 'cache'}: 155 MB are free")
    assert "needs about 170 MB" in message
    check_space(places(tmp_path), 150 * MEGABYTE, lambda folder: 170 * MEGABYTE)


def test_nothing_is_made_by_looking(tmp_path: Path) -> None:
    check_space(places(tmp_path), 1)
    assert list(tmp_path.iterdir()) == []


def test_free_bytes_are_those_of_the_file_system(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.05)


@pytest.fixture
def small_disk(tmp_path: Path) -> list[str]:
    """The beginning of a command that sees ``tmp_path/disk`` as a file system of 20 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    inside = f'mount -t tmpfs -o size=20m none {disk} && exec "$@"'
    prefix = ["unshare", "-Urm", "sh", "-c", inside, "sh"]
    if (
        shutil.which("unshare") is None
        or subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode
    ):
        pytest.skip("this machine lets no user mount a small file system")
    return prefix


@pytest.mark.slow
def test_a_run_on_a_full_disk_ends_before_its_first_epoch(tmp_path: Path, small_disk: list[str]) -> None:
    words = ["model=mlp", "data=mini_citation", "logger=csv", "hardware=cpu", "trainer.max_epochs=2"]
    words += [f"paths.runs={tmp_path / 'disk' / 'runs'}", f"paths.cache={tmp_path / 'cache'}"]
    listed = f'"$@"; status=$?; ls -A {tmp_path / "disk"}; exit $status'
    command = [*small_disk, "sh", "-c", listed, "sh", sys.executable, str(ROOT / "run.py"), *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert done.stdout == "", "nothing was left on the disk"
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: paths.runs={tmp_path / 'disk' / 'runs'}: 20 MB are free there")
