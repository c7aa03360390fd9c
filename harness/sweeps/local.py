"""Jobs as processes of this machine, several at a time."""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.sweeps.child import fork_job, forked, job_environment, prepare_folder, spawn_job, uninterrupted
from harness.sweeps.ending import read_outcome
from harness.sweeps.job import Job, Outcome

_LOOK_EVERY = 0.02  # seconds between two looks at the running processes
_AFTER_KILL = 10.0  # seconds in which a killed process must be gone


@dataclass
class _Running:
    job: Job
    process: int
    slot: int
    started: float


class LocalLauncher:
    """Runs each job in a process of its own.

    The process is a fork of this one where that is safe, so that a job does not pay the imports of some
    seconds again; else a fresh interpreter.

    Args:
        slots: jobs that may run at a time; each slot has its own GPU where there are several.
        stop_seconds: time that stopped jobs get to save their state before they are killed.
        one_gpu: whether a job computes on one GPU, so that it is to be told which.
        pay_imports: called once, before the first fork.
    """

    def __init__(
        self,
        slots: int,
        stop_seconds: float,
        one_gpu: Callable[[Job], bool],
        pay_imports: Callable[[], None],
    ) -> None:
        self.slots = slots
        self._pay_imports: Callable[[], None] | None = pay_imports
        self._stop_seconds = stop_seconds
        self._one_gpu = one_gpu
        self._running: list[_Running] = []
        self._gpus: int | None = None  # not counted yet

    def start(self, job: Job) -> None:
        slot = min(set(range(self.slots)) - {running.slot for running in self._running})
        prepare_folder(job)
        fork = can_fork()
        if fork and self._pay_imports is not None:
            self._pay_imports()
            self._pay_imports = None
            fork = can_fork()
        environment = job_environment(job, self._gpu(job, slot, fork))
        started = time.perf_counter()
        with uninterrupted():  # no process may be started of which nobody knows
            process = fork_job(job, environment) if fork else spawn_job(job, environment)
            self._running.append(_Running(job, process, slot, started))

    def wait(self, seconds: float) -> Outcome | None:
        until = time.monotonic() + seconds
        while True:
            for running in self._running:
                if _has_ended(running.process):
                    return self._end(running)
            if time.monotonic() >= until:
                return None
            time.sleep(_LOOK_EVERY)

    def stop(self) -> list[Outcome]:
        for running in self._running:
            os.kill(running.process, signal.SIGTERM)
        outcomes = self._ended_within(self._stop_seconds)
        for running in self._running:
            _kill_group(running.process)
        return outcomes + self._ended_within(_AFTER_KILL)

    def _ended_within(self, seconds: float) -> list[Outcome]:
        """Those that end in this time; a second interrupt cuts it short."""
        outcomes, until = [], time.monotonic() + seconds
        try:
            while self._running and (left := until - time.monotonic()) > 0:
                outcome = self.wait(left)
                if outcome is not None:
                    outcomes.append(outcome)
        except (KeyboardInterrupt, SystemExit):
            pass
        return outcomes

    def _end(self, running: _Running) -> Outcome:
        """Takes leave of a process that has ended, and of what it may have left behind."""
        seconds = time.perf_counter() - running.started
        _kill_group(running.process)  # before the id is given back: further processes of DDP, data workers
        _, wait_status = os.waitpid(running.process, 0)
        self._running.remove(running)
        return read_outcome(running.job, os.waitstatus_to_exitcode(wait_status), seconds)

    def _gpu(self, job: Job, slot: int, fork: bool) -> str | None:
        if self.slots == 1 or not self._one_gpu(job):
            return None
        if self._gpus is None:
            self._gpus = _count_gpus(fork)
        return gpu_of_slot(slot, self._gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))


def gpu_of_slot(slot: int, gpus: int, visible: str | None) -> str | None:
    """The GPU of a slot, for ``CUDA_VISIBLE_DEVICES``; None where there is no choice.

    Args:
        slot: from 0.
        gpus: as many as torch sees.
        visible: ``CUDA_VISIBLE_DEVICES`` of this process; its names are passed on.
    """
    if gpus < 2:
        return None
    names = [name.strip() for name in visible.split(",")] if visible else [str(i) for i in range(gpus)]
    return names[slot % gpus]


def can_fork() -> bool:
    """Whether a fork of this process would be sound: Linux, CUDA not in use, no thread that it would lose.

    The threads of numpy's and scipy's linear algebra do not count: their library ends them before each fork
    and starts them again when it needs them. So a first fork, of a process that ends at once, shows whether
    this thread is then alone, and whether torch has so much as counted GPUs, which no fork survives either.
    """
    if sys.platform != "linux" or threading.active_count() > 1:
        return False
    cuda_is_lost = _asked_in_a_fork(_cuda_is_lost)
    return not cuda_is_lost and _threads() == 1


def _threads() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def _cuda_is_lost() -> bool:
    """In a fork: whether torch would refuse CUDA here."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.cuda._is_in_bad_fork()


def _count_gpus(fork: bool) -> int:
    """As torch counts them, in a process of its own: counting may open CUDA, and no fork survives that."""
    import torch

    return _asked_in_a_fork(torch.cuda.device_count) if fork else torch.cuda.device_count()


def _asked_in_a_fork(question: Callable[[], int]) -> int:
    """The answer, a small number, of a process that ends with it; 1 where the question raises an error."""
    child = forked(lambda: os._exit(question()))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _has_ended(process: int) -> bool:
    """Whether the child is a zombie; it stays one."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _kill_group(process: int) -> None:
    with suppress(OSError):  # macOS refuses it where nothing but a zombie is left
        os.killpg(process, signal.SIGKILL)
