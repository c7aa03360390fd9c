"""A search: Optuna chooses the next job from what the jobs before have reached on the validation data."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.configuration.compose import Composition
from harness.configuration.requirements import literal
from harness.errors import UserError
from harness.results import format_value
from harness.run_state import FILE, fingerprint, is_finished
from harness.stopping import PRUNED
from harness.sweeps.ending import read_results, run_folder
from harness.sweeps.goal import read_goal
from harness.sweeps.grid import wait_until_free
from harness.sweeps.job import SETTLED, Job, Outcome, Status, job_folder
from harness.sweeps.plan import Plan
from harness.sweeps.space import search_space
from harness.sweeps.state import Record, SweepState
from harness.sweeps.study import create_study, require_optuna, storage_in, trial_id

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial

JOURNAL = "study.journal"


class Search:
    """A source of jobs (see ``harness/sweeps/job.py``), each of them one trial of an Optuna study.

    The number of a trial is the index of its job. Trials that were running when the search was killed come
    first when it goes on. The values of a trial depend on ``search.seed``, its number and the trials before:
    with one worker, a search that was killed and continued has the trials of one that was not.

    Args:
        node: the checked ``sweep`` node.
        plan: the words of every trial, and what varies.
        folder: of the sweep.
        check: composes and checks the words of a job; raises UserError.
        state: of the sweep; gets the end of each trial that ended without the sweep hearing of it.

    Raises:
        UserError: if the space, a setting in it, the goal or the storage is not fit for a search.
    """

    def __init__(
        self,
        node: Mapping[str, Any],
        plan: Plan,
        folder: Path,
        check: Callable[[Sequence[str]], Composition],
        state: SweepState,
    ) -> None:
        require_optuna()
        from optuna.trial import TrialState

        self.node, self._check, self.state = node, check, state
        self.options: Mapping[str, Any] = node["search"]
        self.words, self.folder = plan.fixed, folder
        self.settings = search_space(plan.varied, plan.values or {})
        self.total: int | None = self.options["trials"]
        place = self.options["storage"]
        self.journal = (Path(place).expanduser() if place else folder / JOURNAL).absolute()
        self._check_size()
        composed = self._check_settings(check)
        self.goal = read_goal(self.options, composed)
        self.storage = storage_in(self.journal)
        self.study = create_study(self.storage, self.goal.mode)
        self._first = next(iter(composed.values()))
        # trials may go on elsewhere
        self._check_same_study(fingerprint({**self._first.config, "hardware": None}))
        self._note_ended()
        self._unfinished = [trial for trial in self.own_trials() if trial.state == TrialState.RUNNING]
        if node["retry"] == "failed":
            self._repeat_failed()

    def next_job(self) -> Job | None:
        """A trial that an earlier session did not end, else a new one; None after the last."""
        while self._unfinished:
            job = self._taken_up(self._unfinished.pop(0))
            if job is not None:
                return job
        assert self.total is not None
        while self._counted() < self.total:
            number = len(self.study.get_trials(deepcopy=False))
            self.study.sampler = _sampler(self.options, number)
            trial = self.study.ask({setting.key: setting.distribution for setting in self.settings})
            trial.set_user_attr("sweep", self.folder.name)
            job = self._job(trial)
            try:
                self._check(job.words)
                return job
            except UserError as error:  # settings that are right one by one and wrong together
                self._end(Outcome(job, "failed", error=str(error)))
        return None

    def told(self, outcome: Outcome) -> None:
        """Gives the value of a trial to the study; a stopped trial stays unfinished there."""
        notes: dict[str, Any] = {"run_folder": outcome.run_folder}
        if outcome.status != "stopped":  # else it goes on, and none of this is its last word
            notes |= {"error": outcome.error, "seconds": outcome.seconds}
        self._tell(outcome.job.index, outcome.status, outcome.results, notes)

    def score(self, outcome: Outcome) -> str:
        """What the search makes of a job, for the line that tells of it; empty where it has no value."""
        value = None if outcome.results is None else self.goal.value(outcome.results)
        return "" if value is None else f"{self.goal.metric} {format_value(self.goal.metric, value)}"

    def write_summary(self, final: bool) -> list[str]:
        from harness.sweeps.search_summary import write_search_summary

        return write_search_summary(self, final)

    def own_trials(self) -> "list[FrozenTrial]":
        """This sweep's trials, those of other sweeps in the same storage left out."""
        mine = self.folder.name
        return [t for t in self.study.get_trials(deepcopy=False) if t.user_attrs.get("sweep", mine) == mine]

    def setting_words(self, trial: "FrozenTrial | Trial") -> tuple[str, ...]:
        """The words of a trial that the search has chosen."""
        return tuple(s.word(trial.params[s.key]) for s in self.settings if s.key in trial.params)

    def _job(self, trial: "FrozenTrial | Trial") -> Job:
        words = (*self.words, *self.setting_words(trial), *self._pruning(trial.number))
        varied = dict(word.split("=", 1) for word in self.setting_words(trial))
        return Job(trial.number, words, varied, job_folder(self.folder, trial.number))

    def _taken_up(self, trial: "FrozenTrial") -> Job | None:
        """The job that goes on with ``trial``; None if its run has ended without the search knowing."""
        job = self._job(trial)
        if any(setting.key not in trial.params for setting in self.settings):
            self._end(Outcome(job, "failed", error="the search was killed while choosing it"))
            return None
        noted = trial.user_attrs.get("run_folder")
        folder = run_folder(job) or (Path(noted) if noted else None)
        if folder is None or not (folder / FILE).is_file():
            return job
        if self.node["launcher"] == "local":
            wait_until_free(folder, self.node["stop_seconds"], job)
        if not is_finished(folder):
            return replace(job, words=(*job.words, f"resume={literal(str(folder))}"))
        status: Status = "pruned" if (folder / PRUNED).is_file() else "finished"
        self._end(Outcome(job, status, folder, read_results(folder)))
        return None

    def _note_ended(self) -> None:
        """Notes trials that the study knows the end of; the sweep was killed before it wrote that down."""
        from optuna.trial import TrialState

        status: dict[TrialState, Status] = {
            TrialState.COMPLETE: "finished",
            TrialState.PRUNED: "pruned",
            TrialState.FAIL: "failed",
        }
        settled = {record.index for record in self.state.jobs if record.status in SETTLED}
        for trial in self.own_trials():
            if trial.state in status and trial.number not in settled:
                notes = trial.user_attrs
                folder = Path(notes["run_folder"]) if "run_folder" in notes else None
                results = read_results(folder) if folder and trial.state == TrialState.COMPLETE else None
                seconds = notes.get("seconds", 0.0)
                job = self._job(trial)
                self._note(Outcome(job, status[trial.state], folder, results, notes.get("error"), seconds))

    def _end(self, outcome: Outcome) -> None:
        """Ends a trial that is not started, in the study and in the sweep's state."""
        notes = {"run_folder": outcome.run_folder, "error": outcome.error}
        self._tell(outcome.job.index, outcome.status, outcome.results, notes)
        self._note(outcome)

    def _note(self, outcome: Outcome) -> None:
        job, records = outcome.job, self.state.jobs
        record = next((record for record in records if record.index == job.index), None)
        if record is None:
            record = self._record(job)
            records.append(record)
            records.sort(key=lambda one: one.index)
        record.note(replace(outcome, seconds=outcome.seconds or record.seconds))

    def _record(self, job: Job) -> Record:
        try:
            composed = self._check(job.words)
            return Record.of(job, composed.choices, composed.config)
        except UserError:  # words that do not go together; all else is as in the first trial
            groups = {key: value for key, value in job.varied.items() if key in ("model", "data")}
            config = {**self._first.config, "published": None}
            return Record.of(job, {**self._first.choices, **groups}, config)

    def _tell(
        self, number: int, status: Status, results: Mapping[str, Any] | None, notes: Mapping[str, Any]
    ) -> None:
        from optuna.trial import TrialState

        identity = trial_id(self.storage, number)
        if self.storage.get_trial(identity).state.is_finished():
            return
        value = self.goal.value(results) if results is not None else None
        if status == "finished" and value is None:
            notes = {**notes, "error": f"the run has no value of {self.goal.metric}"}
        for name, note in notes.items():
            if note is not None:
                self.storage.set_trial_user_attr(identity, name, note if name == "seconds" else str(note))
        if status == "stopped":
            return
        if status == "pruned":
            self.study.tell(number, state=TrialState.PRUNED)
        elif value is None:
            self.study.tell(number, state=TrialState.FAIL)
        else:
            self.study.tell(number, value)

    def _pruning(self, number: int) -> tuple[str, ...]:
        """The word that adds ``callbacks/pruning.py`` to a trial."""
        pruner = self.options["pruner"]
        if pruner["name"] == "none":
            return ()
        place = {"_target_": "callbacks.pruning.Pruning", "study": str(self.journal), "trial": number}
        options = {name: value for name, value in pruner.items() if name != "name"}
        return (f"+callbacks.pruning={literal(place | options)}",)

    def _check_size(self) -> None:
        """Refuses a search in a space with fewer points than trials: some would be tried twice."""
        points = math.prod(setting.points for setting in self.settings)
        if points <= self.options["trials"]:
            raise UserError(
                f"sweep.search.trials={self.options['trials']}, but there are only {points:.0f} combinations."
                " A grid runs each of them once: leave out sweep=optuna."
            )

    def _check_settings(
        self, check: Callable[[Sequence[str]], Composition]
    ) -> dict[tuple[str, ...], Composition]:
        """Composes and checks every choice and both ends of every range, one setting at a time.

        Returns:
            The compositions by the words that vary; the first is the one that the others differ from.
        """
        first = [setting.word(setting.extremes()[0]) for setting in self.settings]
        checked = {tuple(first): check((*self.words, *first))}
        if self._pruning(0):
            check((*self.words, *first, *self._pruning(0)))
        for place, setting in enumerate(self.settings):
            for value in setting.extremes()[1:]:
                words = [*first[:place], setting.word(value), *first[place + 1 :]]
                checked[tuple(words)] = check((*self.words, *words))
        return checked

    def _check_same_study(self, configuration: str) -> None:
        """Refuses a study whose values cannot be compared with those of this search."""
        from optuna.distributions import distribution_to_json

        space = {s.key: json.loads(distribution_to_json(s.distribution)) for s in self.settings}
        mine = {"space": space, "goal": asdict(self.goal), "configuration": configuration}
        there = self.study.user_attrs
        different = [name for name, value in mine.items() if name in there and there[name] != value]
        if different:
            raise UserError(
                f"{self.journal} holds a search with another {different[0]}; its trials cannot be compared"
                " with these. Repeat its command, or begin a new search with another sweep.search.storage."
            )
        for name, value in mine.items():
            self.study.set_user_attr(name, value)

    def _repeat_failed(self) -> None:
        """Lets the settings of failed trials come again."""
        from optuna.trial import TrialState

        trials = self.own_trials()
        repeated = {trial.user_attrs.get("repeats") for trial in trials}
        for trial in trials:
            if trial.state == TrialState.FAIL and trial.number not in repeated:
                notes = {"repeats": trial.number, "sweep": self.folder.name}
                self.study.enqueue_trial(trial.params, user_attrs=notes)

    def _counted(self) -> int:
        """Trials that count: all that were begun, but for those repeated since."""
        from optuna.trial import TrialState

        trials = self.own_trials()
        repeated = {trial.user_attrs.get("repeats") for trial in trials}
        return sum(t.state != TrialState.WAITING and t.number not in repeated for t in trials)


def _sampler(options: Mapping[str, Any], number: int) -> "BaseSampler":
    """The sampler of one trial, with a seed of its own: no state has to outlive a killed search."""
    from optuna.samplers import RandomSampler, TPESampler

    seed = int(np.random.SeedSequence([options["seed"], number]).generate_state(1)[0])
    if options["sampler"] == "random":
        return RandomSampler(seed=seed)
    return TPESampler(seed=seed, n_startup_trials=options["random_trials"])
