"""What the reports of both kinds of students share: which kernel is shown, and how things are said."""

from typing import Any

import torch
from pytorch_lightning import LightningModule

from harness.curves import PublishedValue
from lightning_modules.lsp.structure import RULER, Direction, Kernel
from lightning_modules.lsp.terms import Terms

PERCENTILES = ((10, "10th percentile"), (50, "median"), (99, "99th percentile"))
"""Of S_i: places of the nodes or points whose local structure is drawn, and their names."""


def shown_kernel(terms: Terms) -> tuple[Kernel, Direction]:
    """That the student learnt by, or the common ruler if it copied no structure."""
    return (terms.kernel, terms.direction) if terms.copies_structure else (RULER, "teacher_student")


def kernel_in_words(kernel: Kernel) -> str:
    """With the numbers that it depends on: ``rbf, σ = 100``."""
    if kernel.name in ("rbf", "l1exp"):
        return f"{kernel.name}, σ = {kernel.sigma:g}"
    if kernel.name == "poly":
        return f"poly, degree {kernel.degree}, offset {kernel.offset:g}"
    return kernel.name


def published_value(published: dict[str, Any] | None, metric: str) -> PublishedValue | None:
    """``{metric, value, spread, ...}`` of a preset, if it is of this score on the test data."""
    if published is None or published["metric"] != f"test/{metric}":
        return None
    return PublishedValue(published["value"], published["spread"])


def tested(module: LightningModule, metric: str) -> tuple[int, float] | None:
    """The epoch whose weights were kept, and their score on the test data."""
    callbacks: list[Any] = module.trainer.callbacks  # type: ignore[attr-defined]
    # callbacks/best_weights.py, known by what it has
    epochs = [one.best_epoch for one in callbacks if getattr(one, "best_epoch", -1) >= 0]
    found = module.trainer.callback_metrics.get(f"test/{metric}")
    return (epochs[0], float(found)) if epochs and found is not None else None


def place_in_words(device: torch.device) -> str:
    """``on the GPU`` or ``on 2 CPU threads``."""
    threads = torch.get_num_threads()
    return "on the GPU" if device.type == "cuda" else f"on {threads} CPU thread{'s' if threads > 1 else ''}"
