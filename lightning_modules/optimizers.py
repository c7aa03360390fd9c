"""Optimisers and schedulers from plain dictionaries."""

from collections.abc import Iterable
from typing import Any, Literal

import torch

from harness.annotations import ClassSpec
from harness.errors import UserError, nearest
from lightning_modules.experiment import ExperimentModule

Interval = Literal["epoch", "step"]

LENGTHS = {
    "CosineAnnealingLR": ("T_max",),
    "OneCycleLR": ("total_steps", "epochs"),
    "PolynomialLR": ("total_iters",),
}
"""Keys that tell a schedule how long it is, any one of which will do; the first is filled in."""


def build_optimizer(groups: Iterable[dict[str, Any]], spec: ClassSpec) -> torch.optim.Optimizer:
    """The optimiser that ``{name: Adam, lr: 0.005, ...}`` describes.

    Args:
        groups: parameter groups, ``{"params": [...], **own settings}``; parameters that do not require
            gradients are left out.
        spec: ``name`` is a class of ``torch.optim`` and nowhere else; the other keys are its arguments.

    Raises:
        UserError: if the name is no optimiser of ``torch.optim`` or its class refuses the keys.
    """
    active = [{**group, "params": [p for p in group["params"] if p.requires_grad]} for group in groups]
    return _build(
        torch.optim, torch.optim.Optimizer, "optimizer", spec, [group for group in active if group["params"]]
    )


def build_scheduler(
    optimizer: torch.optim.Optimizer, spec: ClassSpec, length: int | None = None
) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning-rate schedule that ``{name: StepLR, step_size: 100}`` describes.

    Args:
        optimizer: whose learning rate it sets.
        spec: ``name`` is a class of ``torch.optim.lr_scheduler`` and nowhere else.
        length: steps that it will take; ``T_max`` of ``CosineAnnealingLR``, ``total_steps`` of ``OneCycleLR``
            and ``total_iters`` of ``PolynomialLR`` where ``spec`` leaves them out.

    Raises:
        UserError: if the name is no scheduler of that module or its class refuses the keys.
    """
    module = torch.optim.lr_scheduler
    needed = LENGTHS.get(str(spec.get("name")))
    if length is not None and needed and not any(key in spec for key in needed):
        spec = {**spec, needed[0]: max(length, 1)}
    return _build(module, module.LRScheduler, "scheduler", spec, optimizer)


def with_schedule(
    module: ExperimentModule, optimizer: torch.optim.Optimizer, spec: ClassSpec | None, interval: Interval
) -> Any:
    """What ``configure_optimizers`` returns for one optimiser: with the schedule, where there is one.

    Args:
        module: in a run, whose Trainer says how long the schedule is.
        optimizer: its optimiser.
        spec: see :func:`build_scheduler`; None for none.
        interval: how often the schedule takes a step.
    """
    if spec is None:
        return optimizer
    length = module.planned_epochs
    if length is not None and interval == "step":
        length *= _steps_of_an_epoch(module.trainer)
        most = module.trainer.max_steps
        length = length if most < 0 else min(length, most)
    scheduler = build_scheduler(optimizer, spec, length)
    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": interval}}


def _steps_of_an_epoch(trainer: Any) -> int:
    # not the Trainer's estimated_stepping_batches, which sets up its loaders before they are resumed
    batches, limit = len(trainer.datamodule.train_dataloader()), trainer.limit_train_batches
    batches = min(batches, limit) if isinstance(limit, int) else int(batches * limit)
    return max(-(-batches // trainer.accumulate_grad_batches), 1)


def _build(module: Any, base: type, key: str, spec: ClassSpec, first: Any) -> Any:
    names = [
        n for n, c in vars(module).items() if isinstance(c, type) and issubclass(c, base) and c is not base
    ]
    name = spec.get("name")
    if name not in names:
        raise UserError(
            f"model.{key}.name must be a class of {module.__name__}, got {name!r}.{nearest(str(name), names)}"
        )
    keywords = {k: v for k, v in spec.items() if k != "name"}
    try:
        return vars(module)[name](first, **keywords)
    except (TypeError, ValueError) as error:
        raise UserError(f"model.{key}: {name} refuses {keywords}: {error}") from error
