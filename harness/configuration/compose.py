"""Composing the configuration with Hydra, and every mistake in it told in one line.

Only Hydra's compose API is used: run folders, logging and sweeps are the project's own.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.configuration.help import CONF, groups, unknown_choice
from harness.errors import UserError, nearest

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

_SWEEPS = "sweeps are not there yet"


@dataclass(frozen=True)
class Composition:
    """A composed configuration.

    Attributes:
        config: plain resolved values: dicts, lists, numbers, strings, booleans, None.
        choices: chosen option of each group; ``experiment`` only where that preset exists and was applied.
        overrides: the words of the command line that led here.
    """

    config: dict[str, Any]
    choices: dict[str, str]
    overrides: tuple[str, ...]


def compose(overrides: Sequence[str] = (), conf: Path = CONF) -> Composition:
    """Compose ``conf/config.yaml`` with its groups and the overrides.

    Raises:
        UserError: for an unknown group, choice or key, an override that does not parse, a value that is
            missing or refers to nothing, a YAML file with a mistake.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    tree, choices = _compose(overrides, conf)
    try:
        missing = sorted(OmegaConf.missing_keys(tree))
        if missing:
            raise UserError(f"{missing[0]} has no value yet: add {missing[0]}=... to the command.")
        config = OmegaConf.to_container(tree, resolve=True)
    except OmegaConfBaseException as error:
        raise UserError(_unresolved(tree, error)) from error
    assert isinstance(config, dict)
    plain = {str(key): value for key, value in config.items()}
    _lower_minimum(plain.get("trainer"), overrides)
    return Composition(plain, choices, tuple(overrides))


def config_text(overrides: Sequence[str] = (), conf: Path = CONF, resolve: bool = False) -> str:
    """The composed configuration as YAML: what ``--cfg job`` prints.

    Raises:
        UserError: as `compose`.
    """
    from omegaconf import OmegaConf

    tree = OmegaConf.create(compose(overrides, conf).config) if resolve else _compose(overrides, conf)[0]
    return OmegaConf.to_yaml(tree).rstrip("\n")


def _lower_minimum(trainer: Any, overrides: Sequence[str]) -> None:
    """A command that shortens training below a preset's ``min_epochs`` lowers that too.

    ``trainer.max_epochs=50`` says clearly what is wanted; only a minimum given in the same command, or a
    file that contradicts itself, is left for the check to refuse.
    """
    given = {word.lstrip("+").partition("=")[0] for word in overrides}
    if "trainer.max_epochs" not in given or "trainer.min_epochs" in given or not isinstance(trainer, dict):
        return
    low, high = trainer.get("min_epochs"), trainer.get("max_epochs")
    if isinstance(low, int) and isinstance(high, int) and 0 < high < low:
        trainer["min_epochs"] = high


def _compose(overrides: Sequence[str], conf: Path) -> tuple["DictConfig", dict[str, str]]:
    """The composed tree with its references, and the choices.

    Hydra composes the chosen files; single values are set afterwards, here, in the order Hydra itself would.
    So each key can be compared with the keys that are there, at the price of one composition instead of two.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    available = groups(conf)
    parsed = [_parse(word) for word in overrides]
    for override in parsed:
        _check_override(override, available)
    try:
        tree, choices = _hydra([o.input_line or "" for o in parsed if _is_choice(o, available)], conf)
    except YAMLError as error:
        raise UserError(_yaml_mistake(error)) from error
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(_explain(error, conf, available)) from error
    given = _flattened(parsed, available)
    for override in parsed:
        if _is_choice(override, available):
            continue
        mistake = _wrong_key(override, tree, available, given)
        if mistake:
            raise UserError(mistake)
        _apply(override, tree)
    if choices.get("experiment") not in available.get("experiment", []):
        choices.pop("experiment", None)
    return tree, choices


def _apply(override: "Override", tree: "DictConfig") -> None:
    """Sets or deletes one value of ``tree``."""
    from omegaconf import OmegaConf, open_dict
    from omegaconf.errors import OmegaConfBaseException

    key = override.key_or_group
    try:
        with open_dict(tree):
            if override.is_delete():
                parent, _, name = key.rpartition(".")
                del (OmegaConf.select(tree, parent) if parent else tree)[name]
            else:
                OmegaConf.update(tree, key, override.value(), merge=True, force_add=True)
    except OmegaConfBaseException as error:
        raise UserError(f"'{override.input_line}': {str(error).splitlines()[0]}") from error


def _hydra(overrides: Sequence[str], conf: Path) -> tuple["DictConfig", dict[str, str]]:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import open_dict

    with initialize_config_dir(str(conf.resolve()), version_base="1.3"):
        tree = hydra_compose("config", overrides=list(overrides), return_hydra_config=True)
    choices = {
        str(group): str(choice)
        for group, choice in tree.hydra.runtime.choices.items()
        if not str(group).startswith("hydra/") and choice is not None
    }
    with open_dict(tree):
        del tree["hydra"]
    return tree, choices


def _parse(word: str) -> "Override":
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        override = OverridesParser.create().parse_override(word)
    except HydraException as error:
        key, equals, value = word.partition("=")
        if not equals:
            raise UserError(f"cannot read '{word}': an override is written key=value.") from error
        raise UserError(
            f"cannot read '{word}'. Quote a value with brackets, commas, braces or spaces:"
            f" \"{key}='{value}'\"; a list is {key}=[1,2]."
        ) from error
    if not override.key_or_group:
        raise UserError(f"cannot read '{word}': an override is written key=value.")
    return override


def _check_override(override: "Override", available: Mapping[str, Sequence[str]]) -> None:
    """Refuses what is wrong whatever the rest of the configuration holds."""
    word, key = override.input_line or "", override.key_or_group
    if key == "hydra" or key.startswith(("hydra.", "hydra/")):
        raise UserError(f"'{word}': Hydra's own settings have no effect here. Runs are placed by paths.runs.")
    if override.is_sweep_override():
        raise UserError(
            f"'{word}' asks for several values, and {_SWEEPS}. For one list, write {key}=[...];"
            " for several runs, start one command each."
        )
    group = key.replace("/", ".").partition(".")[0]
    if key not in available:
        if "/" in key or override.package is not None:
            raise UserError(
                f"there is no group '{key}'.{nearest(group, available)} Groups: {', '.join(available)}."
            )
        return
    if override.package is not None:
        raise UserError(f"'{word}': write {key}=<choice>; groups have fixed places.")
    if override.is_add() or override.is_force_add():
        raise UserError(f"'{word}': {key} has a choice already; write {key}=<choice> without the plus.")
    if override.is_delete():
        if key != "experiment":
            raise UserError(f"'{word}': only the preset can be left out (~experiment); {key} needs a choice.")
        return
    choice = override.value()
    if isinstance(choice, str):
        if choice not in available[key]:
            raise UserError(unknown_choice(key, choice, available[key]))
    elif isinstance(choice, list):
        raise UserError(f"'{word}': {key} takes one choice of {', '.join(available[key])}.")
    elif not isinstance(choice, dict):
        raise UserError(unknown_choice(key, word.partition("=")[2], available[key]))


def _explain(error: Exception, conf: Path, available: Mapping[str, Sequence[str]]) -> str:
    """The sentence for an error that Hydra raised while composing the chosen files."""
    from hydra.errors import MissingConfigException

    if isinstance(error, MissingConfigException):
        missing = str(error.missing_cfg_file or "").removesuffix(".yaml")
        group, _, choice = missing.rpartition("/")
        if group in available:
            return unknown_choice(group, choice, available[group])
        return f"there is no file {missing}.yaml in {conf}."
    first = str(error).splitlines()[0]
    return f"{first} ({str(error.__cause__).splitlines()[0]})" if error.__cause__ else first


def _is_choice(override: "Override", available: Mapping[str, Sequence[str]]) -> bool:
    return override.key_or_group in available and (
        override.is_delete() or not isinstance(override.value(), dict)
    )


def _flattened(parsed: Sequence["Override"], available: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Value of every full key that the overrides give, those inside ``{...}`` included."""
    given: dict[str, Any] = {}
    for override in parsed:
        if override.is_delete() or _is_choice(override, available):
            continue
        value = override.value()
        given[override.key_or_group] = value
        if isinstance(value, dict):
            given |= {f"{override.key_or_group}.{key}": inner for key, inner in value.items()}
    return given


def _wrong_key(
    override: "Override",
    base: "DictConfig",
    available: Mapping[str, Sequence[str]],
    given: Mapping[str, Any],
) -> str:
    """What is wrong with the key of an override; ``""`` if it fits the configuration ``base``."""
    from omegaconf import DictConfig

    key, word = override.key_or_group, override.input_line or ""
    node: Any = base
    parts = key.split(".")
    for depth, part in enumerate(parts):
        parent = ".".join(parts[:depth])
        if not isinstance(node, DictConfig) or node._is_none():
            held = None if isinstance(node, DictConfig) else node._value()
            return f"'{word}': {parent} is {'null' if held is None else held} here and has no keys."
        if part not in node:
            if override.is_add() or override.is_force_add():
                return ""
            return _unknown_key(".".join(parts[: depth + 1]), key, node, parent, available, given)
        node = node._get_node(part)
    if not isinstance(node, DictConfig) or node._is_none() or override.is_delete():
        return ""
    value = override.value()
    if not isinstance(value, dict):
        return f"'{word}': {key} is a group of keys; write {key}.<key>=..., keys: {_listed(node)}."
    for inner in value:
        if str(inner) not in node:
            return _unknown_key(f"{key}.{inner}", f"{key}.{inner}", node, key, available, given)
    return ""


def _unknown_key(
    full: str,
    key: str,
    node: "DictConfig",
    parent: str,
    available: Mapping[str, Sequence[str]],
    given: Mapping[str, Any],
) -> str:
    name = full.rpartition(".")[2]
    if not parent:
        names = [*available, *(str(k) for k in node if k not in available)]
        if key == full:
            keys = _join(str(k) for k in node if k not in available)
            return (
                f"there is neither a group nor a key '{name}'.{nearest(name, names)}"
                f" Groups: {_join(available)}. Keys: {keys}."
            )
        return f"unknown key '{key}': there is no '{name}'.{nearest(name, names)}"
    if parent == "trainer":
        from harness.configuration.schema import TRAINER_ELSEWHERE

        if name in TRAINER_ELSEWHERE:
            return f"{full} is not set here: {TRAINER_ELSEWHERE[name]}."
    if key == full and name in _more_arguments(node, parent, given):
        return f"the chosen files have no '{full}', but its class takes it: write +{full}=..."
    hint = nearest(name, [str(other) for other in node]).replace("'", f"'{parent}.", 1)
    return f"unknown key '{full}'.{hint} Allowed under {parent}: {_listed(node)}."


def _more_arguments(node: "DictConfig", parent: str, given: Mapping[str, Any]) -> set[str]:
    """Arguments that the class behind a node takes although the file does not list them."""
    from harness.configuration.signatures import NotAClassError, read_class
    from harness.configuration.static_modules import UnknownNameError

    role = parent.rpartition(".")[2].rpartition("_")[2]
    if parent == "trainer":
        target = "pytorch_lightning.trainer.trainer.Trainer"
    elif role in ("optimizer", "scheduler"):
        chosen = given.get(f"{parent}.name", node.get("name"))
        target = f"torch.optim.{'lr_scheduler.' if role == 'scheduler' else ''}{chosen}"
    else:
        target = str(node.get("_target_") or "")
    try:
        return set(read_class(target).parameters) if target else set()
    except (UnknownNameError, NotAClassError):
        return set()


def _unresolved(tree: Any, error: Exception) -> str:
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
    key, written, reason = found
    text = str(reason).splitlines()[0]
    unset = re.search(r"Environment variable '(\w+)' not found", text)
    if unset:
        return f"{key} is {written}, but the variable {unset[1]} is not set. Set it or write {key}=..."
    if "ecursive" in text:
        return f"{key} is {written}, which refers to itself. Write {key}=<a value>."
    return f"{key} is {written}, but there is no such key. Write {key}=... or mend the reference."


def _yaml_mistake(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    where = f"{mark.name}, line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    return f"{where}{getattr(error, 'problem', None) or error}. The file is no valid YAML; mend that line."


def _listed(node: Any) -> str:
    return _join(str(key) for key in node if key != "_target_")


def _join(names: Any) -> str:
    return ", ".join(names) or "none"
