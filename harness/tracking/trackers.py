"""From the checked configuration to the trackers of a run."""

import inspect
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.build import build
from harness.configuration.targets import KINDS, resolve_class
from harness.run_folder import SWEEP
from harness.tracking.guarded import GuardedLogger

if TYPE_CHECKING:
    from pytorch_lightning.loggers.logger import Logger


def check_trackers(nodes: dict[str, Any]) -> None:
    """Refuses trackers that this machine cannot serve, before any work is done.

    Args:
        nodes: the checked ``logger`` node of the configuration.

    Raises:
        UserError: if a library is missing or a variable of the environment is wrong.
    """
    for tracker in _classes(nodes):
        if hasattr(tracker, "check"):
            tracker.check()


def preload(nodes: dict[str, Any]) -> None:
    """Imports what the trackers will import when they start.

    Before a run, so that its seconds of training hold none of it; and once in a process that forks its runs.

    Args:
        nodes: the checked ``logger`` node of the configuration.
    """
    for tracker in _classes(nodes):
        if hasattr(tracker, "preload"):
            tracker.preload()


def build_trackers(
    nodes: dict[str, Any], folder: Path, run_id: str | None = None, names: Sequence[str] = ()
) -> list[GuardedLogger]:
    """The configured trackers but those that are switched off; none of them is started yet.

    Args:
        nodes: the checked ``logger`` node of the configuration.
        folder: the run folder.
        run_id: the same for all sessions of the run; None makes one from the folder's name.
        names: of model and data.
    """
    name = f"{folder.parent.name}_{folder.name}"
    place = {
        "save_dir": str(folder),
        "name": name,
        "run_id": run_id or name,
        "group": os.environ.get(SWEEP),
        "names": list(names),
    }
    trackers = []
    for (label, node), tracker in zip(nodes.items(), _classes(nodes), strict=True):
        takes = inspect.signature(tracker).parameters
        given = {key: value for key, value in place.items() if key in takes}
        built = build({**given, **node}, "logger", f"logger.{label}")
        if not getattr(built, "is_off", False):
            trackers.append(GuardedLogger(built, label))
    return trackers


def catch_up(loggers: "Sequence[Logger]", rows: Sequence[Mapping[str, str]]) -> None:
    """Lets the trackers of a run that goes on have what they missed of its earlier sessions.

    Args:
        loggers: of the run.
        rows: of ``metrics.csv``, up to the savepoint from which it goes on.
    """
    for logger in loggers:
        if isinstance(logger, GuardedLogger):
            logger.catch_up(rows)


def log_results(
    loggers: "Sequence[Logger]", metrics: dict[str, float], published: dict[str, Any] | None
) -> None:
    """Shows a table of the test's metrics beside the published value, where a logger can.

    Args:
        loggers: of the run.
        metrics: those of the test start with ``test/``.
        published: ``{metric, value, spread, source}`` of the preset, or None.
    """
    beside = {published["metric"]: published["value"]} if published else {}
    tested = [(name, value) for name, value in metrics.items() if name.startswith("test/")]
    rows = [[name, value, beside.get(name)] for name, value in tested]
    for logger in loggers:
        if hasattr(logger, "log_table"):
            logger.log_table("results", ["metric", "measured", "published"], rows)


def _classes(nodes: dict[str, Any]) -> Iterator[Any]:
    for key, node in nodes.items():
        yield resolve_class(node["_target_"], KINDS["logger"], f"logger.{key}")
