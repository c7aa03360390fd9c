"""The process of one job: a fork of the sweep, or a fresh interpreter, that runs one ordinary command."""

import atexit
import gc
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from harness.child_run import own_environment
from harness.configuration.static_modules import PROJECT_ROOT
from harness.parent_death import die_with
from harness.run_folder import JOB_RECORD, SWEEP, UNREACHED
from harness.sweeps.ending import LOG, RUN_FOLDER
from harness.sweeps.job import Job

RUN = PROJECT_ROOT / "run.py"

_STOPPING = (signal.SIGINT, signal.SIGTERM)


def job_environment(job: Job, gpu: str | None = None) -> dict[str, str]:
    """The environment of a job: this process's own, without what would tie it to another run.

    Args:
        job: its folder lies in ``<sweep>/jobs``.
        gpu: the only one that it may see; None leaves that as it is.
    """
    environment = own_environment()
    environment[JOB_RECORD] = str((job.folder / RUN_FOLDER).absolute())
    environment[SWEEP] = job.folder.absolute().parents[1].name
    if gpu is not None:
        environment["CUDA_VISIBLE_DEVICES"] = gpu
    return environment


def prepare_folder(job: Job) -> None:
    """Makes the job's folder, without what an earlier session has noted in it.

    Of a job that goes on the note of its run folder stays, lest the run be lost if all is killed again before
    it has begun.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    (job.folder / UNREACHED).unlink(missing_ok=True)
    if not any(word.startswith("resume=") for word in job.words):
        (job.folder / RUN_FOLDER).unlink(missing_ok=True)


def fork_job(job: Job, environment: Mapping[str, str]) -> int:
    """Runs the job in a copy of this process, which has paid the imports, and returns its id.

    The copy leads a process group of its own, so that the keyboard's interrupt reaches the sweep alone. On
    Linux it is told to stop when this process dies.
    """
    parent = os.getpid()
    gc.freeze()  # or the child's first collection would write to, and so copy, every page of objects
    try:
        child = forked(lambda: _become(job, environment, parent))
        with suppress(OSError):
            os.setpgid(child, child)  # here too: whichever of the two is first
        return child
    finally:
        gc.unfreeze()


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Lets SIGINT and SIGTERM wait while it is open."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def forked(work: Callable[[], object]) -> int:
    """Lets a copy of this process do ``work``, after which it ends with status 1; returns its process id.

    The copy begins with SIGINT and SIGTERM blocked: this process's handlers must not run in it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    with uninterrupted():
        child = os.fork()
        if child == 0:
            try:
                work()
            finally:
                os._exit(1)
        return child


def spawn_job(job: Job, environment: Mapping[str, str]) -> int:
    """Runs the job in a fresh interpreter and returns its process id."""
    log = str(job.folder / LOG)
    return os.posix_spawn(
        sys.executable,
        [sys.executable, str(RUN), *job.words],
        dict(environment),
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setpgroup=0,
        setsigdef=_STOPPING,
        setsigmask=(),
    )


def _become(job: Job, environment: Mapping[str, str], parent: int) -> NoReturn:
    """Turns a forked copy of the sweep into the process of one ordinary run, and ends it with that run."""
    status = 1
    try:
        os.setpgid(0, 0)
        die_with(parent)
        _redirect(job.folder / LOG)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
        atexit._clear()  # the sweep's own, which are run once, by the sweep
        os.environ.clear()
        os.environ.update(environment)
        # what Lightning starts again for each further process of DDP: this run, not the sweep
        sys.argv = [str(RUN), *job.words]
        import run

        status = run.run(list(job.words))
        atexit._run_exitfuncs()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _redirect(log: Path) -> None:
    """Everything that is printed goes to ``log``, also from C, and nothing is read."""
    source = os.open(os.devnull, os.O_RDONLY)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for copied, original in ((source, 0), (target, 1), (target, 2)):
        os.dup2(copied, original)
    for descriptor in (source, target):
        os.close(descriptor)
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = os.fdopen(
            descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
        )
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
