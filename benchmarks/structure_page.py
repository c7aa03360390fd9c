"""The part of RESULTS.md about students that copy a teacher's local structure, from the finished runs."""

import json
import shlex
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from harness.figures import INK, PALETTE, in_house_style, new_figure, save_png

TITLES = {"mini_ppi": "mini_ppi", "mini_modelnet": "mini_modelnet"}
METRICS = {"mini_ppi": ("test/f1", "micro-F1 (%)"), "mini_modelnet": ("test/acc", "accuracy (%)")}
FILE = "structure.json"
TEACHER, PLAIN, LSP, RELEASE = "teacher", "student, labels alone", "LSP", "LSP as released"
LAST_TEACHER, LAST_PLAIN, LAST_LSP, LAST_RELEASE = (
    f"{name}; teacher of the last epoch" if name != TEACHER else "teacher of the last epoch"
    for name in (TEACHER, PLAIN, LSP, RELEASE)
)
DRAWN = (PLAIN, "KD", "FitNet", "AT", LSP, "LSP + KD", RELEASE, "LSP, lambda 1", "LSP, lambda 100")
"""Students in the pictures: of one teacher a seed, so that one ruler measures all."""

PAPER = "Yang et al., CVPR 2020, arXiv 2003.10477, as quoted by arXiv 2111.04964"
RERUN = "arXiv 2111.04964, ten seeds"
PUBLISHED = (
    # micro-F1 in %: the paper's; the independent run's of the same student, and of one with two layers
    ("teacher", "97.6", "97.95 ± 0.10", "97.95 ± 0.10"),
    ("student, labels alone", "95.7", "97.90 ± 0.45", "87.55 ± 1.33"),
    ("KD", "–", "97.93 ± 0.26", "88.30 ± 1.81"),
    ("FitNet", "95.6", "97.74 ± 0.34", "87.46 ± 0.78"),
    ("AT", "95.4", "97.02 ± 0.76", "86.82 ± 1.27"),
    ("LSP", "96.1", "97.81 ± 0.31", "88.37 ± 1.89"),
)
PUBLISHED_CLOUDS = (
    # overall and mean-class accuracy in %, quoted from memory and not checked
    ("teacher", "92.4", "89.3"),
    ("student, labels alone", "91.2", "87.5"),
    ("KD", "91.6", "88.1"),
    ("FitNet", "91.1", "87.9"),
    ("AT", "91.6", "87.9"),
    ("LSP", "91.9", "88.6"),
)

NOTE = (
    "Two generated stand-ins, `python -m benchmarks.structure_sweeps`; ± is the standard deviation over"
    " seeds.\nL_LSP is the common ruler of all methods (rbf, sigma 100, teacher against student) on the"
    " training set,\nwith the weights that validation chose, unless a row says otherwise. The draw of"
    " mini_ppi's graphs was\nchosen for a teacher well ahead of its student. On mini_ppi each seed has a"
    " teacher of its own, on\nmini_modelnet all share that of seed 0."
)


def structure_table(rows: Sequence[dict[str, Any]]) -> str:
    """Test score and L_LSP by data and method; a note where nothing has been run."""
    lines = [
        "| data | method | test (%) | L_LSP of the training set, x 1000 | seeds | seconds a run | command |",
        "|---|---|---|---|---|---|---|",
    ]
    for own in grouped(rows):
        first = own[0]
        metric, unit = METRICS[first["data"]]
        seconds = [sum(s for name, s in row["seconds"].items() if name != "setup") for row in own]
        cells = [
            first["data"],
            first["title"],
            f"{spread(values(own, metric, 100), 1)} {unit.removesuffix(' (%)')}",
            spread(values(own, "lsp_ruler", 1000), 2),
            str(len(own)),
            f"{statistics.median(seconds):.0f}",
            _command(own),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 2 else "Not run."


def grouped(rows: Sequence[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Rows of one method together, in the order in which methods come."""
    keys = list(dict.fromkeys(row["method"] for row in rows))
    return [[row for row in rows if row["method"] == key] for key in keys]


def values(rows: Sequence[dict[str, Any]], metric: str, factor: float) -> list[float]:
    """A metric of all rows that have it, times ``factor``."""
    return [factor * row["metrics"][metric] for row in rows if metric in row["metrics"]]


def spread(found: Sequence[float], digits: int) -> str:
    """Mean and standard deviation over seeds; a dash where there is nothing."""
    if not found:
        return "–"
    more = f" ± {statistics.stdev(found):.{digits}f}" if len(found) > 1 else ""
    return f"{statistics.mean(found):.{digits}f}{more}"


def _command(rows: Sequence[dict[str, Any]]) -> str:
    """The command of one seed, the last one's number in place of N where there are several."""
    words = list(rows[0]["command"])
    if len(rows) == 1:
        return f"`{shlex.join(words)}`"
    seeds = sorted(row["seed"] for row in rows)
    text = shlex.join([word.replace(f"seed={rows[0]['seed']}", "seed=N") for word in words])
    return f"`{text}`, N = {seeds[0]} to {seeds[-1]}"


def acceptance(rows: Sequence[dict[str, Any]]) -> str:
    """What was asked of mini_ppi, and whether it was reached; empty where a row is missing."""
    titles = (TEACHER, PLAIN, LSP, RELEASE, LAST_PLAIN, LAST_LSP)
    own = {
        title: [row for row in rows if row["data"] == "mini_ppi" and row["title"] == title]
        for title in titles
    }
    if not all(own.values()):
        return ""
    f1 = {title: statistics.mean(values(found, "test/f1", 100)) for title, found in own.items()}
    ruler = {title: values(found, "lsp_ruler", 1) for title, found in own.items()}
    cut = statistics.mean(ruler[PLAIN]) / statistics.mean(ruler[LSP])
    last_cut = statistics.mean(ruler[LAST_PLAIN]) / statistics.mean(ruler[LAST_LSP])
    ahead, apart = f1[TEACHER] - f1[PLAIN], f1[RELEASE] - f1[PLAIN]
    return (
        "Asked of mini_ppi: LSP lowers L_LSP at least three times against the plain student. With the teacher"
        f" of its\nlast epoch, which the authors' code distils, it does {last_cut:.1f} times"
        f" ({_met(last_cut >= 3)}), with that of the best validation\nscore, which is the default,"
        f" {cut:.1f} times ({_met(cut >= 3)}): a teacher's embedding goes on spreading while its score\n"
        f"falls. The teacher is at least 4 points ahead of the plain student ({ahead:+.1f},"
        f" {_met(ahead >= 4)}), and LSP as\nreleased is within 3 points of it"
        f" ({apart:+.1f}, {_met(abs(apart) <= 3)}). That LSP raises F1 is not asked: here it changes\nit by"
        f" {f1[LSP] - f1[PLAIN]:+.1f} points, with the teacher of the last epoch by"
        f" {f1[LAST_LSP] - f1[LAST_PLAIN]:+.1f}."
    )


def _met(reached: bool) -> str:
    return "reached" if reached else "not reached"


def structure_section(folder: Path) -> str:
    """Tables, notes and picture; a note where ``benchmarks.structure_sweeps`` has not been run."""
    file = folder / FILE
    rows = json.loads(file.read_text(encoding="utf-8")) if file.exists() else []
    parts = []
    if rows:
        dates = sorted({row["date"] for row in rows})
        machines = sorted({row["hardware"]["cpu"] for row in rows})
        commits = sorted({(row["commit"] or "unknown")[:12] for row in rows})
        parts = [
            structure_table(rows),
            f"{NOTE} {dates[0]} to {dates[-1]}, {'; '.join(machines)},\nsource {', '.join(commits)}.",
            acceptance(rows),
        ]
        parts += [
            f"![{METRICS[data][1]} against L_LSP](benchmarks/results/{picture(data)})"
            for data in TITLES
            if (folder / picture(data)).exists()
        ]
    parts += [
        "Published, and an independent run of the same; neither set is here, so nothing is measured:",
        _published(),
    ]
    return "\n\n".join(part for part in parts if part)


def _published() -> str:
    lines = [
        "| PPI, micro-F1 (%) | measured | published | independent | independent, two layers | command |",
        "|---|---|---|---|---|---|",
    ]
    for name, paper, rerun, short in PUBLISHED:
        lines.append(f"| {name} | – | {paper} | {rerun} | {short} | `{_words(name, 'lsp', 'ppi')}` |")
    lines += [
        "",
        f"Published: {PAPER}. Independent: {RERUN}. There LSP is plain training within noise, if that is long"
        " enough.",
        "",
        "| ModelNet40 (%) | measured | published: overall | published: mean of classes | command |",
        "|---|---|---|---|---|",
    ]
    for name, overall, mean in PUBLISHED_CLOUDS:
        lines.append(f"| {name} | – | {overall} | {mean} | `{_words(name, 'lsp_dgcnn', 'modelnet40')}` |")
    lines += ["", "Published: the same paper, quoted from memory and not checked."]
    return "\n".join(lines)


def _words(name: str, model: str, data: str) -> str:
    if name == TEACHER:
        return f"python run.py model={'inductive_gat' if model == 'lsp' else 'dgcnn'} data={data}"
    distill = {PLAIN: "full", "KD": "kd", "FitNet": "fitnet", "AT": "at", "LSP": "lsp"}[name]
    return f"python run.py model={model} data={data} model.distill={distill}"


# Pictures


def picture(data: str) -> str:
    """Name of the picture of one data set."""
    return f"structure_{data}.png"


def draw_pictures(rows: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """A picture of each data set that has students; the files."""
    made = []
    for data in TITLES:
        own = [row for row in rows if row["data"] == data]
        students = [group for group in grouped(own) if group[0]["title"] in DRAWN]
        teacher = values([row for row in own if row["title"] == TEACHER], METRICS[data][0], 100)
        if students:
            made.append(save_png(draw_scores(students, data, teacher), folder / picture(data)))
    return made


@in_house_style
def draw_scores(students: Sequence[Sequence[dict[str, Any]]], data: str, teacher: Sequence[float]) -> Any:
    """Each method's test score against its L_LSP: mean over seeds, with their deviations as whiskers.

    Args:
        students: the rows of each method.
        data: of all of them.
        teacher: scores of the teachers in percent; may be empty.
    """
    metric, unit = METRICS[data]
    points = [(values(rows, "lsp_ruler", 1000), values(rows, metric, 100)) for rows in students]
    plain = [one for one, rows in zip(points, students, strict=True) if rows[0]["title"] == PLAIN]
    lsp = [one for one, rows in zip(points, students, strict=True) if rows[0]["title"] == LSP]
    title = f"Test score against L_LSP, {data}"
    if plain and lsp:
        cut = statistics.mean(plain[0][0]) / statistics.mean(lsp[0][0])
        change = statistics.mean(lsp[0][1]) - statistics.mean(plain[0][1])
        title = f"LSP lowers L_LSP {cut:.1f} times and changes the score by {change:+.1f} points"
    figure, (axes,) = new_figure(title, height=5.0)
    for number, ((rulers, scores), rows) in enumerate(zip(points, students, strict=True)):
        colour = PALETTE[number % len(PALETTE)]
        axes.errorbar(
            statistics.mean(rulers),
            statistics.mean(scores),
            xerr=np.std(rulers, ddof=1) if len(rulers) > 1 else None,
            yerr=np.std(scores, ddof=1) if len(scores) > 1 else None,
            fmt="os^DvPX<>"[number % 9],
            color=colour,
            markersize=8,
            capsize=2,
            label=rows[0]["title"],
        )
    if teacher:
        axes.axhline(statistics.mean(teacher), color=INK, linestyle="--", linewidth=1.2, label="teacher")
    axes.set_xlabel("L_LSP on the training set, x 1000 (lower: more like the teacher)")
    axes.set_ylabel(unit)
    axes.margins(0.08)
    axes.set_ylim(top=min(axes.get_ylim()[1], 100.5))  # deviations of scores near 100 % go beyond it
    figure.legend(loc="outside lower left", ncols=3)
    return figure
