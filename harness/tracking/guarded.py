"""A tracker that the run does not depend on: rows wait here, and a tracker that breaks is switched off."""

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

log = logging.getLogger("tenfold")


@dataclass(frozen=True)
class _Call:
    """A call that waits for the tracker, and the step that it belongs to."""

    step: int
    method: str
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]


class GuardedLogger(Logger):
    """Stands between a run and one of Lightning's loggers, here called its tracker.

    What is logged waits in memory and is handed over every ``every_seconds``, at savepoints and at the end.
    The tracker starts with the first row that is handed over: a run that fails before leaves nothing there.

    An exception in the tracker, whatever it is, costs one warning; the run goes on without that tracker.

    A tracker whose class has a true ``goes_on`` drops rows that it has from an earlier session of the run. It
    is given all rows since the beginning, see :meth:`catch_up`; so each is there once, wherever the savepoint
    was and whatever happened to the tracker.

    Args:
        tracker: does nothing that takes long, and leaves nothing behind, before something is logged.
        label: what to call it in a warning.
        first_after_seconds: after this time the first rows are handed over: a run shows on its dashboard
            while it is young, and a mistake that stops it at once is not shown at all.
        every_seconds: then after this time.
    """

    def __init__(
        self,
        tracker: Logger,
        label: str,
        first_after_seconds: float = 5.0,
        every_seconds: float = 30.0,
    ) -> None:
        super().__init__()
        self._tracker: Logger | None = tracker
        self._label = label
        self._every = every_seconds
        self._due = time.monotonic() + first_after_seconds
        self._step = 0  # the highest so far: an axis must not run backwards
        self._hyperparams: _Call | None = None
        self._waiting: deque[_Call] = deque()
        self._started = False

    @property
    def name(self) -> str:
        return self._label

    @property
    def version(self) -> str:
        return ""

    @property
    def is_on(self) -> bool:
        """False once the tracker broke or was closed."""
        return self._tracker is not None

    @rank_zero_only
    def catch_up(self, rows: Sequence[Mapping[str, str]]) -> None:
        """Logs again what earlier sessions of this run logged, for a tracker that can tell what it lacks.

        Args:
            rows: all of ``metrics.csv``, up to the savepoint from which the run goes on.
        """
        if getattr(self._tracker, "goes_on", False):
            self._try(self._log_again, rows)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Takes the run's configuration; what comes after it is Lightning's copy of the module's part."""
        if self._hyperparams is None:
            self._hyperparams = _Call(self._step, "log_hyperparams", (params, *args), kwargs)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self._step = self._step if step is None else max(self._step, step)
        self._wait("log_metrics", dict(metrics), step=self._step)
        if time.monotonic() >= self._due:
            self._hand_over(below=self._step)  # more of the newest step may follow

    @rank_zero_only
    def log_image(self, key: str, images: list[Any], **keywords: Any) -> None:
        """Shows images if the tracker can.

        Args:
            key: their name on the dashboard.
            images: what the tracker takes; files must stay until the end of the run.
            keywords: passed on.
        """
        self._wait("log_image", key, images, **keywords)

    @rank_zero_only
    def log_table(self, key: str, columns: list[str], data: list[list[Any]]) -> None:
        """Shows a table if the tracker can."""
        self._wait("log_table", key, columns, data)

    @rank_zero_only
    def save(self) -> None:
        """Hands over what waits, if the tracker runs or it is time for it to start."""
        if self._started or time.monotonic() >= self._due:
            self._hand_over()

    def finalize(self, status: str) -> None:
        """Called after every fit and test; the tracker's run is ended by :meth:`close`."""

    @rank_zero_only
    def close(self, failed: bool) -> None:
        """Hands over the rest and ends the tracker's run.

        Args:
            failed: whether the run failed.
        """
        self._hand_over()
        if self._started and self._tracker is not None:
            self._try(self._tracker.finalize, "failed" if failed else "success")
        self._tracker = None

    def _log_again(self, rows: Sequence[Mapping[str, str]]) -> None:
        for row in rows:
            values = {name: _number(value) for name, value in row.items() if name != "step"}
            self.log_metrics(values, int(row["step"]) if "step" in row else None)

    def _wait(self, method: str, *arguments: Any, **keywords: Any) -> None:
        if self._tracker is not None and hasattr(self._tracker, method):
            self._waiting.append(_Call(self._step, method, arguments, keywords))

    def _hand_over(self, below: int | None = None) -> None:
        """Hands over what waits, all or that of the steps before ``below``, and has the tracker save it."""
        handed_over = False
        while self._waiting and (below is None or self._waiting[0].step < below):
            call = self._waiting.popleft()
            if not self._started and self._hyperparams is not None:
                self._pass_on(self._hyperparams)
            self._started = handed_over = True
            self._pass_on(call)
        if handed_over:
            self._due = time.monotonic() + self._every
            if self._tracker is not None:
                self._try(self._tracker.save)

    def _pass_on(self, call: _Call) -> None:
        if self._tracker is not None:
            self._try(getattr(self._tracker, call.method), *call.arguments, **call.keywords)

    def _try(self, call: Callable[..., object], *arguments: Any, **keywords: Any) -> None:
        try:
            call(*arguments, **keywords)
        except Exception as error:  # not even a bug in a tracker is worth the results of hours
            self._switch_off(error)

    def _switch_off(self, error: Exception) -> None:
        tracker, self._tracker = self._tracker, None
        self._waiting.clear()
        reason = " ".join(str(error).split())[:300]
        log.warning(
            "%s is switched off and the run goes on without it: %s: %s",
            self._label,
            type(error).__name__,
            reason,
        )
        log.info("%s broke", self._label, exc_info=error)
        try:
            if tracker is not None:
                tracker.finalize("failed")
        except Exception:
            log.info("%s did not end well", self._label, exc_info=True)


def _number(text: str) -> float:
    try:
        return int(text)
    except ValueError:
        return float(text)
