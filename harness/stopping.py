"""SIGTERM: a run saves its state and ends with 143, as schedulers and container hosts expect."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytorch_lightning import Trainer

EXIT_STATUS = 128 + signal.SIGTERM
PRUNED_STATUS = 3
PRUNED = "pruned.json"
"""What stands in the folder of a pruned run, in place of ``results.json``."""


class Stopped(SystemExit):
    """The run was told to stop and has kept what is needed to go on."""

    def __init__(self) -> None:
        super().__init__(EXIT_STATUS)


class StoppedTogether(Stopped):
    """All processes of the run, or its only one, have stopped at the same point; the first tells of it."""


class Pruned(SystemExit):
    """A search has ended the run early, because it is worse than its other trials; the message says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(PRUNED_STATUS)
        self.reason = reason


class StopSignal:
    """What SIGTERM does to this process: at once :class:`Stopped`, or in :meth:`deferred` a request.

    While a phase trains, an exception at any line would leave a state from which no exact continuation is
    possible; there the request is answered at the next batch, by ``callbacks/savepoints.py``. Several
    processes of one run stop together, at points that all of them reach; of a test or prediction these are
    in ``callbacks/stop_together.py``.
    """

    def __init__(self) -> None:
        self.requested = False
        self._deferred = 0  # how many :meth:`deferred` are under way

    def handle(self, signum: int, _: FrameType | None) -> None:
        """What Python calls when the signal has arrived."""
        self.requested = True
        if not self._deferred:
            raise Stopped

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Handles SIGTERM; the handler from before is back afterwards."""
        if threading.current_thread() is not threading.main_thread():
            yield  # signals reach the main thread alone
            return
        before = signal.getsignal(signal.SIGTERM)
        self.requested = False
        signal.signal(signal.SIGTERM, self.handle)
        try:
            yield
        finally:
            signal.signal(signal.SIGTERM, before)
            self.requested = False

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Turns SIGTERM into a request: :attr:`requested`."""
        self._deferred += 1
        try:
            yield
        finally:
            self._deferred -= 1

    def requested_of_any(self, trainer: "Trainer") -> bool:
        """Whether any of the run's processes was told to stop; all of them must ask."""
        if trainer.world_size == 1:
            return self.requested
        return trainer.strategy.reduce_boolean_decision(self.requested, all=False)


STOP = StopSignal()
"""The process's one handler: a process has one SIGTERM."""
