"""Overrides whose key is not there: what it is nearest to, and what may stand in its place."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from harness.annotations import NetworkSpec
from harness.errors import nearest

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig


def wrong_key(
    override: "Override",
    base: "DictConfig",
    available: Mapping[str, Sequence[str]],
    given: Mapping[str, Any],
) -> str:
    """What is wrong with the key of an override; ``""`` if it fits the configuration ``base``."""
    from omegaconf import DictConfig

    key, word = override.key_or_group, override.input_line or ""
    node: Any = base
    above: Any = base
    parts = key.split(".")
    for depth, part in enumerate(parts):
        parent = ".".join(parts[:depth])
        if not isinstance(node, DictConfig) or node._is_none():
            held = None if isinstance(node, DictConfig) else node._value()
            is_required = parts[:-2] == ["model", "requires"]
            fix = f" Write {parent}=<run folder or checkpoint>." if is_required else ""
            if depth and _argument(above, parts[depth - 1]) == NetworkSpec:
                fix = _written_out(parent, held)
            return f"'{word}': {parent} is {'null' if held is None else held} here and has no keys.{fix}"
        if part not in node:
            if override.is_add() or override.is_force_add():
                return ""
            return _unknown_key(".".join(parts[: depth + 1]), key, node, parent, available, given)
        above, node = node, node._get_node(part)
    if not isinstance(node, DictConfig) or node._is_none() or override.is_delete():
        return ""
    value = override.value()
    if not isinstance(value, dict):
        if _takes(above, parts[-1], value):
            return ""
        return f"'{word}': {key} is a group of keys; write {key}.<key>=..., keys: {_listed(node)}."
    if names_another(value, node, above, parts[-1]):
        return ""
    more = _more_arguments(node, key, {f"{key}.name": value["name"]} if "name" in value else given)
    for inner in value:
        if str(inner) not in node and str(inner) not in more:
            return _unknown_key(f"{key}.{inner}", f"{key}.{inner}", node, key, available, given)
    return ""


def names_another(value: Any, node: Any, above: "DictConfig", name: str) -> bool:
    """Whether ``value`` describes another network than ``node`` does, so that it stands in its place.

    Args:
        value: of an override.
        node: what it is for.
        above: the node that holds ``node``.
        name: under which it does.
    """
    return (
        isinstance(value, dict)
        and "name" in value
        and value["name"] != node.get("name")
        and _argument(above, name) == NetworkSpec
    )


def _written_out(key: str, network: Any) -> str:
    """The settings that the name of a network stands for, as a word in which one may be changed."""
    from harness.configuration.requirements import literal
    from lightning_modules.image_classification.architectures import NAMED

    if network not in NAMED:
        return ""
    return f" To change a setting of it write '{key}={literal(NAMED[network])}'."


def _takes(node: "DictConfig", name: str, value: Any) -> bool:
    """Whether the class behind a node takes ``value`` for its argument ``name``."""
    from harness.configuration.check_values import check_value

    annotation = _argument(node, name)
    return annotation is not None and not check_value(name, value, annotation)


def _argument(node: "DictConfig", name: str) -> Any:
    """Type of the argument ``name`` of the class behind a node; None where there is none."""
    from harness.configuration.signatures import NotAClassError, read_class
    from harness.configuration.static_modules import UnknownNameError
    from harness.configuration.static_types import parameter_type

    try:
        parameter = read_class(str(node.get("_target_") or "")).parameters.get(name)
    except (UnknownNameError, NotAClassError):
        return None
    return None if parameter is None else parameter_type(parameter)


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
        if name == "requires":
            return f"unknown key '{key}': what a method starts from is its own. Write model.{key}=..."
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


def _listed(node: Any) -> str:
    return _join(str(key) for key in node if key != "_target_")


def _join(names: Any) -> str:
    return ", ".join(names) or "none"
