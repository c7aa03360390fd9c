"""The keys of the configuration that belong to no constructor, and the types of their values.

Model, data, callbacks and loggers are checked against their own signatures instead.
"""

from typing import Annotated, Any, Literal

from pydantic import Field

from harness.annotations import (
    Fraction,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
)

Fields = dict[str, Any]
"""Type of each key's value."""

GROUPS = ("model", "data", "trainer", "hardware", "callbacks", "logger")
"""Groups whose choice fills a key of the same name."""

ROOT: Fields = {
    # The upper end is numpy's, the narrowest of the generators that are seeded.
    "seed": Annotated[int, Field(ge=0, lt=2**32)],
    "mode": Literal["fit", "test", "predict"],
    "resume": str | None,
    "ckpt": str | None,
    "paths": dict[str, Any],
    "published": dict[str, Any] | None,
    "requires": dict[str, Any],
}
ROOT_OPTIONAL = frozenset({"resume", "ckpt", "published", "requires"})

_Folder = Annotated[str, Field(min_length=1)]

PATHS: Fields = {"data": _Folder, "runs": _Folder, "cache": _Folder}

FACTS = ("in_channels", "num_classes", "image_size", "target", "folds", "protocol")
"""Arguments of a data set that are checked against the data; models refer to them under the same name."""

ENVIRONMENT = {"data": "TENFOLD_DATA", "cache": "TENFOLD_CACHE"}
"""Variables that name a folder of ``paths`` where the command does not."""

PUBLISHED: Fields = {"metric": str, "value": float, "spread": NonNegativeFloat | None, "source": str}
PUBLISHED |= {"settings": dict[str, Any]}
"""``settings``: values of keys, by their full names, with which alone the value was found."""
PUBLISHED_OPTIONAL = frozenset({"spread", "settings"})

SWEEP: Fields = {
    "sampler": Literal["grid", "optuna"],
    "launcher": Literal["local", "slurm"],
    "workers": PositiveInt,
    "retry": Literal["none", "failed"],
    "average_over": list[str],
    "metric": str | None,
    "stop_seconds": PositiveFloat,
}
"""What every choice of the group has; ``search`` belongs to sampler=optuna, ``slurm`` to launcher=slurm."""

SEARCH: Fields = {
    "trials": PositiveInt,
    "sampler": Literal["tpe", "random"],
    "random_trials": PositiveInt,
    "seed": Annotated[int, Field(ge=0, lt=2**32)],
    "metric": str | None,
    "direction": Literal["min", "max"] | None,
    "storage": str | None,
    "pruner": dict[str, Any],
}

PRUNER: Fields = {
    "name": Literal["none", "median"],
    "every_epochs": PositiveInt,
    "warmup_epochs": NonNegativeInt,
    "startup_trials": NonNegativeInt,
}

SLURM: Fields = {
    "cluster": Literal["slurm", "local"],
    "partition": str | None,
    "account": str | None,
    "timeout_min": PositiveInt,
    "requeues": NonNegativeInt,
    "save_seconds": PositiveInt,
    "cpus_per_task": PositiveInt,
    "gpus_per_node": NonNegativeInt,
    "mem_gb": PositiveFloat,
    "setup": list[str],
    "options": dict[str, str | int | bool],
}

HARDWARE: Fields = {
    "accelerator": Literal["auto", "cpu", "gpu", "mps"],
    "devices": PositiveInt | Literal["auto"] | list[NonNegativeInt],
    "num_nodes": PositiveInt,
    # Not ddp_fork and ddp_spawn: best weights and logged rows would stay in the processes that they start.
    "strategy": Literal["auto", "ddp", "ddp_find_unused_parameters_true"],
    "precision": Literal["32-true", "64-true", "bf16-true", "16-mixed", "bf16-mixed"],
    "sync_batchnorm": bool,
    "compile": bool,
    "channels_last": bool,
    "threads": Annotated[int, Field(gt=0, le=1024)],
}

TRAINER: Fields = {
    "max_epochs": PositiveInt,
    "min_epochs": PositiveInt | None,
    "max_steps": PositiveInt | Literal[-1],
    "min_steps": PositiveInt | None,
    "log_every_n_steps": PositiveInt,
    "check_val_every_n_epoch": PositiveInt,
    "accumulate_grad_batches": PositiveInt,
    "gradient_clip_val": PositiveFloat | None,
    "gradient_clip_algorithm": Literal["norm", "value"] | None,
    "deterministic": bool | Literal["warn"],
    "num_sanity_val_steps": NonNegativeInt | Literal[-1],
    "profiler": Literal["simple", "advanced", "pytorch"] | None,
}
"""Arguments of Lightning's Trainer whose own annotation is looser than what makes sense in a run."""

_IN_HARDWARE = ("accelerator", "devices", "num_nodes", "strategy", "precision", "sync_batchnorm")
TRAINER_ELSEWHERE: dict[str, str] = {
    **{key: f"write hardware.{key} instead" for key in _IN_HARDWARE},
    "logger": "choose with logger=, its keys are under logger",
    "callbacks": "choose with callbacks=, its keys are under callbacks",
    "default_root_dir": "write paths.runs instead",
    "enable_checkpointing": "every run keeps its best and last weights",
    "enable_progress_bar": "progress is a callback: ~callbacks.progress takes it away",
    "limit_val_batches": "the harness decides who validates",
    "use_distributed_sampler": "the loaders share a batch out by themselves",
    "inference_mode": "weights and caches made in a test must stay usable for training",
    "barebones": "it would switch off what a run writes",
    "plugins": "it takes objects, a configuration holds plain values",
    "model_registry": "it needs an outside service",
}
"""Trainer arguments that the harness itself fills, and where to turn instead."""

OPTIMIZER_VALUES: Fields = {
    "lr": PositiveFloat,
    "weight_decay": NonNegativeFloat,
    "eps": NonNegativeFloat,
    "betas": tuple[Probability, Probability],
    "momentum": NonNegativeFloat,
    "alpha": NonNegativeFloat,
    "rho": Fraction,
    # both serve CUDA graphs and gradients through the optimiser itself, and a step fails without them
    "capturable": Literal[False],
    "differentiable": Literal[False],
}
"""Ranges that torch.optim checks only once it is built; its annotations say no more than float."""

SCHEDULER_VALUES: Fields = {
    "step_size": PositiveInt,
    "gamma": PositiveFloat,
    "milestones": list[PositiveInt],
    "T_max": PositiveInt,
    "T_0": PositiveInt,
    "T_mult": PositiveInt,
    "eta_min": NonNegativeFloat,
    "factor": PositiveFloat,
    "patience": NonNegativeInt,
    "total_iters": PositiveInt,
    "max_lr": PositiveFloat,
    "total_steps": PositiveInt | None,
    "last_epoch": Literal[-1],  # a run that goes on restores its schedule by itself
}
"""The same for torch.optim.lr_scheduler."""
