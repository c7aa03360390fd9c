"""What a cluster runs in place of a job: the job's own command, which can be stopped and taken up again."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from harness.configuration.requirements import literal
from harness.run_state import FILE
from harness.stopping import EXIT_STATUS, PRUNED, PRUNED_STATUS
from harness.sweeps.child import RUN, job_environment
from harness.sweeps.ending import LOG, read_results, run_folder
from harness.sweeps.job import Job

if TYPE_CHECKING:
    from submitit.core.utils import DelayedSubmission

PROCESS = "process.txt"
"""In a job's folder while it runs: the id of its process."""

_LOOK_EVERY = 0.1  # seconds
_BEING_ENDED = 120.0  # seconds in which SLURM, having sent SIGTERM, ends or requeues a job


class Ended(NamedTuple):
    """How the command ended: its exit status, and the seconds of its last session."""

    status: int
    seconds: float


class ClusterJob:
    """Runs ``python run.py <words>`` in a process of its own; where that was begun before, goes on with it.

    submitit pickles this object, calls it on the cluster, and calls :meth:`checkpoint` when the time limit is
    near or the job has to give way; what that returns is run next.

    Args:
        job: with an absolute folder, which the cluster's machines share.
        save_seconds: time that the process gets to save its state.
    """

    def __init__(self, job: Job, save_seconds: float) -> None:
        self.job = job
        self.save_seconds = save_seconds
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> Ended:
        started = time.monotonic()
        folder = self._begun()
        ended = None if folder is None else _status_of_ended(folder)
        if ended is not None:
            return Ended(ended, 0.0)
        words = self.job.words
        if folder is not None:
            words = (
                *(word for word in words if not word.startswith("resume=")),
                f"resume={literal(str(folder))}",
            )
        with (self.job.folder / LOG).open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(RUN), *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=job_environment(self.job),
                start_new_session=True,
                # SLURM sends it to every process of a job; it means submitit's alone
                preexec_fn=_ignore_usr2,
            )
        try:
            (self.job.folder / PROCESS).write_text(str(self._process.pid), encoding="utf-8")
            while not _has_ended(self._process.pid):
                time.sleep(_LOOK_EVERY)
        finally:
            self._end_process()
            (self.job.folder / PROCESS).unlink(missing_ok=True)
        status = self._process.wait()
        if status == EXIT_STATUS and "SLURM_JOB_ID" in os.environ:
            # Not this object has stopped it, so SLURM has, and will requeue the job or end it. To return now
            # would tell the sweep that the job is over.
            time.sleep(_BEING_ENDED)
        return Ended(status, time.monotonic() - started)

    def checkpoint(self) -> "DelayedSubmission":
        """Lets the run save its state, and returns what goes on with it."""
        from submitit.core.utils import DelayedSubmission

        self._end_process()
        return DelayedSubmission(self)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_process": None}

    def _begun(self) -> Path | None:
        """The run folder in which an earlier call has begun."""
        folder = run_folder(self.job)
        return folder if folder is not None and (folder / FILE).is_file() else None

    def _end_process(self) -> None:
        """Asks the process to save its state and to end; insists when the time is over."""
        process = None if self._process is None else self._process.pid
        if process is None or _has_ended(process):
            return
        os.kill(process, signal.SIGTERM)
        until = time.monotonic() + self.save_seconds
        while not _has_ended(process) and time.monotonic() < until:
            time.sleep(_LOOK_EVERY)
        with suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)


def _status_of_ended(folder: Path) -> int | None:
    """The exit status of the run that ended in ``folder``; None if it has not come to its end."""
    if (folder / PRUNED).is_file():
        return PRUNED_STATUS
    return None if read_results(folder) is None else 0


def _has_ended(process: int) -> bool:
    """Whether the child has ended. Not ``Popen.poll``: its lock, held where a signal arrives, stays held."""
    try:
        return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


def _ignore_usr2() -> None:
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
