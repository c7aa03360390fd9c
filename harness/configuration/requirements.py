"""What a model starts from: ``requires:`` in its YAML, composed, checked and named by a key.

A requirement is the command line of another run, ``teacher: [model=classifier, "data=${data}"]``. Of the run
that needs it, it takes over where things are and how they are computed (``paths``, ``hardware``, ``logger``);
everything else comes from its own words and presets, so that one trained network serves many runs. Where one
is there already, the path of its checkpoint or run folder stands in place of the words.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.checkpoints import find_checkpoint
from harness.configuration.help import groups
from harness.errors import UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

Above = tuple[tuple[str, str], ...]
"""Name and key of each run that requires the one at hand, the outermost first."""

_INHERITED = ("hardware", "logger", "paths")
_NOT_ITS_OWN = ("mode", "resume", "ckpt")
_OF_ONE_RUN = ("id", "name")  # keys of a logger that two runs must not share
_DEEPEST = 10  # requirements of requirements


def written_requirements(tree: "DictConfig") -> dict[str, Any]:
    """``model.requires`` of a composed tree, its references as they are written; empty where there is none.

    Raises:
        UserError: if it is no group of requirements.
    """
    from omegaconf import DictConfig, OmegaConf

    model = tree.get("model")
    if not isinstance(model, DictConfig) or model.get("requires") is None:
        return {}
    node = model["requires"]
    if not isinstance(node, DictConfig):
        raise UserError(
            f"model.requires must name what is required, got {node!r}. Write {_example('teacher')}."
        )
    written = OmegaConf.to_container(node, resolve=False)
    assert isinstance(written, dict)
    return {str(name): words for name, words in written.items()}


def open_requirements(tree: "DictConfig", choices: Mapping[str, str]) -> None:
    """Makes the words under ``model.requires`` fit to be resolved with the rest of ``tree``.

    In a word, ``${data}`` means the run's choice of that group, where OmegaConf would put the whole node.
    Other references give values and not text, so that a list stays a list.

    Raises:
        UserError: if a requirement is neither a list of words nor a path.
    """
    from omegaconf import open_dict

    for name, words in written_requirements(tree).items():
        if words is None or isinstance(words, str):
            continue
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            raise UserError(
                f"model.requires.{name} must be a list of words or the path of a checkpoint, got {words!r}."
                f" Write {_example(name)}."
            )
        with open_dict(tree):
            tree["model"]["requires"][name] = [_opened(_named(word, choices)) for word in words]


def _named(word: str, choices: Mapping[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda found: choices.get(found[1], found[0]), word)


def _opened(word: str) -> str | dict[str, str]:
    key, equals, value = word.partition("=")
    if not equals or "${" not in value:
        return word
    # text within brackets or quotes stays text, which the equals sign says
    return {f"{key}=" if value[0] in "[{'\"" else key: value}


def _closed(word: str | dict[str, Any]) -> str:
    """The word of a command line that :func:`_opened` split, now that its reference is resolved."""
    if isinstance(word, str):
        return word
    [(key, value)] = word.items()
    return f"{key}{value}" if key.endswith("=") else f"{key}={literal(value)}"


def literal(value: Any) -> str:
    """``value`` as the grammar of overrides writes it."""
    from hydra.core.override_parser.types import Quote, QuotedString

    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {literal(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(literal(inner) for inner in value) + "]"
    if isinstance(value, str):
        plain = re.fullmatch(r"[A-Za-z_/][\w/.-]*", value, re.ASCII)
        typed = value.lower() in ("null", "true", "false", "nan", "inf")
        return value if plain and not typed else QuotedString(value, Quote.single).with_quotes()
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else repr(value)


def take_requirements(config: dict[str, Any]) -> dict[str, Any]:
    """Takes ``requires`` out of the model's arguments; empty for a run that trains nothing.

    Args:
        config: a resolved configuration whose tree went through :func:`open_requirements`.

    Returns:
        By name, the words of a composition or the path of a checkpoint.
    """
    model = config.get("model")
    requires = model.pop("requires", None) if isinstance(model, dict) else None
    if not requires or config.get("mode") != "fit":
        return {}
    return {
        name: value if isinstance(value, str) else [_closed(word) for word in value]
        for name, value in requires.items()
        if value is not None
    }


def compose_requirements(
    requires: Mapping[str, Any],
    config: Mapping[str, Any],
    choices: Mapping[str, str],
    overrides: Sequence[str],
    declared: Mapping[str, Any],
    conf: Path,
    above: Above = (),
) -> dict[str, Any]:
    """What a run starts from, for the key ``requires`` of its configuration.

    Args:
        requires: what :func:`take_requirements` gave.
        config: the checked configuration of the run.
        choices: chosen option of each group.
        overrides: the words that led to ``config``.
        declared: :func:`written_requirements` of the files alone; they say what a given checkpoint must hold.
        conf: the configuration folder.
        above: the runs that require this one.

    Returns:
        By name, ``{"words": [...], "run": "<model>_<data>_<key>"}`` or ``{"ckpt": path, "model": target}``.

    Raises:
        UserError: for a mistake in a requirement, which the message names; a circle; a missing checkpoint.
    """
    here = (_title(choices), composition_key({**config, "requires": requires}))
    if here in above or len(above) >= _DEEPEST:
        chain = " → ".join(title for title, _ in (*above, here))
        raise UserError(
            f"{chain} goes round in a circle. Take one requirement out, or give its checkpoint instead."
        )
    found: dict[str, Any] = {}
    for name, value in requires.items():
        if isinstance(value, str):
            path = find_checkpoint(value, f"model.requires.{name}")
            model = _declared_model(declared.get(name), choices, conf)
            found[name] = {"ckpt": str(path.absolute()), "model": model}
            continue
        try:
            run = _composed(inherited_words(choices, overrides), value, conf, (*above, here))
        except UserError as error:
            raise UserError(f"model.requires.{name}: {error}") from error
        found[name] = {"words": value, "run": run}
    return found


def inherited_words(choices: Mapping[str, str], overrides: Sequence[str]) -> tuple[str, ...]:
    """The words that a requirement takes over from the run that needs it; they stand before its own.

    Args:
        choices: chosen option of each group of that run.
        overrides: that run's words.
    """
    chosen = [f"{group}={choices[group]}" for group in _INHERITED if group in choices]
    return (*chosen, *(word for word in overrides if _is_inherited(word, choices)))


def _is_inherited(word: str, choices: Mapping[str, str]) -> bool:
    key = word.partition("=")[0].lstrip("+~")
    group, _, rest = key.partition(".")
    if group not in _INHERITED or (group in choices and not rest and "{" not in word):
        return False  # the group's choice is in `choices`
    return not (group == "logger" and key.rpartition(".")[2] in _OF_ONE_RUN)


def _composed(inherited: Sequence[str], words: Sequence[str], conf: Path, above: Above) -> str:
    """Composes and checks a requirement, and returns the name of its folder."""
    from harness.configuration.check import check
    from harness.configuration.compose import compose

    for word in words:
        key = word.partition("=")[0].lstrip("+~")
        if key in _NOT_ITS_OWN:
            raise UserError(f"'{word}': what is required is always fitted, so {key} has no place here.")
    composition = compose((*inherited, *words), conf, above)
    check(composition.config, composition.choices, conf)
    return f"{_title(composition.choices)}_{composition_key(composition.config)}"


def composition_key(config: Mapping[str, Any]) -> str:
    """Twelve hexadecimal digits that two configurations share if they train the same network.

    Model, data, training, the choice of the best weights, seed, precision and what is required count; where
    the run writes, what it logs and on how many devices it computes does not.
    """
    from harness.run_state import identity

    whole = identity(config)
    counted = {name: whole.get(name) for name in ("model", "data", "trainer", "seed")}
    counted["best_weights"] = whole["callbacks"].get("best_weights")
    counted["precision"] = (whole.get("hardware") or {}).get("precision")
    counted["requires"] = {
        name: node.get("run", node.get("ckpt")) if isinstance(node, Mapping) else node
        for name, node in (whole.get("requires") or {}).items()
    }
    text = json.dumps(counted, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _title(choices: Mapping[str, str]) -> str:
    return f"{choices.get('model')}_{choices.get('data')}"


def _declared_model(words: Any, choices: Mapping[str, str], conf: Path) -> str | None:
    """The class that a requirement's own words train; None where the model's file does not name it."""
    from harness.configuration.compose import compose

    if not isinstance(words, list):
        return None
    chosen = [_named(word, choices) for word in words if word.partition("=")[0] in groups(conf)]
    target: str | None = compose(chosen, conf).config["model"].get("_target_")
    return target


def _example(name: str) -> str:
    return f'{name}: [model=classifier, "data=${{data}}"]'
