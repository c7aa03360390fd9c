"""A run that another run needs first, in a process of its own.

Seeds, process groups and what a library keeps in globals stay in that process.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from harness.configuration.static_modules import PROJECT_ROOT
from harness.parent_death import die_with

_RUN_FOLDER = "TENFOLD_RUN_FOLDER"  # read by harness/run_folder.py
# What says which of several processes this one is, or which run of a dashboard: the child is another.
_OF_THIS_PROCESS = frozenset(
    {
        "RANK",
        "WORLD_SIZE",
        "MASTER_ADDR",
        "MASTER_PORT",
        "SLURM_PROCID",
        "SLURM_STEP_NUM_TASKS",
        "WANDB_NAME",
        "WANDB_RESUME",
        "WANDB_RUN_ID",
        "WANDB_SWEEP_ID",
    }
)
_PREFIXES = ("LOCAL_", "NODE_", "GROUP_", "ROLE_", "TORCHELASTIC_", "PL_", "TENFOLD_")
_OF_THE_USER = frozenset({"TENFOLD_DATA", "TENFOLD_CACHE"})

_MISTAKE = "error: "
_ENDINGS = (_MISTAKE, "crashed: ", "stopped by ")  # of run.py's last line where a run has failed


def run_child(words: Sequence[str], folder: Path, name: str) -> tuple[int, str]:
    """Runs ``python run.py <words>`` and passes on what it prints, on stderr and with ``name`` in front.

    What stops this process, the keyboard or SIGTERM, is passed on too; the exception goes on once the child
    has saved its state and ended. A second one ends the child at once. If this process is killed, the child
    gets SIGTERM on Linux; elsewhere it goes on until it prints the next time.

    Args:
        words: the command line of the run.
        folder: the run folder that it shall use, unless it goes on in another one.
        name: what stands before each line.

    Returns:
        The child's exit status, negative if a signal killed it, and the last line in which it says why it
        failed. With status 2, a mistake of the user's, this line is not printed: it is the caller's to tell.
    """
    parent = os.getpid()
    process = subprocess.Popen(
        [sys.executable, str(PROJECT_ROOT / "run.py"), *words],
        env=own_environment() | {_RUN_FOLDER: str(folder.absolute())},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        process_group=0,  # the keyboard reaches this process alone, which passes it on once
        preexec_fn=lambda: die_with(parent),
    )
    try:
        why, held = _pass_on(process, name)
        status = process.wait()
        if status != 2:
            _print(name, held)
        return status, why
    except BaseException as stopped:
        if process.poll() is None:
            _stop(process, name, stopped)
        raise
    finally:
        assert process.stdout is not None
        process.stdout.close()


def own_environment() -> dict[str, str]:
    """This process's environment without what would tie a child to another run, process or launcher."""
    return {
        key: value
        for key, value in os.environ.items()
        if key in _OF_THE_USER or not (key in _OF_THIS_PROCESS or key.startswith(_PREFIXES))
    }


def _pass_on(process: subprocess.Popen[str], name: str) -> tuple[str, list[str]]:
    """Prints the lines of ``process`` until there are no more.

    Returns:
        The last line that names a failure, and what has not been printed: the last line of all if it names a
        mistake, else nothing.
    """
    assert process.stdout is not None
    why, held = "", list[str]()
    for line in process.stdout:
        _print(name, held)
        if line.startswith(_ENDINGS):
            why = line.strip()
        held = [line] if line.startswith(_MISTAKE) else []
        if not held:
            _print(name, [line])
    return why, held


def _print(name: str, lines: Sequence[str]) -> None:
    for line in lines:
        print(f"{name} | {line.rstrip()}", file=sys.stderr, flush=True)


def _stop(process: subprocess.Popen[str], name: str, why: BaseException) -> None:
    try:
        if isinstance(why, KeyboardInterrupt):
            os.killpg(process.pid, signal.SIGINT)  # as a terminal would, all processes of the child
        else:
            process.terminate()
        _print(name, _pass_on(process, name)[1])
        process.wait()
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
