"""What a sweep shows while it runs: a line for each job that ended and, on a terminal, a bar."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from harness.sweeps.plan import written
from harness.sweeps.state import Record


class Board:
    """Prints to stderr.

    Args:
        total: jobs of the sweep; None where nobody knows.
        ended: those that earlier sessions have brought to an end.
    """

    def __init__(self, total: int | None, ended: int) -> None:
        self._total, self._ended = total, ended
        self._width = len(str(total or 1000))
        self._bar: Progress | None = None
        console = Console(file=sys.stderr)
        if console.is_terminal:
            self._bar = Progress(
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                console=console,
                auto_refresh=False,  # it would need a thread, and no process with threads may be forked
                transient=True,
            )
            self._task = self._bar.add_task("", total=total, completed=ended)

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Shows the bar while it is open."""
        if self._bar is None:
            yield
            return
        with self._bar:
            yield

    def refresh(self, running: list[Record] | None = None) -> None:
        """Moves the clock of the bar, and names the jobs that run."""
        if self._bar is not None:
            if running is not None:
                names = " | ".join(written(record.varied) or f"job {record.index}" for record in running)
                self._bar.update(self._task, description=names[:60])
            self._bar.refresh()

    def tell(self, record: Record, score: str) -> None:
        """Prints the line of a job that ended, with what it measured."""
        self._ended += 1
        of = "" if self._total is None else f"/{self._total}"
        name = written(record.varied) or f"{record.model} on {record.data}"
        what = f"{record.status}: {record.error}" if record.error is not None else score or record.status
        line = f"[{self._ended:>{self._width}}{of}] {name}  {what}  {record.seconds:.1f} s"
        if self._bar is None:
            print(line, file=sys.stderr, flush=True)
        else:
            self._bar.update(self._task, completed=self._ended)
            self._bar.console.print(line, markup=False, highlight=False, soft_wrap=True)
