"""What the trials of a search are compared by."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from harness.configuration.compose import Composition
from harness.errors import UserError


@dataclass(frozen=True)
class Goal:
    """What trials are compared by.

    Attributes:
        metric: its name.
        mode: ``min`` if lower is better, ``max`` if higher.
        monitored: True for the validation value that also picks the best weights; False for a metric of the
            finished run.
    """

    metric: str
    mode: Literal["min", "max"]
    monitored: bool

    def value(self, results: Mapping[str, Any]) -> float | None:
        """The value in a run's ``results.json``: of the monitored one, the best of the last phase."""
        if self.monitored:
            last = list(results["epochs"])[-1] if results.get("epochs") else None
            found = results.get("best_values", {}).get(last)
        else:
            found = results.get("metrics", {}).get(self.metric)
        return float(found) if isinstance(found, int | float) and math.isfinite(found) else None


def read_goal(options: Mapping[str, Any], composed: Mapping[tuple[str, ...], Composition]) -> Goal:
    """The goal that ``sweep.search`` asks for; by default the monitored validation value.

    Args:
        options: ``sweep.search``.
        composed: trials of the search, by the words that vary.

    Raises:
        UserError: if there is no such value, or the trials would be judged by different ones.
    """
    metric, direction = options["metric"], options["direction"]
    mode = next(iter(composed.values())).config["mode"]
    if mode != "fit":
        raise UserError(f"mode={mode}: a search compares trainings. Leave out mode or sweep=optuna.")
    monitors = {words: _monitor(found.config) for words, found in composed.items()}
    (first, monitor), *others = monitors.items()
    if metric is not None and metric.startswith("test/"):
        raise UserError(
            f"sweep.search.metric={metric}: settings that are chosen by the test make its result worthless."
            " Leave it null: the monitored validation value decides."
        )
    if metric is not None and metric != monitor[0]:
        if metric.startswith(("train/", "val/")):
            raise UserError(
                f"sweep.search.metric={metric}: of the values measured while training only the monitored one"
                f" has a best epoch. Write callbacks.best_weights.monitor={metric} with its mode, and leave"
                " sweep.search.metric null."
            )
        if direction is None:
            raise UserError(f"sweep.search.metric={metric} needs sweep.search.direction=min or max.")
        return Goal(metric, direction, monitored=False)
    for words, other in others:
        if other != monitor:
            raise UserError(
                f"{_shown(first)} is judged by {_shown(monitor)} and {_shown(words)} by {_shown(other)};"
                " these cannot be compared. Write callbacks.best_weights.monitor=... and"
                " callbacks.best_weights.mode=... for all."
            )
    name, mode = monitor
    if name is None:
        raise UserError(
            "callbacks.best_weights.monitor=null: there is no validation value to search by. Write"
            " callbacks.best_weights.monitor=val/loss, or another metric that is measured."
        )
    if direction not in (None, mode):
        raise UserError(
            f"sweep.search.direction={direction}, but the best weights of each trial are picked by"
            f" callbacks.best_weights.mode={mode}. Leave the direction null."
        )
    return Goal(name, mode, monitored=True)


def _monitor(config: Mapping[str, Any]) -> tuple[Any, Any]:
    best = (config.get("callbacks") or {}).get("best_weights") or {}
    return best.get("monitor"), best.get("mode")


def _shown(words: Sequence[Any]) -> str:
    return " ".join(str(word) for word in words)
