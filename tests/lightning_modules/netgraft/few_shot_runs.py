"""Small teachers and whole runs of few-shot methods on the digits, for their tests."""

from pathlib import Path
from typing import Any

import torch

from harness.build import Run, build_callbacks, build_datamodule, build_loggers, build_module
from harness.phases import Record, fit_phases
from lightning_modules.image_classification.classifier import ImageClassifier
from lightning_modules.netgraft.few_shot import FewShotDistiller
from tests.small_runs import configuration

FACTS: dict[str, Any] = {"in_channels": 1, "image_size": 8, "num_classes": 10}
FEW: dict[str, Any] = {"shots": 2, "sample_seed": 0, "batch_size": 64}
ADAM: dict[str, Any] = {"optimizer": {"name": "Adam", "lr": 0.01}, "scheduler": None}


def plain_cnn(width: int, norm: str = "batch") -> dict[str, Any]:
    return {"name": "plain_cnn", "width": width, "depth": 2, "norm": norm, "dropout": 0.0}


def vgg(*widths: int, head: int = 12, head_norm: bool = False) -> dict[str, Any]:
    blocks = [[width, width] for width in widths]
    return {"name": "vgg", "widths": blocks, "head": head, "head_norm": head_norm, "linear_std": 0.3}


def teacher(network: Any, **facts: Any) -> ImageClassifier:
    """A classifier as one that was trained: frozen, in evaluation mode, its statistics not those of birth."""
    torch.manual_seed(1)
    made = ImageClassifier(
        **FACTS | facts | ADAM,
        network=network,
        weights=None,
        fine_tune=True,
        root="",
        cache="",
        label_smoothing=0.0,
        scheduler_interval="epoch",
    )
    for module in made.network.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.3)
            assert module.running_mean is not None
            assert module.running_var is not None
            torch.nn.init.normal_(module.running_mean, std=0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
        elif isinstance(module, torch.nn.Conv2d) and module.bias is not None:
            torch.nn.init.normal_(module.bias, std=0.3)
    return made.eval().requires_grad_(False)


def images(count: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def fitted(
    folder: Path, source: ImageClassifier, model: str, *overrides: str
) -> tuple[FewShotDistiller, Record]:
    """A run of ``model`` on the digits whose teacher is ``source``, by the preset but for two epochs."""
    words = (f"model={model}", "data=digits", "trainer.max_epochs=2", "model.shots=3", *overrides)
    config = configuration(*words)
    (folder / "checkpoints").mkdir(parents=True)
    module = build_module(config)
    assert isinstance(module, FewShotDistiller)
    module.on_prerequisites({"teacher": source})
    data, callbacks = build_datamodule(config), build_callbacks(config["callbacks"])
    loggers = build_loggers(config["logger"], folder)
    return module, fit_phases(Run(config, folder, module, data, callbacks, loggers))
