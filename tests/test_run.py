"""Runs from the command line, as a user meets them."""

import json
import logging
import re
from pathlib import Path

import pytest
import torch
import yaml

from tests.command_lines import MINI, Output, child, command, metrics_rows, run_folder

pytestmark = pytest.mark.usefixtures("as_before")

PNG = b"\x89PNG\r\n\x1a\n"


def test_a_good_command_leaves_what_a_run_promises(tmp_path: Path, capsys: Output) -> None:
    assert command(tmp_path, "model=spagan", "data=mini_citation", "trainer.max_epochs=3", "seed=5") == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert re.fullmatch(r"test/acc +\d+\.\d %", lines[0])
    assert any(line.startswith("published ") and "no published value" in line for line in lines)
    assert re.search(
        r"^seconds +setup [\d.]+ · attention [\d.]+ · after attention [\d.]+ · paths ", out, re.M
    )
    assert "Traceback" not in err
    folder = run_folder(out)
    assert folder.parent == tmp_path / "runs" / "spagan_mini_citation"
    assert {path.name for path in folder.iterdir()} == {
        "config.yaml",
        "results.json",
        "metrics.csv",
        "run.json",
        "run.log",
        "checkpoints",
        "figures",
    }
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    pictures = list((folder / "figures").iterdir())
    assert {"training_curves.png", "neighbourhood.png"} <= {path.name for path in pictures}
    assert all(path.read_bytes().startswith(PNG) for path in pictures)
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    assert config["seed"] == 5
    assert config["model"]["in_channels"] == 120, "resolved"
    rows = metrics_rows(folder)
    assert [row["step"] for row in rows] == ["0", "1", "2", "3", "4", "5", "6"]
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert float(rows[-1]["test/acc"]) == results["metrics"]["test/acc"]
    assert (results["model"], results["data"], results["seed"]) == ("spagan", "mini_citation", 5)
    assert f"{100 * results['metrics']['test/acc']:.1f} %" in lines[0]
    assert results["published"] is None
    assert results["epochs"] == {"attention": 3, "paths": 3}
    assert results["best_checkpoint"] == str(folder / "checkpoints" / "best.ckpt")
    assert results["parameters"] > 0
    assert results["peak_memory_mb"] > 0
    assert results["hardware"]["accelerator"] == "cpu"
    assert results["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert set(results["seconds"]) >= {"setup", "attention", "paths", "test"}
    assert {"commit", "dirty"} <= set(results["git"] or {"commit": "", "dirty": ""})


def test_the_published_value_stands_beside_the_measured_one(tmp_path: Path, capsys: Output) -> None:
    published = "published={metric: test/acc, value: 0.836, spread: 0.005, source: Yang et al. 2019}"
    assert command(tmp_path, *MINI, published, "~callbacks.pictures") == 0
    out, _ = capsys.readouterr()
    assert re.search(r"^test/acc +\d+\.\d % +published 83\.6 ± 0\.5 % \(Yang et al\. 2019\)$", out, re.M)
    assert "no published value" not in out


def test_what_is_written_names_folders_in_full(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("data=mini_citation", "model=mlp", "trainer.max_epochs=1", "~callbacks.pictures")
    assert command(tmp_path, *words, "paths.runs=mine/runs", "paths.cache=cache") == 0
    folder = run_folder(capsys.readouterr().out)
    assert folder.parent == tmp_path / "mine" / "runs" / "mlp_mini_citation"
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    assert config["paths"] == {
        "data": str(tmp_path / "data"),
        "runs": str(tmp_path / "mine" / "runs"),
        "cache": str(tmp_path / "cache"),
    }
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert results["best_checkpoint"] == str(folder / "checkpoints" / "best.ckpt")


def test_two_runs_of_one_process_do_not_disturb_each_other(tmp_path: Path, capsys: Output) -> None:
    handlers = list(logging.getLogger().handlers)
    folders = []
    for _ in range(2):
        assert command(tmp_path, *MINI, "~callbacks.pictures") == 0
        folders.append(run_folder(capsys.readouterr().out))
    assert folders[0] != folders[1]
    assert (folders[0] / "metrics.csv").read_bytes() == (folders[1] / "metrics.csv").read_bytes()
    assert logging.getLogger().handlers == handlers


def test_nothing_is_written_outside_the_folders_of_the_configuration(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert command(tmp_path / "here", *MINI) == 0
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert {path.name for path in (tmp_path / "here").iterdir()} <= {"runs", "cache"}


@pytest.mark.slow
def test_the_bare_command_keeps_its_dashboard_in_the_run_folder(tmp_path: Path) -> None:
    done = child("trainer.max_epochs=3", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    folder = tmp_path / run_folder(done.stdout)
    assert folder.parent == tmp_path / "runs" / "spagan_digits_graph"
    assert len(list((folder / "wandb").glob("offline-run-*"))) == 1
    assert list((tmp_path / "home").rglob("*")) == []
    assert {path.name for path in tmp_path.iterdir()} == {"home", "runs", ".cache"}
    media = {path.name for path in (folder / "wandb").rglob("*.png")}
    assert any("training_curves" in name for name in media)
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_two_processes_make_one_run_with_the_results_of_one(tmp_path: Path) -> None:
    words = ("model=spagan", "data=mini_citation", "trainer.max_epochs=3", "logger=csv")
    both = child("hardware=ddp_cpu", *words, folder=tmp_path)
    assert both.returncode == 0, both.stderr
    (folder,) = (tmp_path / "runs" / "spagan_mini_citation").iterdir()
    assert folder == tmp_path / run_folder(both.stdout)
    assert both.stdout.count("run folder") == 1
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best.ckpt", "last.ckpt"}
    assert not list(folder.rglob(".*"))
    alone = child("hardware=cpu", *words, folder=tmp_path)
    assert alone.returncode == 0, alone.stderr
    other = tmp_path / run_folder(alone.stdout)
    # all but the last row, which also holds the seconds that the search for paths took
    assert metrics_rows(folder)[:-1] == metrics_rows(other)[:-1]
    ours, theirs = (json.loads((path / "results.json").read_text())["metrics"] for path in (folder, other))
    for name in ("test/acc", "test/acc_gat", "test/loss"):
        assert ours[name] == theirs[name]
