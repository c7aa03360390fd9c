"""What a run requires is fitted once, by one of those that need it, and found whole again."""

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import harness.prerequisites
from harness.configuration.compose import Composition, compose
from harness.configuration.help import CONF
from harness.configuration.requirements import compose_requirements
from harness.errors import UserError
from harness.loading import load
from harness.prerequisites import Prerequisite, provide
from run import run
from tests.small_runs import assert_same_weights

ROOT = Path(__file__).parents[2]
WORDS = (
    "model=mlp",
    "data=mini_citation",
    "trainer.max_epochs=2",
    "trainer.min_epochs=1",
    "~callbacks.pictures",
)
DISTILLATION = ("model=distillation", "data=digits", "logger=csv", "hardware=cpu", "trainer.max_epochs=2")


def run_here(words: Sequence[str], folder: Path, name: str) -> tuple[int, str]:
    """The run that `run_child` would start, in this process: the same without seconds of imports."""
    printed = io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(printed):
        patch.setenv("TENFOLD_RUN_FOLDER", str(folder))
        status = run(list(words))
    lines = [line for line in printed.getvalue().splitlines() if line.startswith(("error", "crashed"))]
    return status, (lines or [""])[-1]


@pytest.fixture
def fits(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """The command of every fit; each really runs, in this process."""
    started: list[tuple[str, ...]] = []

    def fit(words: Sequence[str], folder: Path, name: str) -> tuple[int, str]:
        started.append(tuple(words))
        return run_here(words, folder, name)

    monkeypatch.setattr(harness.prerequisites, "run_child", fit)
    return started


def requiring(runs: Path, *words: str, overrides: Sequence[str] = ()) -> Composition:
    """A run on the CPU that requires a teacher of these words."""
    overrides = (
        "model=gat",
        "data=mini_citation",
        "logger=csv",
        "hardware=cpu",
        f"paths.runs={runs}",
        *overrides,
    )
    composed = compose(overrides)
    requires = {"teacher": list(words or WORDS)}
    composed.config["requires"] = compose_requirements(
        requires, composed.config, composed.choices, composed.overrides, {}, CONF
    )
    return composed


def provided(composed: Composition) -> Prerequisite:
    [found] = provide(composed.config, composed.choices, composed.overrides)
    return found


def folder_of(composed: Composition) -> Path:
    config = composed.config
    return Path(config["paths"]["runs"]) / "prerequisites" / config["requires"]["teacher"]["run"]


def test_what_is_not_there_is_fitted_and_then_used_again(
    tmp_path: Path, fits: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    run_of = requiring(tmp_path)
    first = provided(run_of)
    assert fits == [("hardware=cpu", "logger=csv", f"paths.runs={tmp_path}", *WORDS)]
    assert "teacher: fitted in" in capsys.readouterr().err
    second = provided(run_of)
    assert len(fits) == 1
    assert "teacher: reused" in capsys.readouterr().err
    folder = folder_of(run_of)
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    key = folder.name.rpartition("_")[2]
    assert first.report == second.report == {"folder": str(folder), "key": key, "metrics": results["metrics"]}
    assert_same_weights(second.module.state_dict(), load(folder).state_dict())
    assert not second.module.training
    assert not any(parameter.requires_grad for parameter in second.module.parameters())


def test_a_run_that_requires_nothing_makes_nothing(tmp_path: Path) -> None:
    composed = compose(("model=gat", "data=mini_citation", f"paths.runs={tmp_path / 'runs'}"))
    assert provide(composed.config, composed.choices, composed.overrides) == []
    assert list(tmp_path.iterdir()) == []


def test_providing_draws_no_random_number(tmp_path: Path, fits: list[tuple[str, ...]]) -> None:
    run_of = requiring(tmp_path)
    provided(run_of)
    before = torch.get_rng_state()
    provided(run_of)
    assert torch.equal(torch.get_rng_state(), before)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("checkpoints/best.ckpt", Path.unlink),
        ("results.json", truncate),
    ],
)
def test_a_damaged_one_is_fitted_anew(
    name: str,
    damage: Callable[[Path], None],
    tmp_path: Path,
    fits: list[tuple[str, ...]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    run_of = requiring(tmp_path)
    before = provided(run_of)
    damage(folder_of(run_of) / name)
    after = provided(run_of)
    assert len(fits) == 2
    told = capsys.readouterr().err
    assert f"{name}" in told
    assert "It is fitted anew." in told
    assert after.report == before.report
    assert_same_weights(after.module.state_dict(), before.module.state_dict())


def make_unfinished(folder: Path) -> None:
    """Takes back what a run does after its training."""
    (folder / "results.json").unlink()


def test_an_unfinished_one_goes_on(
    tmp_path: Path, fits: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    before = provided(requiring(tmp_path, overrides=["hardware.threads=2"]))
    folder = folder_of(requiring(tmp_path))
    make_unfinished(folder)
    # begun by a command with another logger
    state = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    state["words"] += ["logger=wandb", "logger.wandb.mode=offline"]
    (folder / "run.json").write_text(json.dumps(state), encoding="utf-8")
    run_of = requiring(tmp_path)
    after = provided(run_of)
    assert fits[1][-1] == f"resume={folder_of(run_of)}"
    assert "an unfinished fit goes on" in capsys.readouterr().err
    assert after.report == before.report
    results = json.loads((folder_of(run_of) / "results.json").read_text(encoding="utf-8"))
    assert len(results["sessions"]) == 2
    assert results["hardware"]["threads"] == 1
    assert results["choices"]["logger"] == "csv"


def test_an_unfinished_one_that_cannot_go_on_is_thrown_away(
    tmp_path: Path, fits: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    run_of = requiring(tmp_path)
    before = provided(run_of)
    make_unfinished(folder_of(run_of))
    truncate(folder_of(run_of) / "run.json")
    after = provided(run_of)
    assert fits[1] == fits[0]
    assert "cannot go on and is thrown away" in capsys.readouterr().err
    assert after.report == before.report


def test_a_requirement_may_require_another(tmp_path: Path, fits: list[tuple[str, ...]]) -> None:
    chain = (
        "model=distillation",
        "data=digits",
        "trainer.max_epochs=1",
        "model.width=4",
        "~callbacks.pictures",
    )
    few = '"trainer.max_epochs=1","model.network.width=4","~callbacks.pictures"'
    small = f'["model=classifier","data=${{data}}",{few}]'
    run_of = requiring(tmp_path, *chain, f"model.requires.teacher={small}")
    found = provided(run_of)
    assert [words[3] for words in fits] == ["model=distillation", "model=classifier"]
    results = json.loads((folder_of(run_of) / "results.json").read_text(encoding="utf-8"))
    inner = results["prerequisites"]["teacher"]
    assert Path(inner["folder"]).parent == tmp_path / "prerequisites"
    assert inner["metrics"]["test/acc"] > 0
    assert not any("teacher" in name for name in found.module.state_dict())


def test_a_mistake_in_a_fit_is_told_in_one_line_and_leaves_nothing(
    tmp_path: Path, fits: list[tuple[str, ...]]
) -> None:
    words = ("model=mlp", "data=cora", f"paths.data={tmp_path / 'none'}", f"paths.cache={tmp_path / 'file'}")
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(UserError, match=r"^model\.requires\.teacher: .*cora"):
        provided(requiring(tmp_path / "runs", *words))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_failed_fit_names_its_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(words: Sequence[str], folder: Path, name: str) -> tuple[int, str]:
        return -9, ""

    monkeypatch.setattr(harness.prerequisites, "run_child", fail)
    run_of = requiring(tmp_path)
    with pytest.raises(UserError) as caught:
        provided(run_of)
    assert "model.requires.teacher could not be fitted: its process ended with status -9" in str(caught.value)
    assert str(folder_of(run_of) / "run.log") in str(caught.value)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "prerequisites").touch()
    with pytest.raises(UserError, match=r"^model\.requires\.teacher: .*cannot be written"):
        provided(requiring(tmp_path))


def test_only_the_first_process_fits(
    tmp_path: Path, fits: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_of = requiring(tmp_path)
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(UserError, match="no such file"):
        provided(run_of)
    monkeypatch.delenv("LOCAL_RANK")
    first = provided(run_of)
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert provided(run_of).report == first.report
    assert len(fits) == 1


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier's run folder."""
    folder = tmp_path_factory.mktemp("given") / "run"
    words = [
        "model=classifier",
        "data=digits",
        "trainer.max_epochs=1",
        "model.network.width=4",
        "~callbacks.pictures",
    ]
    assert run_here([*words, "logger=csv", "hardware=cpu"], folder, "") == (0, "")
    return folder


@pytest.fixture
def given(tmp_path: Path) -> Callable[[Path], Composition]:
    def composed(path: Path) -> Composition:
        return compose((*DISTILLATION, f"paths.runs={tmp_path}", f"model.requires.teacher={path}"))

    return composed


def test_a_given_checkpoint_is_taken_as_it_is(
    classifier: Path, given: Callable[[Path], Composition], tmp_path: Path
) -> None:
    best = classifier / "checkpoints" / "best.ckpt"
    for path in (classifier, best):
        found = provided(given(path))
        assert_same_weights(found.module.state_dict(), load(classifier).state_dict())
        assert found.report["ckpt"] == str(best)
        assert len(found.report["sha256"]) == 64
        assert "test/acc" in found.report["metrics"]
    assert list(tmp_path.iterdir()) == []


def test_a_given_checkpoint_of_another_class_is_refused(
    given: Callable[[Path], Composition], fits: list[tuple[str, ...]], tmp_path: Path
) -> None:
    other = requiring(tmp_path / "other")
    provided(other)
    with pytest.raises(UserError, match=r"is of MLPClassifier; it must be of ImageClassifier") as caught:
        provided(given(folder_of(other)))
    assert str(caught.value).startswith("model.requires.teacher=")


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half"])
def test_a_given_file_that_is_no_checkpoint_is_refused(
    content: bytes, given: Callable[[Path], Composition], tmp_path: Path
) -> None:
    path = tmp_path / "broken.ckpt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"^model\.requires\.teacher: .*broken\.ckpt"):
        provided(given(path))


def test_a_student_learns_from_a_given_teacher_and_is_tested_without(
    classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*DISTILLATION, f"paths.runs={tmp_path}", "~callbacks.pictures"]
    assert run([*words, f"model.requires.teacher={classifier}"]) == 0
    [folder] = (tmp_path / "distillation_digits").iterdir()
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert results["prerequisites"]["teacher"]["ckpt"] == str(classifier / "checkpoints" / "best.ckpt")
    capsys.readouterr()
    assert run([*words, "mode=test", f"ckpt={folder}"]) == 0
    assert "teacher" not in capsys.readouterr().err
    assert not (tmp_path / "prerequisites").exists()


# ------------------------------------------------------------------------------------ processes of their own


SMALL_TEACHER = ["model=classifier", "data=digits", "model.network.width=4", "~callbacks.pictures"]


def command(runs: Path, teacher: Sequence[str], *words: str) -> list[str]:
    required = f"model.requires.teacher={json.dumps(list(teacher))}"
    place = (f"paths.runs={runs}", "~callbacks.pictures")
    return [sys.executable, "run.py", *DISTILLATION, required, *place, *words]


@contextlib.contextmanager
def started(arguments: list[str]) -> Iterator["subprocess.Popen[str]"]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
    with subprocess.Popen(
        arguments, cwd=ROOT, env=environment, stderr=pipe, stdout=nowhere, text=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def results_of(runs: Path) -> list[dict[str, Any]]:
    found = sorted(runs.glob("distillation_digits/*/results.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in found]


@pytest.mark.slow
def test_two_runs_at_once_fit_one_teacher(tmp_path: Path) -> None:
    words = [command(tmp_path, [*SMALL_TEACHER, "trainer.max_epochs=3"], f"seed={seed}") for seed in (0, 1)]
    with started(words[0]) as one, started(words[1]) as other:
        told = [process.communicate()[1] for process in (one, other)]
        assert [one.returncode, other.returncode] == [0, 0], told
    assert sum("teacher: fitted in" in text for text in told) == 1
    assert sum("teacher: reused" in text for text in told) == 1
    teachers = [results["prerequisites"]["teacher"] for results in results_of(tmp_path)]
    assert len(teachers) == 2
    assert teachers[0] == teachers[1]


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGKILL])
def test_a_teacher_that_was_stopped_goes_on_with_the_same_command(
    stop: signal.Signals, tmp_path: Path
) -> None:
    teacher = [*SMALL_TEACHER, "trainer.max_epochs=60", "callbacks.best_weights.patience=null"]
    teacher += ["callbacks.savepoints.every_seconds=0.1", "callbacks.progress.every_seconds=0.1"]
    with started(command(tmp_path, teacher)) as process:
        assert process.stderr is not None
        for line in process.stderr:
            # on a quick machine not every epoch has a line
            if (told := re.match(r"teacher \| fit: epoch (\d+)", line)) and int(told[1]) >= 3:
                break
        process.send_signal(stop)
        rest = process.stderr.read()
        status = process.wait()
    assert status == {signal.SIGTERM: 143, signal.SIGKILL: -9}[stop]
    if stop == signal.SIGTERM:
        assert "teacher: stopped; the same command goes on with it" in rest
    assert not results_of(tmp_path)
    done = subprocess.run(command(tmp_path, teacher), cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "teacher: an unfinished fit goes on" in done.stderr
    [results] = results_of(tmp_path)
    folder = Path(results["prerequisites"]["teacher"]["folder"])
    sessions = json.loads((folder / "results.json").read_text(encoding="utf-8"))["sessions"]
    assert len(sessions) == 2
