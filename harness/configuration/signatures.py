"""A class's constructor, attributes and ancestors, read from its source without importing it."""

import ast
from dataclasses import dataclass
from functools import cache
from typing import Any

from harness.configuration.static_modules import (
    Definition,
    Import,
    Module,
    UnknownNameError,
    dotted_name,
    locate,
)

LIGHTNING_ROOTS = {
    "LightningModule": "pytorch_lightning.core.module.LightningModule",
    "LightningDataModule": "pytorch_lightning.core.datamodule.LightningDataModule",
    "Callback": "pytorch_lightning.callbacks.callback.Callback",
    "Logger": "pytorch_lightning.loggers.logger.Logger",
}
"""Home of the class from which each kind of configured object descends."""

# The names under which these classes are usually imported. Knowing them spares parsing Lightning's core
# (thousands of lines) for each model.
_KNOWN_HOMES = {
    f"{place}.{name}": home
    for name, home in LIGHTNING_ROOTS.items()
    for place in ("pytorch_lightning", home.rsplit(".", 2)[0], home.rsplit(".", 1)[0])
}


class NotAClassError(LookupError):
    """The path leads to a function, a value or a module; ``kind`` says which in words."""

    def __init__(self, definition: Definition) -> None:
        kinds = {ast.FunctionDef: "a function", ast.AsyncFunctionDef: "a function", type(None): "a module"}
        self.kind = kinds.get(type(definition.node), "a value")
        self.home = definition.module.name
        super().__init__(f"{definition.dotted} is {self.kind}")


@dataclass(frozen=True)
class Parameter:
    """One constructor argument. ``default`` is None where it is absent or no literal."""

    name: str
    required: bool
    default: Any
    annotation: ast.expr | None
    module: Module


@dataclass(frozen=True)
class ClassInfo:
    """What the source says about a class.

    Attributes:
        path: dotted path of its home, ``package.module.Class``.
        module: the module where it is defined; ``module.file`` is the file.
        parameters: constructor arguments by name, ``self`` left out; those that can be given by keyword.
        takes_any: whether other keywords are accepted too (``**kwargs`` that end nowhere we can see).
        attributes: class attributes that are literals, inherited ones included.
        ancestors: homes of all base classes that could be followed, nearest first.
        lineage: home and own literal attributes of the class and of all base classes that were read, in the
            order in which Python looks attributes up.
    """

    path: str
    name: str
    module: Module
    parameters: dict[str, Parameter]
    takes_any: bool
    attributes: dict[str, Any]
    ancestors: tuple[str, ...]
    lineage: tuple[tuple[str, dict[str, Any]], ...]


@cache
def read_class(dotted: str) -> ClassInfo:
    """Read the class that ``dotted`` leads to.

    Raises:
        UnknownNameError: the path leads nowhere.
        NotAClassError: it leads to something else.
        UserError: a source file on the way does not parse.
    """
    definition = locate(dotted)
    node = definition.node
    if not isinstance(node, ast.ClassDef):
        raise NotAClassError(definition)
    module = definition.module
    bases: list[ClassInfo] = []
    ancestors: list[str] = []
    for base in node.bases:
        home = _home_of_base(base, module)
        if home is None:
            continue
        ancestors.append(home)
        if home in LIGHTNING_ROOTS.values() or not _followed(home):
            continue
        try:
            info = read_class(home)
        except (UnknownNameError, NotAClassError, RecursionError):
            continue
        bases.append(info)
        ancestors.extend(info.ancestors)

    path = f"{module.name}.{node.name}"
    # A base class that two others share comes after both: of its several places the last one counts.
    places = {home: own for info in reversed(bases) for home, own in reversed(info.lineage)}
    lineage = ((path, _literals(node)), *reversed(places.items()))
    attributes: dict[str, Any] = {}
    for _, own in reversed(lineage):
        attributes |= own
    parameters, takes_any = _constructor(node, module, bases)
    return ClassInfo(
        path,
        node.name,
        module,
        parameters,
        takes_any,
        attributes,
        tuple(dict.fromkeys(ancestors)),
        lineage,
    )


def _followed(home: str) -> bool:
    # torch.nn.Module and the standard library add nothing to a signature; their files are large.
    return (
        home.partition(".")[0] not in {"abc", "typing", "collections", "builtins"}
        and home != "torch.nn.Module"
    )


def _home_of_base(base: ast.expr, module: Module) -> str | None:
    if isinstance(base, ast.Subscript):  # Generic[T], Sampler[int]
        base = base.value
    name = dotted_name(base)
    if name is None:
        return None
    return home_of_name(name, module)


def home_of_name(name: str, module: Module) -> str | None:
    """Dotted home of what ``name`` means inside ``module``; None where it cannot be followed."""
    head, _, rest = name.partition(".")
    binding = module.bindings.get(head)
    written = f"{module.name}.{name}"
    if isinstance(binding, Import):
        written = f"{binding.dotted}.{rest}" if rest else binding.dotted
    if written in _KNOWN_HOMES:
        return _KNOWN_HOMES[written]
    if written == "torch.nn.Module" or written.partition(".")[0] in {"abc", "typing", "collections"}:
        return written
    try:
        return locate(written).dotted
    except UnknownNameError:
        return None


def _constructor(
    node: ast.ClassDef, module: Module, bases: list[ClassInfo]
) -> tuple[dict[str, Parameter], bool]:
    own = next((s for s in node.body if isinstance(s, ast.FunctionDef) and s.name == "__init__"), None)
    # Depth first, left to right: equal to Python's order wherever no diamond overrides a constructor.
    inherited = next((info for info in bases if info.parameters or info.takes_any), None)
    if own is None:
        return (dict(inherited.parameters), inherited.takes_any) if inherited else ({}, False)
    arguments = own.args
    positional = [*arguments.posonlyargs, *arguments.args][1:]
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    defaults += arguments.defaults[-len(positional) :] if positional else []
    pairs = [
        *zip(positional, defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    parameters = {
        argument.arg: Parameter(argument.arg, default is None, _literal(default), argument.annotation, module)
        for argument, default in pairs
    }
    if arguments.kwarg is None:
        return parameters, False
    if inherited is None:
        return parameters, True
    return inherited.parameters | parameters, inherited.takes_any


def _literals(node: ast.ClassDef) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for statement in node.body:
        match statement:
            case (
                ast.Assign(targets=[ast.Name(id=name)], value=value)
                | ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value)
            ):
                try:
                    found[name] = ast.literal_eval(value)
                except ValueError:
                    continue
    return found


def _literal(node: ast.expr | None) -> Any:
    if node is None:
        return None
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None
