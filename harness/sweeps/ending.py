"""How a job ended: from its exit status and what it left behind."""

import json
import signal
from pathlib import Path
from typing import Any

from harness.run_folder import UNREACHED
from harness.stopping import EXIT_STATUS, PRUNED_STATUS
from harness.sweeps.job import Job, Outcome, Status

LOG = "log.txt"
RUN_FOLDER = "run_folder.txt"
"""In a job's folder: the path of its run folder, written by the run as soon as there is one."""

_STOPPED = (128 + signal.SIGINT, EXIT_STATUS)
_CRASHES = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
_LAST_BYTES = 64 * 1024  # of a log, in which its error line is looked for


def read_outcome(job: Job, exit_status: int, seconds: float) -> Outcome:
    """What became of ``job``.

    Args:
        job: its process has ended.
        exit_status: of the process; -n if signal n killed it.
        seconds: from its start to its end.
    """
    folder = run_folder(job)
    results = None if folder is None else read_results(folder)
    status, error = _status(exit_status), None
    if status == "finished" and results is None:
        status, error = "failed", "it ended well but left no results.json"
    elif status != "finished":
        results, error = None, _error(job, exit_status, status)
    return Outcome(job, status, folder, results, error, seconds)


def run_folder(job: Job) -> Path | None:
    """The run folder of ``job``; None if it made none or it is gone again."""
    try:
        folder = Path((job.folder / RUN_FOLDER).read_text(encoding="utf-8").strip())
    except (OSError, ValueError):
        return None
    return folder if folder.name and folder.is_dir() else None


def unreached(job: Job) -> str:
    """Why the dashboard of the job's run could not be reached; empty where it was, or was not tried."""
    try:
        return (job.folder / UNREACHED).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def read_results(folder: Path) -> dict[str, Any] | None:
    """The content of a run folder's ``results.json``; None where the run has not finished."""
    try:
        content = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _status(exit_status: int) -> Status:
    if exit_status == 0:
        return "finished"
    if exit_status == PRUNED_STATUS:
        return "pruned"
    killed = exit_status < 0 and -exit_status not in _CRASHES
    return "stopped" if killed or exit_status in _STOPPED else "failed"


def _error(job: Job, exit_status: int, status: Status) -> str | None:
    """The line in which the run said what was wrong, or what its exit status says."""
    if exit_status < 0:
        name = signal.Signals(-exit_status).name
        return f"killed by {name}{', perhaps for lack of memory' if name == 'SIGKILL' else ''}"
    if status == "stopped":
        return "by a signal"
    lines = _last_lines(job.folder / LOG)
    for line in reversed(lines):
        if line.startswith(("error: ", "crashed: ", "pruned: ")):
            return line.removeprefix("error: ").removeprefix("pruned: ")
    return lines[-1] if lines else f"exit status {exit_status}, without a word"


def _last_lines(log: Path) -> list[str]:
    """The lines of text at the end of a log."""
    try:
        with log.open("rb") as file:
            file.seek(max(log.stat().st_size - _LAST_BYTES, 0))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()]
