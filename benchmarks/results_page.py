"""RESULTS.md and the table in README.md, from the finished runs."""

import json
import re
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.acquisition_page import acquisition_section
from benchmarks.factor_page import factor_table, fold_table, short_table, sweep_section
from benchmarks.few_shot_page import few_shot_section
from benchmarks.generation_page import draw_curves, generation_notes, generation_table
from benchmarks.report import RESULTS, ROOT, ExperimentRow, Table
from benchmarks.structure_page import structure_section
from harness.files import write_text

TRAINED_ABOVE = 50.0
"""Test accuracy in percent; a run below never left the plateau it began on (chance is 14 to 17 %)."""

PUBLISHED_DATA = ("cora", "citeseer")
"""Data sets whose rows also stand in README.md."""

BENCHMARKS = (
    "path_search",
    "training_step",
    "harness_overhead",
    "operations",
    "kill_resume",
    "savepoint_cost",
    "sweep_scaling",
    "osgan",
    "factorgcn",
    "netgraft",
    "lsp",
    "edge_conv",
    "deal",
)

TITLES = {
    "cora": "Cora",
    "citeseer": "CiteSeer",
    "relay_graph": "relay graph",
    "mini_citation": "mini-citation",
}


@dataclass(frozen=True)
class Difference:
    """SPAGAN minus GAT over paired seeds, in points of accuracy.

    Attributes:
        mean: mean difference.
        low: lower end of its 95 % interval.
        high: upper end.
        wins: seeds on which SPAGAN is above.
        count: number of seeds.
    """

    mean: float
    low: float
    high: float
    wins: int
    count: int


def paired_difference(ours: Sequence[float], theirs: Sequence[float]) -> Difference:
    """Mean difference of paired values with its 95 % confidence interval (Student's t).

    Args:
        ours: accuracies in percent, one a seed.
        theirs: of the same seeds in the same order.

    Raises:
        ValueError: with fewer than two pairs, or sequences of different lengths.
    """
    from scipy.stats import t

    differences = [a - b for a, b in zip(ours, theirs, strict=True)]
    if len(differences) < 2:
        raise ValueError(f"an interval needs at least two pairs, got {len(differences)}")
    mean = statistics.mean(differences)
    half = float(t.ppf(0.975, len(differences) - 1)) * statistics.stdev(differences) / len(differences) ** 0.5
    return Difference(mean, mean - half, mean + half, sum(d > 0 for d in differences), len(differences))


def write_page(
    path: Path,
    experiments: Sequence[ExperimentRow],
    generators: Sequence[ExperimentRow],
    factors: Sequence[ExperimentRow],
    folds: Sequence[ExperimentRow],
    rows: Sequence[dict[str, Any]],
) -> None:
    """Writes the page, and the short table between README.md's markers.

    Args:
        path: the page.
        experiments: in the order of the table.
        generators: those that make images, in the order of theirs.
        factors: those on graphs with known factors.
        folds: cross-validations.
        rows: one per finished run, as ``reproduction.json`` holds them.
    """
    table = _table(experiments, rows)
    published = [e for e in experiments if e.data in PUBLISHED_DATA and "authors" not in e.key]
    text = f"""# Results

Written by `make reproduce`; not edited by hand. Every value is the test of one command per seed, run with
`logger=csv`; the runs, with epochs and seconds, are in `benchmarks/results/reproduction.json`.

## Test accuracy, measured beside published

{table}

GAT is the first phase of the SPAGAN runs over the same seeds: `python run.py model=gat` gives the same number
(a test holds this). ± is the standard deviation over seeds. Authors' initialisation also draws the biases; it
runs at least 500 epochs a phase, as the authors' code does, instead of 200 (1,500 where it says more epochs).
Published values are quoted as later papers repeat them and were not checked again against each paper's PDF.
Where a range reaches down to chance, some runs never left the plateau on which those biases let them begin.
The control of distillation without data, in two stages, has the settings that were chosen for one stage, and
with as many updates of the student a fifth of the generator's: the difference is not the scheme's alone.

## Is SPAGAN better than GAT?

{_differences(experiments, rows)}

Published: SPAGAN above GAT by 0.6 points on Cora and 0.5 on CiteSeer. A test set of 1,000 nodes has a
sampling error of 1.2 points at 83 % by itself; the seeds are paired, so that part cancels in the difference.
Only seeds on which both networks got above {TRAINED_ABOVE:.0f} % are compared.

## Generated images

{generation_table(generators, rows)}

{generation_notes(generators, rows)}
{_picture(generators, rows)}
## Factored graphs

{factor_table(factors, rows)}

The synthetic experiment of FactorGCN: which known graphs each graph is the sum of. GED (lower is better) and
C-Score (higher) compare factor graphs with the known ones; attention heads and channels are factors too. Both
null predictors stand below: a GED is worth something below that of random weights, a C-Score above it. Ties
in the assignment are broken at random; by the order of the factors, as the authors' code breaks them, scores
are higher without anything being found. Measured in float64, where the authors' float32 saturates. GIN, which
the paper does not compare with, is above FactorGCN in F1. Published values are quoted as later papers
repeat them and were not checked again against the PDF.
{sweep_section(RESULTS)}
## Ten-fold cross-validation

{fold_table(folds, rows)}

One run is all ten folds; ± is the standard deviation over folds. By the protocol `gin`, which the published
values follow, the epoch is chosen on the folds that are reported, so it flatters: "last weights" is what the
final weights reach, and `holdout` chooses on a fold that is neither trained on nor reported.

## Students from few images

{few_shot_section(RESULTS)}

## Students of graph networks

{structure_section(RESULTS)}

## Asking for labels

{acquisition_section(RESULTS)}

## Where and when

{_provenance(rows)}

## Speed

{_speed(RESULTS)}
"""
    write_text(path, text)
    _fill_readme(_table(published, rows), short_table([*factors, *folds], rows))


def _picture(generators: Sequence[ExperimentRow], rows: Sequence[dict[str, Any]]) -> str:
    path = draw_curves(generators, rows, "mnist")
    return f"\n![Quality against time and against steps]({path.relative_to(ROOT)})\n" if path else ""


def _accuracies(rows: Sequence[dict[str, Any]], key: str, metric: str) -> dict[int, float]:
    return {
        r["seed"]: 100 * r["metrics"][metric]
        for r in rows
        if r["experiment"] == key and metric in r["metrics"]
    }


def _table(experiments: Sequence[ExperimentRow], rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| data | method | measured (%) | range | seeds | published (%) | seconds a run | command |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for experiment in experiments:
        own = [row for row in rows if row["experiment"] == experiment.key]
        if not own:
            continue
        gat = _accuracies(rows, experiment.key, "test/acc_gat")
        if gat:
            title = experiment.title.replace("SPAGAN", "GAT")
            lines.append(_line(experiment, title, gat, _gat_published(experiment.data), own, "attention"))
        published = own[0]["published"]
        scores = _accuracies(rows, experiment.key, "test/acc")
        lines.append(_line(experiment, experiment.title, scores, published, own, None))
    return "\n".join(lines)


def _line(
    experiment: ExperimentRow,
    title: str,
    scores: dict[int, float],
    published: dict[str, Any] | None,
    rows: Sequence[dict[str, Any]],
    phase: str | None,
) -> str:
    values = list(scores.values())
    spread = f" ± {statistics.stdev(values):.1f}" if len(values) > 1 else ""
    stated = "–"
    if published:
        stated = f"{100 * published['value']:.1f}"
        stated += f" ± {100 * published['spread']:.1f}" if published["spread"] is not None else ""
    total = [row["seconds"][phase] if phase else sum(row["seconds"].values()) for row in rows]
    words = experiment.command(f"0..{max(scores)}" if len(scores) > 1 else 0)
    command = " ".join(["python run.py", *words]) + (", first phase" if phase else "")
    name = TITLES.get(experiment.data, experiment.data)
    return (
        f"| {name} | {title} | {statistics.mean(values):.1f}{spread}"
        f" | {min(values):.1f} to {max(values):.1f} | {len(values)} | {stated}"
        f" | {statistics.median(total):.0f} | `{command}` |"
    )


def _gat_published(data: str) -> dict[str, Any] | None:
    from omegaconf import OmegaConf

    preset = ROOT / "conf" / "experiment" / f"gat_{data}.yaml"
    if not preset.exists():
        return None
    content: Any = OmegaConf.to_container(OmegaConf.load(preset))
    return dict(content["published"])


def _differences(experiments: Sequence[ExperimentRow], rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| data | initialisation | SPAGAN − GAT (points) | 95 % interval | above | trained | reading |",
        "|---|---|---|---|---|---|---|",
    ]
    for experiment in experiments:
        gat = _accuracies(rows, experiment.key, "test/acc_gat")
        ours = _accuracies(rows, experiment.key, "test/acc")
        trained = [seed for seed in gat if min(gat[seed], ours[seed]) > TRAINED_ABOVE]
        name = TITLES.get(experiment.data, experiment.data)
        if len(trained) < 2:
            if gat:
                lines.append(
                    f"| {name} | {_init(experiment)} | – | – | – | {len(trained)} of {len(gat)} | – |"
                )
            continue
        d = paired_difference([ours[seed] for seed in trained], [gat[seed] for seed in trained])
        reading = "above zero" if d.low > 0 else "below zero" if d.high < 0 else "no difference shown"
        lines.append(
            f"| {name} | {_init(experiment)} | {d.mean:+.2f} | {d.low:+.2f} to {d.high:+.2f} | {d.wins}"
            f" | {d.count} of {len(gat)} | {reading} |"
        )
    return "\n".join(lines)


def _init(experiment: ExperimentRow) -> str:
    _, _, name = experiment.title.partition(", ")
    return name or "zero biases"


def _provenance(rows: Sequence[dict[str, Any]]) -> str:
    dates = sorted({row["date"] for row in rows})
    machines = sorted({_machine(row["hardware"]) for row in rows})
    libraries = sorted(
        {", ".join(f"{name} {version}" for name, version in row["versions"].items()) for row in rows}
    )
    commits = sorted(
        {(row["commit"] or "unknown")[:12] + (" with changes" if row["dirty"] else "") for row in rows}
    )
    return "\n".join(
        f"- {name}: {'; '.join(values)}"
        for name, values in (
            ("dates", dates),
            ("hardware", machines),
            ("libraries", libraries),
            ("source", commits),
        )
    )


def _speed(folder: Path) -> str:
    """The tables of the benchmarks that have been run, each under its command."""
    parts = []
    for name in BENCHMARKS:
        file = folder / f"{name}.json"
        if file.exists():
            report = json.loads(file.read_text(encoding="utf-8"))
            commit = (report["git"]["commit"] or "unknown")[:12]
            parts.append(
                f"### `python -m benchmarks.{name}`\n\n{report['date'][:10]}, {report['hardware']['cpu']},"
                f" torch {report['versions']['torch']}, source {commit}."
            )
            parts += [Table(**table).markdown() for table in report["tables"]]
    return "\n\n".join(parts) or "`make bench` has not been run."


def _machine(hardware: dict[str, Any]) -> str:
    devices = ", ".join([hardware["cpu"], *hardware["gpus"]])
    return f"{devices}, {hardware['precision']}, {hardware['threads']} thread(s) a run"


def _fill_readme(table: str, graphs: str) -> None:
    readme = ROOT / "README.md"
    before = readme.read_text(encoding="utf-8")
    short = "\n".join("|".join(line.split("|")[:7]) + "|" for line in table.splitlines())
    more = (
        "Test accuracy over seeds, written by `make reproduce`. [RESULTS.md](RESULTS.md) has the commands,"
        " the paired\ncomparison of SPAGAN with GAT, the authors' initialisation, the embedded graphs and all"
        " timings."
    )
    after = re.sub(
        r"(<!-- results -->).*?(<!-- /results -->)",
        lambda match: "\n".join([match[1], "\n\n".join(filter(None, (short, graphs, more))), match[2]]),
        before,
        flags=re.DOTALL,
    )
    if after != before:
        write_text(readme, after)
