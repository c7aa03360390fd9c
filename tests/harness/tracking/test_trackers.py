"""From the configuration to trackers."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning.loggers import CSVLogger

from harness.build import build_loggers
from harness.metrics_csv import MetricsCSV
from harness.tracking.trackers import SWEEP, build_trackers, catch_up, log_results
from harness.tracking.wandb import WandbTracker
from tests.small_runs import configuration

ROOT = Path(__file__).parents[3]


def built(folder: Path, *words: str, **keywords: Any) -> WandbTracker:
    (guard,) = build_trackers(configuration(*words)["logger"], folder, **keywords)
    tracker = guard._tracker
    assert isinstance(tracker, WandbTracker)
    return tracker


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_MODE", "WANDB_PROJECT", "WANDB_ENTITY", SWEEP):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("logger", ["none", "csv"])
def test_without_a_tracker_there_is_metrics_csv_alone(logger: str, tmp_path: Path) -> None:
    loggers = build_loggers(configuration(f"logger={logger}")["logger"], tmp_path)
    assert [type(one) for one in loggers] == [MetricsCSV]


def test_the_run_folder_names_the_run(tmp_path: Path) -> None:
    folder = tmp_path / "gat_cora" / "2026-01-01_00-00-00_ab12"
    given = built(folder, "logger=wandb")._wandb_init
    assert given["name"] == given["id"] == "gat_cora_2026-01-01_00-00-00_ab12"
    assert given["dir"] == str(folder)
    assert (given["project"], given["entity"], given["group"]) == ("tenfold", None, None)


def test_id_tags_and_sweep_come_from_the_harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWEEP, "monday")
    words = ("logger=wandb", "logger.wandb.tags=[night,gat]")
    given = built(tmp_path, *words, run_id="r1", names=("gat", "cora"))._wandb_init
    assert (given["id"], given["tags"], given["group"]) == ("r1", ["gat", "cora", "night"], "monday")


def test_project_and_entity_may_come_from_wandb_s_own_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_PROJECT", "ours")
    monkeypatch.setenv("WANDB_ENTITY", "team")
    given = built(tmp_path, "logger=wandb")._wandb_init
    assert (given["project"], given["entity"]) == ("ours", "team")
    assert built(tmp_path, "logger=wandb", "logger.wandb.project=mine")._wandb_init["project"] == "mine"


def test_any_logger_of_lightning_s_can_be_a_tracker(tmp_path: Path) -> None:
    nodes = {"more": {"_target_": "pytorch_lightning.loggers.CSVLogger", "version": "v"}}
    (guard,) = build_trackers(nodes, tmp_path, "r1", ("gat", "cora"))
    assert isinstance(guard._tracker, CSVLogger)
    guard.log_metrics({"loss": 0.5}, 3)
    guard.close(failed=False)
    (file,) = tmp_path.rglob("metrics.csv")
    assert file.read_text().split() == ["loss,step", "0.5,3"]


def test_results_and_missed_rows_go_to_every_logger_that_takes_them(tmp_path: Path) -> None:
    loggers = build_loggers({}, tmp_path)
    log_results(loggers, {"test/acc": 1.0}, None)
    catch_up(loggers, [{"step": "0", "loss": "1.0"}])
    loggers[0].save()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_wandb_is_imported_only_to_track_with_it(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from harness.configuration.compose import compose\n"
        "from harness.tracking.trackers import build_trackers, check_trackers, preload\n"
        "for logger in ('none', 'tensorboard', 'wandb'):\n"
        "    nodes = compose([f'logger={logger}']).config['logger']\n"
        "    check_trackers(nodes)\n"
        f"    build_trackers(nodes, Path({str(tmp_path)!r}))\n"
        "    before = 'wandb' in sys.modules\n"
        "    preload(nodes)\n"
        "    print(logger, before, 'wandb' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == ["none False False", "tensorboard False False", "wandb False True"]
