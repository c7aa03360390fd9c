"""What a sweep folder says of its sweep: ``sweep.json``, and a lock while it runs."""

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock

from harness.claims import claim_folder
from harness.errors import UserError
from harness.files import write_json
from harness.run_folder import masked_command
from harness.sweeps.job import SETTLED, Job, Outcome
from harness.sweeps.plan import Plan

FILE = "sweep.json"
_ATTEMPTS = 100  # names tried before a folder that cannot be made is reported


@dataclass
class Record:
    """What is known of a job.

    Attributes:
        index: its place in the sweep.
        words: of its command, secrets masked.
        varied: the varied keys and its values, secrets masked.
        model: choice of that group.
        data: choice of that group.
        seed: of the run.
        published: what the paper reports for the pair; None where there is nothing.
        status: ``waiting``, ``running``, or as an :class:`Outcome` says.
        run_folder: None where it has none, or not yet.
        metrics: of a finished run.
        error: its one line about what went wrong.
        seconds: from its start to its end, of its last session.
        run_seconds: what the run itself says of setup, training and test.
    """

    index: int
    words: list[str]
    varied: dict[str, str]
    model: str
    data: str
    seed: int
    published: dict[str, Any] | None = None
    status: str = "waiting"
    run_folder: str | None = None
    metrics: dict[str, float | None] = field(default_factory=dict)
    error: str | None = None
    seconds: float = 0.0
    run_seconds: float = 0.0

    @classmethod
    def of(cls, job: Job, choices: Mapping[str, str], config: Mapping[str, Any]) -> "Record":
        """The record of a job that has not started yet."""
        varied = dict(
            word.split("=", 1) for word in masked_command([f"{k}={v}" for k, v in job.varied.items()])
        )
        words = masked_command(list(job.words))
        return cls(
            job.index, words, varied, choices["model"], choices["data"], config["seed"], config["published"]
        )

    def note(self, outcome: Outcome) -> None:
        """Takes over how the job ended."""
        self.status, self.error = outcome.status, outcome.error
        self.seconds = round(outcome.seconds, 3)
        self.run_folder = None if outcome.run_folder is None else str(outcome.run_folder)
        self.metrics, self.run_seconds = {}, 0.0
        if outcome.results is not None:
            self.metrics = dict(outcome.results["metrics"])
            self.run_seconds = round(sum(outcome.results["seconds"].values()), 3)


@dataclass
class SweepState:
    """The content of ``sweep.json``.

    Attributes:
        words: of the command, secrets masked.
        identity: see :attr:`Plan.identity`.
        sampler: ``grid`` or ``optuna``.
        started: when its first session began, ISO 8601 with microseconds.
        sessions: when each session began.
        jobs: by index.
    """

    words: list[str]
    identity: list[str]
    sampler: str
    started: str
    sessions: list[str] = field(default_factory=list)
    jobs: list[Record] = field(default_factory=list)

    @classmethod
    def new(cls, plan: Plan, sampler: str) -> "SweepState":
        """The state of a sweep that begins."""
        return cls(plan.masked_words, plan.identity, sampler, datetime.now(UTC).isoformat())

    def begin_session(self) -> None:
        """Notes a session that begins now."""
        self.sessions.append(datetime.now(UTC).isoformat(timespec="seconds"))

    @property
    def is_over(self) -> bool:
        """True if every job that is known came to an end of its own."""
        return all(record.status in SETTLED for record in self.jobs)

    def write(self, folder: Path) -> None:
        """Writes the file, whole or not at all."""
        write_json(folder / FILE, asdict(self))


def read_state(folder: Path) -> SweepState:
    """The state in ``folder``.

    Raises:
        UserError: if it is no sweep folder, or its ``sweep.json`` cannot be read.
    """
    path = folder / FILE
    if not path.is_file():
        there = f"has no {FILE}, so it is no sweep folder" if folder.is_dir() else "is no folder"
        raise UserError(
            f"resume={folder} {there}. With -m, give the folder of a sweep, such as runs/sweeps/<time>_<id>,"
            " or resume=auto for the newest unfinished sweep of these words."
        )
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        jobs = [Record(**record) for record in content.pop("jobs")]
        return SweepState(**content, jobs=jobs)
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"resume={folder}: {FILE} cannot be read ({error}). Start the sweep anew.") from error


def newest(runs: Path, identity: Sequence[str], sampler: str, unfinished: bool) -> Path | None:
    """The newest sweep folder of a command's words; None where there is none.

    Args:
        runs: ``paths.runs``.
        identity: see :attr:`Plan.identity`.
        sampler: ``grid`` or ``optuna``.
        unfinished: look among those alone in which a job has not come to its end.
    """
    found = []
    for path in (runs / "sweeps").glob(f"*/{FILE}"):
        try:
            state = read_state(path.parent)
        except UserError:
            continue
        if (state.identity, state.sampler) == (list(identity), sampler):
            found.append((state.started, path.parent, state.is_over))
    candidates = [entry for entry in found if not (unfinished and entry[2])]
    return max(candidates)[1] if candidates else None


def create_sweep_folder(runs: Path) -> tuple[Path, list[Path]]:
    """Makes ``<runs>/sweeps/<time>_<short id>``, unique even for two sweeps started in the same second.

    Returns:
        The folder, and the folders that were made for it, itself first.

    Raises:
        UserError: if it cannot be made.
    """
    for _ in range(_ATTEMPTS):
        folder = runs / "sweeps" / f"{datetime.now():%Y-%m-%d_%H-%M-%S}_{secrets.token_hex(2)}"
        made = [folder, *(parent for parent in folder.absolute().parents if not parent.exists())]
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            folder.mkdir()
            return folder, made
        except OSError as error:
            fault = error
    raise UserError(
        f"paths.runs={runs}: cannot make {folder}: {fault.strerror}. Give another place."
    ) from fault


def lock(folder: Path) -> FileLock:
    """Claims the sweep in ``folder`` for this process; :func:`harness.claims.release_folder` ends it.

    Raises:
        UserError: if another sweep runs in it.
    """
    taken = f"the sweep in {folder} is running in another process. Wait for it, or stop it first."
    return claim_folder(folder, taken)
