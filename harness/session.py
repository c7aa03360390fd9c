"""One run from a checked configuration: fit, test or predict, and what is left behind."""

import errno
import logging
import os
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.checkpoints import load_checkpoint
from harness.errors import UserError
from harness.hardware import apply_threads, check_available, is_first_process
from harness.run_folder import (
    check_writable,
    create_run_folder,
    leave_run_folder,
    masked_command,
    write_config,
)

if TYPE_CHECKING:
    from pytorch_lightning import Callback, LightningDataModule

    from lightning_modules.experiment import ExperimentModule

log = logging.getLogger("tenfold")


def run_session(config: dict[str, Any], choices: dict[str, str], command: list[str]) -> Path:
    """Runs one experiment and returns its folder.

    Args:
        config: the composed, resolved and checked configuration.
        choices: the chosen option of each group, ``{"model": "spagan", ...}``.
        command: the command line, for ``results.json``.

    Raises:
        UserError: for what only the machine or the data can know: no GPU, no data, facts that do not hold.
            Nothing is left behind then.
    """
    runs = Path(config["paths"]["runs"]).expanduser()
    check_writable(runs)
    _quieten_libraries(Path(config["paths"]["cache"]).expanduser())
    check_available(config["hardware"])
    apply_threads(config["hardware"]["threads"])

    from harness.build import build_callbacks, build_datamodule, build_module

    seconds: dict[str, float] = {}
    started = time.perf_counter()
    module = build_module(config)
    if config["mode"] != "fit":
        load_checkpoint(module, Path(config["ckpt"]).expanduser())
    datamodule = build_datamodule(config)
    callbacks = build_callbacks(config["callbacks"])
    seconds["setup"] = time.perf_counter() - started

    folder = create_run_folder(runs, f"{choices['model']}_{choices['data']}")
    keep = False
    try:
        with _run_log(folder):
            write_config(folder, config)
            _announce(config, choices, folder)
            results = _execute(config, choices, command, module, datamodule, callbacks, folder, seconds)
            keep = True
            if is_first_process():
                from harness.results import print_summary, write_results

                write_results(folder, results)
                print_summary(results, folder)
    except UserError:
        keep = any((folder / "checkpoints").iterdir())  # a finished phase is never thrown away
        raise
    except OSError as error:
        keep = True
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(
                f"no space is left for {folder}: what was written before stays there."
                " Free some, or give another place with paths.runs=<folder>."
            ) from error
        raise
    except BaseException:
        keep = True
        raise
    finally:
        leave_run_folder(folder, keep)
    return folder


def _execute(
    config: dict[str, Any],
    choices: dict[str, str],
    command: list[str],
    module: "ExperimentModule",
    datamodule: "LightningDataModule",
    callbacks: list["Callback"],
    folder: Path,
    seconds: dict[str, float],
) -> dict[str, Any]:
    """Does what ``mode`` asks for and returns the content of ``results.json``."""
    from harness.build import build_loggers, build_trainer
    from harness.phases import fit_phases
    from harness.predictions import write_predictions
    from harness.system import git_state, hardware_summary, peak_memory_mb, versions

    started_at = datetime.now(UTC)
    loggers = build_loggers(config["logger"], folder)
    record: dict[str, Any] = {"seconds": {}, "epochs": {}, "best_epochs": {}, "metrics": {}}
    _tell_pictures(callbacks, config["published"])
    try:
        if config["mode"] == "fit":
            record = fit_phases(config, module, datamodule, callbacks, loggers, folder)
        started = time.perf_counter()
        trainer = build_trainer(config, module, callbacks, loggers, folder)
        metrics = dict(record["metrics"])
        if config["mode"] == "predict":
            outputs = trainer.predict(module, datamodule=datamodule)
            if is_first_process():
                write_predictions(folder / "predictions.csv", module, datamodule, outputs or [])
        else:
            trainer.test(module, datamodule=datamodule, verbose=False)
            metrics = {name: float(value) for name, value in trainer.callback_metrics.items()} | metrics
            for logger in loggers:
                logger.log_metrics(metrics, step=sum(record["epochs"].values()))
        record["seconds"]["predict" if config["mode"] == "predict" else "test"] = (
            time.perf_counter() - started
        )
    finally:
        failed = sys.exc_info()[0] is not None
        for logger in loggers:
            logger.finalize("failed" if failed else "success")
            if hasattr(logger, "close"):
                logger.close(failed)
    best = folder / "checkpoints" / "best.ckpt"
    return {
        "model": choices["model"],
        "data": choices["data"],
        "seed": config["seed"],
        "mode": config["mode"],
        "command": masked_command(command),
        "choices": choices,
        "metrics": metrics,
        "published": config["published"],
        "seconds": {name: round(value, 3) for name, value in (seconds | record["seconds"]).items()},
        "epochs": record["epochs"],
        "best_epochs": record["best_epochs"],
        "parameters": sum(parameter.numel() for parameter in module.parameters()),
        "peak_memory_mb": peak_memory_mb(),
        "best_checkpoint": str(best) if best.exists() else config["ckpt"],
        "hardware": {**hardware_summary(), **config["hardware"]},
        "versions": versions(),
        "git": git_state(Path(__file__).resolve().parent.parent),
        "started": started_at.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _tell_pictures(callbacks: list["Callback"], published: dict[str, Any] | None) -> None:
    for callback in callbacks:
        if hasattr(callback, "published"):
            callback.published = published


def _announce(config: dict[str, Any], choices: dict[str, str], folder: Path) -> None:
    if is_first_process():
        hardware = config["hardware"]
        print(
            f"tenfold {config['mode']}: {choices['model']} on {choices['data']}, seed {config['seed']},"
            f" {hardware['accelerator']} {hardware['precision']}, {hardware['threads']} thread(s)\n{folder}",
            file=sys.stderr,
            flush=True,
        )


def _quieten_libraries(cache: Path) -> None:
    """Keeps the libraries' tips and known warnings off the console; ``run.log`` still gets what matters."""
    for pattern in (
        ".*does not have many workers.*",
        ".*smaller than the logging interval.*",  # an epoch is one batch, and the steps run on across epochs
        ".*LeafSpec.*",
        ".*torch.jit.script.*",
        ".*anonymous.*",
    ):
        warnings.filterwarnings("ignore", message=pattern)
    os.environ.setdefault("WANDB_SILENT", "true")
    # else matplotlib and W&B write into the home directory, which a cluster may keep read-only
    for variable, name in (
        ("MPLCONFIGDIR", "matplotlib"),
        ("WANDB_CACHE_DIR", "wandb"),
        ("WANDB_CONFIG_DIR", "wandb"),
        ("WANDB_DATA_DIR", "wandb"),
    ):
        os.environ.setdefault(variable, str((cache / name).absolute()))
    # after the variables, as it imports matplotlib; before the levels, as it sets them when it is imported
    import pytorch_lightning  # noqa: F401

    for name in ("pytorch_lightning", "lightning_fabric", "pytorch_lightning.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def _run_log(folder: Path) -> Iterator[None]:
    """Sends log records, warnings and the traceback of a crash to ``run.log`` while it is open."""
    if not is_first_process():
        yield
        return
    console = logging.StreamHandler(sys.stderr)
    console.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    console.setLevel(logging.WARNING)
    log.addHandler(console)
    handler = logging.FileHandler(folder / "run.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    logging.captureWarnings(True)
    try:
        yield
    except UserError:
        raise
    except BaseException as error:
        log.removeHandler(console)  # run.py prints the traceback
        with suppress(OSError):
            log.error("the run ended with %s\n%s", type(error).__name__, traceback.format_exc())
        error.run_log = folder / "run.log"  # type: ignore[attr-defined]
        raise
    finally:
        logging.captureWarnings(False)
        root.removeHandler(handler)
        log.removeHandler(console)
        root.setLevel(level)
        handler.close()
