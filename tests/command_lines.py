"""Commands given to ``run.run``, and what they leave behind, for the tests of the command line."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import run

ROOT = Path(__file__).parents[1]
MINI = ("model=gat", "data=mini_citation", "trainer.max_epochs=3")

Output = pytest.CaptureFixture[str]


def places(folder: Path) -> tuple[str, ...]:
    return (
        f"paths.runs={folder / 'runs'}",
        f"paths.cache={folder / 'cache'}",
        f"paths.data={folder / 'data'}",
    )


def command(folder: Path, *words: str) -> int:
    return run.run([*places(folder), "hardware=cpu", "logger=csv", *words])


def run_folder(out: str) -> Path:
    """The folder that the last line of a summary names."""
    name, _, path = out.splitlines()[-1].partition("  ")
    assert name == "run folder"
    return Path(path.strip())


def metrics_rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def refusal(folder: Path, capsys: Output, *words: str) -> str:
    """The one line on stderr of a command that a user got wrong; nothing may be left behind."""
    before = sorted(folder.rglob("*"))
    status = command(folder, *words)
    out, err = capsys.readouterr()
    assert status == 2, err
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith("error: ")
    assert "Traceback" not in err
    made = set(folder.rglob("*")) - set(before) - set((folder / "cache").rglob("*")) - {folder / "cache"}
    assert made == set()
    assert not [path for path in (folder / "cache").rglob("*") if path.is_file()]
    return err


def child(
    *words: str, folder: Path, seconds: float = 180, **environment: str
) -> subprocess.CompletedProcess[str]:
    """``python run.py`` in a process of its own, with a home directory of its own."""
    home = folder / "home"
    home.mkdir(exist_ok=True)
    unwanted = re.compile(r"TENFOLD_|WANDB_|MPLCONFIGDIR|XDG_|.*RANK|WORLD_SIZE|MASTER_|PYTEST")
    kept = {name: value for name, value in os.environ.items() if not unwanted.match(name)}
    return subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *words],
        cwd=folder,
        env=kept | {"HOME": str(home), "OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )
