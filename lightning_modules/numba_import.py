"""Whether numba, which compiles this project's loops for the CPU, can be used."""

import functools
import importlib.util
import logging

log = logging.getLogger("tenfold")


@functools.cache
def numba_fault() -> str:
    """Why numba cannot be used, ``""`` where it can; its slow import is paid here.

    Nothing depends on it but speed, so an installation that is broken (built for another numpy, half removed)
    costs a warning and not the run.
    """
    if importlib.util.find_spec("numba") is None:
        return "numba is not installed"
    try:
        import numba  # noqa: F401
    except Exception as error:  # from ImportError to SystemError, as its parts disagree
        fault = f"numba is installed but cannot be imported ({type(error).__name__}: {error})"
        log.warning(
            "%s: loops run through torch, slower. pip install --force-reinstall numba mends it.", fault
        )
        return fault
    return ""
