"""One run from a checked configuration: fit, test or predict, and what is left behind."""

import errno
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.build import (
    Run,
    build_callbacks,
    build_datamodule,
    build_loggers,
    build_module,
    build_trainer,
)
from harness.checkpoints import load_checkpoint
from harness.configuration.static_modules import PROJECT_ROOT
from harness.errors import UserError
from harness.hardware import apply_threads, check_available, is_first_process
from harness.phases import Record, fit_phases
from harness.predictions import write_predictions
from harness.results import print_summary, write_results
from harness.run_folder import (
    check_writable,
    create_run_folder,
    leave_run_folder,
    masked,
    masked_command,
    write_config,
)
from harness.run_log import run_log, tell
from harness.system import git_state, hardware_summary, peak_gpu_memory_mb, peak_memory_mb, versions

if TYPE_CHECKING:
    from pytorch_lightning import Callback


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
    check_available(config["hardware"])
    apply_threads(config["hardware"]["threads"])

    began, started = datetime.now(UTC), time.perf_counter()
    module = build_module(config)
    if config["mode"] != "fit":
        load_checkpoint(module, Path(config["ckpt"]).expanduser())
    datamodule = build_datamodule(config)
    callbacks = build_callbacks(config["callbacks"])
    setup = time.perf_counter() - started

    folder = create_run_folder(runs, f"{choices['model']}_{choices['data']}")
    keep = False
    try:
        with run_log(folder):
            write_config(folder, config)
            _announce(config, choices, folder)
            _tell_pictures(callbacks, config["published"])
            loggers = build_loggers(config["logger"], folder)
            for logger in loggers:
                logger.log_hyperparams(masked(config))
            run = Run(config, folder, module, datamodule, callbacks, loggers)
            record = _execute(run)
            record.seconds = {"setup": setup} | record.seconds
            keep = True
            if is_first_process():
                results = _results(run, record, choices, command, began)
                write_results(folder, results)
                print_summary(results, folder)
    except UserError:
        # A finished phase is never thrown away. Under DDP another process may have tidied up already.
        keep = any((folder / "checkpoints").glob("*"))
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


def _execute(run: Run) -> Record:
    """Does what ``mode`` asks for and leaves its predictions, pictures and log lines in the run's folder."""
    mode = run.config["mode"]
    try:
        record = fit_phases(run) if mode == "fit" else Record()
        started = time.perf_counter()
        trainer = build_trainer(run)
        if mode == "predict":
            outputs = trainer.predict(run.module, datamodule=run.datamodule)
            if is_first_process():
                write_predictions(run.folder / "predictions.csv", run.module, run.datamodule, outputs or [])
        else:
            trainer.test(run.module, datamodule=run.datamodule, verbose=False)
            tested = {name: float(value) for name, value in trainer.callback_metrics.items()}
            record.metrics = tested | record.metrics
            for logger in run.loggers:
                logger.log_metrics(record.metrics, step=sum(record.epochs.values()))
        record.seconds["predict" if mode == "predict" else "test"] = time.perf_counter() - started
    finally:
        failed = sys.exc_info()[0] is not None
        for logger in run.loggers:
            logger.finalize("failed" if failed else "success")
            if hasattr(logger, "close"):
                logger.close(failed)
    return record


def _results(
    run: Run, record: Record, choices: dict[str, str], command: list[str], started: datetime
) -> dict[str, Any]:
    """The content of ``results.json``."""
    config, best = run.config, run.folder / "checkpoints" / "best.ckpt"
    return {
        "model": choices["model"],
        "data": choices["data"],
        "seed": config["seed"],
        "mode": config["mode"],
        "command": masked_command(command),
        "choices": choices,
        "metrics": record.metrics,
        "published": config["published"],
        "seconds": {name: round(value, 3) for name, value in record.seconds.items()},
        "timings": {name: round(value, 6) for name, value in record.timings.items()},
        "epochs": record.epochs,
        "best_epochs": record.best_epochs,
        "parameters": sum(parameter.numel() for parameter in run.module.parameters()),
        "peak_memory_mb": peak_memory_mb(),
        "peak_gpu_memory_mb": peak_gpu_memory_mb(),
        "best_checkpoint": str(best) if best.exists() else config["ckpt"],
        "hardware": {**hardware_summary(), **config["hardware"]},
        "versions": versions(),
        "git": git_state(PROJECT_ROOT),
        "started": started.isoformat(timespec="seconds"),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _tell_pictures(callbacks: list["Callback"], published: dict[str, Any] | None) -> None:
    for callback in callbacks:
        if hasattr(callback, "published"):
            callback.published = published


def _announce(config: dict[str, Any], choices: dict[str, str], folder: Path) -> None:
    if is_first_process():
        hardware = config["hardware"]
        tell(
            f"tenfold {config['mode']}: {choices['model']} on {choices['data']}, seed {config['seed']},"
            f" {hardware['accelerator']} {hardware['precision']}, {hardware['threads']} thread(s)"
        )
        tell(str(folder))
