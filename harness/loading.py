"""Trained models in Python: ``load`` gives the module of a checkpoint, ``load_run`` its data as well.

Both work from any folder and need neither a command line nor Hydra.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from harness.checkpoints import STAMP, find_checkpoint, read_checkpoint, restore
from harness.configuration.check import check_object
from harness.errors import UserError

if TYPE_CHECKING:
    import torch
    from pytorch_lightning import LightningDataModule

    from lightning_modules.experiment import ExperimentModule


def load(path: str | Path, map_location: "str | torch.device" = "cpu") -> "ExperimentModule":
    """The trained module of a checkpoint, ready to be called.

    The checkpoint names its class and the arguments of its constructor. The class must be a method of this
    project or of the libraries that a ``_target_`` may name, and only plain data is read, so that no
    checkpoint can run code.

    Args:
        path: a run folder, whose ``checkpoints/best.ckpt`` is read, or a checkpoint file.
        map_location: the device that weights go to, such as ``"cuda:0"``.

    Returns:
        The module in evaluation mode, with its weights and what the method keeps beside them. torch's global
        random state is left as it was.

    Raises:
        UserError: if there is no such file, or it is damaged, holds more than plain data, was not written by
            this version of the project, or is of an unfinished run.

    Example:
        >>> model = load("runs/gat_cora/2026-03-01_12-00-00_a1b2")  # doctest: +SKIP
    """
    import torch

    from harness.build import build
    from lightning_modules.experiment import ExperimentModule

    file = find_checkpoint(path, key="")
    checkpoint = read_checkpoint(file, key="")
    node = {**checkpoint["hyper_parameters"], "_target_": checkpoint[STAMP]["class"]}
    try:
        check_object("model", node)
        with torch.random.fork_rng(devices=[]):
            module = build(node, "model")
    except (UserError, RuntimeError, MemoryError) as error:  # RuntimeError: sizes that no memory holds
        raise UserError(f"{file}: no module can be built from its settings: {error}") from error
    if not isinstance(module, ExperimentModule):
        raise UserError(f"{file}: {type(module).__name__} is no method of this project.")
    restore(module, checkpoint, file, key="")
    return module.to(map_location).eval()


def load_run(
    folder: str | Path, map_location: "str | torch.device" = "cpu", data: str | Path | None = None
) -> "tuple[ExperimentModule, LightningDataModule]":
    """The trained module of a run, and the data it was trained on.

    Args:
        folder: the run folder.
        map_location: the device that weights go to, such as ``"cuda:0"``.
        data: folder of data sets, where it is no longer the one of the run (``paths.data``).

    Returns:
        The module as :func:`load` gives it, and the data module, fetched and set up; on the CPU.

    Raises:
        UserError: as :func:`load`, or if ``config.yaml`` cannot be read or the data cannot be had.
    """
    from harness.build import build

    folder = Path(folder).expanduser()
    node = _data_node(folder, data)
    module = load(folder, map_location)
    datamodule: LightningDataModule = build(node, "data")
    datamodule.prepare_data()
    datamodule.setup("fit")
    return module, datamodule


def _data_node(folder: Path, data: str | Path | None) -> dict[str, Any]:
    """The node ``data`` of a run's ``config.yaml``, with ``data`` in place of its folder of data sets."""
    try:
        config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        node, place = dict(config["data"]), config["paths"]["data"]
    except OSError as error:
        raise UserError(f"{folder} is no run folder: its config.yaml: {error.strerror}.") from error
    except (ValueError, yaml.YAMLError, LookupError, TypeError) as error:
        raise UserError(f"{folder}: its config.yaml is damaged: it names no data.") from error
    if data is not None:
        node = {key: str(data) if value == place else value for key, value in node.items()}
    check_object("data", node)
    return node
