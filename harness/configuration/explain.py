"""Sentences for what goes wrong while a configuration is composed: the word, the file, the reference."""

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.configuration.help import unknown_choice
from harness.errors import nearest


def unreadable(word: str) -> str:
    """What is wrong with a word that Hydra's grammar does not know, and how to write it."""
    key, equals, value = word.partition("=")
    if not equals:
        return f"cannot read '{word}': an override is written key=value."
    if not re.fullmatch(r"[~+]*[\w$/-]+(\.[\w$-]+)*(@[\w.:-]*)?", key, re.ASCII):
        return f"cannot read '{word}': '{key}' is no key. Keys are words joined by dots, as in model.heads=4."
    if _left_open(value):
        return f"cannot read '{word}': a bracket or a quote in it is left open, or closed twice."
    listed = _words_quoted(value) if key.startswith("model.requires.") else ""
    if listed:
        return f"cannot read '{word}'. Quote each word of the list: {shlex.quote(f'{key}={listed}')}."
    inner = '"' if "'" in value else "'"
    fixed = f"{key}={inner}{value}{inner}"
    # within double quotes the shell would read some characters itself
    quoted = shlex.quote(fixed) if re.search(r'["$`\\!]', fixed) else f'"{fixed}"'
    return (
        f"cannot read '{word}'. Quote a value with brackets, commas, braces or spaces:"
        f" {quoted}; a list is {key}=[1,2]."
    )


def _words_quoted(value: str) -> str:
    """A list of words, each of them in quotes; ``""`` where that makes it no list that can be read."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    if value[:1] != "[" or value[-1:] != "]":
        return ""
    words = [one.strip() for one in _split(value[1:-1])]
    quoted = [one if one[:1] in ("'", '"') else '"{}"'.format(one.replace('"', r"\"")) for one in words]
    # double quotes throughout, where they can be, need no others around them in a shell
    plain = [f'"{one[1:-1]}"' if re.fullmatch(r"'[^'\"\\]*'", one) else one for one in quoted]
    listed = f"[{','.join(plain)}]"
    try:
        read = OverridesParser.create().parse_override(f"key={listed}").value()
    except HydraException:
        return ""
    return listed if isinstance(read, list) and len(read) == len(words) else ""


def _split(text: str) -> list[str]:
    """Parts between the commas that lie within no brackets or quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote or character in "'\"":
            quote = "" if character == quote else quote or character
        else:
            depth += (character in "[({") - (character in "])}")
        if character == "," and not depth and not quote:
            parts.append("")
        else:
            parts[-1] += character
    return parts


def _left_open(value: str) -> bool:
    opened, quote = [], ""
    for character in value:
        if quote or character in "'\"":
            quote = "" if character == quote else quote or character
        elif character in "[({":
            opened.append("])}"["[({".index(character)])
        elif character in "])}" and (not opened or opened.pop() != character):
            return True
    return bool(opened or quote)


def composing_failed(error: Exception, conf: Path, available: Mapping[str, Sequence[str]]) -> str:
    """The sentence for an error that came out of Hydra while it composed the chosen files."""
    from hydra.errors import MissingConfigException

    broken = _broken_file(conf)
    if broken:
        return broken
    if isinstance(error, MissingConfigException):
        missing = str(error.missing_cfg_file or "").removesuffix(".yaml")
        group, _, choice = missing.rpartition("/")
        if group in available:
            return unknown_choice(group, choice, available[group])
        return f"there is no file {missing}.yaml in {conf}."
    first = (str(error).splitlines() or [type(error).__name__])[0]
    absent = re.match(r"Could not override '([\w/]+)'", first)
    if absent:
        return f"{conf / 'config.yaml'} has no {absent[1]} in its defaults list. Add - {absent[1]}: <choice>."
    reason = f"{first} ({str(error.__cause__).splitlines()[0]})" if str(error.__cause__ or "") else first
    return (
        f"the files in {conf} cannot be composed: {reason.rstrip('.')}."
        " Mend the defaults lists or the command."
    )


def _broken_file(conf: Path) -> str:
    """What is wrong with the first file that holds no YAML mapping; ``""`` where all do."""
    from omegaconf import OmegaConf
    from yaml import YAMLError

    for file in sorted(conf.rglob("*.yaml")):
        try:
            content = OmegaConf.load(file)
        except YAMLError as error:
            return _yaml_mistake(error, file)
        except UnicodeDecodeError as error:
            return f"{file}: byte {error.start} is no UTF-8. Save the file as UTF-8 text."
        except Exception as error:  # a number, a date: OmegaConf raises OSError, a bare word an assertion
            return f"{file} holds no keys with values ({error}). Write each as key: value."
        if not OmegaConf.is_dict(content):
            return f"{file} is a list. Write keys with values, each as key: value."
        odd = _odd_default(OmegaConf.to_container(content).get("defaults"))  # type: ignore[union-attr]
        if odd:
            return f"{file}: {odd} in its defaults list names no file. Write - <group>: <choice>."
    return ""


def _odd_default(defaults: Any) -> str:
    """The first entry of a defaults list that is no name, and no group with a name; ``""`` where all are."""
    for entry in defaults if isinstance(defaults, list) else []:
        for group, choice in entry.items() if isinstance(entry, dict) else [(entry, None)]:
            if not isinstance(group, str) or not isinstance(choice, str | list | None):
                return f"- {group}: {choice}" if isinstance(entry, dict) else f"- {entry}"
    return ""


def unresolved(tree: Any, error: Exception) -> str:
    """The key whose ``${reference}`` leads nowhere, and what it refers to."""
    from omegaconf import DictConfig, ListConfig
    from omegaconf.errors import OmegaConfBaseException

    def visit(node: Any, path: str) -> tuple[str, str, Exception] | None:
        if not isinstance(node, DictConfig | ListConfig) or node._is_none():
            return None
        keys: Any = list(node) if isinstance(node, DictConfig) else range(len(node))
        for key in keys:
            full = f"{path}.{key}" if path else str(key)
            raw = node._get_node(key)
            try:
                value = node[key]
            except OmegaConfBaseException as found:
                return full, str(raw._value() if raw is not None else ""), found  # type: ignore[union-attr]
            inner = visit(value, full)
            if inner:
                return inner
        return None

    found = visit(tree, "")
    if found is None:
        return str(error).splitlines()[0]
    key, written, reason = _origin(tree, *found)
    text = str(reason).splitlines()[0]
    unset = re.search(r"Environment variable '(\w+)' not found", text)
    if unset:
        return f"{key} is {written}, but the variable {unset[1]} is not set. Set it or write {key}=..."
    if "ecursive" in text or f"{key}.".startswith(f"{written[2:-1]}."):
        return f"{key} is {written}, which refers to itself. Write {key}=<a value>."
    if ":" in written or "oc.env" in written:
        return f"{key} is {written}, which cannot be read ({text}). Write {key}=... or mend the reference."
    hint = _nearest_key(tree, written)
    return f"{key} is {written}, but there is no such key.{hint} Write {key}=... or mend the reference."


def _nearest_key(tree: Any, written: str) -> str:
    """`` Did you mean ...?`` for the first part of a ``${reference}`` that is not there."""
    from omegaconf import DictConfig, OmegaConf

    path = re.match(r"\$\{([\w.-]+)\}", written)
    parts = path[1].split(".") if path else []
    for depth, part in enumerate(parts):
        parent = ".".join(parts[:depth])
        node = OmegaConf.select(tree, parent, throw_on_resolution_failure=False) if parent else tree
        if not isinstance(node, DictConfig) or node._is_none():
            break
        if part not in node:
            return nearest(part, [str(key) for key in node]).replace("'", f"'{parent}." if parent else "'", 1)
    return ""


def _origin(tree: Any, key: str, written: str, reason: Exception) -> tuple[str, str, Exception]:
    """The key at the end of a chain of references: where the model refers to the data, the data's own."""
    from omegaconf import DictConfig, OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    for _ in range(10):  # a circle has no end
        target = re.fullmatch(r"\$\{([\w.]+)\}", written)
        if target is None:
            break
        parent, _, name = target[1].rpartition(".")
        node = OmegaConf.select(tree, parent, throw_on_resolution_failure=False) if parent else tree
        if not isinstance(node, DictConfig) or name not in node:
            break
        try:
            node[name]
            break
        except OmegaConfBaseException as found:
            key, written, reason = target[1], str(node._get_node(name)._value()), found  # type: ignore[union-attr]
    return key, written, reason


def _yaml_mistake(error: Exception, file: Path) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"{file}, line {mark.line + 1}, column {mark.column + 1}: " if mark else f"{file}: "
    return f"{where}{getattr(error, 'problem', None) or error}. The file is no valid YAML; mend that line."
