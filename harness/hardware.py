"""Where and how precisely a run computes."""

import logging
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.launch import launched
from harness.library_errors import library_mistake
from harness.system import usable_cores
from harness.words import counted

if TYPE_CHECKING:
    from torch import nn

    from lightning_modules.experiment import ExperimentModule

log = logging.getLogger("tenfold")

OWN_KEYS = ("threads", "compile", "channels_last")
"""Keys of ``hardware`` that the harness sees to; the others are arguments of Lightning's Trainer."""


def apply_threads(threads: int) -> None:
    """Lets torch use ``threads`` CPU threads in this process."""
    import torch

    torch.set_num_threads(threads)


def check_available(hardware: dict[str, Any]) -> None:
    """Refuses a ``hardware`` that this machine does not have, before any work is done.

    Args:
        hardware: the checked ``hardware`` node of the configuration.

    Raises:
        UserError: if the accelerator, the number of devices or the precision is not to be had here, or what
            a launcher has started is not what the configuration asks for.
    """
    import torch

    _check_processes(hardware)
    accelerator, devices, precision = hardware["accelerator"], hardware["devices"], hardware["precision"]
    gpus = torch.cuda.device_count()
    if accelerator == "gpu" and gpus == 0:
        raise UserError(
            "hardware.accelerator=gpu, but torch sees no GPU on this machine."
            " Use hardware=cpu or hardware=auto, or install a CUDA driver and a CUDA build of torch."
        )
    if accelerator == "mps" and not torch.backends.mps.is_available():
        raise UserError(
            "hardware.accelerator=mps, but this is no Apple GPU. Use hardware=cpu or hardware=auto."
        )
    if accelerator == "gpu":
        wanted = (
            gpus
            if devices == "auto"
            else max(devices, default=0) + 1
            if isinstance(devices, list)
            else devices
        )
        if wanted > gpus:
            raise UserError(
                f"hardware.devices={devices}, but this machine has {counted(gpus, 'GPU')}."
                " Use hardware.devices=auto."
            )
    on_gpu = accelerator in ("gpu", "auto") and gpus > 0
    if precision == "16-mixed" and not on_gpu:
        raise UserError(
            "hardware.precision=16-mixed needs a GPU. Use hardware.precision=bf16-mixed on the CPU."
        )
    if hardware["sync_batchnorm"] and not on_gpu:
        raise UserError(
            "hardware.sync_batchnorm=true needs GPUs: torch synchronises batch normalisation nowhere else."
            " Use hardware.sync_batchnorm=false."
        )
    if hardware["compile"]:
        _check_compiler()


def _check_processes(hardware: dict[str, Any]) -> None:
    """Refuses a number of processes that a launcher has not started, or has started in vain."""
    devices, nodes, launch = hardware["devices"], hardware["num_nodes"], launched()
    if launch is None:
        if nodes > 1 and "WORLD_SIZE" not in os.environ:
            raise UserError(
                f"hardware.num_nodes={nodes}, but no launcher has started this process, so it would wait for"
                " the others for ever. Start it on every machine with torchrun or srun"
                " (docs/scaling_out.md)."
            )
        return
    here = len(devices) if isinstance(devices, list) else devices
    if isinstance(here, int) and here * nodes != launch.world_size:
        raise UserError(
            f"hardware.devices={devices} and hardware.num_nodes={nodes} make {here * nodes} process(es), but"
            f" {launch.by} has started {launch.world_size}. Give both the same number, or start it without"
            f" {launch.by}."
        )
    if launch.by == "srun" and "SLURM_NTASKS_PER_NODE" not in os.environ:
        raise UserError(
            f"srun has started {launch.world_size} tasks without saying how many on each machine. Give sbatch"
            " --ntasks-per-node in place of --ntasks (docs/scaling_out.md)."
        )


def _check_compiler() -> None:
    # torch would look for it in the first training step, and fail with a page of its own frames
    names = [os.environ["CXX"]] if "CXX" in os.environ else ["clang++" if sys.platform == "darwin" else "g++"]
    if not any(shutil.which(name.split()[0]) for name in names if name):
        raise UserError(
            f"hardware.compile=true needs a C++ compiler, and there is no {names[0]!r} on the PATH."
            " Install one, name another in the environment variable CXX, or use hardware.compile=false."
        )


def doubts(hardware: dict[str, Any]) -> list[str]:
    """What in a ``hardware`` that works is probably not meant, one line each."""
    threads, devices = hardware["threads"], hardware["devices"]
    processes = devices if hardware["accelerator"] == "cpu" and isinstance(devices, int) else 1
    cores = usable_cores()
    found = []
    if threads * processes > cores:
        times = f" in each of {processes} processes" if processes > 1 else ""
        found.append(
            f"hardware.threads={threads}{times} is more than the {counted(cores, 'core')} that this process"
            " may use; they will wait for each other"
        )
    return found


def prepare_module(module: "ExperimentModule", hardware: dict[str, Any]) -> None:
    """Applies what a ``hardware`` does to the networks themselves; names and values of weights stay.

    ``compile`` compiles the module's direct children in place: wrapping them, as ``torch.compile(network)``
    does, would rename every weight in a checkpoint. ``channels_last`` reorders 4-D weights in memory, and
    images where they enter a network. Call it once a module.
    """
    import torch

    for network in _networks(module):
        if hardware["channels_last"]:
            network.to(memory_format=torch.channels_last)
            # not in Lightning's on_after_batch_transfer: it warns of a module that overrides this
            network.register_forward_pre_hook(_reorder_images)
        if hardware["compile"]:
            network.compile()


def _reorder_images(network: "nn.Module", inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    import torch

    return tuple(
        value.contiguous(memory_format=torch.channels_last)
        if isinstance(value, torch.Tensor) and value.dim() == 4 and value.is_floating_point()
        else value
        for value in inputs
    )


def _networks(module: "ExperimentModule") -> list["nn.Module"]:
    """Children with weights: losses and metrics are too small to gain, and metrics keep state in Python."""
    return [child for child in module.children() if any(True for _ in child.parameters())]


@contextmanager
def told_plainly() -> Iterator[None]:
    """Turns torch's refusals that a configuration can mend into one line; ``run.log`` gets where they arose.

    Raises:
        UserError: in place of an operation without a reproducible implementation under
            ``trainer.deterministic=true``, GPU memory that is used up, and a network that cannot be compiled.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        mistake = _mistake(error)
        if mistake is None:
            raise
        log.info("%s", mistake, exc_info=True)
        raise UserError(mistake) from error


def _mistake(error: Exception) -> str | None:
    import torch

    text = str(error)
    refused = re.search(r"(\S+) does not have a deterministic implementation", text)
    if refused:
        return (
            f"trainer.deterministic=true, but {refused[1]} has no reproducible implementation on this device."
            " Use trainer.deterministic=warn to be told of such operations, or trainer.deterministic=false."
        )
    if "CUBLAS_WORKSPACE_CONFIG" in text:
        return (
            "trainer.deterministic=true needs the environment variable CUBLAS_WORKSPACE_CONFIG=:4096:8 here."
            " Set it before the command."
        )
    if isinstance(error, torch.OutOfMemoryError):
        return (
            f"the GPU's memory is used up: {text.splitlines()[0].rstrip('.')}. Halve data.batch_size and"
            " double trainer.accumulate_grad_batches, or use hardware.precision=bf16-mixed."
        )
    # errors inside the compiler keep their class; only the advice at their end tells them apart
    if type(error).__module__.startswith(("torch._dynamo", "torch._inductor")) or "TORCHDYNAMO_" in text:
        first = text.strip().splitlines()[0].rstrip(".") if text.strip() else "no reason given"
        return (
            f"hardware.compile=true, but torch cannot compile this network: {type(error).__name__}: {first}."
            " Use hardware.compile=false."
        )
    return library_mistake(error)
