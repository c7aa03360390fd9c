"""Annotations in source turned into types that pydantic can check, without importing the source.

Names are followed to light modules only (typing, pydantic, `harness.annotations`, ...) and to module-level
aliases such as ``Pool = Literal["max", "mean"]``. A class that no YAML value can be (a Tensor, a Callback)
leaves its union; whatever else cannot be read becomes `Any`, so a doubtful annotation never refuses a value.
"""

import ast
import importlib
from typing import Annotated, Any, Literal, Optional, Union, get_origin

from harness.configuration.signatures import Parameter
from harness.configuration.static_modules import Import, Module, UnknownNameError, dotted_name, locate

_LIGHT_MODULES = {
    "typing",
    "typing_extensions",
    "collections.abc",
    "pathlib",
    "os",
    "datetime",
    "annotated_types",
    "pydantic",
    "harness.annotations",
}
_BUILTINS: dict[str, Any] = {
    t.__name__: t for t in (int, float, str, bool, list, dict, tuple, set, frozenset, object)
}


class _NotPlain:
    """Marks a class whose values cannot be written in YAML."""


def parameter_type(parameter: Parameter) -> Any:
    """The type of a constructor argument, `Any` where it has none or it cannot be read."""
    if parameter.annotation is None:
        return Any
    found = _read(parameter.annotation, parameter.module)
    return Any if found is _NotPlain else found


def _read(node: ast.expr, module: Module) -> Any:
    match node:
        case ast.Constant(value=None):
            return None
        case ast.Constant(value=str() as text):
            try:
                return _read(ast.parse(text, mode="eval").body, module)
            except SyntaxError:
                return Any
        case ast.Constant(value=value) if value is ...:
            return ...
        case ast.Name() | ast.Attribute():
            return _named(node, module)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return _union([_read(left, module), _read(right, module)])
        case ast.Subscript(value=base, slice=index):
            return _subscript(base, index, module)
    return Any


def _named(node: ast.Name | ast.Attribute, module: Module) -> Any:
    name = dotted_name(node)
    if name is None:
        return Any
    head, _, rest = name.partition(".")
    binding = module.bindings.get(head)
    if binding is None and name in _BUILTINS:
        return _BUILTINS[name]
    if isinstance(binding, Import):
        return _imported(f"{binding.dotted}.{rest}" if rest else binding.dotted)
    if isinstance(binding, ast.ClassDef):
        return _NotPlain
    if isinstance(binding, ast.expr) and not rest:
        if isinstance(binding, ast.Name) and binding.id == name:
            return Any
        return _read(binding, module)
    return _imported(f"{module.name}.{name}")


def _imported(dotted: str) -> Any:
    source, _, name = dotted.rpartition(".")
    if source in _LIGHT_MODULES:
        return getattr(importlib.import_module(source), name, Any)
    if source == "torch" or source.startswith("torch."):
        return _NotPlain  # Tensor, device, dtype: none is plain; and torch's __init__ is slow to parse
    try:
        found = locate(dotted)
    except UnknownNameError:
        return Any
    if isinstance(found.node, ast.ClassDef):
        return _NotPlain
    if isinstance(found.node, ast.expr):
        return _read(found.node, found.module)
    return Any


def _subscript(base: ast.expr, index: ast.expr, module: Module) -> Any:
    outer = _read(base, module)
    if outer is Any or outer is _NotPlain:
        return outer
    items = index.elts if isinstance(index, ast.Tuple) else [index]
    if outer is Literal:
        try:
            return Literal[tuple(ast.literal_eval(item) for item in items)]
        except ValueError:
            return Any
    if outer is Annotated:
        inner = _read(items[0], module)
        notes = [note for item in items[1:] if (note := _metadata(item, module)) is not None]
        return Annotated[(inner, *notes)] if notes and inner is not _NotPlain else inner
    inner_types = [_read(item, module) for item in items]
    if outer is Union or outer is Optional:
        return _union([*inner_types, *([None] if outer is Optional else [])])
    if _NotPlain in inner_types:
        return _NotPlain
    try:
        return outer[tuple(inner_types) if len(inner_types) > 1 else inner_types[0]]
    except TypeError:
        return Any


def _union(members: list[Any]) -> Any:
    plain = [member for member in members if member is not _NotPlain]
    if not plain:
        return _NotPlain
    if Any in plain:
        return Any
    return Union[tuple(plain)]  # noqa: UP007 - built at run time from a list


def _metadata(node: ast.expr, module: Module) -> Any:
    """``Field(ge=0)`` and the like; anything but literal arguments is left out."""
    if not isinstance(node, ast.Call):
        return None
    maker = _read(node.func, module)
    if maker is Any or maker is _NotPlain or get_origin(maker) is not None:
        return None
    try:
        positional = [ast.literal_eval(argument) for argument in node.args]
        keywords = {k.arg: ast.literal_eval(k.value) for k in node.keywords if k.arg}
        return maker(*positional, **keywords)
    except (ValueError, TypeError):
        return None
