"""What a search varies: from the words of the command line to Optuna's distributions and back."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.errors import UserError
from harness.sweeps.plan import range_values

if TYPE_CHECKING:
    from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
    from optuna.distributions import BaseDistribution

_DIGITS = 6


@dataclass(frozen=True)
class Setting:
    """One varied key.

    Attributes:
        key: as in the command, with its plus sign where it has one.
        distribution: what Optuna draws from; choices are kept as they are written.
    """

    key: str
    distribution: "BaseDistribution"

    def word(self, value: Any) -> str:
        """``key=value`` for a drawn value; numbers with as many digits as a person would want to copy."""
        if isinstance(value, float):
            bounds: Any = self.distribution
            value = min(max(float(f"{value:.{_DIGITS}g}"), bounds.low), bounds.high)
        return f"{self.key}={value}"

    @property
    def points(self) -> float:
        """How many values there are; infinite where any number in between will do."""
        choices = getattr(self.distribution, "choices", None)
        if choices is not None:
            return len(choices)
        bounds: Any = self.distribution
        return math.inf if bounds.step is None else round((bounds.high - bounds.low) / bounds.step) + 1

    def extremes(self) -> list[Any]:
        """Every choice, or both ends: the values to check before the search begins."""
        choices = getattr(self.distribution, "choices", None)
        if choices is not None:
            return list(choices)
        bounds: Any = self.distribution
        return list(dict.fromkeys([bounds.low, bounds.high]))


def search_space(overrides: Sequence["Override"], choices: Mapping[str, Sequence[str]]) -> list[Setting]:
    """The settings that a command varies.

    ``a,b`` and ``choice(a,b)`` are drawn from; ``range(1,9,2)`` in its steps; ``interval(0,1)`` anywhere
    between, ``int(interval(1,8))`` in whole numbers; ``tag(log, ...)`` evenly in the logarithm.

    Args:
        overrides: those of the command that ask for several values.
        choices: the values of those that list them, as they are written, by key with its plus sign.

    Raises:
        UserError: if nothing varies, the seed does, or the values span no range.
    """
    if not overrides:
        raise UserError(
            "a search needs something to vary: give a key several values, for example"
            " model.hidden_channels=8,16,32 'model.optimizer.lr=tag(log,interval(1e-4,1e-1))'."
        )
    settings = []
    for override in overrides:
        if override.key_or_group == "seed":
            raise UserError(
                f"'{override.input_line}': the best of several seeds is luck, so a search runs with one."
                " Write seed=0, and repeat the best trial over seeds with -m ... seed=range(0,10)."
            )
        key = override.get_key_element()
        listed = choices.get(key, ())
        try:
            distribution = _distribution(override, listed)
        except ValueError as error:
            raise UserError(f"'{override.input_line}': {error}") from error
        settings.append(Setting(key, distribution))
    return settings


def _distribution(override: "Override", listed: Sequence[str]) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution

    value: Any = override.value()
    tags = set(getattr(value, "tags", ()))
    if tags - {"log"}:
        raise ValueError(f"the only tag is log, got {', '.join(sorted(tags - {'log'}))}.")
    if override.is_choice_sweep():
        if tags:
            raise ValueError("choices have no order, so no logarithm; write tag(log,interval(a,b)).")
        return CategoricalDistribution(list(dict.fromkeys(listed)))
    if override.is_range_sweep():
        return _steps(value, log="log" in tags)
    return _interval(value, log="log" in tags)


def _steps(value: "RangeSweep", log: bool) -> "BaseDistribution":
    """A range without its stop, as everywhere in Python."""
    from optuna.distributions import FloatDistribution, IntDistribution

    numbers = range_values(value)
    low, high, step = min(numbers), max(numbers), abs(value.step)
    if log and (step != 1 or not isinstance(low, int)):
        raise ValueError("a logarithmic range has no steps; write tag(log,interval(a,b)).")
    if isinstance(low, int) and isinstance(high, int):
        if log and low < 1:
            raise ValueError(f"a logarithmic range begins at 1 or above, got {low}.")
        return IntDistribution(low, high, log=log, step=int(step))
    return FloatDistribution(low, high, step=float(step))


def _interval(value: "IntervalSweep", log: bool) -> "BaseDistribution":
    from optuna.distributions import FloatDistribution, IntDistribution

    low, high = value.start, value.end
    assert low is not None
    assert high is not None
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"an interval goes from the lower to the higher number, got {low} and {high}.")
    if isinstance(low, int) and isinstance(high, int):
        if log and low < 1:
            raise ValueError(f"a logarithmic interval of whole numbers begins at 1 or above, got {low}.")
        return IntDistribution(low, high, log=log)
    if log and low <= 0:
        raise ValueError(f"a logarithmic interval begins above 0, got {low}.")
    return FloatDistribution(float(low), float(high), log=log)
