"""Bad commands and configurations by the hundred: one line that names the mistake, status 2, nothing left.

``TENFOLD_FUZZ=1000 pytest tests/test_fuzz.py`` tries a thousand of each kind, from fresh seeds.
"""

import builtins
import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.bad_commands import COMMAND_LINES
from tests.bad_files import CONF_FILES
from tests.command_lines import ROOT, Output, command, run_folder
from tests.mistakes import CONF, Mistake

FRESH = int(os.environ.get("TENFOLD_FUZZ", "0"))
"""Cases of each kind, from fresh seeds; 0 for the same few each time."""

COMMANDS, FILES, CHECKPOINTS = (FRESH,) * 3 if FRESH else (18, 9, 12)
"""Cases of each kind. A file is composed anew each time, which takes Hydra a tenth of a second."""

HEAVY = (
    "torch",
    "torchvision",
    "pytorch_lightning",
    "lightning_fabric",
    "torch_geometric",
    "torchmetrics",
    "wandb",
)
OWN = ("run", "harness", "callbacks", "lightning_modules", "datamodules")


def profile(cases: int) -> settings:
    return settings(
        max_examples=cases,
        derandomize=not FRESH,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink] if FRESH else [Phase.generate],
    )


@pytest.fixture
def without_torch() -> Iterator[None]:
    """The project as first imported, in a process where importing a heavy library is an error."""
    real = builtins.__import__

    def light(name: str, *args: Any, **keywords: Any) -> Any:
        assert name.partition(".")[0] not in HEAVY, f"{name} is imported"
        return real(name, *args, **keywords)

    with mock.patch.dict(sys.modules), mock.patch.object(builtins, "__import__", light):
        for name in list(sys.modules):
            if name.partition(".")[0] in (*OWN, *HEAVY):
                del sys.modules[name]
        yield


def outcome(words: tuple[str, ...], conf: Path) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of a command."""
    import run

    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        mock.patch.object(run, "CONF", conf),
    ):
        status = run.run(list(words))
    return status, out.getvalue(), err.getvalue()


@contextlib.contextmanager
def placed(folder: Path, files: dict[str, bytes]) -> Iterator[None]:
    """Puts files into ``folder``, and takes them and their folders away afterwards."""
    try:
        for name, content in files.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)
        yield
    finally:
        for name in files:
            (folder / name).unlink(missing_ok=True)
        for place in {(folder / name).parent for name in files} - {folder}:
            place.rmdir()


@contextlib.contextmanager
def spoilt(conf: Path, edits: dict[str, bytes | None]) -> Iterator[None]:
    """Edits files in ``conf``, and mends them afterwards."""
    before = {name: (conf / name).read_bytes() for name in edits}
    try:
        for name, content in edits.items():
            if content is None:
                (conf / name).unlink()
            else:
                (conf / name).write_bytes(content)
        yield
    finally:
        for name, content in before.items():
            (conf / name).write_bytes(content)


def everything(folder: Path) -> dict[Path, int]:
    """Every path below ``folder``, with its time."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def assert_one_line(status: int, out: str, err: str, mistake: Mistake) -> None:
    assert status == 2, err
    assert out == ""
    assert err.startswith("error: ")
    assert err.endswith("\n")
    assert len(err.splitlines()) == 1
    assert err.rstrip("\n").isprintable()
    assert len(err) < 4000
    for name in mistake.names:
        any_of = (name,) if isinstance(name, str) else name
        assert any(one in err for one in any_of), f"not named: {name}: {err}"


def assert_refused(mistake: Mistake, conf: Path, folder: Path) -> None:
    with spoilt(conf, mistake.edits), placed(folder, mistake.files):
        before = everything(folder)
        status, out, err = outcome(mistake.words, conf)
        assert everything(folder) == before
    assert_one_line(status, out, err, mistake)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder, where a run would write."""
    place = tmp_path / "work"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


def refuse_all(mistakes: st.SearchStrategy[Mistake], cases: int, conf: Path, folder: Path) -> int:
    """Tries mistakes; returns how many different ones there were."""
    seen = set()

    @profile(cases)
    @given(mistakes)
    def every(mistake: Mistake) -> None:
        seen.add(mistake)
        assert_refused(mistake, conf, folder)

    every()
    return len(seen)


@pytest.mark.usefixtures("without_torch")
def test_bad_commands_are_refused_in_one_line(folder: Path, subtests: pytest.Subtests) -> None:
    from harness.configuration.compose import files_composed_once

    total = 0
    with files_composed_once():
        for kind, mistakes in COMMAND_LINES.items():
            with subtests.test(kind=kind):
                total += refuse_all(mistakes(), COMMANDS, CONF, folder)
    assert total >= 250


@pytest.mark.usefixtures("without_torch")
def test_bad_files_are_refused_in_one_line(folder: Path, subtests: pytest.Subtests) -> None:
    conf = shutil.copytree(CONF, folder.parent / "conf")
    total = 0
    for kind, mistakes in CONF_FILES.items():
        with subtests.test(kind=kind):
            total += refuse_all(mistakes(), FILES, conf, folder)
    assert total >= 60


QUICK = ("data=mini_citation", "trainer.max_epochs=1", "~callbacks.pictures")


@pytest.mark.usefixtures("as_before")
def test_a_bad_checkpoint_is_refused_in_one_line(tmp_path: Path, capsys: Output) -> None:
    assert command(tmp_path, "model=mlp", *QUICK) == 0
    good = (run_folder(capsys.readouterr().out) / "checkpoints" / "best.ckpt").read_bytes()
    bad = tmp_path / "bad.ckpt"
    before = everything(tmp_path / "runs")
    garbage = st.binary(max_size=200) | st.sampled_from(
        [b"not a checkpoint", b"PK\x03\x04", b"\x80\x02.", b"\x00" * 999]
    )
    ends = st.integers(0, len(good) - 1)

    @profile(CHECKPOINTS)
    @given(garbage | ends, st.sampled_from(["test", "predict"]))
    def every(content: bytes | int, mode: str) -> None:
        bad.write_bytes(good[:content] if isinstance(content, int) else content)
        status = command(tmp_path, "model=mlp", *QUICK, f"mode={mode}", f"ckpt={bad}")
        assert_one_line(status, *capsys.readouterr(), Mistake((), (f"ckpt={bad}",)))
        assert everything(tmp_path / "runs") == before

    every()
    bad.write_bytes(good)
    status = command(tmp_path, "model=gcn", *QUICK, "mode=test", f"ckpt={bad}")
    assert_one_line(status, *capsys.readouterr(), Mistake((), (f"ckpt={bad}", "MLPClassifier")))


SAMPLE = [
    (("model.hiden=8",), "model.hidden_channels"),
    (("model=spagn",), "model=spagn"),
    (("model.heads=abc",), "'abc'"),
    (("seed=${nothing}",), "${nothing}"),
    (("model.heads=[1,2",), "[1,2"),
    (("--epochs", "3"), "trainer.max_epochs"),
    (("model._target_=os.system",), "os.system"),
    (("-m", "seed=1,x"), "'x'"),
    (("resume=nowhere",), "resume=nowhere"),
    (("mode=test", "ckpt=nowhere.ckpt"), "nowhere.ckpt"),
]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "name"), SAMPLE, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_a_process_of_its_own_refuses_in_one_line(words: tuple[str, ...], name: str, tmp_path: Path) -> None:
    unwanted = re.compile(r"TENFOLD_|.*RANK|WORLD_SIZE|PYTEST")
    environment = {key: value for key, value in os.environ.items() if not unwanted.match(key)}
    done = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert_one_line(done.returncode, done.stdout, done.stderr, Mistake(words, (name,)))
    assert list(tmp_path.iterdir()) == []
