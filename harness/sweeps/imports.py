"""The imports that all jobs of a sweep need, paid once by the process that they are forked from."""

from collections.abc import Iterable
from pathlib import Path

from harness.configuration.compose import Composition
from harness.configuration.targets import KINDS, resolve_class


def pay_imports(compositions: Iterable[Composition]) -> None:
    """Imports what the runs of these configurations import, and computes nothing.

    What is computed here, even once, could leave threads or a CUDA context behind, and no fork survives those.
    """
    compositions = list(compositions)
    from harness.run_log import quieten_libraries

    quieten_libraries(Path(compositions[0].config["paths"]["cache"]).expanduser())
    import matplotlib.backends.backend_agg
    import torch_geometric
    import torchvision  # noqa: F401

    import callbacks.metric_log
    import harness.session  # noqa: F401
    from harness.tracking.trackers import preload

    for target, kind in sorted({pair for composed in compositions for pair in _targets(composed)}):
        resolve_class(target, KINDS[kind], kind)
    for composed in compositions:
        preload(composed.config["logger"])


def _targets(composed: Composition) -> Iterable[tuple[str, str]]:
    config = composed.config
    for group in ("model", "data"):
        yield config[group]["_target_"], group
    for group in ("callbacks", "logger"):
        for node in (config[group] or {}).values():
            yield node["_target_"], group
