"""Searches whose jobs are not run: the test says what they reached."""

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.configuration.check import check
from harness.configuration.compose import Composition, compose, files_composed_once
from harness.errors import UserError
from harness.files import write_json
from harness.sweeps.ending import RUN_FOLDER
from harness.sweeps.job import Job, Outcome, Status
from harness.sweeps.plan import read_plan
from harness.sweeps.search import Search
from harness.sweeps.search_summary import commands, draw_history, rows_of
from harness.sweeps.state import Record, SweepState
from tests.figure_text import text_of

optuna = pytest.importorskip("optuna", reason="optuna is not installed")

WORDS = [
    "model=mlp",
    "data=mini_citation",
    "model.optimizer.lr=tag(log,interval(1e-4,1e-1))",
    "model.hidden_channels=8,16",
]


@pytest.fixture(autouse=True, scope="module")
def _quick() -> Any:
    with files_composed_once():
        yield


def checked(words: Sequence[str]) -> Composition:
    composed = compose(words)
    check(composed.config, composed.choices)
    return composed


@functools.cache
def base() -> Composition:
    return checked(WORDS[:2])


def unchecked(words: Sequence[str]) -> Composition:
    """For tests of what is drawn, in which checking every trial would take most of the time."""
    return base()


def search(
    folder: Path,
    *own: str,
    words: Sequence[str] = WORDS,
    checker: Callable[[Sequence[str]], Composition] = unchecked,
    state: SweepState | None = None,
    **options: Any,
) -> Search:
    node = compose(["sweep=optuna", *own]).sweep
    node["search"] |= {"trials": 6} | options
    plan = read_plan(words)
    return Search(node, plan, folder, checker, state or SweepState.new(plan, "optuna"))


def loss(job: Job) -> float:
    """The smaller, the nearer the learning rate is to 0.01; 16 channels are better."""
    distance = abs(math.log10(float(job.varied["model.optimizer.lr"])) + 2)
    return distance + (0.5 if job.varied["model.hidden_channels"] == "8" else 0.0)


def outcome(job: Job, value: float | None = None, status: Status = "finished", **notes: Any) -> Outcome:
    results = {
        "epochs": {"first": 3, "last": 5},
        "best_values": {"first": -99.0, "last": value},
        "metrics": {"test/acc": 0.5, "paths/kept": 0.5},
        "seconds": {"training": 1.5},
        "published": None,
    }
    return Outcome(job, status, results=results if status == "finished" else None, **notes)


def go_through(source: Search, stop_after: int | None = None) -> list[Job]:
    jobs: list[Job] = []
    while (job := source.next_job()) is not None:
        jobs.append(job)
        if stop_after is not None and len(jobs) > stop_after:
            return jobs
        source.told(outcome(job, loss(job)))
    return jobs


def test_a_search_runs_as_many_trials_as_asked_for_and_their_number_is_the_jobs(tmp_path: Path) -> None:
    jobs = go_through(search(tmp_path))
    assert [job.index for job in jobs] == list(range(6))
    assert [job.folder for job in jobs] == [tmp_path / "jobs" / f"{index:04d}" for index in range(6)]
    for job in jobs:
        assert list(job.words[:2]) == WORDS[:2]
        assert dict(word.split("=") for word in job.words[2:]) == job.varied


def test_the_value_is_the_monitored_one_of_the_last_phase(tmp_path: Path) -> None:
    source = search(tmp_path)
    job = source.next_job()
    assert job is not None
    source.told(outcome(job, 0.25))
    assert source.study.best_value == 0.25
    assert source.goal.metric == "val/loss"
    assert source.study.direction.name == "MINIMIZE"


def test_tpe_learns_where_the_good_values_are(tmp_path: Path) -> None:
    jobs = go_through(search(tmp_path, trials=30, random_trials=8))
    early, late = ([loss(job) for job in part] for part in (jobs[:8], jobs[20:]))
    assert sum(late) / len(late) < 0.5 * sum(early) / len(early)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_a_search_that_is_killed_and_continued_has_the_trials_of_one_that_is_not(
    tmp_path: Path, sampler: str
) -> None:
    options = {"sampler": sampler, "trials": 8, "random_trials": 2}
    unbroken = go_through(search(tmp_path / "unbroken", **options))
    seen: dict[int, Job] = {}
    for _ in range(3):
        # the last job of each session is never told of, as by a kill
        seen |= {job.index: job for job in go_through(search(tmp_path / "killed", **options), stop_after=3)}
    assert [seen[index].varied for index in sorted(seen)] == [job.varied for job in unbroken]


def test_another_seed_gives_other_trials(tmp_path: Path) -> None:
    one, other = (go_through(search(tmp_path / str(seed), seed=seed)) for seed in (0, 1))
    assert [job.varied for job in one] != [job.varied for job in other]


def test_no_two_trials_are_alike_for_their_sampler_begins_anew(tmp_path: Path) -> None:
    jobs = go_through(search(tmp_path, sampler="random"))
    assert len({job.varied["model.optimizer.lr"] for job in jobs}) == len(jobs)


def test_a_trial_that_was_running_goes_on_in_its_run_folder(tmp_path: Path) -> None:
    source = search(tmp_path / "sweep")
    job = source.next_job()
    assert job is not None
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    write_json(run_folder / "run.json", {})
    job.folder.mkdir(parents=True)
    (job.folder / RUN_FOLDER).write_text(str(run_folder), encoding="utf-8")
    again = search(tmp_path / "sweep").next_job()
    assert again == replace(job, words=(*job.words, f"resume={run_folder}"))


@pytest.mark.parametrize(("file", "state"), [("results.json", "finished"), ("pruned.json", "pruned")])
def test_a_trial_that_ended_while_nobody_listened_is_not_run_again(
    tmp_path: Path, file: str, state: str
) -> None:
    source = search(tmp_path / "sweep")
    job = source.next_job()
    assert job is not None
    run_folder = tmp_path / "run"
    run_folder.mkdir()
    write_json(run_folder / "run.json", {})
    write_json(run_folder / file, outcome(job, 0.5).results)
    job.folder.mkdir(parents=True)
    (job.folder / RUN_FOLDER).write_text(str(run_folder), encoding="utf-8")
    sweep_state = SweepState.new(read_plan(WORDS), "optuna")
    sweep_state.jobs.append(Record.of(job, base().choices, base().config))
    sweep_state.jobs[0].status = "running"  # as the killed sweep has left it
    source = search(tmp_path / "sweep", state=sweep_state)
    following = source.next_job()
    assert following is not None
    assert following.index == 1
    assert [row.state for row in rows_of(source)] == [state, "running"]
    assert [(one.status, one.run_folder) for one in sweep_state.jobs] == [(state, str(run_folder))]


def test_what_the_study_knows_and_the_killed_sweep_has_not_written_down_is_noted(tmp_path: Path) -> None:
    source = search(tmp_path)
    for status in ("finished", "failed"):
        job = source.next_job()
        assert job is not None
        source.told(outcome(job, 0.5, status, error="no luck" if status == "failed" else None))
    source.study.ask().set_user_attr("sweep", tmp_path.name)  # killed before it had a value
    again = search(tmp_path)
    assert [(one.index, one.status, one.error) for one in again.state.jobs] == [
        (0, "finished", None),
        (1, "failed", "no luck"),
    ]
    following = again.next_job()
    assert following is not None
    assert following.index == 3
    assert (again.state.jobs[2].status, again.state.jobs[2].varied) == ("failed", {})


def test_failed_and_pruned_trials_count_and_have_no_say_in_the_best(tmp_path: Path) -> None:
    source = search(tmp_path)
    endings: list[Status] = ["failed", "pruned", "finished", "stopped"]
    jobs = []
    for status in endings:
        job = source.next_job()
        assert job is not None
        jobs.append(job)
        source.told(outcome(job, 0.5, status, error=None if status == "finished" else f"it was {status}"))
    assert {row.number: row.state for row in rows_of(source)} == {
        0: "failed",
        1: "pruned",
        2: "finished",
        3: "running",
    }
    assert rows_of(source)[0].number == 2
    assert source.study.best_trial.number == 2
    assert next(row for row in rows_of(source) if row.number == 0).error == "it was failed"


def test_a_finished_run_without_the_value_is_a_failed_trial(tmp_path: Path) -> None:
    source = search(tmp_path)
    job = source.next_job()
    assert job is not None
    source.told(outcome(job, math.nan))
    assert [(row.state, row.error) for row in rows_of(source)] == [
        ("failed", "the run has no value of val/loss")
    ]


def test_settings_that_are_wrong_only_together_fail_their_trial_and_not_the_search(tmp_path: Path) -> None:
    def no_eight_with_a_low_rate(words: Sequence[str]) -> Composition:
        composed = checked(words)
        model = composed.config["model"]
        if model["hidden_channels"] == 16 and 0.0001 < model["optimizer"]["lr"] < 0.1:
            raise UserError("16 channels learn only at the ends")
        return composed

    source = search(tmp_path, checker=no_eight_with_a_low_rate, trials=10)
    jobs = go_through(source)
    assert 0 < len(jobs) < 10
    assert {job.varied["model.hidden_channels"] for job in jobs} == {"8"}
    failed = [row for row in rows_of(source) if row.state == "failed"]
    assert len(failed) == 10 - len(jobs)
    assert {row.error for row in failed} == {"16 channels learn only at the ends"}
    # those that ran are the sweep's to note
    assert {record.index for record in source.state.jobs} == {row.number for row in failed}
    assert {record.status for record in source.state.jobs} == {"failed"}


def test_failed_trials_are_tried_again_when_asked(tmp_path: Path) -> None:
    source = search(tmp_path, trials=3)
    for _ in range(3):
        job = source.next_job()
        assert job is not None
        source.told(outcome(job, 0.5, "failed" if job.index == 1 else "finished"))
    failed = next(row for row in rows_of(source) if row.state == "failed")
    assert search(tmp_path, trials=3).next_job() is None
    for _ in range(2):  # asking twice does not repeat it twice
        source = search(tmp_path, "sweep.retry=failed", trials=3)
    job = source.next_job()
    assert job is not None
    assert (job.index, job.varied) == (3, failed.settings)
    source.told(outcome(job, 0.1))
    assert source.next_job() is None
    assert source.study.best_trial.number == 3


def test_more_trials_can_be_asked_for_later(tmp_path: Path) -> None:
    go_through(search(tmp_path, trials=2))
    assert [job.index for job in go_through(search(tmp_path, trials=4))] == [2, 3]


def test_two_searches_can_share_a_file_and_learn_from_each_other(tmp_path: Path) -> None:
    shared = str(tmp_path / "shared.journal")
    one, other = (search(tmp_path / name, storage=shared, trials=3) for name in ("one", "other"))
    go_through(one)
    jobs = go_through(other)
    assert [job.index for job in jobs] == [3, 4, 5]
    assert [row.number for row in sorted(rows_of(other), key=lambda row: row.number)] == [3, 4, 5]
    assert len(other.study.trials) == 6


@pytest.mark.parametrize(
    ("words", "what"),
    [
        ([*WORDS[:3], "model.hidden_channels=8,32"], "space"),
        ([*WORDS, "trainer.max_epochs=7"], "configuration"),
        ([*WORDS, "callbacks.best_weights.monitor=val/acc"], "goal"),
    ],
)
def test_trials_that_cannot_be_compared_are_not_mixed(tmp_path: Path, words: list[str], what: str) -> None:
    search(tmp_path, checker=checked)
    with pytest.raises(UserError, match=f"holds a search with another {what}"):
        search(tmp_path, words=words, checker=checked)


def test_where_and_on_what_a_search_runs_may_change(tmp_path: Path) -> None:
    search(tmp_path, checker=checked)
    words = [*WORDS, "hardware.threads=2", f"paths.runs={tmp_path}", "logger=csv"]
    assert search(tmp_path, words=words, checker=checked).next_job() is not None


@pytest.mark.parametrize(
    ("words", "options", "part"),
    [
        ([*WORDS[:2], "model.hidden_channels=8,16"], {}, "only 2 combinations"),
        ([*WORDS[:2], "model.dropout=interval(0,1)"], {}, r"model.dropout must be .* got 1.0"),
        ([*WORDS[:2], "model.hidden_channels=8,nine,7"], {"trials": 2}, "model.hidden_channels must be"),
        ([*WORDS, "callbacks.best_weights.monitor=null"], {}, "no validation value to search by"),
        ([*WORDS, "callbacks.best_weights.monitor=val/loss,val/acc"], {}, "cannot be compared"),
        (WORDS, {"metric": "val/acc"}, "callbacks.best_weights.monitor=val/acc"),
        (WORDS, {"metric": "test/acc", "direction": "max"}, "settings that are chosen by the test"),
        (WORDS, {"metric": "paths/kept"}, "needs sweep.search.direction"),
        (WORDS, {"direction": "max"}, "callbacks.best_weights.mode=min"),
    ],
)
def test_what_is_no_search_is_refused_before_the_first_job(
    tmp_path: Path, words: list[str], options: dict[str, Any], part: str
) -> None:
    with pytest.raises(UserError, match=part):
        search(tmp_path, words=words, checker=checked, **options)
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_something_else_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("my notes\n", encoding="utf-8")
    with pytest.raises(UserError, match="holds no search"):
        search(tmp_path / "sweep", storage=str(path))
    assert path.read_text(encoding="utf-8") == "my notes\n"


def test_a_metric_of_the_finished_run_can_be_searched_by_if_it_is_asked_for(tmp_path: Path) -> None:
    source = search(tmp_path, metric="paths/kept", direction="max")
    job = source.next_job()
    assert job is not None
    source.told(outcome(job, 0.25))
    assert (source.study.best_value, source.study.direction.name) == (0.5, "MAXIMIZE")


def test_pruning_is_added_to_a_trial_and_left_out_of_the_commands_that_repeat_it(tmp_path: Path) -> None:
    pruner = {"name": "median", "every_epochs": 5, "warmup_epochs": 10, "startup_trials": 2}
    source = search(tmp_path / "it's here", pruner=pruner)
    job = source.next_job()
    assert job is not None
    source.told(outcome(job, 0.5))
    assert checked(job.words).config["callbacks"]["pruning"] == {
        "_target_": "callbacks.pruning.Pruning",
        "study": str(source.journal),
        "trial": 0,
        "every_epochs": 5,
        "warmup_epochs": 10,
        "startup_trials": 2,
    }
    once, seeds = commands(source, rows_of(source)[0])
    assert "pruning" not in once + seeds


def test_the_best_trial_is_repeated_by_a_command_that_can_be_copied(tmp_path: Path) -> None:
    source = search(tmp_path, words=[*WORDS, "seed=3", "+logger.wandb.api_key=topsecret"])
    job = source.next_job()
    assert job is not None
    source.told(outcome(job, 0.5))
    once, seeds = commands(source, rows_of(source)[0])
    varied = " ".join(f"{key}={value}" for key, value in job.varied.items())
    assert once == (f"python run.py model=mlp data=mini_citation seed=3 '+logger.wandb.api_key=***' {varied}")
    assert seeds.endswith(f"'+logger.wandb.api_key=***' {varied} 'seed=range(0,10)'")
    assert "seed=3" not in seeds


def test_the_summary_has_the_best_trial_first_and_the_test_of_no_other(tmp_path: Path) -> None:
    source = search(tmp_path / "sweep")
    for place, value in enumerate([0.5, 0.25, 0.75]):
        job = source.next_job()
        assert job is not None
        run_folder = tmp_path / f"run{place}"
        run_folder.mkdir()
        ended = outcome(job, value, run_folder=run_folder, seconds=2.0)
        write_json(
            run_folder / "results.json", {**(ended.results or {}), "metrics": {"test/acc": 0.1 * place}}
        )
        source.told(ended)
    lines = source.write_summary(final=True)
    text = "\n".join(lines)
    assert "best: trial 1 with val/loss 0.2500" in text
    assert "test/acc 10.0 %" in text
    assert "20.0 %" not in text
    page = (tmp_path / "sweep" / "summary.md").read_text(encoding="utf-8")
    assert "3 of 6 trials, compared by val/loss" in page
    assert "test/acc 10.0 %" in page
    table = (tmp_path / "sweep" / "summary.csv").read_text(encoding="utf-8").splitlines()
    assert (
        table[0] == "trial,state,val/loss,model.optimizer.lr,model.hidden_channels,seconds,run_folder,error"
    )
    assert [line.split(",")[:3] for line in table[1:]] == [
        ["1", "finished", "0.25"],
        ["0", "finished", "0.5"],
        ["2", "finished", "0.75"],
    ]
    assert (tmp_path / "sweep" / "history.png").stat().st_size > 10_000


def test_a_search_without_a_finished_trial_has_a_summary_too(tmp_path: Path) -> None:
    source = search(tmp_path)
    assert source.write_summary(final=True)[-1] == "no trial has finished yet"
    job = source.next_job()
    assert job is not None
    source.told(outcome(job, status="failed", error="no luck"))
    assert source.write_summary(final=True)[-1] == "no trial has finished yet"
    assert "- trial 0: no luck" in (tmp_path / "summary.md").read_text(encoding="utf-8")
    assert not (tmp_path / "history.png").exists()


def test_what_mattered_is_told_once_there_are_trials_enough(tmp_path: Path) -> None:
    source = search(tmp_path, trials=10)
    go_through(source)
    line = next(line for line in source.write_summary(final=False) if line.startswith("what mattered"))
    assert "model.optimizer.lr" in line
    assert "model.hidden_channels" in line


def test_the_picture_says_which_trial_is_best_and_how_the_search_came_to_it(tmp_path: Path) -> None:
    source = search(tmp_path, trials=8)
    endings: dict[int, Status] = {2: "failed", 4: "pruned"}
    while (job := source.next_job()) is not None:
        if job.index == 4:
            source.storage.set_trial_intermediate_value(source.study.trials[4]._trial_id, 3, 1.5)
        source.told(outcome(job, loss(job), endings.get(job.index, "finished")))
    rows = rows_of(source)
    figure = draw_history(rows, "val/loss", "min")
    text = text_of(figure)
    assert f"Trial {rows[0].number} is the best of 8: val/loss" in text
    assert {"best so far", "finished", "pruned", "failed"} <= set(text.splitlines())
    step = figure.axes[0].lines[0].get_ydata()
    assert min(step) == step[-1] == pytest.approx(rows[0].value)
    assert list(step) == sorted(step, reverse=True)
