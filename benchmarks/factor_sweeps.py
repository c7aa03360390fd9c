"""FactorGCN against the weight of its discriminator and against its number of factors: two sweeps.

    python -m benchmarks.factor_sweeps

Each is one ``python run.py -m`` command, which stands in the table's title. Of every configuration the mean
and the standard deviation over seeds are kept, and the picture that the sweep drew.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from benchmarks.report import RESULTS, ROOT, Table, write_report

METRICS = {
    "micro-F1 (%)": ("test/f1", 100.0, 1),
    "GED": ("test/ged", 1.0, 2),
    "C-Score": ("test/c_score", 1.0, 3),
}
COMMON = ("model=factorgcn", "data=mini_factor_graphs", "trainer.max_epochs=40", "seed=range(0,3)")
SWEEPS = {
    "lambda": ("model.discriminator_weight", "model.discriminator_weight=0,0.2,0.5,1"),
    "factors": ("model.factors", "model.factors=[1,1],[2,1],[4,2],[8,4]"),
}


def run_sweep(name: str, workers: int, output: Path) -> Table:
    """Runs one sweep, keeps its picture as ``factorgcn_<name>.png`` and returns its table.

    Args:
        name: of :data:`SWEEPS`.
        workers: jobs at a time.
        output: folder of the picture.
    """
    key, varied = SWEEPS[name]
    words = [*COMMON, varied]
    with tempfile.TemporaryDirectory() as place:
        given = [f"paths.runs={place}", f"sweep.workers={workers}", "logger=csv", "~callbacks.pictures"]
        subprocess.run([sys.executable, str(ROOT / "run.py"), "-m", *words, *given], check=True, cwd=ROOT)
        (sweep,) = (Path(place) / "sweeps").iterdir()
        output.mkdir(parents=True, exist_ok=True)
        shutil.copy(sweep / "summary.png", output / f"factorgcn_{name}.png")
        found: dict[str, list[dict[str, float]]] = defaultdict(list)
        for path in sorted(Path(place).glob("factorgcn_*/*/results.json")):
            results = json.loads(path.read_text(encoding="utf-8"))
            found[_setting(path.parent, key)].append(results["metrics"])
    rows = [{key: value, "seeds": len(runs), **_summary(runs)} for value, runs in sorted(found.items())]
    return Table(f"`python run.py -m {' '.join(words)}`", rows)


def _setting(folder: Path, key: str) -> str:
    """The value of a dotted key in a run's configuration, as text."""
    from omegaconf import OmegaConf

    return str(OmegaConf.select(OmegaConf.load(folder / "config.yaml"), key))


def _summary(runs: list[dict[str, float]]) -> dict[str, Any]:
    summary = {}
    for title, (metric, factor, digits) in METRICS.items():
        values = [factor * run[metric] for run in runs]
        spread = f" ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else ""
        summary[title] = f"{statistics.mean(values):.{digits}f}{spread}"
    return summary


def main() -> None:
    """Runs both sweeps, prints their tables and writes the JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2, help="jobs at a time (default 2)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of JSON and pictures")
    arguments = parser.parse_args()
    tables = [run_sweep(name, arguments.workers, arguments.output) for name in SWEEPS]
    write_report("factor_sweeps", tables, arguments.output)


if __name__ == "__main__":
    main()
