"""The command line split into flags and overrides."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.errors import UserError, nearest

Action = Literal["run", "help", "config", "version"]

_FLAGS = ("--help", "--cfg", "--resolve", "--version", "--multirun")

# What a hand used to argparse types first, and the key that does it here.
_HABITS = {
    "accelerator": "hardware.accelerator=gpu",
    "batch-size": "data.batch_size=...",
    "checkpoint": "ckpt=<run folder> mode=test",
    "config": "model=... data=... (see --help)",
    "dataset": "data=...",
    "device": "hardware=cpu or hardware=gpu",
    "devices": "hardware.devices=2",
    "dropout": "model.dropout=0.5",
    "epochs": "trainer.max_epochs=100",
    "fp16": "hardware.precision=16-mixed",
    "gpu": "hardware=gpu",
    "gpus": "hardware=gpu hardware.devices=2",
    "learning-rate": "model.optimizer.lr=0.01",
    "lr": "model.optimizer.lr=0.01",
    "max-epochs": "trainer.max_epochs=100",
    "offline": "logger.wandb.mode=offline",
    "output": "paths.runs=<folder>",
    "precision": "hardware.precision=bf16-mixed",
    "test": "mode=test ckpt=<run folder>",
    "threads": "hardware.threads=4",
    "weight-decay": "model.optimizer.weight_decay=0.0005",
}


@dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Attributes:
        overrides: ``key=value`` words in their order, as given.
        action: run the experiment, or print the help, the composed configuration or the version.
        resolve: with ``config``: references replaced by their values.
        multirun: one run for each combination of values, instead of one run.
    """

    overrides: tuple[str, ...]
    action: Action = "run"
    resolve: bool = False
    multirun: bool = False


def parse(arguments: Sequence[str]) -> Request:
    """Split the words after ``run.py``.

    Raises:
        UserError: for a flag that does not exist, with the key or flag that does what was meant.
    """
    overrides: list[str] = []
    action: Action = "run"
    resolve = multirun = False
    words = list(arguments)
    while words:
        word = words.pop(0)
        if word in ("-h", "--help"):
            action = "help"
        elif word in ("-V", "--version"):
            action = "version" if action != "help" else action
        elif word == "--resolve":
            resolve = True
        elif word in ("-c", "--cfg") or word.startswith("--cfg="):
            wanted = word.partition("=")[2] if "=" in word else words.pop(0) if words else ""
            if wanted != "job":
                given = word if "=" in word else f"{word} {wanted}"
                raise UserError(f"--cfg prints the composed configuration as --cfg job, got {given}.")
            action = "config" if action == "run" else action
        elif word in ("-m", "--multirun"):
            multirun = True
        elif word.startswith("-"):
            raise _unknown_flag(word, words)
        else:
            key, equals, value = word.partition("=")
            if key == "resume" and equals and not value.strip("'\""):
                raise UserError(
                    f"{word} names nothing, as an unset variable of a shell does. Give a folder,"
                    " or resume=auto, or leave it out."
                )
            # the shell leaves key=~/x as it is, and the override grammar has no tilde
            overrides.append(f"{key}{equals}{Path(value).expanduser()}" if value.startswith("~/") else word)
    if resolve and action != "config":
        raise UserError("--resolve belongs to --cfg job: python run.py model=gat --cfg job --resolve")
    return Request(tuple(overrides), action, resolve, multirun)


def _unknown_flag(word: str, following: list[str]) -> UserError:
    name, _, value = word.lstrip("-").partition("=")
    habit = name.lower().replace("_", "-")
    if habit in _HABITS:
        return UserError(f"there is no flag {word}: settings are written key=value. Write {_HABITS[habit]}")
    hint = nearest(name, [flag.lstrip("-") for flag in _FLAGS]).replace("'", "'--", 1)
    if not hint and name:
        if not value and following and "=" not in following[0] and not following[0].startswith("-"):
            value = following[0]
        hint = f" Settings have no dashes: write {name}={value or '...'}"
    return UserError(f"there is no flag {word}.{hint} Flags: {', '.join(_FLAGS)}; the rest is key=value.")
