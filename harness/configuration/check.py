"""The whole configuration checked before torch is imported and before any data is touched."""

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.annotations import NetworkSpec
from harness.checkpoints import find_checkpoint
from harness.configuration.agreement import check_agreement
from harness.configuration.check_values import Problem, check_keys, check_usable
from harness.configuration.schema import (
    ENVIRONMENT,
    GROUPS,
    HARDWARE,
    OPTIMIZER_VALUES,
    PATHS,
    PUBLISHED,
    PUBLISHED_OPTIONAL,
    ROOT,
    ROOT_OPTIONAL,
    SCHEDULER_VALUES,
    TRAINER,
    TRAINER_ELSEWHERE,
    Fields,
)
from harness.configuration.signatures import ClassInfo, read_class
from harness.configuration.static_modules import PROJECT_ROOT
from harness.configuration.static_types import parameter_type
from harness.configuration.targets import KINDS, public_classes, read_public, read_target
from harness.errors import UserError, nearest
from harness.run_folder import check_writable

# Schedules built from other schedules or from functions: plain values cannot describe them.
_NOT_PLAIN_SCHEDULERS = ("LambdaLR", "MultiplicativeLR", "SequentialLR", "ChainedScheduler")

_FILLED_IN = ("T_max",)  # by the length of training, where it is left out

# Module, base class and narrower value types of what an ``optimizer`` or ``scheduler`` key may name.
_ROLES: dict[str, tuple[str, str, Fields]] = {
    "optimizer": ("torch.optim", "torch.optim.optimizer.Optimizer", OPTIMIZER_VALUES),
    "scheduler": ("torch.optim.lr_scheduler", "torch.optim.lr_scheduler.LRScheduler", SCHEDULER_VALUES),
}


def check(config: Mapping[str, Any], choices: Mapping[str, str], conf: Path = PROJECT_ROOT / "conf") -> None:
    """Refuse a composed configuration that cannot run.

    Args:
        config: the resolved configuration as plain values.
        choices: chosen option of each group, for messages.
        conf: the configuration folder, searched for data sets that would serve the model.

    Raises:
        UserError: one line about the first mistake, followed by the keys of the others.
    """
    problems = _check_root(config)
    infos: dict[str, ClassInfo | None] = {}
    for group in ("data", "model"):  # the model refers to the data's facts, so a mistake there comes first
        infos[group] = _check_target_node(group, config.get(group), KINDS[group], problems)
    for group in ("callbacks", "logger"):
        for name, node in (config.get(group) or {}).items():
            _check_target_node(f"{group}.{name}", node, KINDS[group], problems)
    for group in ("model", "data"):
        for key, role, spec in _class_specs(group, config.get(group)):
            problems += _check_class_spec(key, role, spec)
    problems += _check_trainer(config.get("trainer"))
    problems += check_keys("hardware", config.get("hardware"), HARDWARE, HARDWARE)
    problems += check_agreement(config, infos["model"], infos["data"], choices, conf)
    problems += check_usable("", config)  # last: a key's own type says more
    if problems:
        others = list(dict.fromkeys(p.key for p in problems[1:] if p.key != problems[0].key))
        more = f" (and {len(others)} more: {', '.join(others)})" if others else ""
        raise UserError(problems[0].message + more)


def _check_root(config: Mapping[str, Any]) -> list[Problem]:
    fields: Fields = {**ROOT, **dict.fromkeys(GROUPS, Any)}
    problems = check_keys("", config, fields, set(fields) - ROOT_OPTIONAL)
    if isinstance(config.get("paths"), Mapping):
        problems += _emptied(config["paths"]) or check_keys("paths", config["paths"], PATHS, PATHS)
        problems += _check_places(config["paths"])
    if isinstance(config.get("published"), Mapping):
        problems += check_keys(
            "published", config["published"], PUBLISHED, set(PUBLISHED) - PUBLISHED_OPTIONAL
        )
    for group in ("callbacks", "logger"):
        node = config.get(group)
        if node is not None and not isinstance(node, Mapping):
            raise UserError(f"{group} must be a group of named entries, got {node!r}.")
    if config.get("mode") in ("test", "predict") and config.get("resume"):
        problems.append(
            Problem(
                "resume",
                f"resume={config['resume']} goes on with a training run, and mode={config['mode']} trains"
                " nothing. Take one of them away.",
            )
        )
    if config.get("mode") in ("test", "predict"):
        mode, ckpt = config["mode"], config.get("ckpt")
        fix = "ckpt=<run folder>"
        if not ckpt:
            problems.append(Problem("ckpt", f"mode={mode} needs a checkpoint: add {fix}."))
        elif isinstance(ckpt, str):
            try:
                find_checkpoint(ckpt)
            except UserError as error:
                problems.append(Problem("ckpt", str(error)))
    elif config.get("ckpt"):
        problems.append(
            Problem(
                "ckpt",
                f"ckpt={config['ckpt']} is read by mode=test and mode=predict alone. Add one of them, or"
                " leave ckpt out; resume=<run folder> goes on with a run.",
            )
        )
    return problems


def check_object(key: str, node: Mapping[str, Any]) -> None:
    """Refuses a node whose class is not allowed or would not take its keys and values.

    Args:
        key: the group that it belongs to, ``model``, ``data``, ``callbacks`` or ``logger``.
        node: ``{_target_: path, **keywords}``.

    Raises:
        UserError: one line about the first mistake.
    """
    problems: list[Problem] = []
    _check_target_node(key, node, KINDS[key], problems)
    for name, role, spec in _class_specs(key, node):
        problems += _check_class_spec(name, role, spec)
    problems += check_usable(key, node)
    if problems:
        raise UserError(problems[0].message)


def _check_places(paths: Mapping[str, Any]) -> Iterator[Problem]:
    """Folders of ``paths`` that could not be read or made; a cache is replaced by another one."""
    runs, data = paths.get("runs"), paths.get("data")
    if isinstance(runs, str) and runs and "\0" not in runs:
        try:
            check_writable(Path(runs).expanduser())
        except UserError as error:
            yield Problem("paths.runs", str(error))
    try:
        is_file = isinstance(data, str) and Path(data).expanduser().is_file()
    except OSError as error:  # a name that is too long
        yield Problem("paths.data", f"paths.data={data}: {error.strerror}. Name a folder of data sets.")
    else:
        if is_file:
            yield Problem("paths.data", f"paths.data={data} is a file. Name a folder of data sets.")


def _emptied(paths: Mapping[str, Any]) -> list[Problem]:
    """Folders named by a variable that is set to nothing, as a shell script with a typing error sets it."""
    return [
        Problem(
            f"paths.{key}",
            f"paths.{key} is empty: the variable {variable} is set to ''. Unset it, or name a folder.",
        )
        for key, variable in ENVIRONMENT.items()
        if paths.get(key) == "" and os.environ.get(variable) == ""
    ]


def _check_target_node(key: str, node: Any, kind: str, problems: list[Problem]) -> ClassInfo | None:
    """Checks a node with a ``_target_`` against the constructor; appends to ``problems``."""
    if not isinstance(node, Mapping):
        problems.append(Problem(key, f"{key} must be a group of keys with a _target_, got {node!r}."))
        return None
    if "_target_" not in node:
        problems.append(Problem(f"{key}._target_", f"{key} has no _target_: it must name a {kind}."))
        return None
    try:
        info = read_target(key, node["_target_"], kind)
    except UserError as error:
        problems.append(Problem(f"{key}._target_", str(error)))
        return None
    values = {name: value for name, value in node.items() if name != "_target_"}
    fields = {name: parameter_type(parameter) for name, parameter in info.parameters.items()}
    required = {name for name, parameter in info.parameters.items() if parameter.required}
    problems += check_keys(key, values, fields, required, info.takes_any, info.name)
    problems += _network_problems(key, values, fields)
    problems += [
        Problem(path, f"{path}: only {key} itself can have a _target_; its arguments are plain values.")
        for path in _nested_targets(key, values)
    ]
    return info


def _network_problems(key: str, values: Mapping[str, Any], fields: Fields) -> list[Problem]:
    """Mistakes in the arguments that describe a network of images."""
    specs = {
        name: values[name]
        for name, field in fields.items()
        if field == NetworkSpec and isinstance(values.get(name), str | dict)
    }
    if not specs:
        return []
    from lightning_modules.image_classification.architectures import network_problems

    return [one for name, spec in specs.items() for one in network_problems(f"{key}.{name}", spec)]


def _nested_targets(prefix: str, value: Any) -> Iterator[str]:
    """Hydra's own keys (``_target_``, ``_partial_``, ...) anywhere below a node."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if isinstance(name, str) and re.fullmatch(r"_(target|partial|args|convert|recursive)_", name):
                yield f"{prefix}.{name}"
            yield from _nested_targets(f"{prefix}.{name}", inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _nested_targets(f"{prefix}[{index}]", inner)


def _class_specs(prefix: str, node: Any) -> Iterator[tuple[str, str, Any]]:
    """(full key, role, value) of every ``optimizer``, ``scheduler`` or ``..._optimizer`` below a node."""
    if not isinstance(node, Mapping):
        return
    for name, value in node.items():
        role = str(name).rpartition("_")[2]
        if role in _ROLES:
            if value is not None:
                yield f"{prefix}.{name}", role, value
        else:
            yield from _class_specs(f"{prefix}.{name}", value)


def _check_class_spec(key: str, role: str, spec: Any) -> list[Problem]:
    """``{name: Adam, lr: 0.005}`` against the class of that name in torch.optim or its lr_scheduler."""
    module, base, values = _ROLES[role]
    if not isinstance(spec, Mapping) or "name" not in spec:
        return [Problem(key, f"{key} must be {{name: <class of {module}>, <its keys>}}, got {spec!r}.")]
    name = spec["name"]
    info = None if name in _NOT_PLAIN_SCHEDULERS else read_public(module, name, base)
    if info is None:
        names = [n for n in public_classes(module, base) if n not in _NOT_PLAIN_SCHEDULERS]
        message = f"{key}.name must be a class of {module}, got {name!r}.{nearest(str(name), names)}"
        return [Problem(f"{key}.name", f"{message} Classes: {', '.join(names)}.")]
    parameters = list(info.parameters.values())[1:]  # the first is the parameters or the optimiser
    fields = {p.name: values.get(p.name, parameter_type(p)) for p in parameters}
    required = {p.name for p in parameters if p.required and p.name not in _FILLED_IN}
    keywords = {k: v for k, v in spec.items() if k != "name"}
    problems = check_keys(key, keywords, fields, required, owner=f"{module}.{name}")
    return [
        # A key left over from the file's own choice of class, when only the name was changed.
        p._replace(message=f"{p.message} Take it away with ~{p.key}.") if _unknown(p, fields) else p
        for p in problems
    ]


def _unknown(problem: Problem, fields: Fields) -> bool:
    return problem.key.rpartition(".")[2] not in fields


def _check_trainer(node: Any) -> list[Problem]:
    if not isinstance(node, Mapping):
        return check_keys("trainer", node, {}, ())
    problems = []
    for name in node:
        if name in TRAINER_ELSEWHERE:
            problems.append(
                Problem(f"trainer.{name}", f"trainer.{name} is not set here: {TRAINER_ELSEWHERE[name]}.")
            )
    parameters = read_class("pytorch_lightning.trainer.trainer.Trainer").parameters
    values = {name: value for name, value in node.items() if name not in TRAINER_ELSEWHERE}
    fields = {
        name: TRAINER.get(name, parameter_type(parameter) if name in values else Any)
        for name, parameter in parameters.items()
        if name not in TRAINER_ELSEWHERE
    }
    problems += check_keys("trainer", values, fields, ("max_epochs",), owner="Lightning's Trainer")
    low, high = node.get("min_epochs"), node.get("max_epochs")
    if isinstance(low, int) and isinstance(high, int) and low > high > 0:
        problems.append(
            Problem(
                "trainer.min_epochs",
                f"trainer.min_epochs={low} is more than trainer.max_epochs={high}."
                f" Lower min_epochs or write trainer.max_epochs={low}.",
            )
        )
    return problems
