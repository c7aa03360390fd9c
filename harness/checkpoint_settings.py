"""Whether a checkpoint is of the configured method and settings, said in the words of a command."""

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from harness.configuration.static_modules import PROJECT_ROOT
from harness.errors import UserError

_MODELS = PROJECT_ROOT / "conf" / "model"
_TRAINING_ROLES = ("optimizer", "scheduler")  # arguments that end so are read by training alone
_ABSENT = object()


class Difference(NamedTuple):
    """A setting in which a checkpoint and a configuration differ.

    Attributes:
        key: full key, as in ``model.heads``.
        saved: value in the checkpoint.
        configured: value in the configuration.
    """

    key: str
    saved: Any
    configured: Any

    @property
    def argument(self) -> str:
        """The constructor argument that the key belongs to."""
        return self.key.split(".")[1]

    @property
    def word(self) -> str:
        """The override that sets the value of the checkpoint."""
        return shlex.quote(f"{self.key}={_literal(self.saved)}")

    def __str__(self) -> str:
        return f"{self.key} is {_literal(self.saved)} in the checkpoint and {_literal(self.configured)} here"


def named(path: str | Path, key: str) -> str:
    """How a message calls a checkpoint: ``ckpt=<path>``, or the path where it is no value of a key."""
    return f"{key}={path}" if key else str(path)


def class_path(kind: type) -> str:
    """The dotted path of a class's home."""
    return f"{kind.__module__}.{kind.__qualname__}"


def check_class(saved: str, configured: str, shown: str) -> None:
    """Refuses a checkpoint of another method.

    Args:
        saved: dotted path of the class in the checkpoint.
        configured: that of the configured class.
        shown: :func:`named`.

    Raises:
        UserError: if the two differ.
    """
    if saved == configured:
        return
    name = configured.rpartition(".")[2]
    article = "an" if name[:1] in "AEIOU" else "a"
    own, other = _models(saved), _models(configured) or "the configured model"
    raise UserError(
        f"{shown} is of {saved.rpartition('.')[2]}, but {other} is {article} {name}:"
        f" {f'write {own}' if own else 'give a checkpoint of that class'}."
    )


def check_settings(
    checkpoint: Mapping[str, Any],
    configured: Mapping[str, Any],
    training_only: Collection[str],
    path: Path,
    key: str,
) -> None:
    """Refuses a checkpoint whose method was built with other settings.

    Shapes alone would not tell: many settings change what a network computes and none of its weights.

    Args:
        checkpoint: its content.
        configured: constructor arguments of the configured module.
        training_only: arguments that may differ; those named as optimisers and schedulers may, too.
        path: of the checkpoint.
        key: the configuration key that holds ``path``, for messages; may be empty.

    Raises:
        UserError: naming the keys that differ, both values, and the words that mend it.
    """
    found = list(differences(checkpoint, configured, training_only))
    if found:
        _refuse(found, checkpoint, path, key)


def adopt_settings(
    checkpoint: Mapping[str, Any],
    model: Mapping[str, Any],
    words: Sequence[str],
    training_only: Collection[str],
    path: Path,
    key: str = "ckpt",
    evaluation_only: Collection[str] = (),
) -> tuple[dict[str, Any], list[Difference]]:
    """The node ``model`` with the settings that a checkpoint was trained with.

    So a command that tests or predicts need not repeat those of the training. What it does say must agree
    with the checkpoint, and so must the facts of the data.

    Args:
        checkpoint: its content; of the class that ``model`` names.
        model: the configured node, with its ``_target_``.
        words: overrides of the command line.
        training_only: see :func:`check_settings`; these stay as configured.
        path: of the checkpoint.
        key: the configuration key that holds ``path``, for messages; may be empty.
        evaluation_only: arguments that an override may change and that are else those of the training.

    Returns:
        The node, and what is different in it now.

    Raises:
        UserError: if an override or the data contradict the checkpoint.
    """
    arguments = {name: value for name, value in model.items() if name != "_target_"}
    found = list(differences(checkpoint, arguments, training_only))
    facts, given = data_facts(checkpoint["tenfold"]["class"]), _given(words)
    found = [one for one in found if one.argument not in evaluation_only or not _overlaps(one.key, given)]
    wrong = [one for one in found if _is_strange(one) or one.argument in facts or _overlaps(one.key, given)]
    if wrong:
        _refuse(wrong, checkpoint, path, key)
    saved = checkpoint["hyper_parameters"]
    return {**model, **{one.argument: saved[one.argument] for one in found}}, found


def differences(
    checkpoint: Mapping[str, Any], configured: Mapping[str, Any], training_only: Collection[str]
) -> Iterator[Difference]:
    """Every setting in which the two differ and that matters once training is over."""
    saved = checkpoint["hyper_parameters"]
    for name in dict.fromkeys([*configured, *saved]):
        if name not in training_only and name.rpartition("_")[2] not in _TRAINING_ROLES:
            yield from differing(f"model.{name}", saved.get(name, _ABSENT), configured.get(name, _ABSENT))


def differing(key: str, saved: Any, configured: Any) -> Iterator[Difference]:
    """Every leaf below ``key`` in which two plain values differ."""
    if isinstance(saved, Mapping) and isinstance(configured, Mapping):
        for name in dict.fromkeys([*configured, *saved]):
            yield from differing(f"{key}.{name}", saved.get(name, _ABSENT), configured.get(name, _ABSENT))
    elif not _same(saved, configured):
        yield Difference(key, saved, configured)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def model_choices(path: str) -> list[str]:
    """Choices of ``model=`` whose class is ``path``, read without importing anything."""
    target = re.compile(rf"^_target_:\s*['\"]?{re.escape(path)}\b", re.MULTILINE)
    return [file.stem for file in sorted(_MODELS.glob("*.yaml")) if target.search(file.read_text("utf-8"))]


def _models(path: str) -> str:
    return " or ".join(f"model={name}" for name in model_choices(path))


def data_facts(path: str) -> set[str]:
    """Arguments of a class that its YAML takes over from the data, such as ``in_channels``."""
    fact = re.compile(r"^(\w+):\s*['\"]?\$\{data\.\w+\}", re.MULTILINE)
    texts = [(_MODELS / f"{choice}.yaml").read_text("utf-8") for choice in model_choices(path)]
    return {name for text in texts for name in fact.findall(text)}


def _refuse(found: Sequence[Difference], checkpoint: Mapping[str, Any], path: Path, key: str) -> None:
    own = checkpoint["tenfold"]
    facts = data_facts(own["class"])
    if any(one.argument in facts for one in found):
        data = _data_of(path)
        wrong = [one for one in found if one.argument in facts]
        own_data = f"write data={data}" if data else "give those (config.yaml of its run folder)"
        if all(one.argument == "image_size" for one in wrong):  # of many sets a setting
            own_data = f"write data.image_size={wrong[0].saved}"
        fix = f"It was trained on other data: {own_data}."
    elif any(map(_is_strange, found)):
        fix = f"Tenfold {own['version']}, which wrote it, gave the method other arguments. Train it again."
    else:
        fix = f"Write {' '.join(one.word for one in found)}."
    others = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    raise UserError(f"{named(path, key)} does not fit: {found[0]}{others}. {fix}")


def _is_strange(one: Difference) -> bool:
    return one.saved is _ABSENT or one.configured is _ABSENT


def _data_of(path: Path) -> str | None:
    """The ``data=`` choice of the run that a checkpoint lies in, where its folder says so."""
    from harness.run_state import read_state

    try:
        return read_state(path.absolute().parents[1]).choices.get("data")
    except (UserError, IndexError):
        return None


def _given(words: Sequence[str]) -> set[str]:
    """Full keys that overrides set, those inside ``{...}`` included, choices of groups left out."""
    from harness.configuration.compose import parse_word

    given: set[str] = set()
    for override in map(parse_word, words):
        key, value = override.key_or_group, None if override.is_delete() else override.value()
        if isinstance(value, dict):
            given.update(f"{key}.{name}" for name in value)
        elif "." in key:
            given.add(key)
    return given


def _overlaps(key: str, given: Collection[str]) -> bool:
    return any(f"{key}.".startswith(f"{one}.") or f"{one}.".startswith(f"{key}.") for one in given)


def _literal(value: Any) -> str:
    if value is _ABSENT:
        return "not there"
    from harness.configuration.requirements import literal

    return literal(value)
