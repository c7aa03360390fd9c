"""The imports that all jobs of a sweep need, paid once by the process that they are forked from."""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path

from harness.configuration.compose import Composition
from harness.configuration.targets import KINDS, resolve_class

# what a run imports only once it needs it; what a target imports comes with it
_IMPORTED_LATE = ("harness.session", "callbacks.metric_log", "matplotlib.backends.backend_agg")


def pay_imports(compositions: Iterable[Composition]) -> None:
    """Imports what the runs of these configurations import, and computes nothing.

    What is computed here, even once, could leave threads or a CUDA context behind, which no fork survives.
    """
    compositions = list(compositions)
    from harness.run_log import quieten_libraries

    quieten_libraries(Path(compositions[0].config["paths"]["cache"]).expanduser())
    for name in _IMPORTED_LATE:
        import_module(name)
    from harness.tracking.trackers import preload

    with suppress(Exception):  # the jobs that cannot import something say so themselves
        for target, kind in sorted({pair for composed in compositions for pair in _targets(composed)}):
            resolve_class(target, KINDS[kind], kind)
        for composed in compositions:
            preload(composed.config["logger"])


def _targets(composed: Composition) -> Iterator[tuple[str, str]]:
    config = composed.config
    for group in ("model", "data"):
        yield config[group]["_target_"], group
    for group in ("callbacks", "logger"):
        for node in (config[group] or {}).values():
            yield node["_target_"], group
