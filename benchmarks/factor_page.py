"""The part of RESULTS.md about factored graphs and about cross-validations, from the finished runs."""

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import ExperimentRow, Table

TITLES = {"factor_graphs": "factor graphs", "mini_factor_graphs": "factor graphs, 8,000"}
SETS = {"mutag": "MUTAG", "imdb_binary": "IMDB-BINARY"}

# Micro-F1, GED_E and C-Score on the synthetic set, as the specification quotes arXiv 2010.05421 from memory.
PUBLISHED = {
    "graph_mlp": (0.940, None, None),
    "graph_gcn": (0.947, None, None),
    "graph_gat": (0.923, 12.59, 0.288),
    "disengcn": (0.904, 10.54, 0.367),
    "factorgcn": (0.995, 10.59, 0.532),
}
_NULLS = (("random weights", "_random"), ("all weights equal", "_equal"))


def factor_table(experiments: Sequence[ExperimentRow], rows: Sequence[dict[str, Any]]) -> str:
    """Micro-F1, GED_E and C-Score with the published values, and both null predictors; a note if not run."""
    lines = [
        "| data | method | micro-F1 (%) | GED | C-Score | ties by index | seeds | published: F1, GED, C"
        " | training (s) | command |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for experiment in experiments:
        own = [row for row in rows if row["experiment"] == experiment.key]
        if not own:
            continue
        seeds = [row["seed"] for row in own]
        words = experiment.command(f"0..{max(seeds)}" if len(seeds) > 1 else seeds[0])
        stated = PUBLISHED.get(experiment.model) if experiment.data == "factor_graphs" else None
        if experiment.overrides:
            stated = None
        seconds = statistics.median(row["seconds"]["fit"] for row in own)
        cells = [
            TITLES.get(experiment.data, experiment.data),
            experiment.title,
            _mean(own, "test/f1", 100, 1),
            _mean(own, "test/ged", 1, 2),
            _mean(own, "test/c_score", 1, 3),
            _mean(own, "test/c_score_index", 1, 3),
            str(len(own)),
            _stated(stated),
            f"{seconds:.0f}",
            f"`python run.py {' '.join(words)}`",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += _null_lines(experiments, rows)
    return "\n".join(lines) if len(lines) > 2 else "Not run."


def _null_lines(experiments: Sequence[ExperimentRow], rows: Sequence[dict[str, Any]]) -> list[str]:
    """The null predictors beside FactorGCN's factors, whose number is theirs too."""
    lines = []
    for data in TITLES:
        keys = {e.key for e in experiments if e.model == "factorgcn" and e.data == data and not e.overrides}
        own = [row for row in rows if row["experiment"] in keys]
        for title, suffix in _NULLS if own else ():
            cells = [
                TITLES[data],
                f"{title} (null)",
                "–",
                _mean(own, f"test/ged{suffix}", 1, 2),
                _mean(own, f"test/c_score{suffix}", 1, 3),
                _mean(own, f"test/c_score_index{suffix}", 1, 3),
                str(len(own)),
                "–",
                "–",
                "the same runs",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def sweep_section(folder: Path) -> str:
    """Tables and pictures of ``benchmarks.factor_sweeps``, and a line break; empty where it was not run."""
    file = folder / "factor_sweeps.json"
    if not file.exists():
        return ""
    report = json.loads(file.read_text(encoding="utf-8"))
    parts = ["", "### `python -m benchmarks.factor_sweeps`"]
    commit = (report["git"]["commit"] or "unknown")[:12]
    parts.append(
        f"{report['date'][:10]}, {report['hardware']['cpu']}, source {commit}. ± over seeds. With one factor"
        " the C-Score is 1 by itself, and\nwith more factors GED falls by itself, as the best are chosen."
    )
    for table, name in zip(report["tables"], ("lambda", "factors"), strict=True):
        parts.append(Table(**table).markdown())
        parts.append(f"![The sweep's own picture](benchmarks/results/factorgcn_{name}.png)")
    return "\n\n".join(parts) + "\n"


def fold_table(experiments: Sequence[ExperimentRow], rows: Sequence[dict[str, Any]]) -> str:
    """Ten-fold accuracies, one line a run; a note where none has been run."""
    lines = [
        "| data | method | protocol | accuracy (%) | last weights | published (%) | seed | minutes"
        " | command |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for experiment in experiments:
        for row in (row for row in rows if row["experiment"] == experiment.key):
            metrics, published = row["metrics"], row["published"]
            last = metrics.get("test/acc_last")
            holdout = any("holdout" in word for word in experiment.overrides)
            cells = [
                SETS.get(experiment.data, experiment.data),
                experiment.title,
                "holdout" if holdout else "gin",
                f"{100 * metrics['test/acc']:.1f} ± {100 * metrics['test/acc_std']:.1f}",
                "–" if last is None else f"{100 * last:.1f}",
                f"{100 * published['value']:.1f}" if published and not holdout else "–",
                str(row["seed"]),
                f"{sum(row['seconds'].values()) / 60:.0f}",
                f"`python run.py {' '.join(experiment.command(row['seed']))}`",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 2 else "Not run."


def short_table(experiments: Sequence[ExperimentRow], rows: Sequence[dict[str, Any]]) -> str:
    """What has a published value, for README.md: one line an experiment; empty where none has been run."""
    lines = ["| data | method | measured | runs | published |", "|---|---|---|---|---|"]
    for experiment in experiments:
        own = [row for row in rows if row["experiment"] == experiment.key and row["published"]]
        if not own or experiment.overrides:
            continue
        published = own[0]["published"]
        metric = published["metric"]
        measured = _mean(own, metric, 100, 1)
        if len(own) == 1 and f"{metric}_std" in own[0]["metrics"]:
            measured += f" ± {100 * own[0]['metrics'][f'{metric}_std']:.1f}"
        name = "micro-F1" if metric == "test/f1" else "ten-fold accuracy"
        data = (TITLES | SETS).get(experiment.data, experiment.data)
        lines.append(
            f"| {data} | {experiment.title} | {measured} % {name} | {len(own)}"
            f" | {100 * published['value']:.1f} % |"
        )
    return "\n".join(lines) if len(lines) > 2 else ""


def _mean(rows: Sequence[dict[str, Any]], metric: str, factor: float, digits: int) -> str:
    values = [factor * row["metrics"][metric] for row in rows if metric in row["metrics"]]
    if not values:
        return "–"
    spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.{digits}f}{spread}"


def _stated(values: tuple[float | None, ...] | None) -> str:
    if values is None:
        return "–"
    f1, ged, score = values
    parts = [f"{100 * f1:.1f}" if f1 is not None else "–"]
    return ", ".join([*parts, f"{ged:.2f}" if ged else "–", f"{score:.3f}" if score else "–"])
