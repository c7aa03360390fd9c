"""The whole configuration checked before torch is imported and before any data is touched."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.configuration.check_values import Problem, check_keys
from harness.configuration.schema import (
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
from harness.configuration.signatures import ClassInfo, NotAClassError, read_class
from harness.configuration.static_modules import PROJECT_ROOT, UnknownNameError
from harness.configuration.static_types import parameter_type
from harness.configuration.targets import KINDS, public_classes, read_public, read_target
from harness.errors import UserError, nearest

# Schedules built from other schedules or from functions: plain values cannot describe them.
_NOT_PLAIN_SCHEDULERS = (
    "LambdaLR",
    "MultiplicativeLR",
    "SequentialLR",
    "ChainedScheduler",
    "ReduceLROnPlateau",
)

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
    problems += _check_task(infos["model"], infos["data"], choices, conf)
    if problems:
        others = list(dict.fromkeys(p.key for p in problems[1:] if p.key != problems[0].key))
        more = f" (and {len(others)} more: {', '.join(others)})" if others else ""
        raise UserError(problems[0].message + more)


def _check_root(config: Mapping[str, Any]) -> list[Problem]:
    fields: Fields = {**ROOT, **dict.fromkeys(GROUPS, Any)}
    problems = check_keys("", config, fields, set(fields) - ROOT_OPTIONAL)
    if isinstance(config.get("paths"), Mapping):
        problems += check_keys("paths", config["paths"], PATHS, PATHS)
    if isinstance(config.get("published"), Mapping):
        problems += check_keys(
            "published", config["published"], PUBLISHED, set(PUBLISHED) - PUBLISHED_OPTIONAL
        )
    for group in ("callbacks", "logger"):
        node = config.get(group)
        if node is not None and not isinstance(node, Mapping):
            raise UserError(f"{group} must be a group of named entries, got {node!r}.")
    if config.get("mode") in ("test", "predict"):
        mode, ckpt = config["mode"], config.get("ckpt")
        fix = "ckpt=<run folder>/checkpoints/best.ckpt"
        if not ckpt:
            problems.append(Problem("ckpt", f"mode={mode} needs a checkpoint: add {fix}."))
        elif isinstance(ckpt, str) and "://" in ckpt:
            problems.append(Problem("ckpt", f"ckpt={ckpt} is an address; only files are read. Give {fix}."))
        elif isinstance(ckpt, str) and not Path(ckpt).expanduser().is_file():
            problems.append(Problem("ckpt", f"ckpt={ckpt}: there is no such file. Give {fix}."))
    return problems


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
    problems += [
        Problem(path, f"{path}: only {key} itself can have a _target_; its arguments are plain values.")
        for path in _nested_targets(key, values)
    ]
    return info


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
    required = {p.name for p in parameters if p.required}
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
    serving = data_for_task(task, conf)
    return [
        Problem(
            "data",
            f"model={choices.get('model')} does {task}, but data={choices.get('data')} serves only"
            f" {', '.join(tasks)}. Data for it: {', '.join(serving) or 'none yet'}.",
        )
    ]


def data_for_task(task: str, conf: Path = PROJECT_ROOT / "conf") -> list[str]:
    """Choices of the data group whose class serves ``task``, read without importing anything."""
    found = []
    for file in sorted((conf / "data").glob("*.yaml")):
        written = re.search(r"^_target_:\s*['\"]?([\w.]+)", file.read_text(encoding="utf-8"), re.MULTILINE)
        try:
            info = read_class(written.group(1)) if written else None
        except (UnknownNameError, NotAClassError):
            continue
        if info and task in (info.attributes.get("tasks") or ()):
            found.append(file.stem)
    return found
