"""Reading what a W&B run left in its folder, as ``wandb sync`` would."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.tracking.wandb_files import records, session_files


@dataclass
class Session:
    """One session of one run.

    Attributes:
        run: W&B's record of it: id, project, name, tags, group.
        config: as the dashboard would show it.
        rows: the history, each row with W&B's own ``_step``.
        summary: last value of every key.
        axes: the metric that each metric, or group of metrics, is drawn over.
        files: paths of pictures and tables, below ``files/``.
        artifacts: names with the paths of their files on this machine.
        arguments: the command line that W&B has kept.
        exit_code: None if the run was never finished.
    """

    run: Any = None
    config: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    axes: dict[str, str] = field(default_factory=dict)
    files: list[str] = field(default_factory=list)
    artifacts: dict[str, list[str]] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)
    exit_code: int | None = None


def read_sessions(folder: Path) -> list[Session]:
    """All sessions in ``folder/wandb``, the oldest first."""
    return [_read(path) for path in session_files(folder)]


def _read(path: Path) -> Session:
    session = Session()
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            session.run = record.run
            _update(session.config, record.run.config.update)
        elif kind == "config":
            _update(session.config, record.config.update)
        elif kind == "history":
            row: dict[str, Any] = {}
            _update(row, record.history.item)
            session.rows.append(row)
        elif kind == "summary":
            _update(session.summary, record.summary.update)
        elif kind == "metric":
            session.axes[record.metric.name or record.metric.glob_name] = record.metric.step_metric
        elif kind == "files":
            session.files += [item.path for item in record.files.files if item.path.startswith("media/")]
        elif kind == "artifact":
            contents = record.artifact.manifest.contents
            session.artifacts[record.artifact.name] = [item.local_path for item in contents]
        elif kind == "environment":
            session.arguments += record.environment.args
        elif kind == "exit":
            session.exit_code = record.exit.exit_code
    return session


def _update(target: dict[str, Any], items: Any) -> None:
    for item in items:
        *above, key = item.nested_key or [item.key]
        place = target
        for name in above:
            place = place.setdefault(name, {})
        place[key] = json.loads(item.value_json)
