"""Processes beside that of the tests."""

import multiprocessing
from collections.abc import Callable


def forked(works: list[Callable[[], None]], seconds: float) -> list[int | None]:
    """Exit codes of ``works``, each in a process of its own; None for one that had to be ended."""
    processes = [multiprocessing.get_context("fork").Process(target=work) for work in works]
    for process in processes:
        process.start()
    codes = []
    for process in processes:
        process.join(seconds)
        codes.append(process.exitcode)
        if process.exitcode is None:
            process.kill()
            process.join()
    return codes
