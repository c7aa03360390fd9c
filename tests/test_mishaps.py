"""What a run does when something goes wrong on the way: one line, the right status, nothing lost."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.configuration.command_line import parse
from harness.errors import UserError
from harness.hardware import check_available
from lightning_modules.spagan.path_search import PathSets, find_paths
from run import run

ROOT = Path(__file__).parents[1]
QUICK = ["model=mlp", "data=mini_citation", "logger=csv", "hardware=cpu", "trainer.max_epochs=2"]


def line_of(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    return lines[0]


def test_a_diverged_training_ends_with_epoch_and_fix(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "model=gat",
        *QUICK[1:4],
        "trainer.max_epochs=9",
        "model.optimizer.lr=1e30",
        f"paths.runs={tmp_path}",
    ]
    assert run(words) == 2
    line = line_of(capsys)
    assert "training diverged: val/loss is nan in epoch 0, step 1 of phase fit." in line
    assert "Lower model.optimizer.lr" in line


def test_the_log_holds_what_was_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*QUICK, f"paths.runs={tmp_path}"]) == 0
    printed = capsys.readouterr()
    [log] = tmp_path.glob("*/*/run.log")
    text = log.read_text(encoding="utf-8")
    for line in [*printed.out.splitlines(), *printed.err.splitlines()]:
        assert line in text


@pytest.mark.parametrize("ckpt", ["https://x.y/best.ckpt", "/nowhere/best.ckpt"])
def test_a_checkpoint_that_is_no_file_is_refused_before_any_work(
    ckpt: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["mode=test", f"ckpt={ckpt}"]) == 2
    assert f"ckpt={ckpt}" in line_of(capsys)


def test_a_home_folder_may_be_written_with_a_tilde(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert parse(["paths.runs=~/runs"]).overrides == ("paths.runs=/home/somebody/runs",)


def test_several_machines_need_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    hardware: dict[str, Any] = {
        "accelerator": "cpu",
        "devices": 1,
        "num_nodes": 2,
        "strategy": "ddp",
        "precision": "32-true",
        "sync_batchnorm": False,
        "compile": False,
        "channels_last": False,
        "threads": 1,
    }
    with pytest.raises(UserError, match=r"num_nodes=2.*torchrun or srun"):
        check_available(hardware)
    monkeypatch.setenv("WORLD_SIZE", "2")
    check_available(hardware)


@pytest.mark.parametrize(
    "damage",
    [
        lambda nodes: nodes.__setitem__((0, 1), 10**12),
        lambda nodes: nodes.__setitem__((0, 1), -1),
        lambda nodes: nodes.__setitem__(slice(None), nodes.flip(0)),
        lambda nodes: nodes.__setitem__((slice(None), 1), 0),
    ],
)
def test_damaged_paths_in_a_checkpoint_are_refused(damage: Any) -> None:
    pair = torch.tensor([[0, 1, 1, 2], [1, 0, 2, 1]])
    state = find_paths(pair, torch.ones(4), 3, max_path_nodes=3, path_ratio=None).state()
    assert PathSets.from_state(state).num_nodes == 3
    damage(state["nodes"][2])
    with pytest.raises(ValueError, match="paths of 2 nodes are damaged"):
        PathSets.from_state(state)


def test_a_cache_that_cannot_be_made_is_replaced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    words = [*QUICK, f"paths.runs={tmp_path / 'runs'}", f"paths.cache={tmp_path / 'file'}"]
    assert run(words) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("run folder")


@pytest.mark.slow
def test_a_terminated_run_says_so_and_does_not_look_finished(tmp_path: Path) -> None:
    words = ["model=gat", "data=digits_graph", "logger=csv", "trainer.max_epochs=100000"]
    words += ["trainer.min_epochs=100000", "callbacks.progress.every_seconds=0.5", f"paths.runs={tmp_path}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "run.py", *words]
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:  # until training is under way
            if ": epoch " in line:
                break
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
    assert process.returncode == 143
    assert "stopped by a signal" in rest
    assert not list(tmp_path.glob("*/*/results.json"))
