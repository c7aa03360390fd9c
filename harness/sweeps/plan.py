"""From the words of a command with several values to the words of each of its jobs."""

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.configuration.compose import parse_word
from harness.configuration.help import CONF, groups
from harness.errors import UserError
from harness.run_folder import masked_command

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override, RangeSweep

MOST_JOBS = 10_000
"""More are a slip of the keyboard: checking them alone would take minutes."""

_SHARED_BY_ALL = ("resume", "sweep", "paths.runs", "paths.data", "paths.cache")


@dataclass(frozen=True)
class Plan:
    """What a command asks for.

    Attributes:
        words: of the jobs, the varied ones still with all their values.
        own: ``sweep=...`` and ``sweep.<key>=...``, which concern the sweep and not its jobs.
        resume: None, ``auto`` or a sweep folder.
        varied: those of ``words`` that ask for several values, parsed, in their order.
        values: of the varied words that list their values, these, each as it is written; by key, with its
            plus sign where it has one. An ``interval(...)`` lists none.
    """

    words: tuple[str, ...]
    own: tuple[str, ...] = ()
    resume: str | None = None
    varied: tuple["Override", ...] = ()
    values: Mapping[str, tuple[str, ...]] | None = None

    @property
    def fixed(self) -> tuple[str, ...]:
        """The words that are the same for all jobs."""
        varied = {override.input_line for override in self.varied}
        return tuple(word for word in self.words if word not in varied)

    @property
    def masked_words(self) -> list[str]:
        """All words but ``resume``, secrets masked, for a file."""
        return masked_command([*self.words, *self.own])

    @property
    def identity(self) -> list[str]:
        """What two commands share if they make the same jobs, wherever these write and however they run."""
        return identity(self.words)


def identity(words: Sequence[str]) -> list[str]:
    """The words without those of where things are, secrets masked, in an order of their own."""
    return sorted(masked_command([word for word in words if not word.startswith("paths.")]))


def read_plan(words: Sequence[str], conf: Path = CONF) -> Plan:
    """Sorts the words of a command.

    ``a,b``, ``choice(a,b)``, ``range(0,10)``, ``glob(*)`` over the choices of a group, ``interval(0,1)``, and
    ``sort``, ``shuffle``, ``tag`` around them are Hydra's grammar.

    Raises:
        UserError: if a word cannot be read, or has several values where there is one for all jobs.
    """
    available = groups(conf)
    kept, own, varied, resume = [], [], [], None
    values: dict[str, tuple[str, ...]] = {}
    for word in words:
        override = parse_word(word)
        key = override.key_or_group
        shared = next((k for k in _SHARED_BY_ALL if key == k or key.startswith(f"{k}.")), None)
        if override.is_sweep_override():
            if shared:
                raise UserError(f"'{word}': all jobs of a sweep share one {key}, so give it one value.")
            if override.is_delete():
                raise UserError(f"'{word}': a key is taken away for all jobs or for none. Write ~{key}.")
            varied.append(override)
            if not override.is_interval_sweep():
                values[override.get_key_element()] = _values(override, available)
        if shared == "sweep":
            own.append(word)
        elif key == "resume":
            resume = None if override.value() is None else str(override.value())
        else:
            kept.append(word)
    plan = Plan(tuple(kept), tuple(own), resume, tuple(varied), values)
    _check_keys_once(plan)
    return plan


def combinations(plan: Plan) -> Iterator[tuple[tuple[str, ...], dict[str, str]]]:
    """The words of each job and its values of the varied keys, the last varied key running fastest.

    Raises:
        UserError: if a word does not list its values, or there are too many combinations.
    """
    values = plan.values or {}
    for override in plan.varied:
        if override.is_interval_sweep():
            raise UserError(
                f"'{override.input_line}': an interval holds endless values, and a grid tries all. List some,"
                f" as in {override.key_or_group}=0.1,0.2, or let a search draw from it: add sweep=optuna."
            )
    number = math.prod(len(listed) for listed in values.values())
    if number > MOST_JOBS:
        raise UserError(
            f"{number:,} combinations are more than {MOST_JOBS:,} jobs. Vary fewer keys at a time, or let a"
            " search choose: add sweep=optuna."
        )
    by_word = {override.input_line: override.get_key_element() for override in plan.varied}
    columns = [
        [(f"{by_word[word]}={value}", value) for value in values[by_word[word]]]
        if word in by_word
        else [(word, None)]
        for word in plan.words
    ]
    keys = [override.key_or_group for override in plan.varied]
    for row in product(*columns):
        chosen = [value for _, value in row if value is not None]
        yield tuple(word for word, _ in row), dict(zip(keys, chosen, strict=True))


def first_combination(words: Sequence[str]) -> tuple[str, ...]:
    """The words of a command's first job, for ``--cfg job``; of an interval its lower end.

    Raises:
        UserError: as :func:`combinations`.
    """
    ends = {
        override.input_line: f"{override.get_key_element()}={override.value().start}"  # type: ignore[union-attr]
        for override in read_plan(words).varied
        if override.is_interval_sweep()
    }
    return next(combinations(read_plan([ends.get(word, word) for word in words])))[0]


def _values(override: "Override", available: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """The listed values of a varied word, as they would be written alone."""
    from hydra.core.override_parser.types import Glob, RangeSweep, Transformer
    from hydra.errors import HydraException

    word = override.input_line
    value: Any = override.value()  # a Glob is missing from its annotation
    if isinstance(value, Glob):
        choices = available.get(override.key_or_group)
        if choices is None:
            raise UserError(f"'{word}': glob chooses among the files of a group: {', '.join(available)}.")
        found = tuple(value.filter(list(choices)))
        if not found:
            raise UserError(f"'{word}' fits none of {', '.join(choices)}.")
        return found
    if isinstance(value, RangeSweep):
        numbers = range_values(value)
        if not numbers:
            raise UserError(f"'{word}' is empty: it goes from {value.start} to below {value.stop}.")
        if value.shuffle:
            random.shuffle(numbers)
        return tuple(map(str, numbers))
    try:
        texts = tuple(
            str(item).lower() if isinstance(item, bool) else Transformer.str(item)
            for item in override.sweep_iterator()
        )
    except HydraException as error:
        raise UserError(f"'{word}': {str(error).splitlines()[0]}") from error
    twice = next((text for text in texts if texts.count(text) > 1), None)
    if twice is not None:
        raise UserError(f"'{word}' names {twice} twice: two equal jobs would count as two measurements.")
    return texts


def range_values(sweep: "RangeSweep") -> list[int] | list[float]:
    """The numbers of a range, without its stop; steps of 0.1 give 0.3 and not 0.30000000000000004."""
    start, stop, step = sweep.start, sweep.stop, sweep.step
    assert start is not None
    assert stop is not None
    if not step:
        raise UserError(f"range({start},{stop},{step}) makes no steps. Give a step other than 0.")
    if isinstance(start, int) and isinstance(stop, int) and isinstance(step, int):
        numbers = range(start, stop, step)
        if len(numbers) > MOST_JOBS:
            raise _too_many(f"range({start},{stop})", len(numbers))
        return list(numbers)
    first, last, width = (Decimal(str(number)) for number in (start, stop, step))
    count = max(math.ceil((last - first) / width), 0)
    if count > MOST_JOBS:
        raise _too_many(f"range({start},{stop},{step})", count)
    return [float(first + index * width) for index in range(count)]


def _too_many(word: str, count: int) -> UserError:
    return UserError(f"{word} holds {count:,} values, more than {MOST_JOBS:,} jobs. Give it fewer.")


def _check_keys_once(plan: Plan) -> None:
    keys = [parse_word(word).key_or_group for word in plan.words]
    for override in plan.varied:
        if keys.count(override.key_or_group) > 1:
            key = override.key_or_group
            raise UserError(f"'{override.input_line}': {key} is given twice. Leave one out.")


def written(varied: Mapping[str, Any]) -> str:
    """The varied keys and values of a job, for a person: ``model=gat seed=3``."""
    return " ".join(f"{key}={value}" for key, value in varied.items())
