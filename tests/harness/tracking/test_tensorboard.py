"""TensorBoard's event files, read back as TensorBoard reads them."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from harness.errors import UserError
from harness.tracking import tensorboard
from harness.tracking.guarded import GuardedLogger
from harness.tracking.trackers import build_trackers, check_trackers, log_results
from tests.small_runs import configuration

NODES = {"tensorboard": {"_target_": "harness.tracking.tensorboard.TensorBoardTracker"}}


def tracker(folder: Path) -> GuardedLogger:
    (built,) = build_trackers(NODES, folder)
    return built


def read(folder: Path) -> EventAccumulator:
    everything = {"scalars": 0, "images": 0, "tensors": 0}
    events = EventAccumulator(str(folder / "tensorboard"), size_guidance=everything)
    events.Reload()
    return events


def scalars(events: EventAccumulator, name: str) -> dict[int, float]:
    values = events.Scalars(name)
    assert len({value.step for value in values}) == len(values), "a step twice"
    return {value.step: value.value for value in values}


def text(events: EventAccumulator, name: str) -> str:
    return str(events.Tensors(f"{name}/text_summary")[0].tensor_proto.string_val[0], "utf-8")


def log_rows(logger: GuardedLogger, *steps: int) -> None:
    for step in steps:
        logger.log_metrics({"epoch": step, "train/loss": step / 8}, step)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[1, 2] = (255, 128, 0)
    Image.fromarray(pixels).save(tmp_path / "curves.png")
    return tmp_path / "curves.png"


@pytest.fixture
def finished(tmp_path: Path, picture: Path) -> Path:
    """The folder of a run that was logged with everything."""
    logger = tracker(tmp_path)
    logger.log_hyperparams({"seed": 5, "ckpt": None, "model": {"heads": 8, "sizes": [1, 2], "elu": True}})
    log_rows(logger, 0, 1, 2)
    logger.log_image("figures/curves", [str(picture)])
    metrics = {"test/acc": 0.75, "paths/chance": 0.5}
    logger.log_metrics(metrics, 3)
    log_results([logger], metrics, {"metric": "test/acc", "value": 0.836, "spread": None, "source": "x"})
    logger.close(failed=False)
    return tmp_path


def test_rows_are_curves_over_steps(finished: Path) -> None:
    events = read(finished)
    assert scalars(events, "train/loss") == {0: 0.0, 1: 0.125, 2: 0.25}
    assert scalars(events, "epoch") == {0: 0.0, 1: 1.0, 2: 2.0}
    assert scalars(events, "test/acc") == {3: 0.75}


def test_pictures_are_those_of_the_run_folder(finished: Path, picture: Path, tmp_path: Path) -> None:
    (shown,) = read(finished).Images("figures/curves")
    (tmp_path / "shown.png").write_bytes(shown.encoded_image_string)
    with Image.open(tmp_path / "shown.png") as one, Image.open(picture) as other:
        assert np.array_equal(np.asarray(one), np.asarray(other))
    assert shown.step == 2


def test_the_configuration_and_the_results_are_texts(finished: Path) -> None:
    events = read(finished)
    assert "model:\n  heads: 8\n" in text(events, "config")
    assert text(events, "results").splitlines()[2:] == ["| test/acc | 0.75 | 0.836 |"]


def test_a_tested_run_can_be_compared_by_its_hyperparameters(finished: Path) -> None:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    plugin = read(finished).summary_metadata["_hparams_/session_start_info"].plugin_data
    kept = HParamsPluginData.FromString(plugin.content).session_start_info.hparams
    assert kept["model/heads"].number_value == 8
    assert kept["model/elu"].number_value == 1
    assert kept["model/sizes"].string_value == "[1, 2]"
    assert kept["ckpt"].string_value == "None"


def test_a_failed_run_is_not_compared(tmp_path: Path) -> None:
    logger = tracker(tmp_path)
    logger.log_hyperparams({"seed": 5})
    log_rows(logger, 0)
    logger.close(failed=True)
    assert "_hparams_/session_start_info" not in read(tmp_path).summary_metadata


def test_everything_lies_in_one_folder_of_the_run(finished: Path) -> None:
    assert [path.name.split(".")[2] for path in (finished / "tensorboard").iterdir()] == ["tfevents"]


def test_a_run_that_goes_on_has_every_step_once(tmp_path: Path) -> None:
    killed = tracker(tmp_path)
    killed._due = 0.0
    log_rows(killed, 0, 1, 2, 3, 4)
    killed.save()
    log_rows(killed, 5)
    continued = tracker(tmp_path)
    log_rows(continued, *range(8))  # those of metrics.csv and those of the continued run
    continued.close(failed=False)
    assert scalars(read(tmp_path), "train/loss") == {step: step / 8 for step in range(8)}


def test_a_step_that_was_written_in_part_is_written_again(tmp_path: Path) -> None:
    killed = tracker(tmp_path)
    killed._due = 0.0
    log_rows(killed, 0, 1)
    killed.log_metrics({"epoch": 2}, 2)
    killed.save()
    continued = tracker(tmp_path)
    log_rows(continued, 0, 1, 2, 3)
    continued.close(failed=False)
    events = read(tmp_path)
    assert sorted(scalars(events, "epoch")) == sorted(scalars(events, "train/loss")) == [0, 1, 2, 3]


def test_without_the_library_a_run_does_not_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install -c constraints\.txt tensorboard.*logger=csv"):
        check_trackers(NODES)


def test_with_the_library_it_does() -> None:
    check_trackers(configuration("logger=tensorboard")["logger"])
