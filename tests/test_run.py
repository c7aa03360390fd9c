"""The command line as a user meets it."""

import csv
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import torch
import yaml

import run
from datamodules.planetoid import planetoid_files
from harness import session
from harness.configuration import targets

ROOT = Path(__file__).parents[1]
MINI = ("model=gat", "data=mini_citation", "trainer.max_epochs=3")
PNG = b"\x89PNG\r\n\x1a\n"

Output = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Environment, threads and levels of loggers, which a run sets for its process, as they were."""
    environment, threads = dict(os.environ), torch.get_num_threads()
    levels = {name: logging.getLogger(name).level for name in ("", "pytorch_lightning", "lightning_fabric")}
    yield
    for name in set(os.environ) - set(environment):
        del os.environ[name]
    os.environ.update(environment)
    torch.set_num_threads(threads)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine whose names do not resolve, as without a network."""

    def unknown(*args: Any, **keywords: Any) -> NoReturn:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    monkeypatch.setattr(socket, "create_connection", unknown)


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


def test_a_trained_run_can_be_tested_again_and_asked_for_predictions(tmp_path: Path, capsys: Output) -> None:
    fitted = ("model=spagan", "data=digits_graph", "trainer.max_epochs=2", "~callbacks.pictures")
    assert command(tmp_path, *fitted) == 0
    first = run_folder(capsys.readouterr().out)
    metrics = json.loads((first / "results.json").read_text())["metrics"]
    checkpoint = f"ckpt={first / 'checkpoints' / 'best.ckpt'}"

    assert command(tmp_path, *fitted, "mode=test", checkpoint, "seed=9") == 0
    second = run_folder(capsys.readouterr().out)
    assert second != first
    again = json.loads((second / "results.json").read_text())
    assert again["mode"] == "test"
    assert {name: again["metrics"][name] for name in ("test/acc", "test/loss", "test/f1_macro")} == {
        name: metrics[name] for name in ("test/acc", "test/loss", "test/f1_macro")
    }
    assert list((second / "checkpoints").iterdir()) == []
    assert again["best_checkpoint"] == str(first / "checkpoints" / "best.ckpt")

    assert command(tmp_path, *fitted, "mode=predict", checkpoint) == 0
    third = run_folder(capsys.readouterr().out)
    with (third / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1797
    classes = [name[2:-1] for name in rows[0] if name.startswith("p(")]
    assert len(classes) == 10
    for row in rows[::100]:
        probabilities = [float(row[f"p({name})"]) for name in classes]
        assert sum(probabilities) == pytest.approx(1, abs=1e-4)
        assert row["predicted"] == classes[probabilities.index(max(probabilities))]
        assert row["true"] in classes
    tested = [row for row in rows if row["split"] == "test"]
    share = sum(row["true"] == row["predicted"] for row in tested) / len(tested)
    assert share == pytest.approx(metrics["test/acc"])


def test_two_runs_of_one_process_do_not_disturb_each_other(tmp_path: Path, capsys: Output) -> None:
    handlers = list(logging.getLogger().handlers)
    folders = []
    for _ in range(2):
        assert command(tmp_path, *MINI, "~callbacks.pictures") == 0
        folders.append(run_folder(capsys.readouterr().out))
    assert folders[0] != folders[1]
    assert (folders[0] / "metrics.csv").read_bytes() == (folders[1] / "metrics.csv").read_bytes()
    assert logging.getLogger().handlers == handlers


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
        (("data.num_classes=5",), r"data\.num_classes=5 does not agree"),
        (("model=spagan", "model.edge_cost=unit", "model.iterations=2"), r"model\.iterations must be 1"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_user_s_mistake_is_one_line_with_the_fix(
    tmp_path: Path, capsys: Output, words: tuple[str, ...], says: str
) -> None:
    assert re.search(says, refusal(tmp_path, capsys, *MINI, *words))


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("data", ["cora", "citeseer", "pubmed", "photo"])
def test_data_that_is_neither_here_nor_to_be_had_is_a_user_s_mistake(
    tmp_path: Path, capsys: Output, data: str
) -> None:
    err = refusal(tmp_path, capsys, "model=gat", f"data={data}")
    assert f"data={data}: " in err
    assert "paths.data=<folder>" in err
    assert "data=digits_graph" in err


@pytest.fixture
def cora(shared_data: Path, tmp_path: Path) -> Path:
    """A copy of Cora's raw files that may be spoilt."""
    names = [file.path for file in planetoid_files("Cora").values()]
    if not all((shared_data / name).is_file() for name in names):
        pytest.skip(f"Cora is not in {shared_data}")
    for name in names:
        copy = tmp_path / "data" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(shared_data / name, copy)
    return tmp_path / "data" / "planetoid" / "Cora" / "raw"


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("damage", ["truncated", "altered", "empty"])
@pytest.mark.parametrize("name", ["ind.cora.allx", "ind.cora.test.index"])
def test_a_spoilt_raw_file_is_a_user_s_mistake(
    cora: Path, tmp_path: Path, capsys: Output, name: str, damage: str
) -> None:
    path = cora / name
    content = path.read_bytes()
    middle = len(content) // 2
    spoilt = {
        "truncated": content[:middle],
        "altered": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "empty": b"",
    }
    path.write_bytes(spoilt[damage])
    err = refusal(tmp_path, capsys, "model=gat", "data=cora")
    assert str(path) in err
    assert "altered or truncated" in err
    assert path.read_bytes() == spoilt[damage], "it may be the user's only copy"


@pytest.mark.usefixtures("no_network")
def test_real_data_trains_without_a_network(cora: Path, tmp_path: Path, capsys: Output) -> None:
    assert command(tmp_path, "model=gcn", "data=cora", "trainer.max_epochs=2", "~callbacks.pictures") == 0
    out, _ = capsys.readouterr()
    assert "published 81.5 % (Kipf and Welling 2017" in out


def test_a_method_for_another_task_names_the_data_that_serve_it(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy_run.py").write_text(
        "from pytorch_lightning import LightningDataModule\n\n\n"
        "class Words(LightningDataModule):\n    tasks = ('reading',)\n"
    )
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    (tmp_path / "conf" / "data" / "words.yaml").write_text("# Words\n_target_: toy_run.Words\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(targets, "OWN_PACKAGES", (*targets.OWN_PACKAGES, "toy_run"))
    monkeypatch.setattr(run, "CONF", tmp_path / "conf")
    err = refusal(tmp_path, capsys, "model=mlp", "data=words", "model.in_channels=3", "model.num_classes=2")
    assert "model=mlp does node_classification, but data=words serves only reading" in err
    assert "cora" in err
    assert "mini_citation" in err


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


def test_a_checkpoint_that_is_none_is_a_user_s_mistake(tmp_path: Path, capsys: Output) -> None:
    missing = f"ckpt={tmp_path / 'nowhere' / 'best.ckpt'}"
    for mode in ("test", "predict"):
        err = refusal(tmp_path, capsys, *MINI, f"mode={mode}", missing)
        assert "there is no such file" in err
    (tmp_path / "notes.txt").write_text("not a checkpoint")
    err = refusal(tmp_path, capsys, *MINI, "mode=test", f"ckpt={tmp_path / 'notes.txt'}")
    assert "damaged or no checkpoint" in err


def test_a_checkpoint_of_other_settings_or_another_graph_is_a_user_s_mistake(
    tmp_path: Path, capsys: Output
) -> None:
    fitted = ("model=spagan", "data=digits_graph", "trainer.max_epochs=1", "~callbacks.pictures")
    assert command(tmp_path, *fitted) == 0
    checkpoint = f"ckpt={run_folder(capsys.readouterr().out) / 'checkpoints' / 'best.ckpt'}"
    err = refusal(tmp_path, capsys, *fitted, "mode=test", checkpoint, "model.heads=4")
    assert "does not fit the configured model" in err
    assert command(tmp_path, *fitted, "mode=test", checkpoint, "data.num_neighbors=7") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "paths were found on a graph of 1797 nodes" in err.splitlines()[-1]
    assert len(list((tmp_path / "runs" / "spagan_digits_graph").iterdir())) == 1


def test_a_mistake_that_only_training_can_see_leaves_nothing_behind(tmp_path: Path, capsys: Output) -> None:
    assert command(tmp_path, *MINI, "callbacks.best_weights.monitor=val/los") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("error: callbacks.best_weights.monitor must be one of ")
    assert "Did you mean 'val/loss'?" in err
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


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


def test_nothing_is_written_outside_the_folders_of_the_configuration(
    tmp_path: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert command(tmp_path / "here", *MINI) == 0
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert {path.name for path in (tmp_path / "here").iterdir()} <= {"runs", "cache"}


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


@pytest.mark.slow
def test_a_mistake_that_two_processes_see_leaves_nothing_behind(tmp_path: Path) -> None:
    done = child(
        "hardware=ddp_cpu", *MINI, "logger=csv", "callbacks.best_weights.monitor=val/los", folder=tmp_path
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("config.yaml"))
