"""Who has started this process, and which of how many it is."""

import contextlib
import functools
import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from harness.errors import UserError

if TYPE_CHECKING:
    from lightning_fabric.plugins import ClusterEnvironment

_WAIT = timedelta(minutes=30)  # for the other processes; the first may be fetching data
_LAST_WORDS = timedelta(seconds=10)  # for the others to hear of a mistake
_calls = itertools.count()  # of `from_first_process`, so that no answer is taken for another


@dataclass(frozen=True)
class Launch:
    """A launcher that started every process of the run.

    Attributes:
        by: the launcher.
        rank: this process, from 0.
        world_size: all processes on all machines.
    """

    by: Literal["torchrun", "srun"]
    rank: int
    world_size: int


def launched() -> Launch | None:
    """The launcher that started this process; None for a plain ``python run.py`` and for what that starts."""
    environment = os.environ
    if "TORCHELASTIC_RUN_ID" in environment:  # first, as torchrun may itself run under srun
        return Launch("torchrun", int(environment["RANK"]), int(environment["WORLD_SIZE"]))
    if _by_srun():
        rank, world_size = environment["SLURM_PROCID"], environment["SLURM_STEP_NUM_TASKS"]
        return Launch("srun", int(rank), int(world_size))
    return None


def _by_srun() -> bool:
    """Whether srun started this process as one of several.

    SLURM gives batch scripts and the shells of ``srun --pty bash`` nearly the same variables. A command that
    is typed or written there is one process, whatever number of tasks the allocation has room for.
    """
    environment = os.environ
    if int(environment.get("SLURM_STEP_NUM_TASKS", "1")) < 2 or "SLURM_PROCID" not in environment:
        return False
    if environment.get("SLURM_TASK_PID") == str(os.getpid()):
        return True
    # a script between srun and this process, or a shell
    shell = environment.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return not shell and "SLURM_PTY_PORT" not in environment


def is_first_process() -> bool:
    """True in the process that writes files and prints: rank 0, or the only one."""
    launch = launched()
    if launch is not None:
        return launch.rank == 0
    # processes that Lightning or the user has started
    rank = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))
    return int(rank) == 0 and int(os.environ.get("NODE_RANK", "0")) == 0


def cluster_environment() -> "ClusterEnvironment | None":
    """What tells Lightning which process this is; None leaves it to Lightning.

    Lightning takes every process inside a SLURM job for one of ``--ntasks``, so that a plain command in a
    batch script would fail or wait for others that nobody has started. It would also put the job into the
    queue again by itself, from a checkpoint of its own.
    """
    from lightning_fabric.plugins.environments import LightningEnvironment, SLURMEnvironment

    launch = launched()
    if launch is not None:
        return SLURMEnvironment(auto_requeue=False) if launch.by == "srun" else None
    return LightningEnvironment() if "SLURM_JOB_ID" in os.environ else None


def from_first_process(make: Callable[[], str], wait: timedelta = _WAIT) -> str:
    """The text that ``make`` gives in the first process, in all processes that a launcher has started.

    Every process must call it, in the same order. Without a launcher it is ``make()``.

    Args:
        make: called in the first process.
        wait: for how long the others wait for it.

    Raises:
        UserError: in every process, if ``make`` raises it in the first; in the others if the first has ended,
            or says nothing for so long.
    """
    launch = launched()
    if launch is None or launch.world_size == 1:
        return make()
    # a worker that torchrun starts again must not read what its predecessor was told
    key = f"tenfold/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}/{next(_calls)}"
    store = _store(launch)
    if launch.rank == 0:
        try:
            text = make()
        except UserError as error:
            store.set(key, f"!{error}")
            with contextlib.suppress(RuntimeError):  # the store may end with this process
                store.wait([f"{key}/{rank}" for rank in range(1, launch.world_size)], _LAST_WORDS)
            raise
        store.set(key, f"={text}")
        return text
    try:
        store.wait([key], wait)
        answer: str = store.get(key).decode()
        store.set(f"{key}/{launch.rank}", "heard")
    except RuntimeError as error:
        raise UserError(
            f"rank {launch.rank} of {launch.world_size}, started by {launch.by}, cannot hear rank 0"
            f" ({str(error).splitlines()[0].rstrip('.')}). See what rank 0 printed, if it was started."
        ) from error
    if answer.startswith("!"):
        raise UserError(answer[1:])
    return answer[1:]


@functools.cache  # and so kept: without torchrun, the first process serves it as long as it lives
def _store(launch: Launch) -> Any:
    """The key-value store by which torch's processes find each other."""
    from torch.distributed import rendezvous

    url = "env://"
    if launch.by == "srun":
        environment = cluster_environment()
        assert environment is not None
        url = f"tcp://{environment.main_address}:{environment.main_port}"
    return next(rendezvous(url, launch.rank, launch.world_size, timeout=_WAIT))[0]
