"""The node ``sweep`` of a configuration, checked."""

from collections.abc import Mapping
from typing import Any

from harness.configuration.check_values import check_keys, check_usable
from harness.configuration.schema import PRUNER, SEARCH, SLURM, SWEEP
from harness.errors import UserError

_BLOCKS = {"search": ("sampler", "optuna"), "slurm": ("launcher", "slurm")}
"""Groups of keys that some choices have, and the key and value that they go with."""


def check_sweep(node: Mapping[str, Any]) -> None:
    """Refuses a ``sweep`` node that could not be used, also where a single run ignores it.

    Raises:
        UserError: one line about the first mistake.
    """
    fields = {**SWEEP, **dict.fromkeys((block for block in _BLOCKS if block in node), dict[str, Any])}
    problems = [*check_keys("sweep", node, fields, SWEEP), *check_usable("sweep", node)]
    for name, block_fields in (("search", SEARCH), ("slurm", SLURM)):
        if name in node:
            problems += check_keys(f"sweep.{name}", node[name], block_fields, block_fields)
    if isinstance(node.get("search"), Mapping):
        problems += check_keys("sweep.search.pruner", node["search"].get("pruner"), PRUNER, PRUNER)
    if problems:
        raise UserError(problems[0].message)
    slurm = node.get("slurm")
    if slurm and slurm["save_seconds"] >= 60 * slurm["timeout_min"]:
        raise UserError(
            f"sweep.slurm.save_seconds={slurm['save_seconds']} leaves nothing of sweep.slurm.timeout_min="
            f"{slurm['timeout_min']} minutes. Lower it or raise the limit."
        )
    for block, (key, value) in _BLOCKS.items():
        if node[key] == value and block not in node:
            raise UserError(
                f"sweep.{key}={value} needs the keys of sweep.{block}, which this choice of files does not"
                f" have. Write sweep={value}."
            )
