"""What all benchmarks share: their graph, their table, their JSON."""

import argparse
import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.files import write_json
from harness.system import git_state, hardware_summary, versions

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds ``--data`` and ``--output``."""
    parser.add_argument(
        "--data",
        default=os.environ.get("TENFOLD_DATA"),
        help="folder of data sets with Cora in it (default: TENFOLD_DATA; else a generated graph like Cora)",
    )
    parser.add_argument(
        "--output", type=Path, default=RESULTS, help="folder of the JSON (default: benchmarks/results)"
    )


def graph_datamodule(data: str | None) -> tuple[Any, str]:
    """Cora from ``data``, or a generated graph of its size, as a data module that is set up, and its name."""
    from harness.build import build_datamodule
    from harness.configuration.compose import compose

    if data is not None:
        return build_datamodule(compose(["data=cora", f"paths.data={data}"]).config), "Cora"
    from benchmarks.cora_sized import CoraSized

    generated = CoraSized()
    generated.setup()
    return generated, "a generated graph of Cora's size"


def print_table(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """Prints rows of equal keys as a table; floats with three significant digits."""
    texts = [{key: _text(value) for key, value in row.items()} for row in rows]
    columns = list(texts[0])
    widths = {key: max(len(key), *(len(text[key]) for text in texts)) for key in columns}
    print(f"\n{title}")
    print("  ".join(f"{key:>{widths[key]}}" for key in columns))
    for text in texts:
        print("  ".join(f"{text[key]:>{widths[key]}}" for key in columns))


def write_report(name: str, content: dict[str, Any], folder: Path = RESULTS) -> None:
    """Writes ``<folder>/<name>.json``: the content with machine, versions, source state and date."""
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware_summary(),
        "versions": versions(),
        "git": git_state(ROOT),
    }
    write_json(folder / f"{name}.json", {**content, **about})
    print(f"written: {folder / name}.json")


def _text(value: Any) -> str:
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")
