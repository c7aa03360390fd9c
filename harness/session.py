"""One run from a checked configuration: fit, test or predict, and what is left behind."""

import errno
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.announcements import announce, announce_resume
from harness.build import (
    Run,
    build_callbacks,
    build_datamodule,
    build_loggers,
    build_module,
    build_trainer,
)
from harness.claims import release_folder
from harness.errors import UserError
from harness.files import remove_unfinished_files
from harness.guards import check_space, needed_bytes
from harness.hardware import apply_threads, check_available, told_plainly
from harness.launch import is_first_process
from harness.metrics_csv import MetricsCSV
from harness.phases import Record, fit_phases
from harness.predictions import PREDICTIONS, write_predictions
from harness.prerequisites import planned, provide
from harness.results import collect_results, print_summary, write_results
from harness.resume import claim_to_continue
from harness.run_folder import (
    check_writable,
    create_run_folder,
    leave_run_folder,
    masked,
    secret_values,
    write_config,
)
from harness.run_log import run_log
from harness.run_state import FILE, RunState, is_finished, lock, read_state
from harness.savepoints import Savepoint, in_last_place, read_savepoint
from harness.stopping import STOP, StoppedTogether
from harness.tracking.trackers import catch_up, check_trackers, log_results, preload
from harness.trained import read_trained

if TYPE_CHECKING:
    from pytorch_lightning import Callback
    from pytorch_lightning.loggers.logger import Logger


def run_session(
    config: dict[str, Any], choices: dict[str, str], command: list[str], words: Sequence[str] = ()
) -> Path:
    """Runs one experiment, or goes on with one, and returns its folder.

    Args:
        config: the composed, resolved and checked configuration.
        choices: the chosen option of each group, ``{"model": "spagan", ...}``.
        command: the command line, for ``results.json``.
        words: the overrides that led to ``config``, for ``run.json``.

    Raises:
        UserError: for what only the machine or the data can know: no GPU, no data, facts that do not hold.
            Nothing is left behind then.
    """
    runs = Path(config["paths"]["runs"]).expanduser()
    check_writable(runs)
    check_available(config["hardware"])
    check_trackers(config["logger"])
    apply_threads(config["hardware"]["threads"])

    name = f"{choices['model']}_{choices['data']}"
    trained = None
    if config["mode"] != "fit":
        config, trained = read_trained(config, words)
    state = RunState.new(words, choices, config)
    with ExitStack() as claims:
        continued = None
        if is_first_process():
            found = claim_to_continue(config, runs, name, state.configuration)
            if found is not None:
                continued = found[0]
                claims.callback(release_folder, *found)
        began, started = datetime.now(UTC), time.perf_counter()
        module = build_module(config)  # first: settings that do not go together are no work for a teacher
        module.trained_on = dict(config["data"])
        if config.get("requires"):
            module.on_planned_prerequisites(planned(config, choices, words))
        prerequisites = provide(config, choices, words)
        if prerequisites:
            module.on_prerequisites({one.name: one.module for one in prerequisites})
        check_space(config["paths"], needed_bytes(module, config["mode"]))
        if trained is not None:
            trained.put_into(module)
        datamodule = build_datamodule(config)
        callbacks = build_callbacks(config["callbacks"])
        if is_first_process() and config["mode"] != "predict":
            preload(config["logger"])
        setup = time.perf_counter() - started

        folder = create_run_folder(runs, name, continued)
        with _kept_or_removed(folder, continued is not None, config["mode"]):
            if is_first_process():
                if continued is None:
                    claims.callback(release_folder, folder, lock(folder))
                else:
                    remove_unfinished_files(folder)
                    state = read_state(folder)
                # before run.json, which makes it a run that can be continued
                write_config(folder, {key: value for key, value in config.items() if key != "resume"})
            savepoint = read_savepoint(folder / "checkpoints")
            if is_first_process():
                savepoint = in_last_place(savepoint)
                state.begin_session(folder)
            with run_log(folder, secret_values(config)):
                if is_first_process():
                    announce(config, choices, folder, trained)
                    announce_resume(config["resume"], continued is not None, savepoint)
                _tell_pictures(callbacks, config["published"])
                names = (choices["model"], choices["data"])
                loggers = build_loggers(config["logger"], folder, state.tracker_id, names)
                if continued:
                    rows = savepoint.note["rows"] if savepoint else 0
                    catch_up(loggers, _metrics_csv(loggers).go_on_after(rows))
                for logger in loggers:
                    logger.log_hyperparams(masked(config))
                run = Run(config, folder, module, datamodule, callbacks, loggers)
                with told_plainly():
                    record = _execute(run, savepoint)
                record.seconds = {"setup": setup} | record.seconds
                if is_first_process():
                    results = collect_results(run, record, choices, command, began, state)
                    results["prerequisites"] = {one.name: one.report for one in prerequisites}
                    write_results(folder, results)
                    print_summary(results, folder)
    return folder


@contextmanager
def _kept_or_removed(folder: Path, keep: bool, mode: str) -> Iterator[None]:
    """Removes ``folder`` where a mistake left nothing worth keeping, and says what stays where it is kept."""
    try:
        yield
        keep = True
    except UserError:
        # A finished phase is never thrown away. Under DDP another process may have tidied up already.
        keep = keep or any((folder / "checkpoints").glob("*"))
        raise
    except OSError as error:
        keep = True
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            where = f" ({error.filename})" if error.filename else ""
            on = mode == "fit" and (folder / FILE).is_file()
            fix = f"go on with python run.py resume={folder}" if on else "start the run anew."
            raise UserError(
                f"no space is left for {folder}{where}: what was written before stays there."
                f" Free some, and {fix}"
            ) from error
        raise
    except BaseException as error:
        keep = True
        if mode == "fit" and not is_finished(folder):  # what can be gone on with
            error.run_folder = folder  # type: ignore[attr-defined]
        raise
    finally:
        leave_run_folder(folder, keep)


def _execute(run: Run, savepoint: Savepoint | None) -> Record:
    """Does what ``mode`` asks for and leaves its predictions, pictures and log lines in the run's folder."""
    mode = run.config["mode"]
    try:
        with run.together:
            record = fit_phases(run, savepoint) if mode == "fit" else Record()
            started = time.perf_counter()
            trainer = build_trainer(run)
            if mode == "predict":
                outputs = trainer.predict(run.module, datamodule=run.datamodule)
            else:
                trainer.test(run.module, datamodule=run.datamodule, verbose=False)
        if STOP.requested:  # after the last point that all processes reach
            raise StoppedTogether
        if mode == "predict":
            if is_first_process():
                write_predictions(run.folder / PREDICTIONS, run.module, run.datamodule, outputs or [])
        else:
            tested = {name: float(value) for name, value in trainer.callback_metrics.items()}
            record.metrics = tested | record.metrics
            for logger in run.loggers:
                logger.log_metrics(record.metrics, step=run.module.steps_before)
            log_results(run.loggers, record.metrics, run.config["published"])
        record.seconds["predict" if mode == "predict" else "test"] = time.perf_counter() - started
    finally:
        failed = sys.exc_info()[0] is not None
        for logger in run.loggers:
            logger.finalize("failed" if failed else "success")
            if hasattr(logger, "close"):
                logger.close(failed)
    return record


def _tell_pictures(callbacks: list["Callback"], published: dict[str, Any] | None) -> None:
    for callback in callbacks:
        if hasattr(callback, "published"):
            callback.published = published


def _metrics_csv(loggers: "Sequence[Logger]") -> MetricsCSV:
    return next(logger for logger in loggers if isinstance(logger, MetricsCSV))
