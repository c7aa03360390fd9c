import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.system import git_state, hardware_summary, peak_gpu_memory_mb, versions

UNKNOWN = {"commit": None, "branch": None, "dirty": None}


def git(folder: Path, *words: str) -> str:
    """Git without the machine's own settings."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    env |= {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(
        ["git", *who, *words], cwd=folder, env=env, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet", "--initial-branch=trunk")
    (tmp_path / "a.txt").write_text("one")
    git(tmp_path, "add", "a.txt")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    return tmp_path


def test_clean_checkout_gives_commit_and_branch(checkout):
    assert git_state(checkout) == {
        "commit": git(checkout, "rev-parse", "HEAD"),
        "branch": "trunk",
        "dirty": False,
    }


@pytest.mark.parametrize("name", ["a.txt", "new.txt"])
def test_changed_or_untracked_file_makes_it_dirty(checkout, name):
    (checkout / name).write_text("two")
    assert git_state(checkout)["dirty"] is True


def test_detached_head_has_no_branch(checkout):
    git(checkout, "checkout", "--quiet", "--detach")
    state = git_state(checkout)
    assert state["branch"] is None
    assert state["commit"]


def test_repository_without_a_commit_has_a_branch_only(tmp_path):
    git(tmp_path, "init", "--quiet", "--initial-branch=trunk")
    assert git_state(tmp_path) == {"commit": None, "branch": "trunk", "dirty": False}


def test_folder_outside_git_is_unknown(tmp_path):
    assert git_state(tmp_path) == UNKNOWN
    assert git_state(tmp_path / "missing") == UNKNOWN


def test_repository_around_an_installed_package_is_not_asked(checkout):
    (checkout / "site-packages").mkdir()
    assert git_state(checkout / "site-packages") == UNKNOWN


def test_broken_repository_and_missing_git_are_unknown(checkout, monkeypatch, tmp_path_factory):
    (tmp_path_factory.mktemp("broken") / ".git").write_text("gitdir: nowhere")
    assert git_state(tmp_path_factory.getbasetemp() / "broken0") == UNKNOWN
    monkeypatch.setenv("PATH", "")
    assert git_state(checkout) == UNKNOWN


def test_git_variables_of_a_caller_are_not_followed(checkout, monkeypatch):
    monkeypatch.setenv("GIT_DIR", str(checkout / "elsewhere"))
    assert git_state(checkout)["branch"] == "trunk"


def test_versions_name_python_and_leave_out_what_is_missing(monkeypatch):
    monkeypatch.setattr("harness.system._DISTRIBUTIONS", ("numpy", "no-such-distribution"))
    found = versions()
    assert set(found) == {"python", "numpy"}
    assert found["python"].split(".")[0] == "3"


def test_hardware_summary_is_plain_and_complete():
    summary = hardware_summary()
    assert json.loads(json.dumps(summary)) == summary
    assert set(summary) == {"cpu", "cores", "ram_gb", "gpus", "platform"}
    assert summary["cpu"]
    assert summary["cores"] >= 1
    assert summary["ram_gb"] > 0


def in_a_fresh_process(code: str) -> str:
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_peak_memory_counts_what_was_held_and_freed():
    # A process of its own: in this one, an earlier test may have held more.
    grown = in_a_fresh_process(
        "from harness.system import peak_memory_mb as peak; before = peak(); b'x' * 64_000_000; "
        "print(peak() - before)"
    )
    assert 60 < float(grown) < 80


def test_nothing_here_imports_torch():
    loaded = in_a_fresh_process(
        "import sys; from harness import system as s; "
        "s.hardware_summary(); s.versions(); s.git_state(s.Path()); s.peak_memory_mb()"
        "; s.peak_gpu_memory_mb()\n"
        "print('torch' in sys.modules)"
    )
    assert loaded == "False"


def test_gpu_memory_is_none_before_cuda_is_used():
    torch = pytest.importorskip("torch")
    if torch.cuda.is_initialized():
        pytest.skip("CUDA is in use in this process")
    assert peak_gpu_memory_mb() is None
