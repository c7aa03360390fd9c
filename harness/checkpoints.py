"""Loading a trained module from a checkpoint, safely."""

import pickle
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import UserError

if TYPE_CHECKING:
    from lightning_modules.experiment import ExperimentModule


def load_checkpoint(module: "ExperimentModule", path: Path) -> None:
    """Puts the weights and the method's state of ``path`` into ``module``.

    Only plain data is read (``weights_only=True``): a checkpoint cannot run code.

    Args:
        module: built from the configuration of the run.
        path: a ``best.ckpt`` or ``last.ckpt`` of the same method and the same network settings.

    Raises:
        UserError: if the file is missing, broken, not plain data, of another network or an unfinished run.
    """
    checkpoint = read_checkpoint(path)
    try:
        module.on_load_checkpoint(checkpoint)
        module.load_state_dict(checkpoint["state_dict"])
    except (RuntimeError, LookupError, ValueError, TypeError, AttributeError) as error:
        reason = str(error).strip().splitlines()
        missing = f"it has no {error}" if isinstance(error, KeyError) else ""
        raise UserError(
            f"ckpt={path} does not fit the configured model:"
            f" {missing or (reason[-1].strip() if reason else error)}."
            " Give the model, data and settings that it was trained with (config.yaml of its run folder)."
        ) from error
    done, phases = module.phase_index + 1, len(module.phases)
    if done != phases:
        raise UserError(
            f"ckpt={path} is of an unfinished run: phase {done} of {phases} was its last."
            " Give a checkpoint of a run that came to its end."
        )


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint file, plain data only.

    Raises:
        UserError: if the file is missing, truncated, no checkpoint, or holds more than plain data.
    """
    import torch

    if not path.is_file():
        raise UserError(
            f"ckpt={path}: there is no such file."
            " Give the path of a best.ckpt, as in runs/*/*/checkpoints/best.ckpt."
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader lets anything out, from IndexError to struct.error
        blocked = re.search(r"GLOBAL ([\w.]+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and blocked:
            raise UserError(
                f"ckpt={path} was not loaded: it holds more than plain data ({blocked[1]}), which could"
                " run code. There is no unsafe fallback; save its state_dict alone where you trust it."
            ) from error
        reason = (str(error).splitlines() or [""])[0].rstrip(".")
        raise UserError(
            f"ckpt={path} is damaged or no checkpoint ({type(error).__name__}{': ' * bool(reason)}{reason})."
            " Give the path of a best.ckpt that a run has written."
        ) from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise UserError(f"ckpt={path} is no checkpoint of this project: it has no state_dict.")
    return checkpoint
