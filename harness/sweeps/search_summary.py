"""What a search has found: the best trial first, all trials in a table, and their values in a picture."""

import csv
import io
import math
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.figures import MUTED, PALETTE, in_house_style, new_figure, save_png
from harness.files import write_text
from harness.results import format_published, format_value
from harness.run_folder import masked_command
from harness.sweeps.ending import read_results

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from optuna.trial import FrozenTrial

    from harness.sweeps.search import Search

_STATES = {
    "COMPLETE": "finished",
    "PRUNED": "pruned",
    "RUNNING": "running",
    "FAIL": "failed",
    "WAITING": "waiting",
}
_MOST_PRINTED = 10  # trials
_TRIALS_TO_TELL = 8  # with different values, before anything is said of what mattered
_LOG_FROM_RATIO = 30.0  # values that span more than this factor are easier to read on a logarithmic axis


@dataclass(frozen=True)
class Row:
    """One trial.

    Attributes:
        number: its number, and its job's.
        state: finished, pruned, running or failed.
        value: of what the search compares by; of a pruned trial the last that it reported.
        settings: key and value of what varies, as written in a command.
        seconds: of its run.
        run_folder: None where there is none.
        error: what went wrong.
    """

    number: int
    state: str
    value: float | None
    settings: Mapping[str, str]
    seconds: float | None
    run_folder: str | None
    error: str | None


def rows_of(search: "Search") -> list[Row]:
    """All trials: the finished ones with the best first, then the pruned, the others by number."""
    rows = [_row(search, trial) for trial in search.own_trials() if trial.state.name != "WAITING"]
    sign = 1.0 if search.goal.mode == "min" else -1.0
    order = ("finished", "pruned", "running", "failed")
    return sorted(
        rows,
        key=lambda row: (
            order.index(row.state),
            math.inf if row.value is None else sign * row.value,
            row.number,
        ),
    )


def _row(search: "Search", trial: "FrozenTrial") -> Row:
    words = [
        setting.word(trial.params[setting.key]) for setting in search.settings if setting.key in trial.params
    ]
    settings = dict(word.split("=", 1) for word in masked_command(words))
    notes = trial.user_attrs
    return Row(
        trial.number,
        _STATES[trial.state.name],
        trial.value,
        settings,
        notes.get("seconds"),
        notes.get("run_folder"),
        notes.get("error"),
    )


def summary_csv(rows: Sequence[Row], metric: str) -> str:
    """``summary.csv``: a line per trial, the best first."""
    keys = list(dict.fromkeys(key for row in rows for key in row.settings))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["trial", "state", metric, *keys, "seconds", "run_folder", "error"])
    for row in rows:
        values = [row.settings.get(key) for key in keys]
        seconds = None if row.seconds is None else round(row.seconds, 3)
        writer.writerow([row.number, row.state, row.value, *values, seconds, row.run_folder, row.error])
    return text.getvalue()


def write_search_summary(search: "Search", final: bool) -> list[str]:
    """Writes ``summary.csv`` and ``summary.md``, and ``history.png`` at the end; returns what to print.

    Args:
        search: with its trials.
        final: whether no job runs any more.
    """
    rows, goal = rows_of(search), search.goal
    write_text(search.folder / "summary.csv", summary_csv(rows, goal.metric))
    write_text(search.folder / "summary.md", _page(search, rows))
    if final and any(row.state == "finished" for row in rows):
        save_png(draw_history(rows, goal.metric, goal.mode), search.folder / "history.png")
    table = _table(rows[:_MOST_PRINTED], goal.metric)
    widths = [max(len(text) for text in column) for column in zip(*table, strict=True)]
    lines = ["  ".join(f"{t:<{w}}" for t, w in zip(line, widths, strict=True)).rstrip() for line in table]
    if len(rows) > _MOST_PRINTED:
        lines.append(f"... and {len(rows) - _MOST_PRINTED} more in {search.folder / 'summary.csv'}")
    best = _best(rows)
    if best is None:
        return [*lines, "", "no trial has finished yet"]
    once, seeds = commands(search, best)
    return [*lines, "", *_findings(search, best), f"run it again     {once}", f"over ten seeds   {seeds}"]


def _best(rows: Sequence[Row]) -> Row | None:
    return next((row for row in rows if row.state == "finished"), None)


def _findings(search: "Search", best: Row) -> list[str]:
    """The best trial, its test, and what mattered."""
    metric, value = search.goal.metric, best.value
    assert value is not None
    lines = [f"best: trial {best.number} with {metric} {format_value(metric, value)}"]
    tested = _test_of(best)
    if tested:
        lines.append(f"its test, which chose nothing: {tested}")
    mattered = _importances(search)
    if mattered:
        lines.append(f"what mattered (PED-ANOVA): {mattered}")
    return lines


def commands(search: "Search", row: Row) -> tuple[str, str]:
    """What repeats a trial as an ordinary run, and over ten seeds as a sweep; secrets masked."""
    words = [*masked_command(list(search.words)), *(f"{key}={value}" for key, value in row.settings.items())]
    unseeded = [word for word in words if not word.startswith("seed=")]
    return (
        shlex.join(["python", "run.py", *words]),
        shlex.join(["python", "run.py", "-m", *unseeded, "seed=range(0,10)"]),
    )


def _test_of(row: Row) -> str:
    results = read_results(Path(row.run_folder)) if row.run_folder else None
    if results is None:
        return ""
    parts = []
    published = results.get("published")
    for name, value in results["metrics"].items():
        if name.startswith("test/") and value is not None:
            beside = (
                f" (published {format_published(published)})"
                if published and published["metric"] == name
                else ""
            )
            parts.append(f"{name} {format_value(name, value)}{beside}")
    return ", ".join(parts)


def _importances(search: "Search") -> str:
    """How much of the variation each setting explains; empty where there are too few trials to tell."""
    from optuna.importance import get_param_importances
    from optuna.trial import TrialState

    finished = search.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(search.settings) < 2 or len({trial.value for trial in finished}) < _TRIALS_TO_TELL:
        return ""
    return ", ".join(
        f"{key} {100 * share:.0f} %" for key, share in get_param_importances(search.study).items()
    )


def _table(rows: Sequence[Row], metric: str) -> list[list[str]]:
    """Head and a line per trial, with values as a person reads them."""
    keys = list(dict.fromkeys(key for row in rows for key in row.settings))
    lines = [["trial", "state", metric, *keys, "s"]]
    for row in rows:
        lines.append(
            [str(row.number), row.state, "" if row.value is None else format_value(metric, row.value)]
            + [_short(row.settings.get(key, "")) for key in keys]
            + ["" if row.seconds is None else f"{row.seconds:.1f}"]
        )
    return lines


def _short(text: str) -> str:
    """A number with four digits; other texts as they are."""
    try:
        return text if float(text) == int(float(text)) else f"{float(text):.4g}"
    except (ValueError, OverflowError):
        return text


def _page(search: "Search", rows: Sequence[Row]) -> str:
    """``summary.md``."""
    goal = search.goal
    head, *body = ("| " + " | ".join(line) + " |" for line in _table(rows, goal.metric))
    better = "lower" if goal.mode == "min" else "higher"
    what = "at its best epoch of the last phase" if goal.monitored else "of the finished run"
    failed = [f"- trial {row.number}: {row.error}" for row in rows if row.state == "failed"]
    parts = [
        f"# Search {search.folder.name}",
        f"{len(rows)} of {search.total} trials, compared by {goal.metric} {what}; {better} is better.",
    ]
    best = _best(rows)
    if best is not None:
        parts.append("\n".join(f"- {line}" for line in _findings(search, best)))
        parts.append(
            "The best again, and over ten seeds:\n\n```\n" + "\n".join(commands(search, best)) + "\n```"
        )
    parts.append("\n".join([head, "|" + "---|" * (head.count("|") - 1), *body]))
    if failed:
        parts.append("\n".join(["## Failed trials", "", *failed]))
    return "\n\n".join(parts) + "\n"


@in_house_style
def draw_history(rows: Sequence[Row], metric: str, mode: Literal["min", "max"]) -> "Figure":
    """The value of each trial in the order of the search, and the best so far."""
    from matplotlib.ticker import MaxNLocator

    rows = sorted(rows, key=lambda row: row.number)
    finished = [(row.number, row.value) for row in rows if row.state == "finished" and row.value is not None]
    pruned = [(row.number, row.value) for row in rows if row.state == "pruned" and row.value is not None]
    failed = [row.number for row in rows if row.state == "failed"]
    best = (min if mode == "min" else max)(finished, key=lambda pair: pair[1])
    title = f"Trial {best[0]} is the best of {len(rows)}: {metric} {format_value(metric, best[1])}"
    figure, (axes,) = new_figure(title)
    values = [value for _, value in finished + pruned]
    if min(values) > 0 and max(values) / min(values) > _LOG_FROM_RATIO:
        axes.set_yscale("log")
    so_far: list[float] = []
    for _, value in finished:
        so_far.append(value if not so_far else (min if mode == "min" else max)(so_far[-1], value))
    numbers = [number for number, _ in finished]
    last = max(row.number for row in rows)
    axes.step([*numbers, last], [*so_far, so_far[-1]], where="post", color=PALETTE[5], label="best so far")
    axes.plot(*zip(*finished, strict=True), "o", color=PALETTE[0], label="finished")
    if pruned:
        axes.plot(*zip(*pruned, strict=True), "o", color=MUTED, markerfacecolor="white", label="pruned")
    if failed:
        # on the axis: they have no value
        place = axes.get_xaxis_transform()
        axes.plot(
            failed, [0.0] * len(failed), "x", color=MUTED, transform=place, clip_on=False, label="failed"
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("Trial")
    axes.set_ylabel(f"{metric} ({'lower' if mode == 'min' else 'higher'} is better)")
    figure.legend(loc="outside lower left", ncols=4)
    return figure
