"""Jobs of a sweep as jobs of a SLURM cluster, by submitit."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.configuration.static_modules import PROJECT_ROOT
from harness.errors import UserError
from harness.stopping import EXIT_STATUS
from harness.sweeps.child import prepare_folder
from harness.sweeps.cluster_job import PROCESS, ClusterJob, Ended
from harness.sweeps.ending import read_outcome, read_results, run_folder
from harness.sweeps.job import Job, Outcome

if TYPE_CHECKING:
    import submitit

_LOOK_EVERY = 0.2  # seconds between two looks at local processes
_LOOK_AT_DISK_EVERY = 2.0  # seconds between two looks for results on the shared disk
_ASK_EVERY = 15.0  # seconds between two questions to SLURM's queue
_GONE_AFTER = 45.0  # seconds without a job in the queue, nor its result on the disk: shared disks are slow
_SUBMIT_AGAIN_AFTER = 60.0  # seconds after a refusal, unless a job ends before
_QUESTIONS = 4  # to a queue that does not answer, before that is an error
_ASK_AGAIN_AFTER = 5.0  # seconds
_AFTER_KILL = 10.0  # seconds in which a killed process must be gone
_MOST_IN_ARRAY = 10_000  # of one array at a time: the number of jobs in the queue is limited by sweep.workers
_CLUSTER_JOB = "cluster_job.txt"  # in a job's folder: its id on the cluster


@dataclass
class _Running:
    job: Job
    cluster: "submitit.Job[Ended]"
    missing_since: float | None = None  # when SLURM no longer knew it


class SlurmLauncher:
    """Submits each job; those that are started together as one array.

    A job that reaches its time limit, or has to give way to others, saves its state and is queued again. One
    that is still in the queue when a killed sweep goes on is waited for and not submitted twice.

    Args:
        node: the checked ``sweep`` node.
        sweep: the sweep's folder, on a disk that the cluster's machines share.

    Raises:
        UserError: if submitit is not installed, or there is no SLURM here.
    """

    def __init__(self, node: Mapping[str, Any], sweep: Path) -> None:
        self.slots: int = node["workers"]
        self.options: Mapping[str, Any] = node["slurm"]
        self.is_local = self.options["cluster"] == "local"
        self._stop_seconds: float = node["stop_seconds"]
        self._executor = _executor(self.options, sweep.absolute() / "slurm", f"tenfold-{sweep.name}")
        # submitit pickles the jobs with their words, the secrets among them
        self._executor.folder.mkdir(parents=True, exist_ok=True)
        self._executor.folder.chmod(0o700)
        self._new: list[Job] = []
        self._submit_at = 0.0  # not before
        self._has_warned = False
        self._running: list[_Running] = []
        self._asked = time.monotonic()

    def start(self, job: Job) -> None:
        job = replace(job, folder=job.folder.absolute())
        earlier = self._in_queue_already(job)
        if earlier is not None:
            self._running.append(_Running(job, earlier))
            return
        prepare_folder(job)
        (job.folder / PROCESS).unlink(missing_ok=True)
        self._new.append(job)

    def wait(self, seconds: float) -> Outcome | None:
        self._submit()
        until = time.monotonic() + seconds
        while True:
            ended = self._first_ended()
            if ended is not None:
                self._running.remove(ended)
                self._submit_at = 0.0  # there may be room now
                return self._outcome(ended)
            left = until - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(left, _LOOK_EVERY if self.is_local else _LOOK_AT_DISK_EVERY))

    def stop(self) -> list[Outcome]:
        outcomes = [Outcome(job, "stopped", error="not submitted yet") for job in self._new]
        self._new = []
        if self.is_local:
            outcomes += self._ended_within(self._stop_seconds, signal.SIGTERM)
            outcomes += self._ended_within(_AFTER_KILL, signal.SIGKILL)
        else:
            self._cancel()
        outcomes += [self._outcome(running, EXIT_STATUS) for running in self._running]
        self._running = []
        return outcomes

    def _submit(self) -> None:
        """Submits what is new; what the cluster refuses is kept, and tried again while other jobs run."""
        if not self._new or (self._running and time.monotonic() < self._submit_at):
            return
        from submitit.core.utils import FailedJobError, FailedSubmissionError

        jobs = self._new
        work = [ClusterJob(job, self.options["save_seconds"]) for job in jobs]
        try:
            with _unhurt_by_the_keyboard(), _findable_project():
                submitted = self._executor.submit_array(work)
        except (FailedJobError, FailedSubmissionError, OSError) as error:
            refusal = f"sweep.slurm: the cluster refused the jobs: {str(error).strip()}"
            if self.is_local or not self._running:
                raise UserError(refusal) from error
            self._submit_at = time.monotonic() + _SUBMIT_AGAIN_AFTER
            if not self._has_warned:
                from harness.run_log import tell

                tell(f"{refusal}; trying again when a job has ended, and every minute")
            self._has_warned = True
            return
        self._new = []
        for job, cluster in zip(jobs, submitted, strict=True):
            (job.folder / _CLUSTER_JOB).write_text(cluster.job_id, encoding="utf-8")
            self._running.append(_Running(job, cluster))

    def _in_queue_already(self, job: Job) -> "submitit.Job[Ended] | None":
        """The cluster's job that an earlier session of the sweep has left in the queue.

        Raises:
            UserError: if there may be one, and SLURM does not say.
        """
        try:
            number = (job.folder / _CLUSTER_JOB).read_text(encoding="utf-8").strip()
        except OSError:
            return None
        if self.is_local:
            return None
        queued = queued_jobs()
        for _ in range(_QUESTIONS - 1):
            if queued is not None:
                break
            time.sleep(_ASK_AGAIN_AFTER)
            queued = queued_jobs()
        if queued is None:
            raise UserError(
                f"sweep.slurm: squeue does not answer, so job {number} of this sweep may still run. Go on"
                " with the sweep once squeue works."
            )
        if number not in queued:
            return None
        return self._executor.job_class(folder=self._executor.folder, job_id=number)

    def _look_into_queue(self) -> None:
        """Notes which jobs SLURM no longer knows. Its accounting, which submitit asks, is often not there."""
        now = time.monotonic()
        if now - self._asked < _ASK_EVERY:
            return
        self._asked = now
        queued = queued_jobs()
        for running in self._running:
            if queued is None or running.cluster.job_id in queued:
                running.missing_since = None
            elif running.missing_since is None:
                running.missing_since = now

    def _first_ended(self) -> _Running | None:
        if self.is_local:
            return next((running for running in self._running if running.cluster.done()), None)
        self._look_into_queue()
        # listed once for all: it also renews what NFS believes to be there
        results = {path.name for path in self._executor.folder.glob("*_result.pkl")}
        now = time.monotonic()
        for running in self._running:
            gone = running.missing_since is not None and now - running.missing_since >= _GONE_AFTER
            if gone or running.cluster.paths.result_pickle.name in results:
                return running
        return None

    def _outcome(self, running: _Running, without_result: int = -signal.SIGKILL) -> Outcome:
        """How a job ended; ``without_result`` is the exit status of one that could not tell."""
        job, paths = running.job, running.cluster.paths
        from submitit.core.utils import UncompletedJobError

        if not paths.result_pickle.exists():
            folder = run_folder(job)
            finished = folder is not None and read_results(folder) is not None
            return read_outcome(job, 0 if finished else without_result, 0.0)
        try:
            ended = running.cluster.result()
        except UncompletedJobError as error:
            return self._without_status(job, str(error), paths.stdout)
        return read_outcome(job, ended.status, ended.seconds)

    def _without_status(self, job: Job, trace: str, log: Path) -> Outcome:
        """The outcome of a job that submitit itself could not go on with."""
        if "timed-out too many times" in trace:
            options = self.options
            why = (
                f"reached sweep.slurm.timeout_min={options['timeout_min']} more often than"
                f" sweep.slurm.requeues={options['requeues']} allows; its state is saved"
            )
            return Outcome(job, "stopped", run_folder(job), error=why)
        lines = [
            line.strip() for line in trace.splitlines() if line.strip(" -") and "You can check" not in line
        ]
        last = next((line for line in reversed(lines) if ": " in line and not line.startswith("- ")), trace)
        return Outcome(job, "failed", run_folder(job), error=f"{last} (see {log})")

    def _ended_within(self, seconds: float, number: signal.Signals) -> list[Outcome]:
        """Sends a signal to local jobs; tells of those that end in time. A second interrupt cuts it short."""
        outcomes: list[Outcome] = []
        told: set[int] = set()
        until = time.monotonic() + seconds
        try:
            while self._running and time.monotonic() < until:
                for running in self._running:
                    # one that is only just starting has no process yet
                    if running.job.index not in told and _send(running.job, number):
                        told.add(running.job.index)
                outcome = self.wait(_LOOK_EVERY)
                outcomes += [outcome] if outcome else []
        except (KeyboardInterrupt, SystemExit):
            pass
        return outcomes

    def _cancel(self) -> None:
        """Takes the jobs off the cluster, which gives them the time of its KillWait to save their state."""
        for running in self._running:
            running.cluster.cancel(check=False)
        mine = {running.cluster.job_id for running in self._running}
        until = time.monotonic() + self._stop_seconds
        with suppress(KeyboardInterrupt, SystemExit):
            while mine and time.monotonic() < until:
                queued = queued_jobs()
                if queued is not None and not mine & queued:
                    return
                time.sleep(1.0)


def queued_jobs() -> set[str] | None:
    """The ids of this user's jobs that wait or run, ``12`` or ``12_0``; None if SLURM does not answer."""
    command = ["squeue", "--noheader", "--array", "--format=%i", f"--user={os.getuid()}"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return set(answer.stdout.split())


def _executor(options: Mapping[str, Any], folder: Path, name: str) -> "submitit.Executor":
    try:
        import submitit
    except ImportError as error:
        raise UserError(
            "sweep.launcher=slurm needs the package submitit, which is not installed: pip install"
            " 'submitit>=1.5,<2' (make install has it)."
        ) from error
    memory = f"{round(1024 * options['mem_gb'])}M"
    if options["cluster"] == "local":
        local = submitit.LocalExecutor(folder, max_num_timeout=options["requeues"])
        local.update_parameters(
            timeout_min=options["timeout_min"],
            signal_delay_s=options["save_seconds"],
            gpus_per_node=options["gpus_per_node"],
            stderr_to_stdout=True,
            setup=options["setup"],
        )
        return local
    try:
        slurm = submitit.SlurmExecutor(folder, max_num_timeout=options["requeues"])
    except RuntimeError as error:
        raise UserError(
            "sweep.launcher=slurm: there is no SLURM here (no srun in PATH). Start the sweep on a login node"
            " of the cluster, or try it out with sweep.slurm.cluster=local."
        ) from error
    slurm.update_parameters(
        job_name=name,
        partition=options["partition"],
        account=options["account"],
        time=options["timeout_min"],
        nodes=1,
        ntasks_per_node=1,
        cpus_per_task=options["cpus_per_task"],
        # a cluster without GPUs refuses to give none
        gpus_per_node=options["gpus_per_node"] or None,
        mem=memory,
        signal_delay_s=options["save_seconds"],
        stderr_to_stdout=True,
        array_parallelism=_MOST_IN_ARRAY,
        # since 22.05 srun does not inherit it
        srun_args=[f"--cpus-per-task={options['cpus_per_task']}"],
        setup=[f'export PYTHONPATH="{PROJECT_ROOT}:${{PYTHONPATH:-}}"', *options["setup"]],
        additional_parameters=dict(options["options"]),
    )
    return slurm


def _send(job: Job, number: signal.Signals) -> bool:
    """Sends a signal to a local job's processes; False while there are none."""
    try:
        os.killpg(int((job.folder / PROCESS).read_text(encoding="utf-8")), number)
    except (OSError, ValueError):
        return False
    return True


@contextmanager
def _findable_project() -> Iterator[None]:
    """Lets the processes that start in it import this project, from wherever they are started."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(PROJECT_ROOT), *([before] if before else [])])
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONPATH"]
        else:
            os.environ["PYTHONPATH"] = before


@contextmanager
def _unhurt_by_the_keyboard() -> Iterator[None]:
    """Processes that start in it do not hear the keyboard's interrupt, which is the sweep's to answer."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
