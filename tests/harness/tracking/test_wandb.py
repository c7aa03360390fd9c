"""What W&B is given, read back from its files or from a server on this machine."""

import csv
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml
from PIL import Image

import run
from harness.errors import UserError
from harness.tracking import wandb as tracking
from harness.tracking.guarded import GuardedLogger
from harness.tracking.trackers import build_trackers, check_trackers
from harness.tracking.wandb_files import last_step
from tests.command_lines import child, places
from tests.wandb_files import Session, read_sessions
from tests.wandb_server import Server, running_server

ROOT = Path(__file__).parents[3]
KEY = "f00d" * 10
NODE = {
    "_target_": "harness.tracking.wandb.WandbTracker",
    "project": "tests",
    "entity": None,
    "mode": "auto",
    "tags": [],
    "log_artifacts": False,
}
PROCESSES = {"wandb-core", "wandb-symon"}


@contextmanager
def clean_environment(folder: Path, **variables: str) -> Iterator[None]:
    """No key, no mode and no folder of the user's; afterwards everything as it was."""
    before, threads = dict(os.environ), torch.get_num_threads()
    levels = {name: logging.getLogger(name).level for name in ("", "pytorch_lightning", "lightning_fabric")}
    for name in before:
        if name.startswith(("WANDB_", "TENFOLD_")):
            del os.environ[name]
    places = ("WANDB_CACHE_DIR", "WANDB_DATA_DIR", "WANDB_CONFIG_DIR", "NETRC")
    os.environ.update({name: str(folder / "of_wandb" / name) for name in places})
    os.environ.update({"WANDB_SILENT": "true", "WANDB_ERROR_REPORTING": "false"} | variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        torch.set_num_threads(threads)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@pytest.fixture(autouse=True)
def environment(tmp_path: Path) -> Iterator[None]:
    with clean_environment(tmp_path):
        yield
    assert {process.name() for process in psutil.Process().children()} & PROCESSES == set()


def tracker(folder: Path, run_id: str = "r1", **changes: Any) -> GuardedLogger:
    """The tracker of a run in ``folder/run``; it starts with its first row."""
    (folder / "run" / "checkpoints").mkdir(parents=True, exist_ok=True)
    (built,) = build_trackers({"wandb": NODE | changes}, folder / "run", run_id, ("gat", "cora"))
    built._due = 0.0
    return built


def log_rows(logger: GuardedLogger, *steps: int) -> None:
    for step in steps:
        logger.log_metrics({"epoch": step, "train/loss": step / 10}, step)


def rows_of(folder: Path) -> list[dict[str, float]]:
    """metrics.csv as numbers, without empty fields."""
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [{name: float(text) for name, text in row.items() if text} for row in csv.DictReader(file)]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    ours = [record for record in caplog.records if record.name == "tenfold"]
    return [record.getMessage() for record in ours if record.levelno >= logging.WARNING]


# --- one whole run, offline


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two phases, made with a key in the environment and a secret in the command."""
    folder = tmp_path_factory.mktemp("finished")
    words = ("model=spagan", "data=mini_citation", "hardware=cpu", "trainer.max_epochs=3", "seed=5")
    published = (
        "published={metric: test/acc, value: 0.836, spread: 0.005, source: somebody 2020, api_key: hush}"
    )
    published = published.replace(", api_key: hush", "")
    variables = {"WANDB_API_KEY": KEY, "WANDB_MODE": "offline", "TENFOLD_SWEEP": "monday"}
    keys = ("logger.wandb.tags=[night]", "logger.wandb.log_artifacts=true", "logger.wandb.project=tests")
    with clean_environment(folder, **variables):
        arguments, sys.argv = sys.argv, ["run.py", *words, "model.api_key=hush"]
        try:
            assert run.run([*places(folder), *words, *keys, published]) == 0
        finally:
            sys.argv = arguments
    (made,) = (folder / "runs" / "spagan_mini_citation").iterdir()
    return made


@pytest.fixture(scope="module")
def session(finished: Path) -> Session:
    (only,) = read_sessions(finished)
    return only


def test_a_run_carries_its_own_id_its_folder_s_name_its_sweep_and_its_tags(
    finished: Path, session: Session
) -> None:
    assert session.run.run_id == json.loads((finished / "run.json").read_text())["tracker_id"]
    assert session.run.project == "tests"
    assert session.run.display_name == f"spagan_mini_citation_{finished.name}"
    assert session.run.run_group == "monday"
    assert list(session.run.tags) == ["spagan", "mini_citation", "night"]


def test_the_configuration_is_that_of_the_run_folder_and_nothing_else(
    finished: Path, session: Session
) -> None:
    written = yaml.safe_load((finished / "config.yaml").read_text(encoding="utf-8"))
    given = {key: value for key, value in session.config.items() if key not in ("_wandb", "resume")}
    assert given == written


def test_rows_of_all_phases_are_those_of_metrics_csv_on_one_axis(finished: Path, session: Session) -> None:
    expected = rows_of(finished)
    assert [row["step"] for row in expected] == list(range(7))
    names = {name for row in expected for name in row}
    given = [{name: value for name, value in row.items() if name in names} for row in session.rows]
    assert given == expected
    assert [row["_step"] for row in session.rows] == list(range(7)), "W&B's own axis is the same"
    assert [row.get("phase") for row in session.rows] == [0, 0, 0, 1, 1, 1, None]


def test_curves_are_drawn_over_epochs_and_single_steps_over_steps(session: Session) -> None:
    assert session.axes == {"epoch": "", "train/loss_step": "step", "train/*": "epoch", "val/*": "epoch"}


def test_pictures_are_the_files_of_the_run_folder(finished: Path, session: Session) -> None:
    for picture in (finished / "figures").iterdir():
        (shown,) = session.summary[f"figures/{picture.stem}"]["filenames"]
        assert shown in session.files
        (copy,) = (finished / "wandb").glob(f"offline-run-*/files/{shown}")
        assert copy.read_bytes() == picture.read_bytes()


def test_the_results_are_a_table_beside_the_published_value(finished: Path, session: Session) -> None:
    metrics = json.loads((finished / "results.json").read_text())["metrics"]
    (copy,) = (finished / "wandb").glob(f"offline-run-*/files/{session.summary['results']['path']}")
    table = json.loads(copy.read_text(encoding="utf-8"))
    assert table["columns"] == ["metric", "measured", "published"]
    tested = {name: value for name, value in metrics.items() if name.startswith("test/")}
    assert table["data"] == [
        [name, value, 0.836 if name == "test/acc" else None] for name, value in tested.items()
    ]


def test_the_summary_holds_the_test_s_metrics(finished: Path, session: Session) -> None:
    metrics = json.loads((finished / "results.json").read_text())["metrics"]
    assert {name: session.summary[name] for name in metrics} == metrics


def test_the_best_weights_are_an_artifact_where_asked_for_even_offline(
    finished: Path, session: Session
) -> None:
    assert session.artifacts[f"best-{session.run.run_id}"] == [str(finished / "checkpoints" / "best.ckpt")]


def test_a_good_run_is_finished_as_one(session: Session) -> None:
    assert session.exit_code == 0


def test_no_file_of_the_run_holds_a_secret(finished: Path, session: Session) -> None:
    assert "model.api_key=***" in session.arguments, "W&B keeps the command line"
    files = [path for path in finished.rglob("*") if path.is_file()]
    assert len(files) > 15
    assert [path for path in files for secret in (KEY, "hush") if secret.encode() in path.read_bytes()] == []


# --- failure, fallback and silence


def test_a_failed_run_is_finished_as_one(tmp_path: Path) -> None:
    logger = tracker(tmp_path, log_artifacts=True)
    log_rows(logger, 0)
    logger.close(failed=True)
    (session,) = read_sessions(tmp_path / "run")
    assert session.exit_code == 1
    assert session.artifacts == {}


def test_nothing_of_wandb_starts_before_there_is_something_to_log(tmp_path: Path) -> None:
    logger = tracker(tmp_path)
    logger.log_hyperparams({"seed": 1})
    logger.save()
    logger.close(failed=False)
    assert list((tmp_path / "run").iterdir()) == [tmp_path / "run" / "checkpoints"]


@pytest.mark.parametrize("asked", ["auto", "online"])
def test_without_a_key_a_run_is_offline_and_asks_nobody(
    asked: str, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *args: pytest.fail("a prompt"))
    logger = tracker(tmp_path, mode=asked)
    log_rows(logger, 0)
    logger.close(failed=False)
    (session,) = read_sessions(tmp_path / "run")
    assert [row["step"] for row in session.rows] == [0]
    told = warnings(caplog)
    if asked == "auto":
        assert told == []
    else:
        assert len(told) == 1
        assert "set WANDB_API_KEY or run `wandb login`" in told[0]
        assert f"wandb sync {tmp_path / 'run' / 'wandb'}" in told[0]


def test_a_server_that_does_not_answer_costs_seconds_and_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setattr(tracking, "_ANSWER_SECONDS", 1.0)
    monkeypatch.setenv("TENFOLD_JOB_RECORD", str(tmp_path / "run_folder.txt"))
    logger = tracker(tmp_path)
    log_rows(logger, 0, 1)
    logger.close(failed=False)
    (told,) = warnings(caplog)
    assert told.startswith("W&B is not reached (")
    (session,) = read_sessions(tmp_path / "run")
    assert [row["step"] for row in session.rows] == [0, 1]
    assert session.exit_code == 0
    assert not list((tmp_path / "run" / "wandb").glob("run-*")), "the session that was given up is gone"
    assert (tmp_path / "unreached.txt").read_text().strip() in told, "the sweep around it may know"


def test_a_key_that_cannot_be_one_makes_a_run_offline_with_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "bogus")
    logger = tracker(tmp_path)
    log_rows(logger, 0, 1)
    logger.close(failed=False)
    (told,) = warnings(caplog)
    assert told.startswith("W&B is not reached (WANDB_API_KEY")
    (session,) = read_sessions(tmp_path / "run")
    assert [row["step"] for row in session.rows] == [0, 1]


@pytest.mark.parametrize("through", ["key", "variable"])
def test_a_run_that_is_switched_off_has_no_tracker(
    through: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if through == "variable":
        monkeypatch.setenv("WANDB_MODE", "disabled")
    node = NODE | {"mode": "disabled" if through == "key" else "auto"}
    assert build_trackers({"wandb": node}, tmp_path) == []


@pytest.mark.parametrize("mode", ["online", "offline", "disabled", "dryrun", "run", ""])
def test_every_mode_of_wandb_s_own_variable_passes(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    check_trackers({"wandb": NODE})


def test_a_misspelt_mode_in_the_environment_is_a_user_s_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "ofline")
    with pytest.raises(UserError, match=r"WANDB_MODE=ofline: .* online, offline or disabled"):
        check_trackers({"wandb": NODE})


def test_the_configuration_goes_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_MODE", "offline")
    with running_server() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        logger = tracker(tmp_path, mode="online")
        log_rows(logger, 0)
        logger.close(failed=False)
    assert len(server.history["r1"]) == 1


def test_the_next_run_of_a_process_is_a_run_of_its_own(tmp_path: Path) -> None:
    for name in ("one", "two"):
        logger = tracker(tmp_path / name, run_id=name)
        log_rows(logger, 0)
        logger.close(failed=False)
        (session,) = read_sessions(tmp_path / name / "run")
        assert session.run.run_id == name
        assert len(session.rows) == 1


def test_rows_that_come_after_their_step_was_closed_are_kept(tmp_path: Path) -> None:
    logger = tracker(tmp_path)
    logger.log_metrics({"train/loss_step": 1.0}, 7)
    logger.log_metrics({"val/loss": 1.0}, 7)
    logger.save()
    logger.log_metrics({"val/acc": 1.0}, 7)
    log_rows(logger, 8)
    logger.close(failed=False)
    (session,) = read_sessions(tmp_path / "run")
    names = {"train/loss_step", "val/loss", "val/acc", "train/loss"}
    assert [names & set(row) for row in session.rows] == [
        {"train/loss_step", "val/loss"},
        {"val/acc", "train/loss"},
    ]


# --- online, and runs that go on


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with running_server() as running:
        monkeypatch.setenv("WANDB_API_KEY", KEY)
        monkeypatch.setenv("WANDB_BASE_URL", running.url)
        yield running


def test_a_key_makes_a_run_online(tmp_path: Path, server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    logger = tracker(tmp_path, log_artifacts=True)
    logger.log_hyperparams({"seed": 5, "model": {"heads": 8}})
    log_rows(logger, 0, 1, 2)
    logger.log_table("results", ["metric", "measured"], [["test/acc", 0.5]])
    (tmp_path / "run" / "checkpoints" / "best.ckpt").write_bytes(b"weights")
    logger.close(failed=False)
    assert [row["step"] for row in server.history["r1"]] == [0, 1, 2]
    assert server.history["r1"][-1]["results"]["nrows"] == 1
    assert server.artifacts == ["run-r1-results", "best-r1"]
    assert server.runs["r1"]["tags"] == ["gat", "cora"]
    config = json.loads(server.runs["r1"]["config"])
    assert (config["seed"]["value"], config["model"]["value"]) == (5, {"heads": 8})
    assert capsys.readouterr().err == f"dashboard: {server.url}/me/tests/runs/r1\n"


def test_a_run_that_goes_on_online_is_one_run_with_every_row_once(tmp_path: Path, server: Server) -> None:
    first = tracker(tmp_path)
    log_rows(first, 0, 1, 2, 3)
    first.close(failed=True)
    second = tracker(tmp_path)
    log_rows(second, *range(6))
    second.close(failed=True)
    third = tracker(tmp_path)
    log_rows(third, *range(6))
    picture = tmp_path / "curves.png"
    Image.new("RGB", (4, 3)).save(picture)
    third.log_image("figures/curves", [str(picture)])  # with no row of this session before it
    third.close(failed=False)
    assert [row["_step"] for row in server.history["r1"]] == [0, 1, 2, 3, 4, 5, 6]
    assert "figures/curves" in server.history["r1"][-1]


def test_a_server_that_goes_away_costs_one_warning_and_no_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    monkeypatch.setattr(tracking, "_UPLOAD_SECONDS", 1.0)
    logger = tracker(tmp_path)
    log_rows(logger, 0)
    logger.save()
    server.shutdown()
    server.server_close()
    log_rows(logger, *range(1, 5))
    logger.close(failed=False)
    (told,) = warnings(caplog)
    (folder,) = (tmp_path / "run" / "wandb").glob("run-*")
    assert f"wandb sync {folder} sends the rest" in told
    (session,) = read_sessions(tmp_path / "run")
    assert [row["step"] for row in session.rows] == [0, 1, 2, 3, 4]


def test_offline_sessions_of_a_run_are_sent_as_one_history(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: Server
) -> None:
    for last in (3, 6):
        logger = tracker(tmp_path, mode="offline")
        log_rows(logger, *range(last))
        logger.close(failed=False)
    sessions = read_sessions(tmp_path / "run")
    assert [[row["step"] for row in session.rows] for session in sessions] == [[0, 1, 2], [3, 4, 5]]
    folders = sorted(map(str, (tmp_path / "run" / "wandb").glob("offline-run-*")))
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", *folders],
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert [row["step"] for row in server.history["r1"]] == list(range(6))
    assert [row["_step"] for row in server.history["r1"]] == list(range(6))


# --- processes of their own


ON_A_TERMINAL = """
import sys
from pathlib import Path
from harness.tracking.trackers import build_trackers
assert sys.stdin.isatty() and sys.stderr.isatty()
(logger,) = build_trackers({node!r}, Path({folder!r}), "r1")
logger.log_metrics({{"loss": 1.0}}, 0)
logger.close(failed=False)
print("came to its end")
"""

ITS_PROCESS_DIES = """
import psutil
from pathlib import Path
from harness.tracking.trackers import build_trackers
(logger,) = build_trackers({node!r}, Path({folder!r}), "r1")
logger.log_metrics({{"loss": 1.0}}, 0)
logger._hand_over()
for process in psutil.Process().children(recursive=True):
    process.kill()
    process.wait()
for step in range(1, 1000):
    logger.log_metrics({{"loss": 1.0}}, step)
    logger.save()
logger.close(failed=False)
print("came to its end", logger.is_on)
"""

FORKED = """
import os, sys
from pathlib import Path
from harness.tracking.trackers import build_trackers, preload
preload({node!r})
statuses = []
for number in range(2):
    child = os.fork()
    if child == 0:
        (logger,) = build_trackers({node!r}, Path({folder!r}) / str(number), f"r{{number}}")
        logger.log_metrics({{"loss": 1.0}}, 0)
        logger.close(failed=False)
        os._exit(0 if "wandb.sdk.launch" in sys.modules else 3)
    statuses.append(os.waitpid(child, 0)[1])
sys.exit(any(statuses))
"""


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["auto", "online"])
def test_a_terminal_and_no_key_is_no_prompt(mode: str, tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    code = ON_A_TERMINAL.format(node={"wandb": NODE | {"mode": mode}}, folder=str(tmp_path))
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=theirs,
        cwd=ROOT,
        text=True,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        out, _ = process.communicate(timeout=180)  # at a prompt it would wait for ever
    os.close(ours)
    assert out == "came to its end\n"
    (session,) = read_sessions(tmp_path)
    assert len(session.rows) == 1


@pytest.mark.slow
def test_wandb_s_own_process_may_die_in_mid_run_and_costs_one_warning(tmp_path: Path) -> None:
    code = ITS_PROCESS_DIES.format(node={"wandb": NODE}, folder=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=180, check=False
    )
    assert (done.returncode, done.stdout) == (0, "came to its end False\n"), done.stderr
    (told,) = done.stderr.splitlines()
    assert told.startswith("wandb is switched off and the run goes on without it: ")


@pytest.mark.slow
def test_children_of_a_process_that_imported_wandb_track_on_their_own(tmp_path: Path) -> None:
    for number in range(2):
        (tmp_path / str(number)).mkdir()
    code = FORKED.format(node={"wandb": NODE | {"mode": "offline"}}, folder=str(tmp_path))
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    for number in range(2):
        (session,) = read_sessions(tmp_path / str(number))
        assert (session.run.run_id, len(session.rows), session.exit_code) == (f"r{number}", 1, 0)


@pytest.mark.slow
def test_a_run_whose_network_is_cut_off_comes_to_its_end_with_one_warning(tmp_path: Path) -> None:
    words = ("model=mlp", "data=mini_citation", "trainer.max_epochs=2", "~callbacks.pictures")
    variables = {"WANDB_API_KEY": KEY, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    done = child(*words, "logger.wandb.mode=online", folder=tmp_path, **variables)
    assert done.returncode == 0, done.stderr
    assert [line.partition("(")[0] for line in done.stderr.splitlines() if "W" in line] == [
        "WARNING: W&B is not reached "
    ]
    assert "Traceback" not in done.stderr
    (folder,) = (tmp_path / "runs" / "mlp_mini_citation").iterdir()
    assert len(read_sessions(folder)[-1].rows) == 3
    texts = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert not [text for text in texts if KEY.encode() in text]


@pytest.mark.slow
def test_a_killed_and_continued_run_is_one_run_with_every_row_once(tmp_path: Path) -> None:
    words = ("model=gcn", "data=mini_citation", "trainer.max_epochs=3000", "trainer.min_epochs=3000")
    words += ("~callbacks.pictures", "hardware=cpu", "callbacks.savepoints.every_seconds=1")
    words += ("logger.wandb.mode=offline",)
    command = [sys.executable, str(ROOT / "run.py"), *words]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        started = time.monotonic()
        while not any(last_step(folder) >= 0 for folder in tmp_path.glob("runs/*/*")):
            assert time.monotonic() - started < 300
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    (folder,) = (tmp_path / "runs" / "gcn_mini_citation").iterdir()
    assert not (folder / "results.json").exists()
    done = child(*words, "resume=auto", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    sessions = read_sessions(folder)
    assert {session.run.run_id for session in sessions} == {
        json.loads((folder / "run.json").read_text())["tracker_id"]
    }
    assert len(sessions) == 2
    assert sessions[0].rows
    expected = rows_of(folder)
    steps = [row["step"] for session in sessions for row in session.rows]
    assert set(steps) == {row["step"] for row in expected}
    assert [step for step in steps if steps.count(step) > 1] == []
    assert re.search(r"going on after epoch \d+", done.stderr)


@pytest.mark.slow
def test_two_processes_are_one_run(tmp_path: Path) -> None:
    words = ("hardware=ddp_cpu", "model=mlp", "data=mini_citation", "trainer.max_epochs=2")
    done = child(*words, "logger.wandb.mode=offline", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs" / "mlp_mini_citation").iterdir()
    (session,) = read_sessions(folder)
    assert [row["step"] for row in session.rows] == [row["step"] for row in rows_of(folder)]
    assert session.exit_code == 0
