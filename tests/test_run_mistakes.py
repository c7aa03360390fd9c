"""What goes wrong: a user's mistake, a crash, an interrupt."""

import errno
import os
import re
import signal
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch

import run
from harness import session
from tests.command_lines import MINI, Output, child, command, refusal

pytestmark = pytest.mark.usefixtures("as_before")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("model=spagn",), r"spagn.*Did you mean 'spagan'\?"),
        (("mdel=gat",), "Did you mean 'model"),
        (("model.hiden=8",), r"model\.hiden.*model\.hidden_channels"),
        (("model.heads=abc",), r"model\.heads must be .*'abc'"),
        (("model.heads=0",), r"model\.heads"),
        (("model.dropout=1.5",), r"model\.dropout"),
        (("seed=-1",), "seed"),
        (("hardware=tpu",), "tpu"),
        (("hardware.precision=8-bit",), r"hardware\.precision"),
        (("trainer.max_epoch=3",), r"trainer\.max_epochs"),
        (("model.optimizer.name=Adm",), r"Did you mean 'Adam'\?"),
        (("--seeds",), "no flag --seeds"),
        (
            ("callbacks.best_weights.monitor=val/los",),
            r"callbacks\.best_weights\.monitor must be one of train/loss.*Did you mean 'val/loss'\?",
        ),
        (("model._target_=torch.load",), r"model\._target_=torch\.load"),
        (("model._target_=os.system",), r"model\._target_=os\.system is not allowed"),
        (
            ("callbacks.progress._target_=os.system",),
            r"callbacks\.progress\._target_=os\.system is not allowed",
        ),
        (("data._target_=builtins.eval",), "is not allowed"),
        (("+logger.x._target_=subprocess.Popen",), "is not allowed"),
        (("mode=test",), "ckpt="),
        (("data.in_channels=121",), r"data\.in_channels=121 does not agree with the data: .*120"),
        (("model.in_channels=7",), r"model\.in_channels=7, but data\.in_channels=120"),
        (("model.optimizer.lr=inf",), r"model\.optimizer\.lr must be a finite number, got inf"),
        (
            ("+callbacks.x._target_=pytorch_lightning.callbacks.Timer", "+callbacks.x.duration=soon"),
            r"callbacks\.x: .*soon",
        ),
        (("experiment=gat_cora",), r"experiment=gat_cora is not the preset of model=gat data=mini_citation"),
        (("experiment=gcn_cora",), "Write model=gcn data=cora"),
        (("data.num_classes=5",), r"data\.num_classes=5 does not agree"),
        (("resume=",), r"resume= names nothing.*resume=auto"),
        (("model=spagan", "model.edge_cost=unit", "model.iterations=2"), r"model\.iterations must be 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_user_s_mistake_is_one_line_with_the_fix(
    tmp_path: Path, capsys: Output, words: tuple[str, ...], says: str
) -> None:
    assert re.search(says, refusal(tmp_path, capsys, *MINI, *words))


@pytest.mark.parametrize(
    ("variable", "key"), [("TENFOLD_DATA", "paths.data"), ("TENFOLD_CACHE", "paths.cache")]
)
def test_a_variable_that_is_set_to_nothing_is_named(
    variable: str, key: str, tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "")
    assert run.run(["model=mlp", f"paths.runs={tmp_path / 'runs'}"]) == 2
    assert capsys.readouterr().err == (
        f"error: {key} is empty: the variable {variable} is set to ''. Unset it, or name a folder.\n"
    )


def test_a_run_folder_that_cannot_be_made_is_a_user_s_mistake(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "file").write_text("")
    err = refusal(tmp_path, capsys, *MINI, f"paths.runs={tmp_path / 'file' / 'runs'}")
    assert "paths.runs=" in err
    assert "Give another place" in err
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "gat_mini_citation").write_text("")
    assert "Give another place" in refusal(tmp_path, capsys, *MINI)
    assert "too long" in refusal(tmp_path, capsys, *MINI, f"paths.runs={tmp_path / ('x' * 300)}")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="a superuser may write everywhere")
def test_a_run_folder_without_permission_is_a_user_s_mistake(tmp_path: Path, capsys: Output) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    assert "not writable" in refusal(tmp_path, capsys, *MINI, f"paths.runs={tmp_path / 'locked' / 'runs'}")


def test_a_gpu_that_is_not_there_is_a_user_s_mistake(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert "hardware=cpu or hardware=auto" in refusal(tmp_path, capsys, *MINI, "hardware=gpu")


def test_a_mistake_that_only_training_can_see_leaves_nothing_behind(tmp_path: Path, capsys: Output) -> None:
    assert command(tmp_path, *MINI, "model.optimizer.lr=1e30") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("error: training diverged: val/loss is nan in epoch 0, ")
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_a_mistake_that_two_processes_see_leaves_nothing_behind(tmp_path: Path) -> None:
    done = child("hardware=ddp_cpu", *MINI, "logger=csv", "model.optimizer.lr=1e30", folder=tmp_path)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("config.yaml"))


def test_a_crash_ends_with_one_and_keeps_its_folder_and_traceback(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightning_modules.node_classification.module import GATClassifier

    def broken(*args: Any) -> NoReturn:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(GATClassifier, "training_loss", broken)
    assert command(tmp_path, *MINI) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("crashed: ZeroDivisionError: a bug (see ")
    assert err.count("Traceback (most recent call last)") == 1
    (log,) = tmp_path.glob("runs/gat_mini_citation/*/run.log")
    assert f"(see {log})" in err
    assert "ZeroDivisionError: a bug" in log.read_text(encoding="utf-8")
    assert (log.parent / "config.yaml").exists()
    monkeypatch.undo()
    assert command(tmp_path, *MINI, "~callbacks.pictures") == 0, (
        "the next run of this process is not disturbed"
    )


def test_the_keyboard_s_interrupt_ends_with_130(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*args: Any) -> NoReturn:
        raise KeyboardInterrupt

    monkeypatch.setattr(session, "run_session", interrupted)
    assert command(tmp_path, *MINI) == 130
    assert capsys.readouterr().err == "stopped by the keyboard\n"


@pytest.mark.parametrize("file", [None, "/elsewhere/file"])
def test_a_disk_that_gets_full_is_told_with_how_to_go_on(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch, file: str | None
) -> None:
    def full(*args: Any) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), file)

    monkeypatch.setattr(session, "_execute", full)
    assert command(tmp_path, *MINI) == 2
    (folder,) = tmp_path.glob("runs/*/*")
    line = capsys.readouterr().err.splitlines()[-1]
    where = "" if file is None else f" ({file})"
    assert line.startswith(f"error: no space is left for {folder}{where}: what was written before stays")
    assert line.endswith(f"Free some, and go on with python run.py resume={folder}")


def test_a_run_that_is_stopped_behind_its_results_is_not_to_be_gone_on_with(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "print_summary", lambda *args: signal.raise_signal(signal.SIGTERM))
    assert command(tmp_path, *MINI, "~callbacks.pictures") == 143
    assert capsys.readouterr().err.splitlines()[-1] == "stopped by a signal"
    assert len(list(tmp_path.glob("runs/*/*/results.json"))) == 1
