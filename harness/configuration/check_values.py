"""Comparing the values of one configuration node with the types its keys allow."""

import difflib
import json
import math
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin

from harness.configuration.schema import Fields
from harness.errors import nearest
from harness.run_folder import is_secret


class Problem(NamedTuple):
    """One mistake: the full key and the sentence about it."""

    key: str
    message: str


def check_keys(
    prefix: str,
    node: Any,
    fields: Fields,
    required: Collection[str],
    takes_any: bool = False,
    owner: str = "",
) -> list[Problem]:
    """Unknown keys, missing keys and wrong values of ``node``.

    Args:
        prefix: full key of the node, ``""`` for the root.
        node: what the configuration holds there.
        fields: type of each allowed key.
        required: keys that must be present.
        takes_any: other keys are accepted as well, unless they look like a misspelt one.
        owner: class to which the keys belong, named in messages.
    """
    if not isinstance(node, Mapping):
        return [Problem(prefix, f"{prefix} must be a group of keys, got {node!r}.")]
    problems = []
    of = f" of {owner}" if owner else ""
    for key, value in node.items():
        full = _join(prefix, key)
        if key in fields:
            problems += check_value(full, value, fields[key])
        elif not takes_any or difflib.get_close_matches(str(key), fields, n=1, cutoff=0.8):
            problems.append(
                Problem(
                    full, f"unknown key '{full}'{of}.{nearest(str(key), fields)} Allowed: {_listed(fields)}."
                )
            )
    missing = [_join(prefix, key) for key in fields if key in required and key not in node]
    if missing:
        problems.append(Problem(missing[0], f"missing {_listed(missing)}{of}: every argument needs a value."))
    return problems


def check_value(key: str, value: Any, annotation: Any) -> list[Problem]:
    """One problem if ``value`` is not of type ``annotation``, else none.

    Nothing is converted, because the constructor gets the value as it stands: ``3.0`` or ``'3'`` is no
    integer and ``true`` no number. An integer will do for a float, and a list for a tuple.
    """
    from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

    if annotation is Any:
        return []
    if isinstance(value, str) and (unusable := list(check_usable(key, value))):
        return unusable
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(annotation)
    except (PydanticSchemaGenerationError, PydanticUserError):
        return []  # a type that says nothing about plain values
    try:
        # JSON is the mode in which pydantic is strict about numbers, yet takes a list for a tuple.
        adapter.validate_json(json.dumps(value), strict=True)
    except ValidationError:
        shown, hint = ("a secret", "") if is_secret(key) else (repr(value), _hint(value, annotation))
        return [Problem(key, f"{key} must be {describe(annotation)}, got {shown}.{hint}")]
    except TypeError:
        return [Problem(key, f"{key} holds {type(value).__name__}, which is no plain value.")]
    return []


_LARGEST = 2**63 - 1  # of an integer in torch and numpy


def check_usable(key: str, value: Any) -> Iterator[Problem]:
    """One problem for each value below ``key`` that no library could use or write, whatever its type."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from check_usable(_join(key, name), inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from check_usable(f"{key}[{index}]", inner)
    elif isinstance(value, float) and not math.isfinite(value):
        yield Problem(key, f"{key} must be a finite number, got {value}.")
    elif isinstance(value, int) and abs(value) > _LARGEST:
        yield Problem(key, f"{key} must be a number below 2^63, got {value}.")
    elif isinstance(value, str) and ("\0" in value or any("\ud800" <= c <= "\udfff" for c in value)):
        yield Problem(key, f"{key} must be a text in UTF-8 without null bytes, got {value!r}.")


def describe(annotation: Any) -> str:
    """A type in a reader's words: ``an integer > 0``, ``one of max, mean``, ``a list of numbers``."""
    return _describe(annotation, plural=False)


_SIMPLE = {
    int: ("an integer", "integers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    bool: ("true or false", "true or false"),
    type(None): ("null", "null"),
}


def _describe(annotation: Any, plural: bool) -> str:
    if annotation is None:
        return "null"
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Callable:
        return "a function, which no configuration can hold"
    if annotation in _SIMPLE:
        return _SIMPLE[annotation][plural]
    if origin is Annotated:
        return " ".join([_describe(arguments[0], plural), _bounds(arguments[1:])]).strip()
    if origin is Literal:
        texts = [str(a).lower() if isinstance(a, bool) else str(a) for a in arguments]
        return texts[0] if len(texts) == 1 else f"one of {', '.join(texts)}"
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(member, plural) for member in arguments)
    if origin is tuple and arguments and arguments[-1] is not ...:
        noun = "lists" if plural else "a list"
        same = len(set(map(str, arguments))) == 1
        inner = (
            _describe(arguments[0], True) if same else " and ".join(_describe(a, False) for a in arguments)
        )
        return f"{noun} of {len(arguments)} {inner}" if same else f"{noun} of {inner}"
    if annotation is dict or origin in (dict, Mapping):
        return "groups of keys" if plural else "a group of keys"
    if origin is not None and arguments:
        return f"{'lists' if plural else 'a list'} of {_describe(arguments[0], True)}"
    if annotation in (list, tuple):
        return "lists" if plural else "a list"
    name = str(getattr(annotation, "__name__", annotation))
    return "a path" if name in ("Path", "PathLike") else f"a {name}"


def _bounds(metadata: tuple[Any, ...]) -> str:
    found: dict[str, Any] = {}
    for note in metadata:
        for bound in getattr(note, "metadata", [note]):
            for name in ("gt", "ge", "lt", "le", "min_length", "max_length"):
                if getattr(bound, name, None) is not None:
                    found[name] = getattr(bound, name)
    low = _side(found, gt=">", ge=">=")
    high = _side(found, lt="<", le="<=")
    if "ge" in found and high:
        return f"in [{_number(found['ge'])}, {_end(found)}"
    length = _side(found, min_length="of length >=", max_length="of length <=")
    return " and ".join(part for part in (low, high, length) if part)


def _side(found: dict[str, Any], **signs: str) -> str:
    return next((f"{sign} {_number(found[name])}" for name, sign in signs.items() if name in found), "")


def _end(found: dict[str, Any]) -> str:
    return f"{_number(found['lt'])})" if "lt" in found else f"{_number(found['le'])}]"


def _number(value: float) -> str:
    return str(value) if isinstance(value, int) else f"{value:g}"


def _hint(value: Any, annotation: Any) -> str:
    if isinstance(value, str):
        members = [annotation, *get_args(annotation)]
        choices = [c for m in members if get_origin(m) is Literal for c in get_args(m) if isinstance(c, str)]
        return nearest(value, choices)
    if isinstance(value, float) and value.is_integer() and not check_value("", int(value), annotation):
        return f" Write {int(value)}."
    return ""


def _join(prefix: str, key: object) -> str:
    return f"{prefix}.{key}" if prefix else str(key)


def _listed(names: Collection[str]) -> str:
    return ", ".join(names) if names else "none"
