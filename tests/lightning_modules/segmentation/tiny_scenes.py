"""A few generated scenes, and runs on them."""

from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningDataModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_modules.segmentation.module import DeepLab, SegmentationModule

NUM_CLASSES = 4
NAMES = ("sky", "grass", "traffic light", "unicorn")  # the last is in no scene
PALETTE = ((120, 170, 220), (60, 140, 60), (200, 30, 30), (250, 250, 250))
SIZE = (16, 24)


def scenes(number: int, seed: int, first: int = 0) -> list[dict[str, Tensor]]:
    """Sky over grass, a light somewhere, a column of void; pixels are the classes' colours and noise."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for index in range(number):
        y = torch.zeros(SIZE, dtype=torch.long)
        y[int(torch.randint(6, 11, (), generator=generator)) :] = 1
        row, column = torch.randint(1, 12, (2,), generator=generator).tolist()
        y[row : row + 3, column : column + 3] = 2
        x = torch.tensor(PALETTE)[y].permute(2, 0, 1) / 127.5 - 1
        x = x + 0.1 * torch.randn(x.shape, generator=generator)
        y[:, -1] = 255
        made.append({"x": x, "y": y, "id": torch.tensor(first + index)})
    return made


class TinyScenes(LightningDataModule):
    """Train, validation and test scenes whose ids run on."""

    tasks = ("semantic_segmentation",)
    num_classes = NUM_CLASSES
    class_names = NAMES
    palette = PALETTE

    def __init__(self, batch_size: int = 4) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.splits = {"train": scenes(9, 0), "val": scenes(4, 1, 9), "test": scenes(6, 2, 13)}

    def loader(self, split: str, *, shared: bool = True, ids: Tensor | None = None) -> Any:
        scenes = self.splits[split]
        # with a generator of its own an iterator draws nothing from the global random state
        return DataLoader(
            scenes if ids is None else [scenes[one] for one in ids.tolist()],  # type: ignore[arg-type]
            batch_size=self.batch_size,
            generator=torch.Generator(),
        )

    def train_dataloader(self) -> Any:
        return self.loader("train")

    def val_dataloader(self) -> Any:
        return self.loader("val")

    def test_dataloader(self) -> Any:
        return self.loader("test")

    def predict_dataloader(self) -> Any:
        return self.loader("test")

    def denormalise(self, x: Tensor) -> Tensor:
        return ((x + 1) / 2).clamp(0, 1)


def deeplab(**settings: Any) -> DeepLab:
    """A small network, drawn from seed 0, with the settings of conf/model/deeplab.yaml."""
    torch.manual_seed(0)
    given: dict[str, Any] = {
        "num_classes": NUM_CLASSES,
        "network": "small_unet",
        "weights": None,
        "root": "data",
        "cache": ".cache",
        "head_lr_factor": 10.0,
        "optimizer": {
            "name": "SGD",
            "lr": 0.01,
            "momentum": 0.9,
            "weight_decay": 5e-4,
            "nesterov": True,
        },
        "scheduler": {"name": "PolynomialLR", "power": 0.9},
        "scheduler_interval": "step",
    }
    return DeepLab(**(given | settings))


def trainer(folder: Path, **settings: Any) -> Trainer:
    return Trainer(
        accelerator="cpu",
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        default_root_dir=folder,
        log_every_n_steps=1,
        **settings,
    )


def metrics_of(run: Trainer) -> dict[str, float]:
    return {name: float(value) for name, value in run.callback_metrics.items()}


def fitted(folder: Path, epochs: int = 1, **settings: Any) -> tuple[SegmentationModule, TinyScenes, Trainer]:
    module, data = deeplab(), TinyScenes()
    run = trainer(folder, max_epochs=epochs, **settings)
    run.fit(module, datamodule=data)
    return module, data, run
