"""What a sweep has found: a row per configuration, a row per job, as CSV, as a page, as lines to print."""

import csv
import io
import shlex
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.files import write_text
from harness.results import format_published, format_value, is_share
from harness.run_folder import masked_command
from harness.sweeps.ending import LOG
from harness.sweeps.job import SETTLED, job_folder
from harness.sweeps.plan import written
from harness.sweeps.state import Record, SweepState

_IN_COLUMNS_OF_THEIR_OWN = ("model", "data")


@dataclass(frozen=True)
class Row:
    """The jobs that differ in what is averaged over, and in nothing else.

    Attributes:
        model: choice of that group.
        data: choice of that group.
        varied: the other keys that vary between the rows, and the values here.
        metric: what ``values`` are of; empty before any job of the sweep has finished.
        values: of the finished jobs, in their order.
        failed: jobs that ended with an error.
        published: what the paper reports of this metric; None where there is nothing.
        seconds: mean time of a finished run.
    """

    model: str
    data: str
    varied: dict[str, str]
    metric: str
    values: tuple[float, ...]
    failed: int
    published: dict[str, Any] | None
    seconds: float | None

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """Of the sample, with n - 1; None of a single value."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


def rows_of(records: Sequence[Record], average_over: Sequence[str], metric: str | None = None) -> list[Row]:
    """One row per configuration, in the order of the jobs.

    Args:
        records: of all jobs of the sweep.
        average_over: keys that make no rows of their own.
        metric: what to summarise; None takes the published metric of each row, else the first of the test.
    """
    left_out = {*average_over, *_IN_COLUMNS_OF_THEIR_OWN}
    groups: dict[tuple[Any, ...], list[Record]] = {}
    for record in sorted(records, key=lambda record: record.index):
        kept = tuple((key, value) for key, value in record.varied.items() if key not in left_out)
        groups.setdefault((record.model, record.data, kept), []).append(record)
    measured = [name for record in records for name in record.metrics if name.startswith("test/")]
    usual = next(iter(measured), "")
    return [
        _row(model, data, dict(kept), group, metric, usual) for (model, data, kept), group in groups.items()
    ]


def _row(
    model: str, data: str, varied: dict[str, str], group: Sequence[Record], asked: str | None, usual: str
) -> Row:
    finished = [record for record in group if record.status == "finished"]
    published = next((record.published for record in group if record.published), None)
    metric = asked or (published["metric"] if published else None)
    if metric is None:
        own = (name for record in finished for name in record.metrics if name.startswith("test/"))
        metric = next(own, usual)
    found = [record.metrics.get(metric) for record in finished]
    return Row(
        model=model,
        data=data,
        varied=varied,
        metric=metric,
        values=tuple(value for value in found if value is not None),
        failed=sum(record.status == "failed" for record in group),
        # of the paper's settings, and not of those that are varied here
        published=published if published and published["metric"] == metric and not varied else None,
        seconds=statistics.fmean(record.run_seconds for record in finished) if finished else None,
    )


def summary_csv(rows: Sequence[Row]) -> str:
    """``summary.csv``: plain numbers; empty where there is none."""
    keys = list(dict.fromkeys(key for row in rows for key in row.varied))
    head = ["mean", "std", "min", "max", "n", "failed", "published", "spread", "source", "seconds"]
    lines: list[list[Any]] = [["model", "data", *keys, "metric", *head]]
    for row in rows:
        published = row.published or {}
        numbers = [row.mean, row.std, min(row.values, default=None), max(row.values, default=None)]
        lines.append(
            [
                *(row.model, row.data, *(row.varied.get(key) for key in keys), row.metric, *numbers),
                *(len(row.values), row.failed),
                *(published.get(key) for key in ("value", "spread", "source")),
                None if row.seconds is None else round(row.seconds, 3),
            ]
        )
    return _csv(lines)


def jobs_csv(records: Sequence[Record]) -> str:
    """``jobs.csv``: every job with what it measured, where it is, and what went wrong."""
    keys = list(dict.fromkeys(key for record in records for key in record.varied))
    keys = [key for key in keys if key not in (*_IN_COLUMNS_OF_THEIR_OWN, "seed")]
    metrics = list(dict.fromkeys(name for record in records for name in record.metrics))
    tail = ["run_seconds", "seconds", "run_folder", "error"]
    lines: list[list[Any]] = [["job", "status", "model", "data", *keys, "seed", *metrics, *tail]]
    for record in records:
        lines.append(
            [
                *(record.index, record.status, record.model, record.data),
                *(record.varied.get(key) for key in keys),
                record.seed,
                *(record.metrics.get(name) for name in metrics),
                *(record.run_seconds, record.seconds, record.run_folder, record.error),
            ]
        )
    return _csv(lines)


def _csv(lines: Sequence[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(lines)
    return text.getvalue()


def table(rows: Sequence[Row]) -> list[list[str]]:
    """The head and a line per row, as a person reads them: shares in percent, mean ± standard deviation."""
    keys = list(dict.fromkeys(key for row in rows for key in row.varied))
    head = ["mean ± std", "min", "max", "n", "failed", "published", "s/run"]
    lines = [["model", "data", *keys, "metric", *head]]
    for row in rows:
        lines.append(
            [
                *(row.model, row.data, *(row.varied.get(key, "") for key in keys), row.metric),
                mean_and_std(row),
                *(format_value(row.metric, end(row.values)) if row.values else "" for end in (min, max)),
                *(str(len(row.values)), str(row.failed) if row.failed else ""),
                format_published(row.published) if row.published else "",
                "" if row.seconds is None else f"{row.seconds:.1f}",
            ]
        )
    return lines


def mean_and_std(row: Row) -> str:
    """``82.9 ± 0.6 %``; without the deviation of a single value; empty without values."""
    if row.mean is None:
        return ""
    text = format_value(row.metric, row.mean)
    if row.std is None:
        return text
    if is_share(row.metric):
        return f"{100 * row.mean:.1f} ± {100 * row.std:.1f} %"
    return f"{text} ± {row.std:.4f}"


def count_lines(records: Sequence[Record]) -> str:
    """``28 of 30 jobs finished, 1 failed, 1 stopped``."""
    counts = Counter(record.status for record in records)
    others = [f"{counts[name]} {name}" for name in ("failed", "pruned", "stopped", "running", "waiting")]
    parts = [part for part in others if not part.startswith("0 ")]
    return ", ".join([f"{counts['finished']} of {len(records)} jobs finished", *parts])


def troubled(state: SweepState, folder: Path) -> list[str]:
    """A line for each job that failed or was stopped: what it was, what was wrong, where to read more."""
    return [
        f"job {record.index} ({written(record.varied) or record.model}) {record.status}: {record.error}"
        f" ({job_folder(folder, record.index) / LOG})"
        for record in state.jobs
        if record.status in ("failed", "stopped")
    ]


def troubles(state: SweepState, folder: Path) -> list[str]:
    """The same by what was wrong: where thirty jobs fail for one reason, that reason is read once."""
    found: dict[tuple[str, str | None], list[Record]] = {}
    for record in state.jobs:
        if record.status in ("failed", "stopped"):
            found.setdefault((record.status, record.error), []).append(record)
    return [
        f"{status}: {_listed(records)}: {error} ({job_folder(folder, records[0].index) / LOG})"
        for (status, error), records in found.items()
    ]


def _listed(records: Sequence[Record]) -> str:
    names = [f"job {record.index} ({written(record.varied) or record.model})" for record in records[:3]]
    return ", ".join(names) + (f" and {len(records) - 3} more" if len(records) > 3 else "")


def how_to_go_on(state: SweepState, folder: Path) -> str | None:
    """The command that runs what is missing; None where nothing is."""
    if any(record.status not in SETTLED for record in state.jobs):
        return _command(f"resume={folder}")
    if any(record.status == "failed" for record in state.jobs):
        return _command(f"resume={folder}", "sweep.retry=failed")
    return None


def _command(*words: str) -> str:
    """As a shell reads it: the brackets of a range are quoted."""
    return shlex.join(["python", "run.py", "-m", *words])


def summary_page(state: SweepState, rows: Sequence[Row], folder: Path) -> str:
    """``summary.md``."""
    command = _command(*masked_command(state.words))
    head, *body = ("| " + " | ".join(line) + " |" for line in table(rows))
    rule = "|" + "---|" * len(table(rows)[0])
    parts = [
        f"# Sweep {folder.name}",
        f"```\n{command}\n```",
        f"{count_lines(state.jobs)}. Each job is an ordinary run; `jobs.csv` lists them, `summary.csv` holds"
        " the numbers below. The deviation is that of a sample, with n - 1.",
        "\n".join([head, rule, *body]),
    ]
    if any(row.published for row in rows):
        sources = dict.fromkeys(
            f"{row.model} on {row.data}: {row.published['source']}" for row in rows if row.published
        )
        parts.append("Published values: " + "; ".join(sources) + ".")
    wrong = troubled(state, folder)
    if wrong:
        parts.append("\n".join(["## Jobs that did not finish", "", *(f"- {line}" for line in wrong)]))
    command_to_go_on = how_to_go_on(state, folder)
    if command_to_go_on:
        parts.append(f"To run what is missing:\n\n```\n{command_to_go_on}\n```")
    return "\n\n".join(parts) + "\n"


def printed(rows: Sequence[Row]) -> list[str]:
    """The table with aligned columns."""
    texts = table(rows)
    widths = [max(len(text) for text in column) for column in zip(*texts, strict=True)]
    return ["  ".join(f"{t:<{w}}" for t, w in zip(line, widths, strict=True)).rstrip() for line in texts]


def write_jobs(state: SweepState, folder: Path) -> None:
    """Writes ``jobs.csv``."""
    write_text(folder / "jobs.csv", jobs_csv(state.jobs))


def write_summary(state: SweepState, rows: Sequence[Row], folder: Path) -> None:
    """Writes ``summary.csv`` and ``summary.md``."""
    write_text(folder / "summary.csv", summary_csv(rows))
    write_text(folder / "summary.md", summary_page(state, rows, folder))
