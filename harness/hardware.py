"""Where and how precisely a run computes."""

import os
from typing import Any

from harness.errors import UserError


def apply_threads(threads: int) -> None:
    """Lets torch use ``threads`` CPU threads in this process."""
    import torch

    torch.set_num_threads(threads)


def check_available(hardware: dict[str, Any]) -> None:
    """Refuses a ``hardware`` that this machine does not have, before any work is done.

    Args:
        hardware: the checked ``hardware`` node of the configuration.

    Raises:
        UserError: if the accelerator, the number of devices or the precision is not to be had here.
    """
    import torch

    launched = any(name in os.environ for name in ("TORCHELASTIC_RUN_ID", "SLURM_NTASKS", "WORLD_SIZE"))
    if hardware["num_nodes"] > 1 and not launched:
        raise UserError(
            f"hardware.num_nodes={hardware['num_nodes']}, but no launcher has started this process, so it"
            " would wait for the others for ever. Start it on every machine with torchrun or srun."
        )
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
                f"hardware.devices={devices}, but this machine has {gpus} GPU(s). Use hardware.devices=auto."
            )
    on_gpu = accelerator in ("gpu", "auto") and gpus > 0
    if precision == "16-mixed" and not on_gpu:
        raise UserError(
            "hardware.precision=16-mixed needs a GPU. Use hardware.precision=bf16-mixed on the CPU."
        )


def is_first_process() -> bool:
    """True in the process that writes files and prints: rank 0, or the only one."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0 and (
        int(os.environ.get("NODE_RANK", "0")) == 0
    )
