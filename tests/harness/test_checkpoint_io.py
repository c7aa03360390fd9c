"""Checkpoints are written in their own folder alone."""

import tempfile
from pathlib import Path

import pytest

from harness.savepoints import read_savepoint
from tests.small_runs import fit


def test_a_run_needs_no_folder_of_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    run = fit(tmp_path / "run", "model=mlp", "data=mini_citation", "trainer.max_epochs=2")
    savepoint = read_savepoint(run.folder / "checkpoints")
    assert savepoint is not None
    assert savepoint.stage == "trained"
    assert sorted(path.name for path in (run.folder / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
