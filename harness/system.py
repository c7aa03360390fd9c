"""What a run ran on: machine, versions of libraries, state of the source, memory used.

Nothing here imports torch; where a run has imported it already, its view of the GPUs is added.
"""

import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path

_DISTRIBUTIONS = (
    "tenfold",
    "torch",
    "torchvision",
    "torch-geometric",
    "pytorch-lightning",
    "torchmetrics",
    "hydra-core",
    "omegaconf",
    "wandb",
    "pydantic",
    "numpy",
    "scipy",
    "scikit-learn",
    "numba",
)
_MEGABYTE = 10**6
_GIT_SECONDS = 10
_earlier_gpu_peaks: list[int] = []  # of the time before torch's own count was begun anew


def hardware_summary() -> dict[str, str | int | float | list[str]]:
    """The machine as this process may use it.

    Returns:
        ``cpu`` (model name), ``cores`` (those this process may run on), ``ram_gb`` (10^9 bytes, of the whole
        machine; 0 where the system does not say), ``gpus`` (names; empty before torch is imported or without
        CUDA) and ``platform``.
    """
    return {
        "cpu": _cpu_model(),
        "cores": usable_cores(),
        "ram_gb": round(_physical_memory() / 10**9, 1),
        "gpus": _gpu_names(),
        "platform": platform.platform(),
    }


def versions() -> dict[str, str]:
    """Version of Python and of each library that can move a result, by distribution name.

    Read from the installed metadata, so nothing is imported. One that is not installed is left out.
    """
    found = {"python": platform.python_version()}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def git_state(root: Path) -> dict[str, str | bool | None]:
    """Which source ran, as far as git knows.

    Args:
        root: top folder of the source. Where it is not itself a checkout, as in an installed wheel, a
            repository that happens to lie around it is not asked.

    Returns:
        ``commit`` (full hash; None before the first commit), ``branch`` (None when detached) and ``dirty``
        (True when files differ from the commit or are untracked). All None without a checkout or git.
    """
    unknown: dict[str, str | bool | None] = {"commit": None, "branch": None, "dirty": None}
    if not (root / ".git").exists():
        return unknown
    try:
        answer = subprocess.run(
            ["git", "-C", str(root), "status", "--porcelain=v2", "--branch"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=True,
            encoding="utf-8",
            errors="replace",
            timeout=_GIT_SECONDS,
            env=_git_environment(),
        )
    except (OSError, subprocess.SubprocessError):
        return unknown
    lines = answer.stdout.splitlines()
    headers = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# "))
    commit, branch = headers.get("branch.oid"), headers.get("branch.head")
    return {
        "commit": None if commit == "(initial)" else commit,
        "branch": None if branch == "(detached)" else branch,
        "dirty": any(not line.startswith("# ") for line in lines),
    }


def peak_memory_mb() -> float:
    """Largest resident memory of this process so far, in 10^6 bytes; child processes are not counted."""
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        import resource  # not on every platform

        # Bytes on macOS. Not used on Linux, where a child would begin with its parent's peak.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MEGABYTE
    kibibytes = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))
    return kibibytes * 1024 / _MEGABYTE


def peak_gpu_memory_mb() -> float | None:
    """Largest memory torch has held on any one GPU, in 10^6 bytes; None where CUDA was not used."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return None
    now = [torch.cuda.max_memory_allocated(i) for i in range(torch.cuda.device_count())]
    return max([*now, *_earlier_gpu_peaks]) / _MEGABYTE


def restart_gpu_peak() -> None:
    """Lets torch's peaks begin anew, for one part of a run to be measured; that of the run is kept."""
    torch = sys.modules["torch"]
    for device in range(torch.cuda.device_count()):
        _earlier_gpu_peaks.append(torch.cuda.max_memory_allocated(device))
        torch.cuda.reset_peak_memory_stats(device)


def _git_environment() -> dict[str, str]:
    """Without what a hook sets to point at its own repository; and asking must not write to the index."""
    elsewhere = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"}
    return {k: v for k, v in os.environ.items() if k not in elsewhere} | {"GIT_OPTIONAL_LOCKS": "0"}


def _cpu_model() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0


def _gpu_names() -> list[str]:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
