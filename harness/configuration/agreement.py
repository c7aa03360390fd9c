"""Whether the parts of a configuration go together: model, data, callbacks, hardware and what is required."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.configuration.check_values import Problem
from harness.configuration.schema import FACTS
from harness.configuration.signatures import ClassInfo, NotAClassError, read_class
from harness.configuration.static_modules import PROJECT_ROOT, UnknownNameError
from harness.configuration.targets import KINDS, read_target
from harness.errors import UserError, nearest


def check_agreement(
    config: Mapping[str, Any],
    model: ClassInfo | None,
    data: ClassInfo | None,
    choices: Mapping[str, str],
    conf: Path,
) -> list[Problem]:
    """Mistakes in keys each of which would be right beside another choice.

    Args:
        config: the resolved configuration.
        model: the model's class, None where it cannot be read.
        data: the data's.
        choices: chosen option of each group.
        conf: the configuration folder, searched for data sets that would serve the model.
    """
    problems = _check_facts(config.get("model"), config.get("data"))
    problems += _check_monitors(config.get("callbacks"), model)
    problems += _check_networks(config.get("hardware"), model, choices)
    problems += _check_plateau(config.get("model"), model, choices)
    problems += _check_task(model, data, choices, conf)
    problems += _check_requires(config, model, choices)
    return problems


def _check_facts(model: Any, data: Any) -> list[Problem]:
    """Facts of the data that the model was told otherwise; its files refer to them."""
    if not isinstance(model, Mapping) or not isinstance(data, Mapping):
        return []
    return [
        Problem(
            f"model.{name}",
            f"model.{name}={model[name]}, but data.{name}={data[name]}. Leave model.{name} as it is in its"
            f" file, ${{data.{name}}}.",
        )
        for name in FACTS
        if name in model and name in data and model[name] != data[name]
    ]


def _check_monitors(callbacks: Any, model: ClassInfo | None) -> list[Problem]:
    """Callbacks that watch a metric which the model never reports."""
    names: tuple[str, ...] = (model.attributes.get("epoch_metrics") if model else None) or ()
    if not isinstance(callbacks, Mapping) or not names:
        return []
    watched = {
        f"callbacks.{name}.monitor": node["monitor"]
        for name, node in callbacks.items()
        if isinstance(node, Mapping) and isinstance(node.get("monitor"), str)
    }
    return [
        Problem(key, f"{key} must be one of {', '.join(names)}, got {metric!r}.{nearest(metric, names)}")
        for key, metric in watched.items()
        if metric not in names
    ]


def _check_networks(hardware: Any, model: ClassInfo | None, choices: Mapping[str, str]) -> list[Problem]:
    """Keys of ``hardware`` that the method's class says to be no use for its networks."""
    if not isinstance(hardware, Mapping) or model is None:
        return []
    name, problems = choices.get("model"), []
    reason = model.attributes.get("not_compiled")
    if hardware.get("compile") is True and reason:
        problems.append(
            Problem(
                "hardware.compile",
                f"hardware.compile=true is not for model={name}: {reason}. Use hardware.compile=false.",
            )
        )
    if hardware.get("channels_last") is True and not model.attributes.get("takes_images"):
        problems.append(
            Problem(
                "hardware.channels_last",
                f"hardware.channels_last=true is for methods that read images; model={name} does not."
                " Use hardware.channels_last=false.",
            )
        )
    return problems


def _check_plateau(node: Any, model: ClassInfo | None, choices: Mapping[str, str]) -> list[Problem]:
    """A schedule that waits for a metric, of a method that gives it none."""
    scheduler = node.get("scheduler") if isinstance(node, Mapping) else None
    name = scheduler.get("name") if isinstance(scheduler, Mapping) else None
    if name != "ReduceLROnPlateau" or model is None or model.attributes.get("plateau_metric"):
        return []
    return [
        Problem(
            "model.scheduler.name",
            f"model.scheduler.name={name} waits for a metric, and model={choices.get('model')} steps its"
            " schedule without one. Use StepLR, MultiStepLR or CosineAnnealingLR.",
        )
    ]


def _check_task(
    model: ClassInfo | None, data: ClassInfo | None, choices: Mapping[str, str], conf: Path
) -> list[Problem]:
    if model is None or data is None:
        return []
    task, tasks = model.attributes.get("task"), data.attributes.get("tasks")
    if not isinstance(task, str):
        return [Problem("model", f"{model.path} must state its task as a class attribute: task = '...'.")]
    if not isinstance(tasks, tuple | list):
        return [Problem("data", f"{data.path} must state its tasks as a class attribute: tasks = ('...',).")]
    if task in tasks:
        return []
    name = choices.get("data")
    serving, doing = data_for_task(task, conf), models_for_tasks(tasks, conf)
    return [
        Problem(
            "data",
            f"model={choices.get('model')} does {task}, but data={name} serves only {', '.join(tasks)}."
            f" Data for it: {', '.join(serving) or 'none yet'}."
            f" Models for data={name}: {', '.join(doing) or 'none yet'}.",
        )
    ]


def _check_requires(
    config: Mapping[str, Any], model: ClassInfo | None, choices: Mapping[str, str]
) -> list[Problem]:
    """Whether what is required is what the method's class says it starts from."""
    if model is None or config.get("mode") != "fit":
        return []
    wanted, given = model.attributes.get("prerequisites") or (), config.get("requires") or {}
    optional = model.attributes.get("optional_prerequisites") or ()
    name = choices.get("model")
    problems = [
        Problem(
            f"model.requires.{missing}",
            f"model={name} starts from a trained {missing}, and model.requires.{missing} is not there."
            f" Write model.requires.{missing}=<best.ckpt or run folder>, or leave its file as it was.",
        )
        for missing in wanted
        if missing not in given and missing not in optional
    ]
    starts = f"model={name} starts from {', '.join(wanted) if wanted else 'nothing trained'}"
    problems += [
        Problem(
            f"model.requires.{other}",
            f"model.requires.{other}: {starts}.{nearest(other, wanted)} Take it out.",
        )
        for other in given
        if other not in wanted
    ]
    return problems


def task_mismatch(model: Any, data: Any, choices: Mapping[str, str], conf: Path) -> str:
    """The sentence about a model and data of different tasks; ``""`` if they go together or cannot be read.

    Args:
        model: the model's ``_target_``.
        data: the data's.
        choices: chosen option of each group.
        conf: the configuration folder.
    """
    try:
        infos = read_target("model", model, KINDS["model"]), read_target("data", data, KINDS["data"])
    except UserError:
        return ""
    return next((problem.message for problem in _check_task(*infos, choices, conf)), "")


def data_for_task(task: str, conf: Path = PROJECT_ROOT / "conf") -> list[str]:
    """Choices of the data group whose class serves ``task``, read without importing anything."""
    infos = _targets_of(conf / "data")
    return [name for name, info in infos if task in (info.attributes.get("tasks") or ())]


def models_for_tasks(tasks: Sequence[str], conf: Path = PROJECT_ROOT / "conf") -> list[str]:
    """Choices of the model group whose class does one of ``tasks``, read without importing anything."""
    return [name for name, info in _targets_of(conf / "model") if info.attributes.get("task") in tasks]


def _targets_of(folder: Path) -> Iterator[tuple[str, ClassInfo]]:
    """Choices of a group with their classes; what cannot be read is left out."""
    for file in sorted(folder.glob("*.yaml")):
        text = file.read_text(encoding="utf-8", errors="replace")
        written = re.search(r"^_target_:\s*['\"]?([\w.]+)", text, re.MULTILINE)
        try:
            info = read_class(written.group(1)) if written else None
        except (UnknownNameError, NotAClassError):
            continue
        if info:
            yield file.stem, info
