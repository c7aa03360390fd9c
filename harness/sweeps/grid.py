"""A grid: every combination of the values that a command gives."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.configuration.compose import Composition
from harness.configuration.requirements import literal
from harness.errors import UserError
from harness.results import format_value
from harness.run_state import FILE, is_running
from harness.sweeps.ending import read_outcome, read_results, run_folder
from harness.sweeps.job import Job, Outcome, job_folder
from harness.sweeps.plan import Plan, combinations, identity, written
from harness.sweeps.state import Record, SweepState
from harness.sweeps.summary import printed, rows_of, write_summary

_PICTURE_SHARE = 0.02  # of the time, at most, that goes into drawing while jobs run


class Grid:
    """A source of jobs (see ``harness/sweeps/job.py``): all combinations, checked before the first begins.

    Of a sweep that goes on, finished jobs are kept, interrupted ones go on in their run folder, failed ones
    are run anew if ``sweep.retry=failed``.

    Args:
        node: the checked ``sweep`` node.
        plan: the words.
        folder: of the sweep; need not exist yet.
        check: composes and checks the words of a job; raises UserError.
        state: of the sweep; gets a record for each job that has none.

    Raises:
        UserError: if a word, or a job, has a mistake, or a job of a killed sweep still runs.
    """

    def __init__(
        self,
        node: Mapping[str, Any],
        plan: Plan,
        folder: Path,
        check: Callable[[Sequence[str]], Composition],
        state: SweepState,
    ) -> None:
        self.node, self.folder, self.state = node, folder, state
        self._picture_due = 0.0
        planned = [(words, varied, check(words)) for words, varied in combinations(plan)]
        known = {tuple(identity(record.words)): record for record in state.jobs}
        self._waiting: list[Job] = []
        for words, varied, composed in planned:
            record = known.get(tuple(identity(words)))
            index = len(state.jobs) if record is None else record.index
            job = Job(index, words, varied, job_folder(folder, index))
            if record is None:
                state.jobs.append(Record.of(job, composed.choices, composed.config))
                self._waiting.append(job)
            else:
                self._take_up(job, record)
        self.total: int | None = len(state.jobs)

    def next_job(self) -> Job | None:
        return self._waiting.pop(0) if self._waiting else None

    def told(self, outcome: Outcome) -> None:
        """Nothing to learn: the jobs of a grid do not depend on each other."""

    def score(self, outcome: Outcome) -> str:
        metrics = {} if outcome.results is None else outcome.results["metrics"]
        measured = next((item for item in metrics.items() if item[0].startswith("test/")), None)
        if measured is None or measured[1] is None:
            return ""
        return f"{measured[0]} {format_value(measured[0], measured[1])}"

    def write_summary(self, final: bool) -> list[str]:
        rows = rows_of(self.state.jobs, self.node["average_over"], self.node["metric"])
        write_summary(self.state, rows, self.folder)
        if final or time.monotonic() >= self._picture_due:
            self._draw(rows)
        return printed(rows)

    def _draw(self, rows: Sequence[Any]) -> None:
        from harness.figures import save_png
        from harness.sweeps.plot import draw_sweep

        started = time.monotonic()
        save_png(draw_sweep(rows), self.folder / "summary.png")
        spent = time.monotonic() - started
        self._picture_due = time.monotonic() + spent / _PICTURE_SHARE

    def _take_up(self, job: Job, record: Record) -> None:
        """Puts a job of an earlier session in the queue, if anything is left to do for it."""
        if record.status == "finished":
            return
        if record.status == "failed":
            if self.node["retry"] == "failed":
                record.status, record.error = "waiting", None
                self._waiting.append(job)
            return
        record.status = "stopped" if record.status == "running" else record.status
        folder = run_folder(job)
        if folder is not None:
            if self.node["launcher"] == "local":  # on a cluster it may rightly go on, and is waited for
                wait_until_free(folder, self.node["stop_seconds"], job)
            if read_results(folder) is not None:  # the sweep was killed before it heard of the end
                record.note(read_outcome(job, 0, record.seconds))
                return
            if (folder / FILE).is_file():
                job = replace(job, words=(*job.words, f"resume={literal(str(folder))}"))
        self._waiting.append(job)


def wait_until_free(folder: Path, seconds: float, job: Job) -> None:
    """Waits for a run whose sweep was killed, and which is still saving its state.

    Raises:
        UserError: if it takes longer than ``seconds``.
    """
    if is_running(folder):
        from harness.run_log import tell

        tell(f"job {job.index} ({written(job.varied)}): waiting until the run in {folder} has stopped")
    until = time.monotonic() + seconds
    while is_running(folder):
        if time.monotonic() >= until:
            raise UserError(
                f"job {job.index} of the sweep is still running in {folder}, in a process of its own."
                " Wait for it, or stop it first."
            )
        time.sleep(0.1)
