"""The GPU benchmark runs on whatever there is, and says so where there is no GPU."""

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import gpu


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_machine_without_a_gpu_is_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "--output", str(tmp_path)])
    assert gpu.main() == 2
    assert capsys.readouterr().err.startswith("error: torch sees no GPU on this machine")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:::pytorch_lightning")
def test_it_measures_every_method_and_precision(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there = ["cpu", "gpu"] if torch.cuda.is_available() else ["cpu"]
    threads = torch.get_num_threads()
    arguments = ["--output", str(tmp_path), "--epochs", "4", "--on", *there]
    monkeypatch.setattr(sys, "argv", ["gpu", *arguments])
    monkeypatch.setitem(
        gpu.METHODS, "classifier", ("model=classifier", "data=digits", "model.network.width=4")
    )
    assert gpu.main() == 0
    torch.set_num_threads(threads)
    (table,) = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["tables"]
    measured = {(row["method"], row["on"], row["precision"]) for row in table["rows"]}
    cpu = {(method, "cpu", precision) for method in gpu.METHODS for precision in ("32-true", "bf16-mixed")}
    assert cpu <= measured
    assert all(row["epochs/s"] > 0 for row in table["rows"])


def test_a_rate_leaves_the_first_epochs_out() -> None:
    watch = gpu.Stopwatch()
    watch.ends = [0.0, 10.0, 10.5, 11.0, 11.5, 12.0, 12.5, 13.0, 13.5, 14.0]
    assert watch.epochs_per_second() == pytest.approx(2.0)
