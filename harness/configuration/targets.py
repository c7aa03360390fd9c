"""Which classes a configuration may name in ``_target_``, and how one is imported.

What counts is where the object is *defined*: ``torch.os.system`` begins with torch and is the system's.
The check reads source and imports nothing; `resolve_class` looks again at the real object.
"""

import ast
import importlib

from harness.configuration.signatures import LIGHTNING_ROOTS, ClassInfo, NotAClassError, read_class
from harness.configuration.static_modules import UnknownNameError, find_module
from harness.errors import UserError, nearest

OWN_PACKAGES = ("lightning_modules", "datamodules", "callbacks", "harness")
LIBRARIES = ("torch", "torchvision", "torch_geometric", "torchmetrics", "pytorch_lightning")

KINDS = {
    "model": "LightningModule",
    "data": "LightningDataModule",
    "callbacks": "Callback",
    "logger": "Logger",
}
"""The class from which each group's objects must descend."""


def read_target(key: str, target: object, kind: str) -> ClassInfo:
    """The signature of the class that ``_target_`` names, if the configuration may name it.

    Args:
        key: full key of the node that holds the ``_target_``, for messages.
        target: the value of ``_target_``.
        kind: a value of `KINDS`.

    Raises:
        UserError: when it is no path to a class of that kind at home in this project or an allowed library.
    """
    where = f"{key}._target_"
    if not isinstance(target, str) or not target:
        raise UserError(f"{where} must be the dotted path of a {kind}, got {target!r}.")
    allowed = (*OWN_PACKAGES, *LIBRARIES)
    _refuse_foreign(where, target, target)
    try:
        info = read_class(target)
    except UnknownNameError as missing:
        module = find_module(missing.reached) if missing.reached else None
        if module is None or missing.reached.partition(".")[0] not in allowed:
            _refuse_foreign(where, target, missing.reached or missing.name)
            raise UserError(f"{where}={target}: {missing}.") from missing
        classes = [n for n, node in module.bindings.items() if isinstance(node, ast.ClassDef)]
        raise UserError(
            f"{where}={target}: {missing}.{nearest(missing.name.rpartition('.')[2], classes)}"
            + (f" Classes there: {', '.join(classes)}." if classes and len(classes) <= 12 else "")
        ) from missing
    except NotAClassError as other:
        _refuse_foreign(where, target, other.home)
        raise UserError(f"{where}={target} is {other.kind}; it must be a {kind}.") from other
    _refuse_foreign(where, target, info.path)
    root = LIGHTNING_ROOTS[kind]
    if root not in info.ancestors:
        raise UserError(
            f"{where}={target} is no {kind}; it must be a subclass of pytorch_lightning's {kind}."
        )
    return info


def resolve_class(target: str, kind: str, key: str | None = None) -> type:
    """Import the class of a ``_target_`` and make sure of what it is.

    Args:
        target: dotted path.
        kind: ``LightningModule``, ``LightningDataModule``, ``Callback`` or ``Logger``.
        key: full key of the node, for messages.

    Raises:
        UserError: as `read_target`, judged by the source and then by the object itself.
    """
    where = key or kind
    info = read_target(where, target, kind)
    found = getattr(importlib.import_module(info.module.name), info.name)
    if not isinstance(found, type):
        raise UserError(f"{where}._target_={target} is no class.")
    _refuse_foreign(f"{where}._target_", target, found.__module__)
    home, name = LIGHTNING_ROOTS[kind].rsplit(".", 1)
    if not issubclass(found, getattr(importlib.import_module(home), name)):
        raise UserError(f"{where}._target_={target} is no {kind}.")
    return found


def _refuse_foreign(where: str, target: str, home: str) -> None:
    top = home.partition(".")[0]
    if top in (*OWN_PACKAGES, *LIBRARIES):
        return
    leads = "" if home == target else f" leads to {top}, which"
    raise UserError(
        f"{where}={target}{leads} is not allowed; a _target_ must be a class of this project"
        f" ({', '.join(OWN_PACKAGES)}) or of {', '.join(LIBRARIES)}."
    )


def read_public(module_name: str, name: object, base: str) -> ClassInfo | None:
    """The public class ``name`` of an installed module if it descends from ``base`` (a home), else None."""
    if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
        return None
    try:
        info = read_class(f"{module_name}.{name}")
    except (UnknownNameError, NotAClassError):
        return None
    return info if base in info.ancestors else None


def public_classes(module_name: str, base: str) -> list[str]:
    """Names of all classes that `read_public` would give; reads every file they come from."""
    module = find_module(module_name)
    return sorted(
        name for name in (module.bindings if module else ()) if read_public(module_name, name, base)
    )
