"""Jobs given to a cluster: what SLURM is told, what its answers mean, and what survives the sweep's death.

Of SLURM there are only the commands that the launcher uses, as scripts of a few lines that run on this
machine what they are given. The jobs are real commands that end at once, because of a mistake in them.
"""

import os
import signal
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.configuration.compose import compose
from harness.errors import UserError
from harness.sweeps import slurm
from harness.sweeps.cluster_job import PROCESS
from harness.sweeps.job import Job, Outcome, job_folder
from harness.sweeps.settings import check_sweep
from harness.sweeps.slurm import SlurmLauncher, queued_jobs

pytest.importorskip("submitit", reason="submitit is not installed")

SBATCH = """#!{python}
import os, re, subprocess, sys
from pathlib import Path
here = Path({folder!r})
text = Path(sys.argv[1]).read_text()
number = 7 + len(list(here.glob("batch_*")))
(here / f"batch_{{number}}").write_text(text)
array = re.search(r"--array=0-(\\d+)", text)
tasks = range(int(array[1]) + 1) if array else [None]
clean = {{key: value for key, value in os.environ.items() if not key.startswith("SLURM")}}
for task in tasks:
    environment = {{**clean, "SLURM_JOB_ID": str(number), "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}}
    if task is not None:
        environment |= {{"SLURM_ARRAY_JOB_ID": str(number), "SLURM_ARRAY_TASK_ID": str(task)}}
    if not (here / "busy").exists():
        with open(here / "output", "ab") as log:
            subprocess.Popen(["bash", sys.argv[1]], env=environment, stdout=log, stderr=log)
print(f"Submitted batch job {{number}}")
"""

# srun --unbuffered --output X --cpus-per-task=1 <command>
SRUN = """#!/bin/bash
shift 4
exec "$@"
"""

SQUEUE = """#!/bin/bash
cat {folder}/queue
"""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a small cluster: ``queue`` holds its jobs' ids; while ``busy`` is there, none begins."""
    folder = tmp_path / "cluster"
    folder.mkdir()
    (folder / "queue").touch()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("squeue", SQUEUE), ("scancel", "#!/bin/bash\n")):
        path = folder / name
        path.write_text(text.format(folder=str(folder), python=sys.executable) if name != "srun" else text)
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def node(*words: str) -> dict[str, Any]:
    checked = compose(["sweep=slurm", *words]).sweep
    check_sweep(checked)
    return checked


def wrong_job(sweep: Path, index: int) -> Job:
    return Job(index, (f"model=gat{index}",), {}, job_folder(sweep, index))


def outcomes(launcher: SlurmLauncher, number: int) -> Iterator[Outcome]:
    until = time.monotonic() + 120
    while number:
        outcome = launcher.wait(1.0)
        assert time.monotonic() < until
        if outcome is not None:
            yield outcome
            number -= 1


def batches(cluster: Path) -> list[str]:
    return [path.read_text() for path in sorted(cluster.glob("batch_*"))]


def test_jobs_started_together_are_one_array_and_each_tells_how_it_ended(
    cluster: Path, tmp_path: Path
) -> None:
    sweep = tmp_path / "sweep"
    launcher = SlurmLauncher(node(), sweep)
    for index in (1, 2):
        launcher.start(wrong_job(sweep, index))
    ended = {outcome.job.index: outcome for outcome in outcomes(launcher, 2)}
    assert [ended[index].status for index in (1, 2)] == ["failed", "failed"]
    assert (ended[1].error or "").startswith("there is no model=gat1. Did you mean 'gat'?")
    assert (ended[2].error or "").startswith("there is no model=gat2.")
    assert len(batches(cluster)) == 1
    launcher.start(wrong_job(sweep, 3))
    assert next(outcomes(launcher, 1)).job.index == 3
    assert "--array" not in batches(cluster)[1]


def test_a_job_left_in_the_queue_by_a_killed_sweep_is_waited_for_and_not_submitted_again(
    cluster: Path, tmp_path: Path
) -> None:
    sweep = tmp_path / "sweep"
    (cluster / "busy").touch()
    killed = SlurmLauncher(node(), sweep)
    killed.start(wrong_job(sweep, 0))
    assert killed.wait(0.0) is None
    del killed
    (cluster / "queue").write_text("7\n")
    continued = SlurmLauncher(node(), sweep)
    continued.start(wrong_job(sweep, 0))
    assert continued.wait(0.0) is None
    # now it begins
    os.system(f"SLURM_JOB_ID=7 SLURM_PROCID=0 bash {sweep}/slurm/7_submission.sh > /dev/null 2>&1")  # noqa: S605
    assert next(outcomes(continued, 1)).status == "failed"
    assert len(batches(cluster)) == 1


def test_a_job_that_slurm_no_longer_knows_was_stopped_from_outside(
    cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "_ASK_EVERY", 0.0)
    monkeypatch.setattr(slurm, "_GONE_AFTER", 0.5)
    (cluster / "busy").touch()
    (cluster / "queue").write_text("7\n")
    launcher = SlurmLauncher(node(), tmp_path / "sweep")
    launcher.start(wrong_job(tmp_path / "sweep", 0))
    assert launcher.wait(1.0) is None
    (cluster / "queue").write_text("")
    ended = next(outcomes(launcher, 1))
    assert (ended.status, ended.run_folder) == ("stopped", None)
    assert "killed by SIGKILL" in (ended.error or "")


def test_a_cluster_that_does_not_answer_is_not_taken_for_an_empty_one(cluster: Path) -> None:
    assert queued_jobs() == set()
    (cluster / "queue").write_text("12\n13_0\n")
    assert queued_jobs() == {"12", "13_0"}
    (cluster / "squeue").write_text("#!/bin/bash\nexit 1\n")
    assert queued_jobs() is None


def test_a_refused_job_is_the_users_mistake_in_slurms_words(cluster: Path, tmp_path: Path) -> None:
    (cluster / "sbatch").write_text("#!/bin/bash\necho 'invalid partition specified: gpu' >&2; exit 1\n")
    launcher = SlurmLauncher(node("sweep.slurm.partition=gpu"), tmp_path / "sweep")
    launcher.start(wrong_job(tmp_path / "sweep", 0))
    with pytest.raises(UserError, match="invalid partition specified: gpu"):
        launcher.wait(0.0)


def test_a_job_refused_while_others_run_is_submitted_when_one_has_ended(
    cluster: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (cluster / "busy").touch()
    launcher = SlurmLauncher(node(), tmp_path / "sweep")
    launcher.start(wrong_job(tmp_path / "sweep", 0))
    assert launcher.wait(0.0) is None
    working = (cluster / "sbatch").read_text()
    (cluster / "sbatch").write_text("#!/bin/bash\necho 'QOSMaxSubmitJobPerUserLimit' >&2; exit 1\n")
    launcher.start(wrong_job(tmp_path / "sweep", 1))
    for _ in range(2):
        assert launcher.wait(0.0) is None
    assert capsys.readouterr().err.count("QOSMaxSubmitJobPerUserLimit; trying again") == 1
    (cluster / "sbatch").write_text(working)
    assert launcher.wait(0.0) is None
    assert len(batches(cluster)) == 1  # not at once
    (cluster / "busy").unlink()
    script = tmp_path / "sweep" / "slurm" / "7_submission.sh"
    os.system(f"SLURM_JOB_ID=7 SLURM_PROCID=0 bash {script} > /dev/null 2>&1")  # noqa: S605
    assert [outcome.job.index for outcome in outcomes(launcher, 2)] == [0, 1]
    assert len(batches(cluster)) == 2


def test_a_job_that_may_still_run_is_not_submitted_again_while_slurm_is_silent(
    cluster: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slurm, "_ASK_AGAIN_AFTER", 0.0)
    (cluster / "busy").touch()
    killed = SlurmLauncher(node(), tmp_path / "sweep")
    killed.start(wrong_job(tmp_path / "sweep", 0))
    assert killed.wait(0.0) is None
    (cluster / "squeue").write_text("#!/bin/bash\nexit 1\n")
    continued = SlurmLauncher(node(), tmp_path / "sweep")
    with pytest.raises(UserError, match="squeue does not answer, so job 7"):
        continued.start(wrong_job(tmp_path / "sweep", 0))
    # once it answers, the job is found
    (cluster / "squeue").write_text(
        f"#!/bin/bash\n[ -e {cluster}/asked ] && echo 7 && exit\ntouch {cluster}/asked; exit 1\n"
    )
    continued.start(wrong_job(tmp_path / "sweep", 0))
    assert continued.wait(0.0) is None
    assert len(batches(cluster)) == 1


def test_the_words_of_the_jobs_are_for_the_user_alone(cluster: Path, tmp_path: Path) -> None:
    SlurmLauncher(node(), tmp_path / "sweep")
    assert stat.S_IMODE((tmp_path / "sweep" / "slurm").stat().st_mode) == 0o700


def test_every_key_reaches_sbatch(cluster: Path, tmp_path: Path) -> None:
    (cluster / "busy").touch()
    words = [
        "sweep.slurm.partition=gpu",
        "sweep.slurm.account=lab",
        "sweep.slurm.timeout_min=90",
        "sweep.slurm.save_seconds=60",
        "sweep.slurm.cpus_per_task=4",
        "sweep.slurm.gpus_per_node=2",
        "sweep.slurm.mem_gb=1.5",
        "sweep.slurm.setup=['module load cuda']",
        "+sweep.slurm.options.qos=long",
        "+sweep.slurm.options.exclusive=true",
    ]
    launcher = SlurmLauncher(node(*words), tmp_path / "sweep")
    launcher.start(wrong_job(tmp_path / "sweep", 0))
    launcher.wait(0.0)
    lines = batches(cluster)[0].splitlines()
    assert {
        "#SBATCH --partition=gpu",
        "#SBATCH --account=lab",
        "#SBATCH --time=90",
        "#SBATCH --signal=USR2@60",
        "#SBATCH --cpus-per-task=4",
        "#SBATCH --gpus-per-node=2",
        "#SBATCH --mem=1536M",
        "#SBATCH --nodes=1",
        "#SBATCH --qos=long",
        "#SBATCH --exclusive",
        "#SBATCH --job-name=tenfold-sweep",
        "module load cuda",
    } <= set(lines)
    assert any(line.startswith("srun") and "--cpus-per-task=4" in line for line in lines)


def test_no_gpu_is_asked_for_where_none_is_wanted(cluster: Path, tmp_path: Path) -> None:
    (cluster / "busy").touch()
    launcher = SlurmLauncher(node(), tmp_path / "sweep")
    launcher.start(wrong_job(tmp_path / "sweep", 0))
    launcher.wait(0.0)
    assert "--gpus" not in batches(cluster)[0]


def test_without_slurm_the_way_out_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"no srun in PATH.*sweep.slurm.cluster=local"):
        SlurmLauncher(node(), tmp_path / "sweep")


def test_without_submitit_the_command_that_installs_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UserError, match="pip install 'submitit"):
        SlurmLauncher(node(), tmp_path / "sweep")


def test_without_optuna_the_command_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.sweeps.study import require_optuna

    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UserError, match="pip install 'optuna"):
        require_optuna()


@pytest.mark.parametrize(
    ("word", "part"),
    [
        ("sweep.slurm.timeout_min=0", "sweep.slurm.timeout_min must be"),
        ("sweep.slurm.timeout_min=2", "leaves nothing of sweep.slurm.timeout_min=2"),
        ("sweep.slurm.cluster=pbs", "one of slurm, local"),
        ("sweep.slurm.setup=module", "sweep.slurm.setup must be"),
        ("+sweep.slurm.qos=long", "unknown key 'sweep.slurm.qos'"),
        ("sweep.workers=0", "sweep.workers must be"),
    ],
)
def test_a_wrong_value_is_refused(word: str, part: str) -> None:
    with pytest.raises(UserError, match=part):
        node(word)


def test_the_files_of_the_group_agree_on_the_keys_they_share() -> None:
    search, jobs = compose(["sweep=optuna"]).sweep, compose(["sweep=slurm"]).sweep
    assert search["slurm"] == jobs["slurm"]
    grid = compose(["sweep=grid"]).sweep
    assert grid.keys() == jobs.keys() - {"slurm"} == search.keys() - {"slurm", "search"}


def test_local_jobs_run_under_the_same_rules_and_can_be_stopped(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep"
    launcher = SlurmLauncher(node("sweep.slurm.cluster=local"), sweep)
    launcher.start(wrong_job(sweep, 0))
    assert next(outcomes(launcher, 1)).status == "failed"
    launcher.start(wrong_job(sweep, 1))
    assert [outcome.status for outcome in launcher.stop()] == ["stopped"]  # not yet submitted


def test_a_signal_reaches_a_local_job_only_where_it_has_a_process(tmp_path: Path) -> None:
    job = wrong_job(tmp_path, 0)
    job.folder.mkdir(parents=True)
    assert not slurm._send(job, signal.SIGTERM)
    (job.folder / PROCESS).write_text("")
    assert not slurm._send(job, signal.SIGTERM)
