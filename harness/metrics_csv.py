"""``metrics.csv``: every logged metric of a run, one row a step."""

import csv
import io
import itertools
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from harness.errors import UserError
from harness.files import write_text


class MetricsCSV(Logger):
    """Appends rows to one CSV file across all phases of a run.

    Lightning's CSVLogger empties an existing file whenever a new logger is made and does not keep its columns
    in the order in which they were first logged.

    Args:
        path: the file; its folder exists.
        flush_every: rows kept in memory before they are written, >= 1. At most these are lost by a kill.
    """

    def __init__(self, path: Path, flush_every: int = 50) -> None:
        super().__init__()
        self.path = path
        self._flush_every = flush_every
        self._columns: list[str] = []
        self._written: list[dict[str, Any]] = []
        self._waiting: list[dict[str, Any]] = []

    @property
    def rows(self) -> int:
        """Rows logged so far."""
        return len(self._written) + len(self._waiting)

    def go_on_after(self, rows: int) -> list[dict[str, str]]:
        """Takes over the file of a run that is continued, and drops what was logged after its savepoint.

        Args:
            rows: rows that the savepoint counts.

        Returns:
            These rows, as they stand in the file.

        Raises:
            UserError: if the file has fewer.
        """
        kept: list[dict[str, str]] = []
        if rows:
            try:
                with self.path.open(encoding="utf-8", newline="") as file:
                    kept = list(itertools.islice(csv.DictReader(file), rows))
            except FileNotFoundError:
                pass
        if len(kept) < rows:
            raise UserError(
                f"{self.path} has {len(kept)} whole rows, but {rows} were logged before the run was stopped."
                " Put the file back, or start the run anew."
            )
        # An empty field is a metric that the row does not have. A column that came after the savepoint comes
        # again, when its metric is logged again.
        present = [{name: value for name, value in row.items() if value != ""} for row in kept]
        self._columns = list(dict.fromkeys(name for row in present for name in row))
        self._written, self._waiting = [dict(row) for row in present], []
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        if self._columns:
            writer.writeheader()
        writer.writerows(present)
        write_text(self.path, text.getvalue())
        return present

    @property
    def name(self) -> str:
        return "metrics.csv"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: ``config.yaml`` holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._waiting.append({"step": step, **metrics})
        if len(self._waiting) >= self._flush_every:
            self.save()

    @rank_zero_only
    def save(self) -> None:
        """Writes the waiting rows; a new column rewrites the file with its header."""
        if not self._waiting:
            return
        new = [name for row in self._waiting for name in row if name not in self._columns]
        if new:
            self._columns += dict.fromkeys(new)
        rows = [*self._written, *self._waiting] if new else self._waiting
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self._columns, lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerows(rows)
        if new:
            write_text(self.path, text.getvalue())
        else:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(text.getvalue())
        self._written += self._waiting
        self._waiting = []

    @rank_zero_only
    def finalize(self, status: str) -> None:
        self.save()
