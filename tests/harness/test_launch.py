"""A process knows who started it, and all processes of a launcher agree on one text."""

import multiprocessing
import os
import socket
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import torch.distributed
from lightning_fabric.plugins.environments import LightningEnvironment, SLURMEnvironment

from harness.errors import UserError
from harness.launch import Launch, cluster_environment, from_first_process, is_first_process, launched
from harness.run_folder import create_run_folder
from tests.processes import forked

# What torchrun sets for the second of its two processes.
TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none",
    "RANK": "1",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "2",
    "GROUP_RANK": "0",
}
# What srun sets for the third of four tasks on two machines.
SRUN = {
    "SLURM_JOB_ID": "1234",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_NTASKS": "4",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NNODES": "2",
    "SLURM_PROCID": "2",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "1",
    "SLURM_NODELIST": "node[1-2]",
    "SLURM_JOB_NAME": "train.sh",
}
# What sbatch sets in its script: room for four tasks, of which none has been started.
BATCH_SCRIPT = {
    "SLURM_JOB_ID": "1234",
    "SLURM_NTASKS": "4",
    "SLURM_PROCID": "0",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_JOB_NAME": "train.sh",
}
# The shell of `srun --ntasks 4 --pty bash`.
SHELL = SRUN | {"SLURM_PROCID": "0", "SLURM_NODEID": "0", "SLURM_JOB_NAME": "bash", "SLURM_PTY_PORT": "40000"}


@pytest.fixture(autouse=True)
def nothing_launched(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("SLURM_", "TORCHELASTIC_", "MASTER_", "TENFOLD_RUN_FOLDER")) or name.endswith(
            "RANK"
        ):
            monkeypatch.delenv(name)
    monkeypatch.delenv("WORLD_SIZE", raising=False)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, None),
        (TORCHRUN, Launch("torchrun", 1, 2)),
        (SRUN, Launch("srun", 2, 4)),
        (SRUN | TORCHRUN, Launch("torchrun", 1, 2)),
        (SRUN | {"SLURM_JOB_NAME": "interactive"}, None),
        (SRUN | {"SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, None),
        (BATCH_SCRIPT, None),
        (SHELL, None),
        ({"LOCAL_RANK": "1"}, None),
    ],
)
def test_the_launcher_is_known_by_its_variables(
    environment: dict[str, str], expected: Launch | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert launched() == expected


def test_a_task_that_srun_started_from_an_interactive_shell_is_one_of_several(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (SHELL | {"SLURM_PROCID": "3", "SLURM_TASK_PID": str(os.getpid())}).items():
        monkeypatch.setenv(name, value)
    assert launched() == Launch("srun", 3, 4)


@pytest.mark.parametrize(
    ("environment", "first"),
    [
        ({}, True),
        ({"LOCAL_RANK": "0"}, True),
        ({"LOCAL_RANK": "1"}, False),
        ({"RANK": "2", "LOCAL_RANK": "0"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"RANK": "0", "LOCAL_RANK": "0", "NODE_RANK": "0"}, True),
        (TORCHRUN, False),
        (TORCHRUN | {"RANK": "0", "LOCAL_RANK": "0"}, True),
        (SRUN, False),
        (SRUN | {"SLURM_PROCID": "0", "SLURM_NODEID": "0"}, True),
        (BATCH_SCRIPT, True),
        # a process that Lightning starts from a batch script
        (BATCH_SCRIPT | {"LOCAL_RANK": "1", "NODE_RANK": "0"}, False),
    ],
)
def test_one_process_of_all_writes_and_prints(
    environment: dict[str, str], first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() is first


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, type(None)),
        (TORCHRUN, type(None)),
        (SRUN, SLURMEnvironment),
        (BATCH_SCRIPT, LightningEnvironment),
        (SHELL, LightningEnvironment),
    ],
)
def test_a_plain_command_inside_a_slurm_job_is_no_task_of_it(
    environment: dict[str, str], expected: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = cluster_environment()
    assert type(found) is expected
    if isinstance(found, SLURMEnvironment):
        assert not found.auto_requeue
        assert (found.global_rank(), found.node_rank(), found.world_size()) == (2, 1, 4)


def test_without_a_launcher_a_process_asks_itself() -> None:
    assert from_first_process(lambda: "mine") == "mine"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(params=["torchrun", "srun"])
def become(request: pytest.FixtureRequest) -> Callable[[int], None]:
    """A function that makes the process it is called in one of two that the launcher started."""
    if not (hasattr(os, "fork") and torch.distributed.is_available()):
        pytest.skip("needs fork and torch.distributed")
    port = free_port()
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if request.param == "srun":
        two = SRUN | {"SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "2", "SLURM_NNODES": "1"}
        two["SLURM_NODEID"] = "0"
        return lambda rank: os.environ.update(
            two | address | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)}
        )
    # torchrun's agent serves the store; here this process does, as long as the function lives
    agent = torch.distributed.TCPStore("127.0.0.1", port, is_master=True, wait_for_workers=False)

    def by_torchrun(rank: int, agent: object = agent) -> None:
        own = {"RANK": str(rank), "LOCAL_RANK": str(rank), "TORCHELASTIC_USE_AGENT_STORE": "True"}
        os.environ.update(TORCHRUN | address | own)

    return by_torchrun


def test_all_processes_of_a_launcher_get_the_folder_of_the_first(
    tmp_path: Path, become: Callable[[int], None]
) -> None:
    heard = multiprocessing.get_context("fork").Event()

    def work(rank: int) -> None:
        become(rank)
        for attempt in range(2):  # the second answer is not taken for the first
            os.environ.pop("TENFOLD_RUN_FOLDER", None)
            folder = create_run_folder(tmp_path / "runs", "gat_cora")
            (tmp_path / f"rank_{rank}_{attempt}").write_text(str(folder))
        if rank == 0:  # which trains now, and serves the others meanwhile
            assert heard.wait(60)
        else:
            heard.set()

    assert forked([partial(work, rank) for rank in (1, 0)], 60) == [0, 0]
    told = {path.name: path.read_text() for path in tmp_path.glob("rank_*")}
    assert told["rank_0_0"] == told["rank_1_0"]
    assert told["rank_0_1"] == told["rank_1_1"] != told["rank_0_0"]
    assert sorted(map(str, (tmp_path / "runs" / "gat_cora").iterdir())) == sorted(set(told.values()))


def test_the_mistake_of_the_first_process_ends_all(tmp_path: Path, become: Callable[[int], None]) -> None:
    def fail() -> str:
        raise UserError("no folder can be made there")

    def work(rank: int) -> None:
        become(rank)
        with pytest.raises(UserError, match="no folder can be made there"):
            from_first_process(fail if rank == 0 else lambda: "never called")

    assert forked([partial(work, rank) for rank in (0, 1)], 60) == [0, 0]


def test_the_meeting_of_torch_comes_after_and_at_the_same_address(
    tmp_path: Path, become: Callable[[int], None]
) -> None:
    """What Lightning does once the Trainer starts, with the store of the first question still open."""

    def work(rank: int) -> None:
        become(rank)
        assert from_first_process(lambda: "text") == "text"
        torch.distributed.init_process_group("gloo", rank=rank, world_size=2, timeout=timedelta(seconds=30))
        total = torch.ones(1)
        torch.distributed.all_reduce(total)
        assert total.item() == 2
        torch.distributed.destroy_process_group()

    if not torch.distributed.is_gloo_available():
        pytest.skip("needs gloo")
    assert forked([partial(work, rank) for rank in (0, 1)], 60) == [0, 0]
