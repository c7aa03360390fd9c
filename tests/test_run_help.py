"""Answers before a run: the help, and mistakes that need no library."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import run
from tests.command_lines import ROOT, Output, child, refusal

pytestmark = pytest.mark.usefixtures("as_before")


HEAVY = (
    "torch",
    "pytorch_lightning",
    "torch_geometric",
    "numpy",
    "matplotlib",
    "wandb",
    "numba",
    "scipy",
    "rich",
)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["model=gat", "--cfg", "job"], 0),
        (["model.hiden=8"], 2),
        (["model=spagn"], 2),
        (["model.heads=abc"], 2),
        (["model._target_=torch.load"], 2),
        (["callbacks.progress._target_=os.system"], 2),
        (["--epochs", "3"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_answers_before_a_run_import_nothing_heavy(words: list[str], status: int, tmp_path: Path) -> None:
    code = (
        f"import sys, run\nstatus = run.run({words!r})\n"
        f"found = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not found, found\nsys.exit(status)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_misspelt_word_in_a_process_of_its_own(tmp_path: Path) -> None:
    done = child("model.hiden=8", folder=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["home"]


def test_help_lists_groups_modes_and_commands_that_work(tmp_path: Path, capsys: Output) -> None:
    assert run.run(["--help"]) == 0
    out, _ = capsys.readouterr()
    for word in ("spagan", "cora", "digits_graph", "ddp_cpu", "mode=test", "mode=predict", "python run.py"):
        assert word in out


def test_a_reader_that_has_had_enough_of_the_help_is_no_crash(tmp_path: Path) -> None:
    words = [sys.executable, str(ROOT / "run.py"), "--help"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_a_model_for_other_data_is_told_with_the_models_for_these(tmp_path: Path, capsys: Output) -> None:
    told = refusal(tmp_path, capsys, "model=gcn", "data=mini_factor_graphs")
    assert (
        "Models for data=mini_factor_graphs: disengcn, factorgcn, gin, graph_gat, graph_gcn, graph_mlp."
        in told
    )
