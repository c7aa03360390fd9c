"""What all benchmarks share: their graph, their table, their JSON."""

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

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


class ExperimentRow(Protocol):
    """What a table of results needs to know of an experiment."""

    @property
    def key(self) -> str: ...
    @property
    def title(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def data(self) -> str: ...
    @property
    def overrides(self) -> tuple[str, ...]: ...

    def command(self, seed: int | str) -> list[str]:
        """The words after ``python run.py``."""


@dataclass(frozen=True)
class Table:
    """A table of figures.

    Attributes:
        title: what, where and how it was measured.
        rows: of equal keys.
        note: what was asked and whether it was reached; empty for nothing.
    """

    title: str
    rows: list[dict[str, Any]]
    note: str = ""

    def texts(self) -> list[list[str]]:
        """The head, then the rows, as text; floats with three significant digits."""
        return [list(self.rows[0]), *([_text(value) for value in row.values()] for row in self.rows)]

    def print(self) -> None:
        """Prints the table with aligned columns."""
        texts = self.texts()
        widths = [max(len(text) for text in column) for column in zip(*texts, strict=True)]
        print(f"\n{self.title}")
        for line in texts:
            print("  ".join(f"{text:>{width}}" for text, width in zip(line, widths, strict=True)))
        if self.note:
            print(self.note)

    def markdown(self) -> str:
        """The table for a page, its title as a line above and its note below."""
        head, *lines = ("| " + " | ".join(line) + " |" for line in self.texts())
        rule = "|" + "---|" * len(self.rows[0])
        note = ["", self.note] if self.note else []
        return "\n".join([f"{self.title}:", "", head, rule, *lines, *note])


def asked(what: str, reached: bool) -> str:
    """A note of a target: ``Asked: <what>; reached.``, or not."""
    return f"Asked: {what}; {'reached' if reached else 'not reached'}."


def write_report(name: str, tables: Sequence[Table], folder: Path) -> None:
    """Prints the tables and writes ``<folder>/<name>.json``: tables, machine, versions, source state, date.

    Args:
        name: the benchmark's module.
        tables: what it measured.
        folder: made if it is not there.
    """
    for table in tables:
        table.print()
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "tables": [asdict(table) for table in tables],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "hardware": hardware_summary(),
        "versions": versions(),
        "git": git_state(ROOT),
    }
    write_json(folder / f"{name}.json", content)
    print(f"\nwritten: {folder / name}.json")


def _text(value: Any) -> str:
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")
