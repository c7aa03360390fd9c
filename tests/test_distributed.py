"""Several processes give the results of one, whoever starts them."""

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.distributed

import run as entry

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (torch.distributed.is_available() and torch.distributed.is_gloo_available()), reason="needs gloo"
    ),
]

ROOT = Path(__file__).parents[1]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
WORDS = (
    "model=classifier",
    "data=digits",
    "model.network.width=8",
    "model.network.depth=3",
    # BatchNorm's statistics would be those of each process's half of a batch
    "model.network.norm=none",
    # Adam would turn a rounding of a gradient near zero into a whole step
    "model.optimizer={name: SGD, lr: 0.3}",
    "+model.optimizer.momentum=0.9",
    "data.num_train=500",  # the last batch of an epoch is smaller than the others
    "trainer.max_epochs=3",
    "trainer.min_epochs=1",
    "trainer.log_every_n_steps=1",
    "trainer.gradient_clip_val=1.0",
    "logger=csv",
)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of one process."""
    folder = tmp_path_factory.mktemp("alone")
    threads = torch.get_num_threads()
    words = [*WORDS, "hardware=cpu", f"paths.runs={folder / 'runs'}", f"paths.cache={folder / 'cache'}"]
    assert entry.run(words) == 0
    torch.set_num_threads(threads)
    return next((folder / "runs" / "classifier_digits").iterdir())


def started(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    unwanted = ("TENFOLD_", "SLURM_", "MASTER_", "TORCHELASTIC_")
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(unwanted) and not name.endswith("RANK") and name != "WORLD_SIZE"
    }
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=kept | {"HOME": str(folder), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def epochs(folder: Path) -> list[dict[str, float]]:
    """The rows of whole epochs; those of single steps hold the loss of the first process's share."""
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if not row["train/loss_step"]]
    return [{name: float(value) for name, value in row.items() if value} for row in rows]


@pytest.mark.parametrize("launcher", [[], TORCHRUN], ids=["lightning", "torchrun"])
def test_two_processes_that_share_each_batch_give_the_results_of_one(
    alone: Path, tmp_path: Path, launcher: list[str]
) -> None:
    done = started(tmp_path, *launcher, str(ROOT / "run.py"), *WORDS, "hardware=ddp_cpu")
    assert done.returncode == 0, done.stderr
    (together,) = (tmp_path / "runs" / "classifier_digits").iterdir()
    assert done.stdout.count("run folder") == 1
    one, two = (
        torch.load(folder / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
        for folder in (alone, together)
    )
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)
    expected, found = epochs(alone), epochs(together)
    assert len(found) == len(expected) == 4  # three epochs and the test
    for row, other in zip(found, expected, strict=True):
        assert row == pytest.approx(other, abs=1e-4)
    ours, theirs = (json.loads((f / "results.json").read_text())["metrics"] for f in (together, alone))
    assert ours == pytest.approx(theirs, abs=1e-4)
    assert theirs["test/acc"] > 0.3, "nothing was learnt, so that equality would show little"


def test_a_number_of_processes_that_was_not_asked_for_is_refused_by_all(tmp_path: Path) -> None:
    done = started(tmp_path, *TORCHRUN, str(ROOT / "run.py"), *WORDS, "hardware=cpu")
    assert done.returncode != 0
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(set(errors)) == 1
    assert "make 1 process(es), but torchrun has started 2" in errors[0]
    assert not list(tmp_path.rglob("config.yaml"))


@pytest.mark.parametrize(
    ("scheme", "strategy"), [("one_stage", "ddp"), ("two_stage", "ddp_find_unused_parameters_true")]
)
def test_two_players_train_in_two_processes(tmp_path: Path, scheme: str, strategy: str) -> None:
    words = [f"model.scheme={scheme}", f"hardware.strategy={strategy}", "data.num_train=128"]
    words += ["model=osgan", "data=bumps16", "trainer.max_epochs=2", "model.num_samples=64"]
    words += ["hardware=ddp_cpu", "logger=csv", "trainer.log_every_n_steps=1"]
    done = started(tmp_path, str(ROOT / "run.py"), *words)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs" / "osgan_bumps16").iterdir()
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))["metrics"]
    assert set(found) == {"test/fd_bumps", "test/modes", "test/on_mode"}


def test_every_graph_counts_once_whoever_tests_it(tmp_path: Path) -> None:
    words = ("model=factorgcn", "data=mini_factor_graphs", "data.num_graphs=400", "data.batch_size=70")
    words += ("trainer.max_epochs=1", "logger=csv", "~callbacks.pictures")
    threads = torch.get_num_threads()
    assert entry.run([*words, "hardware=cpu", f"paths.runs={tmp_path / 'alone'}"]) == 0
    torch.set_num_threads(threads)
    done = started(tmp_path, str(ROOT / "run.py"), *words, "hardware=ddp_cpu")
    assert done.returncode == 0, done.stderr
    one, two = (
        json.loads(path.read_text(encoding="utf-8"))["metrics"]
        for path in (*(tmp_path / "alone").rglob("results.json"), *(tmp_path / "runs").rglob("results.json"))
    )
    assert two == pytest.approx(one, rel=1e-5)
    # null predictors follow from the graphs' numbers alone
    exact = [name for name in one if name.endswith(("_random", "_equal"))]
    assert exact
    assert {name: two[name] for name in exact} == pytest.approx(
        {name: one[name] for name in exact}, rel=1e-12
    )
