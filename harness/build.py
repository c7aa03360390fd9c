"""From the checked configuration to objects: module, data, callbacks, loggers, Trainer."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.configuration.targets import KINDS, OWN_PACKAGES, resolve_class
from harness.errors import UserError
from harness.hardware import OWN_KEYS, prepare_module
from harness.launch import cluster_environment
from harness.library_errors import first_line, library_mistake
from harness.stopping import STOP

if TYPE_CHECKING:
    from pytorch_lightning import Callback, LightningDataModule, Trainer
    from pytorch_lightning.loggers.logger import Logger

    from lightning_modules.experiment import ExperimentModule


@dataclass
class Run:
    """What one run is made of.

    Attributes:
        config: the composed, resolved and checked configuration.
        folder: where everything that it leaves behind goes.
        module: the method.
        datamodule: its data, fetched and set up.
        callbacks: those of the configuration.
        loggers: ``metrics.csv`` and those of the configuration.
        together: open while several processes work at the run and none may leave the others alone.
    """

    config: dict[str, Any]
    folder: Path
    module: "ExperimentModule"
    datamodule: "LightningDataModule"
    callbacks: Sequence["Callback"] = field(default_factory=list)
    loggers: Sequence["Logger"] = field(default_factory=list)
    together: ExitStack = field(default_factory=ExitStack)


def build(node: dict[str, Any], kind: str, key: str | None = None) -> Any:
    """Makes the object that ``{_target_: path, **keywords}`` describes.

    Args:
        node: a node of the checked configuration.
        kind: the group it belongs to, ``model``, ``data``, ``callbacks`` or ``logger``; its class must fit.
        key: full key of the node, for messages; the group where it is None.

    Raises:
        UserError: if the target is not allowed there or refuses a value.
    """
    keywords = {name: value for name, value in node.items() if name != "_target_"}
    key = key or kind
    made = resolve_class(node["_target_"], KINDS[kind], key)
    try:
        return made(**keywords)
    except UserError:
        raise
    except (ValueError, TypeError) as error:
        raise UserError(f"{key}: {first_line(error)}") from error
    except Exception as error:
        if made.__module__.partition(".")[0] not in OWN_PACKAGES:
            raise UserError(f"{key}: {first_line(error)}") from error
        mistake = library_mistake(error)
        if mistake:
            raise UserError(f"{key}: {mistake}") from error
        raise


def build_callbacks(nodes: dict[str, Any]) -> list["Callback"]:
    """The callbacks of the configuration, in its order."""
    return [build(node, "callbacks", f"callbacks.{name}") for name, node in nodes.items() if node]


def build_loggers(
    nodes: dict[str, Any], folder: Path, run_id: str | None = None, names: Sequence[str] = ()
) -> list["Logger"]:
    """``metrics.csv`` and the configured trackers, writing below ``folder``.

    Args:
        nodes: the ``logger`` node of the configuration.
        folder: the run folder.
        run_id: the run's id on a dashboard, the same for all its sessions.
        names: of model and data, its tags there.
    """
    from harness.metrics_csv import MetricsCSV
    from harness.tracking.trackers import build_trackers

    return [MetricsCSV(folder / "metrics.csv"), *build_trackers(nodes, folder, run_id, names)]


def build_trainer(run: Run, **settings: Any) -> "Trainer":
    """A fresh Trainer for one phase or one test.

    A second ``fit`` on one Trainer trains nothing, so each phase gets its own.

    Args:
        run: what it is for.
        settings: arguments of the Trainer that go before those of the configuration.
    """
    from pytorch_lightning import Trainer
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    from callbacks.epoch_metrics import EpochEnd
    from callbacks.metric_log import MetricLog
    from callbacks.stop_together import StopTogether
    from harness.checkpoint_io import PlainCheckpointIO

    module = run.module
    settings = _of_this_phase(run.config["trainer"], module) | settings
    hardware = {key: value for key, value in run.config["hardware"].items() if key not in OWN_KEYS}
    if not module.automatic_optimization:
        settings = _for_own_steps(settings, module)
    environment = cluster_environment()
    own = [MetricLog(settings.get("log_every_n_steps", 50)), EpochEnd(), StopTogether()]
    try:
        trainer = Trainer(
            **{"num_sanity_val_steps": 0, "enable_model_summary": False} | settings,
            **hardware,
            callbacks=[*run.callbacks, *own],
            logger=list(run.loggers),
            default_root_dir=run.folder,
            limit_val_batches=0 if module.validates_itself or not module.validates else 1.0,
            # no checkpoint of Lightning's own: callbacks.savepoints writes last.ckpt, the phases best.ckpt
            enable_checkpointing=True,
            enable_progress_bar=False,  # callbacks.progress shows epochs
            # no_grad, not inference_mode: weights and caches made in a test stay usable for training
            inference_mode=False,
            use_distributed_sampler=False,  # the loaders of datamodules/ share a batch out by themselves
            plugins=[PlainCheckpointIO(), *([environment] if environment else [])],
        )
    except (MisconfigurationException, ValueError, TypeError) as error:
        raise UserError(f"trainer or hardware: {error}") from error
    # Lightning's own answer to SIGTERM, which each fit and test installs, broadcasts from within the handler,
    # where the other processes may be in the middle of another collective operation
    trainer._signal_connector._sigterm_notifier_fn = STOP.handle  # type: ignore[method-assign]
    if trainer.world_size > 1:
        run.together.enter_context(STOP.deferred())
    return trainer


def _of_this_phase(settings: dict[str, Any], module: "ExperimentModule") -> dict[str, Any]:
    """The Trainer's settings with the length of the module's current phase, where it says one."""
    own, bound = module.phase_epochs, settings["max_epochs"]
    if own is None:
        return settings
    longest = own if bound is None else min(own, bound)
    return {**settings, "max_epochs": longest, "min_epochs": min(settings.get("min_epochs") or 0, longest)}


def _for_own_steps(settings: dict[str, Any], module: "ExperimentModule") -> dict[str, Any]:
    """The Trainer's settings for a module that steps its optimisers itself; such a module also clips itself.

    Raises:
        UserError: if gradients of several batches are to be added up.
    """
    batches = settings.get("accumulate_grad_batches", 1)
    if batches != 1:
        why = (
            "its one batch is the whole data set"
            if module.validates_itself
            else "it steps its optimisers itself"
        )
        raise UserError(
            f"trainer.accumulate_grad_batches={batches}: {type(module).__name__} cannot do this, {why}."
            " Set trainer.accumulate_grad_batches=1."
        )
    clipping = ("gradient_clip_val", "gradient_clip_algorithm")
    module.gradient_clip_val, module.gradient_clip_algorithm = (settings.get(key) for key in clipping)
    return {key: value for key, value in settings.items() if key not in clipping}


def build_module(config: dict[str, Any]) -> "ExperimentModule":
    """The LightningModule of ``config['model']``, its weights drawn from the run's seed."""
    from pytorch_lightning import seed_everything

    seed_everything(config["seed"], workers=True, verbose=False)
    module: ExperimentModule = build(config["model"], "model")
    prepare_module(module, config["hardware"])
    return module


def build_datamodule(config: dict[str, Any]) -> "LightningDataModule":
    """The LightningDataModule of ``config['data']``, fetched and set up."""
    datamodule: LightningDataModule = build(config["data"], "data")
    datamodule.prepare_data()
    datamodule.setup("fit")
    return datamodule
