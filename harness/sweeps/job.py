"""A job of a sweep, how it ended, and what starts jobs and chooses them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

Status = Literal["finished", "failed", "pruned", "stopped"]
"""``stopped`` was ended from outside and can go on; ``failed`` ended by itself, with an error."""

SETTLED: frozenset[str] = frozenset({"finished", "failed", "pruned"})
"""Statuses of jobs that a continued sweep does not run again by itself."""


@dataclass(frozen=True)
class Job:
    """One ordinary run.

    Attributes:
        index: its place in the sweep, from 0; the trial's number in a search.
        words: of its command, ``python run.py <words>``.
        varied: the keys that the sweep varies and this job's values, as they are written.
        folder: ``<sweep>/jobs/<index>``; what it prints goes to ``log.txt`` there.
    """

    index: int
    words: tuple[str, ...]
    varied: Mapping[str, str]
    folder: Path


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        job: as it was started.
        status: see :data:`Status`.
        run_folder: None if it ended before it had one, or a mistake left nothing in it.
        results: the content of its ``results.json``; None unless it finished.
        error: its one line about what went wrong; None where nothing did.
        seconds: between its start and its end.
    """

    job: Job
    status: Status
    run_folder: Path | None = None
    results: Mapping[str, Any] | None = None
    error: str | None = None
    seconds: float = 0.0


class Launcher(Protocol):
    """Starts jobs, each in a process of its own, and waits for them."""

    slots: int
    """Jobs that may run at a time."""

    def start(self, job: Job) -> None:
        """Starts ``job`` and returns at once; the caller keeps to :attr:`slots`."""

    def wait(self, seconds: float) -> Outcome | None:
        """Blocks until one of the running jobs ends, at most for so long; None if none did.

        KeyboardInterrupt and SystemExit pass through.
        """

    def stop(self) -> list[Outcome]:
        """Ends all running jobs, with time to save their state, and tells how each ended."""


class Source(Protocol):
    """Chooses the jobs: all combinations, or what a search asks for."""

    total: int | None
    """Jobs of the whole sweep; None where nobody knows yet."""

    def next_job(self) -> Job | None:
        """The job to start now; None if none is left, or none can be chosen before a running one has ended.

        The sweep is over when this is None and nothing runs.
        """

    def told(self, outcome: Outcome) -> None:
        """Takes note of a job that ended."""

    def score(self, outcome: Outcome) -> str:
        """What a job measured, for the line that tells of its end; empty where it measured nothing."""

    def write_summary(self, final: bool) -> list[str]:
        """Writes what the sweep has found so far into its folder; returns what to print at its end.

        Args:
            final: False after each job, when a picture may stay as it is for a while.
        """


def job_folder(sweep: Path, index: int) -> Path:
    """Where what belongs to job ``index`` lies, apart from its run."""
    return sweep / "jobs" / f"{index:04d}"
