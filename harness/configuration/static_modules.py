"""Finding a name in Python source without importing it.

`run.py` must answer a misspelt key in well under a second, and importing torch alone takes several times
that. So modules are located by file path and read with `ast`; no package is ever executed. Only the spec
of a *top-level* name is asked from the import system: asking for a submodule's spec would import its parent.
"""

import ast
import importlib.util
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from harness.errors import UserError

PROJECT_ROOT = Path(__file__).resolve().parents[2]
"""The folder that holds run.py, conf/ and the project's own packages."""

_MAX_HOPS = 30
"""Longest chain of re-exports that is followed; a longer one is a circle."""


@dataclass(frozen=True)
class Import:
    """What an import statement binds to a name: a module, or (with ``attribute``) a name inside it."""

    module: str
    attribute: str | None = None

    @property
    def dotted(self) -> str:
        return self.module if self.attribute is None else f"{self.module}.{self.attribute}"


Binding = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.expr | Import


class Module:
    """One source file, parsed when its names are first asked for."""

    def __init__(self, name: str, file: Path) -> None:
        self.name = name
        self.file = file

    @property
    def is_package(self) -> bool:
        return self.file.name == "__init__.py"

    @cached_property
    def _names(self) -> tuple[dict[str, Binding], list[str]]:
        if not self.file.is_file():
            return {}, []
        try:
            tree = ast.parse(self.file.read_bytes(), str(self.file))
        except SyntaxError as error:
            raise UserError(f"{self.file}, line {error.lineno}: {error.msg}. Mend the file.") from error
        bindings: dict[str, Binding] = {}
        stars: list[str] = []
        self._collect(tree.body, bindings, stars)
        return bindings, stars

    @property
    def bindings(self) -> dict[str, Binding]:
        """Every name bound at the top level of the file."""
        return self._names[0]

    @property
    def star_imports(self) -> list[str]:
        """Modules whose names are taken over by ``from x import *``."""
        return self._names[1]

    def _collect(self, body: list[ast.stmt], bindings: dict[str, Binding], stars: list[str]) -> None:
        for statement in body:
            match statement:
                case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                    bindings[name] = statement
                case ast.Assign(targets=targets, value=value):
                    for target in targets:
                        if isinstance(target, ast.Name):
                            bindings[target.id] = value
                case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
                    bindings[name] = value
                case ast.Import(names=names):
                    for alias in names:
                        top = alias.name.partition(".")[0]
                        bindings[alias.asname or top] = Import(alias.name if alias.asname else top)
                case ast.ImportFrom(names=names):
                    source = self._source_of(statement)
                    for alias in names:
                        if alias.name == "*":
                            stars.append(source)
                        else:
                            bindings[alias.asname or alias.name] = Import(source, alias.name)
                case ast.If() | ast.Try():
                    # The first branch is the one with the real thing; fallbacks fill only what is left.
                    branches = [statement.body, statement.orelse]
                    if isinstance(statement, ast.Try):
                        branches += [handler.body for handler in statement.handlers]
                    inner: dict[str, Binding] = {}
                    for branch in branches:
                        found: dict[str, Binding] = {}
                        self._collect(branch, found, stars)
                        inner = found | inner
                    bindings.update(inner)

    def _source_of(self, statement: ast.ImportFrom) -> str:
        if not statement.level:
            return statement.module or ""
        parents = self.name.split(".")
        drop = statement.level - (1 if self.is_package else 0)
        base = parents[: len(parents) - drop]
        return ".".join([*base, statement.module] if statement.module else base)


@dataclass(frozen=True)
class Definition:
    """Where a dotted path ends: a class, function or value of ``module``, or (``node=None``) the module."""

    module: Module
    name: str
    node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef | ast.expr | None

    @property
    def dotted(self) -> str:
        return f"{self.module.name}.{self.name}" if self.name else self.module.name


class UnknownNameError(LookupError):
    """A dotted path that leads nowhere; ``reached`` is the last module on the way, ``name`` what it lacks."""

    def __init__(self, reached: str, name: str) -> None:
        super().__init__(
            f"there is no '{name}' in '{reached}'" if reached else f"there is no module '{name}'"
        )
        self.reached = reached
        self.name = name


@cache
def find_module(dotted: str) -> Module | None:
    """The module of that name by path arithmetic, or None where there is no Python source for it."""
    top, *rest = dotted.split(".")
    if not all(part.isidentifier() for part in (top, *rest)):
        return None
    for place in _top_level_places(top):
        base = place.joinpath(*rest)
        if (base / "__init__.py").is_file():
            return Module(dotted, base / "__init__.py")
        if base.with_suffix(".py").is_file():
            return Module(dotted, base.with_suffix(".py"))
        if base.is_dir():  # a namespace package: a folder of modules without __init__.py
            return Module(dotted, base / "__init__.py")
    return None


def _top_level_places(top: str) -> list[Path]:
    """Paths that stand for the top-level package: its folder, or its file without ``.py``."""
    own = PROJECT_ROOT / top
    if own.is_dir():
        return [own]
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations:
        return [Path(place) for place in spec.submodule_search_locations]
    if spec.has_location and spec.origin and spec.origin.endswith(".py"):
        return [Path(spec.origin).with_suffix("")]
    return []


def locate(dotted: str) -> Definition:
    """Follow a dotted path, through re-exports, to where the object is defined.

    Raises:
        UnknownNameError: where the path ends; also for attributes of classes, which no config needs.
        UserError: when a file on the way does not parse.
    """
    return _locate(dotted, _MAX_HOPS)


def _locate(dotted: str, hops: int) -> Definition:
    top, *rest = dotted.split(".")
    module = find_module(top)
    if module is None or hops == 0:
        raise UnknownNameError("", top)
    return _look_up(module, rest, hops - 1)


def _look_up(module: Module, parts: list[str], hops: int) -> Definition:
    if not parts:
        return Definition(module, "", None)
    head, *rest = parts
    # A submodule first while more parts follow: it spares parsing the large __init__ of torch.
    submodule = find_module(f"{module.name}.{head}") if module.is_package else None
    if rest and submodule is not None:
        return _look_up(submodule, rest, hops)
    binding = module.bindings.get(head)
    if isinstance(binding, Import):
        if binding.dotted == f"{module.name}.{head}" and submodule is not None:
            return _look_up(submodule, rest, hops)
        return _locate(".".join([binding.dotted, *rest]), hops)
    if isinstance(binding, ast.Name | ast.Attribute) and not rest:
        target = dotted_name(binding)
        if target and target != head:
            return _locate(f"{module.name}.{target}", hops)
    if binding is not None and not rest:
        return Definition(module, head, binding)
    if binding is None:
        for source in module.star_imports:
            try:
                return _locate(".".join([source, *parts]), hops)
            except UnknownNameError:
                continue
        if submodule is not None:
            return _look_up(submodule, rest, hops)
    raise UnknownNameError(module.name, ".".join(parts))


def dotted_name(node: ast.expr) -> str | None:
    """``a.b.c`` for a chain of names, None for any other expression."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted_name(node.value)
        return f"{base}.{node.attr}" if base else None
    return None
