"""A run in a process of its own: what it prints and why it failed reach the run that started it."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.child_run import run_child


def test_a_child_s_mistake_is_handed_over_and_not_printed_as_well(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status, why = run_child(["model=galt"], tmp_path, "teacher")
    assert status == 2
    assert why.startswith("error: there is no model=galt.")
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", ""), "the run that started it says it"


def test_a_child_that_crashes_after_a_line_like_a_mistake_is_heard_in_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    child = tmp_path / "child.sh"  # in place of the interpreter
    child.write_text("#!/bin/bash\necho 'error: one'\necho two\necho 'error: three'\nexit 1\n")
    child.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(child))
    assert run_child([], tmp_path, "teacher") == (1, "error: three")
    assert capsys.readouterr().err == "teacher | error: one\nteacher | two\nteacher | error: three\n"


def test_a_child_is_no_process_of_its_parent_s_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE", "TENFOLD_JOB", "SLURM_PROCID", "PL_GLOBAL_SEED"):
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("TENFOLD_DATA", "/data/of/the/user")
    seen = "${oc.env:RANK,none}${oc.env:LOCAL_RANK,none}${oc.env:TENFOLD_JOB,none}${oc.env:SLURM_PROCID,none}"
    words = [f"paths.cache='{seen}'", "data=mini_citation", "--cfg", "job", "--resolve"]
    assert run_child(words, tmp_path, "teacher") == (0, "")
    printed = capsys.readouterr().err
    assert "nonenonenonenone\n" in printed
    assert "data: /data/of/the/user" in printed


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's death")
def test_a_child_is_told_to_stop_when_its_parent_is_killed(tmp_path: Path) -> None:
    child = tmp_path / "child.sh"  # in place of the interpreter
    child.write_text(
        f"#!/bin/bash\ntrap 'echo > {tmp_path}/stopped; exit' TERM\necho > {tmp_path}/begun\n"
        "for _ in {1..600}; do sleep 0.1; done\n"
    )
    child.chmod(0o700)
    call = f"from harness.child_run import *; sys.executable = {str(child)!r}; run_child([], Path('x'), 'x')"
    parent = subprocess.Popen([sys.executable, "-c", call], cwd=Path(__file__).parents[2])
    try:
        _wait_for(tmp_path / "begun")
    finally:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
    _wait_for(tmp_path / "stopped")


def _wait_for(path: Path) -> None:
    until = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < until, f"{path.name} is not there"
        time.sleep(0.05)
