"""Composing the configuration with Hydra, and every mistake in it told in one line.

Only Hydra's compose API is used: run folders, logging and sweeps are the project's own.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.configuration.explain import composing_failed, unreadable, unresolved
from harness.configuration.help import CONF, groups, unknown_choice
from harness.configuration.requirements import (
    Above,
    compose_requirements,
    open_requirements,
    take_requirements,
    written_requirements,
)
from harness.configuration.signatures import NotAClassError, UnknownNameError, read_class
from harness.configuration.wrong_keys import names_another, wrong_key
from harness.errors import UserError, nearest

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override
    from omegaconf import DictConfig

_composed: dict[Any, tuple["DictConfig", dict[str, str]]] | None = None  # while `files_composed_once` is open


@dataclass(frozen=True)
class Composition:
    """A composed configuration.

    Attributes:
        config: plain resolved values: dicts, lists, numbers, strings, booleans, None.
        choices: chosen option of each group; ``experiment`` only where that preset exists and was applied.
        overrides: the words of the command line that led here.
        sweep: the node of that group, which is no part of a run's configuration.
    """

    config: dict[str, Any]
    choices: dict[str, str]
    overrides: tuple[str, ...]
    sweep: dict[str, Any] = field(default_factory=dict)


def compose(overrides: Sequence[str] = (), conf: Path = CONF, above: Above = ()) -> Composition:
    """Compose ``conf/config.yaml`` with its groups and the overrides.

    What the model requires is composed and checked too, see ``harness/configuration/requirements.py``.

    Args:
        overrides: the words of a command line.
        conf: the configuration folder.
        above: the runs that require this one.

    Raises:
        UserError: for an unknown group, choice or key, an override that does not parse, a value that is
            missing or refers to nothing, a YAML file with a mistake.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    tree, choices, declared = _compose(overrides, conf)
    open_requirements(tree, choices)
    try:
        missing = sorted(OmegaConf.missing_keys(tree))
        if missing:
            raise UserError(f"{missing[0]} has no value yet: add {missing[0]}=... to the command.")
        _make_absolute(tree)
        config = OmegaConf.to_container(tree, resolve=True)
    except OmegaConfBaseException as error:
        from harness.configuration.agreement import task_mismatch

        # data of another task often lack a fact that the model refers to
        model, data = (
            OmegaConf.select(tree, f"{group}._target_", throw_on_resolution_failure=False)
            for group in ("model", "data")
        )
        raise UserError(task_mismatch(model, data, choices, conf) or unresolved(tree, error)) from error
    assert isinstance(config, dict)
    plain = dict.fromkeys(("resume", "ckpt", "published")) | {
        str(key): value for key, value in config.items()
    }
    sweep = plain.pop("sweep", None) or {}
    _lower_minimum(plain.get("trainer"), overrides)
    _settle_monitor(plain)
    _settle_published(plain)
    if "requires" in plain:
        raise UserError(
            "requires is filled in by run.py. What a model starts from is named by model.requires.<name>."
        )
    requires = take_requirements(plain)
    if requires:
        from harness.configuration.check import check

        check(plain | {"requires": requires}, choices, conf)  # the run's own mistakes come first
        plain["requires"] = compose_requirements(requires, plain, choices, overrides, declared, conf, above)
    return Composition(plain, choices, tuple(overrides), sweep)


@contextmanager
def files_composed_once() -> Iterator[None]:
    """While it is open, each choice of files is composed once, whatever single values follow.

    For many commands in a row: Hydra's composition is nine tenths of the time of :func:`compose`.
    """
    global _composed
    before, _composed = _composed, {}
    try:
        yield
    finally:
        _composed = before


def config_text(overrides: Sequence[str] = (), conf: Path = CONF, resolve: bool = False) -> str:
    """The composed configuration as YAML: what ``--cfg job`` prints.

    Raises:
        UserError: as `compose`.
    """
    from omegaconf import OmegaConf

    tree = OmegaConf.create(compose(overrides, conf).config) if resolve else _compose(overrides, conf)[0]
    OmegaConf.set_struct(tree, False)
    tree.pop("sweep", None)  # no part of a run's configuration
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


def _settle_published(config: dict[str, Any]) -> None:
    """Takes the published value away where it was found with other settings than the run's."""
    from omegaconf import OmegaConf

    published = config.get("published")
    if not isinstance(published, dict) or not isinstance(published.get("settings"), dict):
        return  # a mistake in it is for the check
    tree = OmegaConf.create({key: value for key, value in config.items() if key != "published"})
    wanted = published["settings"]
    holds = all(OmegaConf.select(tree, str(key)) == value for key, value in wanted.items())
    rest = {key: value for key, value in published.items() if key != "settings"}
    config["published"] = rest if holds else None


def _settle_monitor(config: Mapping[str, Any]) -> None:
    """Puts the method's own choice in the place of ``callbacks.best_weights.monitor=auto``, and its mode."""
    callbacks, model = config.get("callbacks"), config.get("model")
    node = callbacks.get("best_weights") if isinstance(callbacks, dict) else None
    if not isinstance(node, dict) or node.get("monitor") != "auto":
        return
    node["monitor"] = "val/loss"
    with suppress(UserError, UnknownNameError, NotAClassError):  # the check will say what is wrong there
        if isinstance(model, Mapping) and isinstance(model.get("_target_"), str):
            own = read_class(model["_target_"]).attributes
            node["monitor"] = own.get("monitor", "val/loss")
            node["mode"] = own.get("monitor_mode") or node.get("mode")


def _compose(overrides: Sequence[str], conf: Path) -> tuple["DictConfig", dict[str, str], dict[str, Any]]:
    """The composed tree with its references, the choices, and ``model.requires`` as the files have it.

    Hydra composes the chosen files; single values are set afterwards, here, in the order Hydra itself would.
    So each key can be compared with the keys that are there, at the price of one composition instead of two.
    """
    available = groups(conf)
    parsed = [parse_word(word) for word in overrides]
    for override in parsed:
        _check_override(override, available)
    try:
        tree, choices = _hydra([o.input_line or "" for o in parsed if _is_choice(o, available)], conf)
    except Exception as error:  # of a file that is no mapping Hydra lets anything out, OSError to TypeError
        raise UserError(composing_failed(error, conf, available)) from error
    _check_files(choices, conf, available)
    declared = written_requirements(tree)
    given = _flattened(parsed, available)
    for override in parsed:
        if _is_choice(override, available):
            continue
        mistake = wrong_key(override, tree, available, given)
        if mistake:
            raise UserError(mistake)
        _apply(override, tree)
    if choices.get("experiment") not in available.get("experiment", []):
        choices.pop("experiment", None)
    return tree, choices, declared


def _check_files(choices: Mapping[str, str], conf: Path, available: Mapping[str, Sequence[str]]) -> None:
    """Refuses a preset of another pair, and settings of Hydra's own, which nothing would heed."""
    pair, preset = f"{choices.get('model')}_{choices.get('data')}", choices.get("experiment", "")
    there = preset in available.get("experiment", [])
    if there and preset != pair:
        owners = [(m, d) for m in available["model"] for d in available["data"] if f"{m}_{d}" == preset]
        fix = (
            f"Write model={owners[0][0]} data={owners[0][1]}"
            if owners
            else "It belongs to no pair: rename the file"
        )
        raise UserError(
            f"experiment={preset} is not the preset of model={choices.get('model')}"
            f" data={choices.get('data')}. {fix}, or leave experiment= out: the pair's own preset is applied"
            " by itself."
        )
    for file in (conf / "config.yaml", conf / "experiment" / f"{preset}.yaml"):
        if file.is_file() and re.search(r"^hydra *:", file.read_text(encoding="utf-8"), re.MULTILINE):
            raise UserError(f"{file}: Hydra's own settings have no effect here. Take the key hydra away.")


def _make_absolute(tree: "DictConfig") -> None:
    """Writes ``paths`` and ``ckpt`` in full, and so all that refers to them.

    A run folder may be read, and a run continued, from another working folder.
    """
    from omegaconf import DictConfig

    paths = tree.get("paths")
    places = [(paths, str(key), f"paths.{key!s}") for key in paths] if isinstance(paths, DictConfig) else []
    for node, key, full in [*places, (tree, "ckpt", "ckpt")]:
        value: Any = node.get(key)
        if isinstance(value, str) and value and "://" not in value:
            try:
                node[key] = str(Path(value).expanduser().absolute())
            except RuntimeError as error:
                raise UserError(
                    f"{full}={value}: there is no such home folder. Write the whole path."
                ) from error


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
                value = override.value()
                OmegaConf.update(tree, key, value, merge=not _replaces(value, key, tree), force_add=True)
    except OmegaConfBaseException as error:
        raise UserError(f"'{override.input_line}': {str(error).splitlines()[0]}") from error


def _replaces(value: Any, key: str, tree: "DictConfig") -> bool:
    """Whether ``value`` is another network than the one at ``key``, whose settings then go with it."""
    from omegaconf import DictConfig, OmegaConf

    if not isinstance(value, dict):
        return False
    parent, _, name = key.rpartition(".")
    above = OmegaConf.select(tree, parent) if parent else tree
    # the node as it is written: what it refers to need not be there
    node = above._get_node(name) if isinstance(above, DictConfig) else None
    return isinstance(node, DictConfig) and names_another(value, node, above, name)


def _hydra(overrides: Sequence[str], conf: Path) -> tuple["DictConfig", dict[str, str]]:
    from hydra import compose as hydra_compose
    from hydra import initialize_config_dir
    from omegaconf import open_dict

    key = (conf.resolve(), tuple(overrides))
    if _composed is not None and key in _composed:
        return deepcopy(_composed[key])
    with initialize_config_dir(str(conf.resolve()), version_base="1.3"):
        tree = hydra_compose("config", overrides=list(overrides), return_hydra_config=True)
    choices = {
        str(group): str(choice)
        for group, choice in tree.hydra.runtime.choices.items()
        if not str(group).startswith("hydra/") and group != "sweep" and choice is not None
    }
    with open_dict(tree):
        del tree["hydra"]
    if _composed is not None:
        _composed[key] = deepcopy((tree, choices))
    return tree, choices


def parse_word(word: str) -> "Override":
    """``key=value`` as Hydra reads it.

    Raises:
        UserError: if it cannot be read.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, _, value = word.partition("=")
    if not value.isascii() and re.fullmatch(r"[\w/.:%+ -]+", value):
        word = f"{key}='{value}'"  # the grammar has no letters beyond ASCII, and folders are named with them
    try:
        override = OverridesParser.create().parse_override(word)
        override.value()
    except HydraException as error:
        raise UserError(unreadable(word)) from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"cannot read '{word}': a number in it is too long, or a list too deep.") from error
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
            f"'{word}' asks for several values: add -m to run one job for each, as in"
            f" python run.py -m {word}. For one list, write {key}=[...]."
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
