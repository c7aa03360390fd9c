"""Several runs in one command: ``python run.py -m model=gcn,gat seed=range(0,10)``.

Every job is an ordinary run, in a process of its own and with a fully resolved command. The sweep itself only
chooses jobs, starts them, waits, and sums up.
"""

import errno
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.claims import release_folder
from harness.configuration.check import check
from harness.configuration.compose import Composition, compose, files_composed_once
from harness.errors import UserError
from harness.launch import launched
from harness.run_folder import check_writable, is_masked
from harness.stopping import STOP
from harness.sweeps.ending import unreached
from harness.sweeps.grid import Grid
from harness.sweeps.job import SETTLED, Job, Launcher, Outcome, Source
from harness.sweeps.plan import Plan, read_plan
from harness.sweeps.settings import check_sweep
from harness.sweeps.state import (
    FILE,
    Record,
    SweepState,
    create_sweep_folder,
    lock,
    newest,
    read_state,
)
from harness.sweeps.summary import count_lines, how_to_go_on, troubles, write_jobs
from harness.words import counted

_REFRESH_SECONDS = 1.0


def run_sweep(words: Sequence[str], conf: Path) -> int:
    """Runs, or goes on with, the sweep that a command asks for.

    Args:
        words: the overrides after ``python run.py -m``.
        conf: the configuration folder.

    Returns:
        The exit status: 0, or 1 if a job failed or was stopped, 130 after Ctrl-C, 143 after SIGTERM.

    Raises:
        UserError: for a mistake in any of the jobs, before the first one starts; nothing is left behind then.
    """
    launch = launched()
    if launch is not None:
        raise UserError(
            f"-m under {launch.by}: every process would start the whole sweep. Write python run.py -m;"
            " hardware=ddp gives each job its processes, and sweep=slurm makes each a job of the cluster."
        )
    with files_composed_once(), STOP.installed(), _prepared(words, conf) as sweep:
        return sweep.run()


class Sweep:
    """A sweep that is ready to run, its folder claimed.

    Args:
        folder: of the sweep.
        state: what ``sweep.json`` says.
        source: chooses the jobs.
        launcher: starts them.
        jobs: compositions of jobs.
    """

    def __init__(
        self, folder: Path, state: SweepState, source: Source, launcher: Launcher, jobs: "CheckedJobs"
    ) -> None:
        self.folder, self.state, self.source, self.launcher, self.jobs = folder, state, source, launcher, jobs
        self._running: dict[int, Record] = {}
        ended = sum(record.status in SETTLED for record in state.jobs)
        from harness.sweeps.board import Board

        self._board = Board(source.total, ended)

    def run(self) -> int:
        """Runs until no job is left."""
        status = 0
        self._announce()
        self.state.write(self.folder)
        try:
            with self._board.shown():
                self._go_through()
        except (KeyboardInterrupt, SystemExit) as stopped:
            status = 130 if isinstance(stopped, KeyboardInterrupt) else 143
            if self._running:
                self._say("stopping; the running jobs save their state")
            self._stop()
        except OSError as error:
            self._stop()
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(
                    f"no space is left for {self.folder}: what was written before stays there. Free some, and"
                    f" go on with python run.py -m resume={self.folder}"
                ) from error
            raise
        except BaseException:
            self._stop()
            raise
        lines = self._write(final=True)
        self._conclude(lines)
        failed = any(record.status in ("failed", "stopped") for record in self.state.jobs)
        return status or int(failed)

    def _announce(self) -> None:
        total, ended = self.source.total, sum(record.status in SETTLED for record in self.state.jobs)
        number = "jobs" if total is None else counted(total, "job")
        before = f", {ended} of them done before" if ended else ""
        self._say(f"tenfold sweep: {number}{before}, {self.launcher.slots} at a time")
        self._say(str(self.folder))

    def _go_through(self) -> None:
        while True:
            while len(self._running) < self.launcher.slots and (job := self.source.next_job()) is not None:
                self._start(job)
            if not self._running:
                return
            self._write(final=False)  # while the jobs run
            self._board.refresh(list(self._running.values()))
            while (outcome := self.launcher.wait(_REFRESH_SECONDS)) is None:
                self._board.refresh()
            self._note(outcome)

    def _start(self, job: Job) -> None:
        record = self._record(job)
        self.launcher.start(job)
        record.status, record.error = "running", None
        self._running[job.index] = record

    def _note(self, outcome: Outcome) -> None:
        record = self._running.pop(outcome.job.index, None) or self._record(outcome.job)
        record.note(outcome)
        self.source.told(outcome)
        self._board.tell(record, self.source.score(outcome))
        why = unreached(outcome.job)
        if why and "WANDB_MODE" not in os.environ:
            os.environ["WANDB_MODE"] = "offline"  # for jobs with mode=auto; each would wait for an answer
            self._say(f"WARNING: W&B is not reached ({why}): the jobs that follow are offline")

    def _record(self, job: Job) -> Record:
        for record in self.state.jobs:
            if record.index == job.index:
                return record
        composed = self.jobs.check(job.words)
        record = Record.of(job, composed.choices, composed.config)
        self.state.jobs.append(record)
        return record

    def _stop(self) -> None:
        """Ends the running jobs; those that end well in the meantime count."""
        for outcome in self.launcher.stop():
            self._note(outcome)
        for record in self._running.values():  # a process that even a kill could not end
            record.status = "stopped"
        self._running.clear()

    def _write(self, final: bool) -> list[str]:
        self.state.write(self.folder)
        write_jobs(self.state, self.folder)
        return self.source.write_summary(final)

    def _conclude(self, lines: Sequence[str]) -> None:
        print(*lines, "", count_lines(self.state.jobs), sep="\n", flush=True)
        for line in troubles(self.state, self.folder):
            self._say(line)
        command = how_to_go_on(self.state, self.folder)
        if command:
            self._say(f"to run what is missing: {command}")
        print(f"sweep folder  {self.folder}", flush=True)

    def _say(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


class CheckedJobs:
    """Composes and checks the words of jobs, each once."""

    def __init__(self, conf: Path) -> None:
        self.conf = conf
        self.compositions: dict[tuple[str, ...], Composition] = {}

    def check(self, words: Sequence[str]) -> Composition:
        """The composition of a job's words.

        Raises:
            UserError: for a mistake in them, with the job's words where it is one of several.
        """
        key = tuple(words)
        if key not in self.compositions:
            composed = compose(words, self.conf)
            check(composed.config, composed.choices, self.conf)
            self.compositions[key] = composed
        return self.compositions[key]

    def pay_imports(self) -> None:
        """Imports what the jobs checked so far will import, so that their forks have it."""
        from harness.sweeps.imports import pay_imports

        pay_imports(self.compositions.values())

    def one_gpu(self, job: Job) -> bool:
        """Whether the job computes on one GPU of this machine, whichever it is."""
        hardware = self.check(job.words).config["hardware"]
        return hardware["devices"] == 1 and hardware["accelerator"] in ("auto", "gpu")


@contextmanager
def _prepared(words: Sequence[str], conf: Path) -> Iterator[Sweep]:
    """The sweep of a command, all its jobs checked; its folder is claimed while this is open."""
    plan = read_plan(words, conf)
    folder = None
    if plan.resume not in (None, "auto"):
        folder = Path(plan.resume or "").expanduser()
        plan = _continued(plan, folder, conf)
    node, runs = _settings(plan, conf)
    if folder is None:
        folder = _earlier(plan, node, runs)
    made: list[Path] = []
    if folder is None:
        check_writable(runs)
        folder, made = create_sweep_folder(runs)
    claim = lock(folder)
    try:
        state = read_state(folder) if not made else SweepState.new(plan, node["sampler"])
        if state.sampler != node["sampler"]:
            raise UserError(
                f"resume={folder}: that sweep has sweep.sampler={state.sampler}, and this command has"
                f" sweep.sampler={node['sampler']}. Take sweep=... out of the command, or start a new one."
            )
        state.begin_session()
        jobs = CheckedJobs(conf)
        source = _source(node, plan, folder, state, jobs)
        yield Sweep(folder, state, source, _launcher(node, folder, jobs), jobs)
    finally:
        release_folder(folder, claim)
        if made and not (folder / FILE).is_file():  # a mistake leaves nothing behind
            shutil.rmtree(folder, ignore_errors=True)
            for parent in made:
                with suppress(OSError):  # another run has begun in it
                    parent.rmdir()


def _continued(plan: Plan, folder: Path, conf: Path) -> Plan:
    """The plan of the sweep in ``folder``, with the settings of the sweep that this command adds.

    Raises:
        UserError: if the command has words of other jobs, or leaves out a secret.
    """
    state = read_state(folder)
    before = read_plan(state.words, conf)
    own = tuple(dict.fromkeys((*before.own, *plan.own)))
    if plan.identity:
        if plan.identity != state.identity:
            raise UserError(
                f"resume={folder}: the words of that sweep are {' '.join(before.words)}. Repeat them, or"
                " leave all but resume and sweep.* out; a sweep of other words is a new one."
            )
        return replace(plan, own=own)
    secret = next((word for word in before.words if is_masked(word)), None)
    if secret:
        raise UserError(
            f"resume={folder}: {secret.partition('=')[0]} is a secret, which no file keeps. Repeat all"
            " words of the sweep."
        )
    return replace(before, words=(*before.words, *plan.words), own=own)


def _settings(plan: Plan, conf: Path) -> tuple[dict[str, Any], Path]:
    """The checked node ``sweep``, and ``paths.runs``; neither depends on what the jobs are."""
    composed = compose([*plan.own, *(word for word in plan.words if word.startswith("paths."))], conf)
    check_sweep(composed.sweep)
    return composed.sweep, Path(composed.config["paths"]["runs"]).expanduser()


def _earlier(plan: Plan, node: Mapping[str, Any], runs: Path) -> Path | None:
    """The folder of the earlier sweep that the command goes on with; None for a new one."""
    if plan.resume is None and node["retry"] == "none":
        return None
    found = None
    if node["retry"] == "none" and node["sampler"] == "grid":
        found = newest(runs, plan.identity, node["sampler"], unfinished=True)
    # a search whose trials have all ended may be asked for more; a grid shows again what it has
    found = found or newest(runs, plan.identity, node["sampler"], unfinished=False)
    if found is None:
        asked = "resume=auto" if node["retry"] == "none" else "sweep.retry=failed"
        print(f"{asked}: there is no sweep of these words, so this is a new one", file=sys.stderr)
    return found


def _source(
    node: Mapping[str, Any], plan: Plan, folder: Path, state: SweepState, jobs: CheckedJobs
) -> Source:
    if node["sampler"] == "grid":
        return Grid(node, plan, folder, jobs.check, state)
    from harness.sweeps.search import Search

    return Search(node, plan, folder, jobs.check, state)


def _launcher(node: Mapping[str, Any], folder: Path, jobs: CheckedJobs) -> Launcher:
    if node["launcher"] == "slurm":
        from harness.sweeps.slurm import SlurmLauncher

        return SlurmLauncher(node, folder)
    from harness.sweeps.local import LocalLauncher

    return LocalLauncher(node["workers"], node["stop_seconds"], jobs.one_gpu, jobs.pay_imports)
