"""What a run folder says of an unfinished run, and which one ``resume`` takes."""

import json
import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from harness.claims import release_folder
from harness.errors import UserError
from harness.resume import claim_to_continue, continued_words
from harness.run_folder import write_config
from harness.run_state import (
    FILE,
    RunState,
    claim_newest_unfinished,
    difference,
    fingerprint,
    is_finished,
    lock,
    read_state,
)

CONFIG: dict[str, Any] = {
    "seed": 0,
    "mode": "fit",
    "resume": None,
    "paths": {"data": "/data", "runs": "runs", "cache": ".cache"},
    "model": {"_target_": "x.GAT", "heads": 8},
    "data": {"root": "/data"},
    "hardware": {"accelerator": "cpu"},
    "callbacks": {"best_weights": {"patience": 50}, "progress": {"every_seconds": 5.0}},
    "logger": {"wandb": {"project": "tenfold"}},
}
WORDS = ("model=gat", "data=cora")


def changed(**changes: Any) -> dict[str, Any]:
    return {**CONFIG, **changes}


def make(runs: Path, name: str, config: dict[str, Any] = CONFIG, words: tuple[str, ...] = WORDS) -> Path:
    folder = runs / "gat_cora" / name
    folder.mkdir(parents=True)
    RunState.new(words, {"model": "gat", "data": "cora"}, config).begin_session(folder)
    write_config(folder, config)
    return folder


@pytest.mark.parametrize(
    "same",
    [
        changed(logger={}),
        changed(resume="auto"),
        changed(callbacks={"best_weights": {"patience": 50}}),
        changed(paths={"data": "/elsewhere", "runs": "r", "cache": "c"}, data={"root": "/elsewhere"}),
    ],
    ids=["logger", "resume", "progress", "folders"],
)
def test_what_changes_no_number_changes_no_fingerprint(same: dict[str, Any]) -> None:
    assert fingerprint(same) == fingerprint(CONFIG)


@pytest.mark.parametrize(
    "other",
    [
        changed(seed=1),
        changed(model={"_target_": "x.GAT", "heads": 4}),
        changed(hardware={"accelerator": "gpu"}),
        changed(callbacks={"best_weights": {"patience": 51}}),
        changed(data={"root": "/other"}),
    ],
    ids=["seed", "model", "hardware", "patience", "data"],
)
def test_what_changes_numbers_changes_the_fingerprint(other: dict[str, Any]) -> None:
    assert fingerprint(other) != fingerprint(CONFIG)


def test_auto_takes_the_newest_unfinished_run_of_this_configuration(tmp_path: Path) -> None:
    oldest = make(tmp_path, "2026-01-01_a")
    newest = make(tmp_path, "2026-01-02_b")
    finished = make(tmp_path, "2026-01-03_c")
    (finished / "results.json").write_text("{}")
    make(tmp_path, "2026-01-04_d", changed(seed=1))
    (make(tmp_path, "2026-01-05_e") / FILE).write_text("{")
    running = make(tmp_path, "2026-01-06_f")
    with multiprocessing.get_context("spawn").Pool(1) as other:
        other.apply(_claim, (running,))
        found = claim_newest_unfinished(tmp_path, "gat_cora", fingerprint(CONFIG))
        assert found is not None
        assert found[0] == newest
        second = claim_newest_unfinished(tmp_path, "gat_cora", fingerprint(CONFIG))
        assert second is not None
        assert second[0] == oldest
        for one in (found, second):
            release_folder(*one)
        with pytest.raises(UserError, match="another process is running in this folder"):
            lock(running)
    assert is_finished(finished)
    assert claim_newest_unfinished(tmp_path, "gat_cora", fingerprint(changed(seed=2))) is None
    assert claim_newest_unfinished(tmp_path, "gcn_cora", fingerprint(CONFIG)) is None


_claims = []


def _claim(folder: Path) -> None:
    _claims.append(lock(folder))


def test_a_claim_ends_with_its_release(tmp_path: Path) -> None:
    release_folder(tmp_path, lock(tmp_path))
    release_folder(tmp_path, lock(tmp_path))
    assert not list(tmp_path.iterdir())


def test_sessions_are_counted_and_the_dashboard_s_id_stays(tmp_path: Path) -> None:
    folder = make(tmp_path, "a")
    first = read_state(folder)
    first.begin_session(folder)
    second = read_state(folder)
    assert (len(second.sessions), second.tracker_id) == (2, first.tracker_id)


def test_a_folder_brings_its_words_and_the_command_s_go_before_them(tmp_path: Path) -> None:
    folder = make(tmp_path, "a", words=("model=gat", "data=cora", "logger=csv", "~callbacks.pictures"))
    words = continued_words([f"resume={folder}", "logger=wandb", "hardware=gpu"])
    assert words == (
        "model=gat",
        "data=cora",
        "~callbacks.pictures",
        f"resume={folder}",
        "logger=wandb",
        "hardware=gpu",
    )


@pytest.mark.parametrize("words", [(), ("resume=null",), ("resume=auto", "seed=3")])
def test_without_a_folder_the_words_stay(words: tuple[str, ...]) -> None:
    assert continued_words(words) == words


def test_a_secret_has_to_be_given_again(tmp_path: Path) -> None:
    folder = make(tmp_path, "a", words=("model=gat", "+logger.wandb.api_key=1234"))
    assert "1234" not in (folder / FILE).read_text()
    with pytest.raises(UserError, match=r"logger\.wandb\.api_key is a secret.*Give it again"):
        continued_words([f"resume={folder}"])
    assert "+logger.wandb.api_key=5" in continued_words([f"resume={folder}", "+logger.wandb.api_key=5"])


def test_a_finished_run_is_not_continued(tmp_path: Path) -> None:
    folder = make(tmp_path, "a")
    (folder / "results.json").write_text("{}")
    with pytest.raises(UserError, match="this run came to its end"):
        continued_words([f"resume={folder}"])


@pytest.mark.parametrize(("there", "says"), [(False, "is no folder"), (True, r"has no run\.json")])
def test_what_is_no_run_folder_is_refused(tmp_path: Path, there: bool, says: str) -> None:
    folder = tmp_path / "x"
    if there:
        folder.mkdir()
    with pytest.raises(UserError, match=says):
        continued_words([f"resume={folder}"])


def test_a_damaged_state_is_named(tmp_path: Path) -> None:
    folder = make(tmp_path, "a")
    (folder / FILE).write_text(json.dumps({"words": []}))
    with pytest.raises(UserError, match=r"run\.json cannot be read"):
        read_state(folder)


def test_other_settings_are_refused_and_other_hardware_is_not(tmp_path: Path) -> None:
    folder = make(tmp_path, "a")
    elsewhere = changed(resume=str(folder), hardware={"accelerator": "gpu"})
    found = claim_to_continue(elsewhere, tmp_path, "gat_cora", "")
    assert found is not None
    release_folder(*found)
    assert found[0] == folder
    other = changed(resume=str(folder), model={"_target_": "x.GAT", "heads": 4})
    with pytest.raises(UserError, match=r"model\.heads was 8 when the run began and is 4 now"):
        claim_to_continue(other, tmp_path, "gat_cora", "")


def test_the_first_difference_is_found_at_any_depth() -> None:
    one = {"a": 1, "b": {"c": 2, "d": [1]}}
    assert difference(one, one) is None
    assert difference(one, {"a": 1, "b": {"c": 2, "d": [2]}}) == ("b.d", [1], [2])
    assert difference(one, {"a": 1, "b": {"c": 2}}) == ("b.d", [1], None)
    assert difference({}, {"x": 0}) == ("x", None, 0)


def test_a_run_that_ends_while_it_is_being_looked_for_is_not_continued(tmp_path: Path) -> None:
    folder = make(tmp_path, "a")
    (folder / "results.json").write_text("{}")
    with pytest.raises(UserError, match="this run came to its end"):
        claim_to_continue(changed(resume=str(folder)), tmp_path, "gat_cora", "")
    release_folder(folder, lock(folder))
