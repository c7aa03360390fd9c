"""A child process that does not outlive its parent, however that dies."""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# looked up here: between a fork and what follows it, no library should be opened
_prctl = ctypes.CDLL(None, use_errno=True).prctl if sys.platform == "linux" else None


def die_with(parent: int) -> None:
    """Asks the kernel, on Linux, for a SIGTERM to this process when its parent dies.

    Args:
        parent: process id of the parent; if it has died already, this process ends at once.
    """
    if _prctl is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it has died before the request
            os._exit(128 + signal.SIGTERM)
