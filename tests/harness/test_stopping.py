"""SIGTERM to one of several processes ends all of them, wherever they are."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch.distributed

from tests.command_lines import ROOT, child

# The command of run.py, in which the first of two processes gets SIGTERM while it is in a step.
SCRIPT = """
import os, signal, sys
import run
from {module} import {owner}

def told_to_stop(*arguments, inner={owner}.{method}, **keywords):
    if os.environ.get("LOCAL_RANK") == "0":
        signal.raise_signal(signal.SIGTERM)
    return inner(*arguments, **keywords)

{owner}.{method} = told_to_stop
run.main()
"""
CLASSIFIER = "lightning_modules.image_classification.classifier", "ImageClassifier"
DIGITS = "datamodules.digits", "DigitsDataModule"
WORDS = (
    "model=classifier",
    "data=digits",
    "model.network.width=4",
    "model.network.depth=2",
    "data.batch_size=32",
)
WORDS += ("logger=csv", "trainer.max_epochs=1", "~callbacks.pictures")


def stopped(folder: Path, owner: tuple[str, str], method: str) -> str:
    """What a run in two processes prints that gets SIGTERM in ``method``."""
    script = folder / "script.py"
    script.write_text(SCRIPT.format(module=owner[0], owner=owner[1], method=method), encoding="utf-8")
    places = {"PYTHONPATH": str(ROOT), "HOME": str(folder), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, str(script), *WORDS, "hardware=ddp_cpu"],
        cwd=folder,
        env=os.environ | places,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            _, err = process.communicate(timeout=90)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    assert process.returncode == 143, err
    assert "Traceback" not in err
    assert err.count("stopped by a signal") == 1
    return err


@pytest.mark.slow
@pytest.mark.skipif(
    not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="needs gloo"
)
@pytest.mark.parametrize(
    ("owner", "method"), [(DIGITS, "train_dataloader"), (CLASSIFIER, "test_step")], ids=["fit", "test"]
)
def test_two_processes_stop_together_and_the_run_goes_on(
    tmp_path: Path, owner: tuple[str, str], method: str
) -> None:
    err = stopped(tmp_path, owner, method)
    (folder,) = (tmp_path / "runs" / "classifier_digits").iterdir()
    assert f"resume={folder}" in err
    assert not (folder / "results.json").exists()
    done = child(f"resume={folder}", "hardware=cpu", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "going on after" in done.stderr
