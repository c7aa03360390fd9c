"""What all sets of labelled point clouds share: splits in memory, checks, augmentation, loaders.

In a run the splits lie on its device, where batches are indexed and augmented.

A batch is a dictionary with

- ``pos``: ``[B, n, 3]`` float32, points in or near the unit sphere, augmented in training;
- ``y``: ``[B]`` long, the class;
- ``index``: ``[B]`` long, the number of the cloud in the data set.
"""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from torch import Tensor

from datamodules.facts import check_facts
from datamodules.images import DEVICE_BYTES, stratified_split
from datamodules.loaders import ArrayLoader, Batch, EpochBatchSampler
from harness.errors import UserError

Split = Literal["train", "val", "test"]
Augment = Literal["none", "scale_shift", "scale_shift_shuffle"]

SCALE = (2 / 3, 3 / 2)
SHIFT = (-0.2, 0.2)
"""Ranges of what each axis is multiplied by, and of what is added to it then; DGCNN's, arXiv 1801.07829."""


@dataclass(frozen=True)
class PointClouds:
    """One split.

    Attributes:
        pos: ``[N, n, 3]`` float32.
        labels: ``[N]`` long, in ``[0, num_classes)``.
        index: ``[N]`` long, number of each cloud in the data set.
    """

    pos: Tensor
    labels: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor) -> "PointClouds":
        """Those of some rows, ``[m]`` long."""
        return PointClouds(self.pos[rows], self.labels[rows], self.index[rows])


class PointCloudDataModule(LightningDataModule):
    """Labelled point clouds in memory, split into train, val and test.

    A subclass says how its splits are made in :meth:`build`, and fetches files in ``prepare_data`` if it has
    any. They are kept in :attr:`splits`, empty before ``setup``.

    Args:
        choice: the ``data=`` choice, for messages.
        num_points: points n of a cloud.
        num_classes: classes, as stated in the data set's YAML.
        class_names: names of the classes in order.
        batch_size: clouds of one optimiser step, over all processes; evaluation takes as many at a time.
        augment: of training clouds: ``none``; ``scale_shift``, each axis by :data:`SCALE` and :data:`SHIFT`;
            ``scale_shift_shuffle``, and the points in another order.
        drop_last: leaves out the last batch of an epoch of training where it is smaller than the others.
        seed: of the order and the augmentation, >= 0.
    """

    tasks: tuple[str, ...] = ("point_cloud_classification",)
    training_only: tuple[str, ...] = ("batch_size", "augment", "drop_last", "seed")
    """Arguments that change neither the splits nor what a network sees of a test cloud."""

    def __init__(
        self,
        choice: str,
        num_points: int,
        num_classes: int,
        class_names: Sequence[str],
        batch_size: int,
        augment: Augment,
        drop_last: bool,
        seed: int,
    ) -> None:
        super().__init__()
        self.choice = choice
        self.num_points = num_points
        self.num_classes = num_classes
        self.class_names = tuple(class_names)
        self.batch_size = batch_size
        self.augment: Augment = augment
        self.drop_last = drop_last
        self.seed = seed
        self.splits: dict[Split, PointClouds] = {}
        self._resident: dict[tuple[Split, torch.device], dict[str, Tensor]] = {}

    @abstractmethod
    def build(self) -> dict[Split, PointClouds]:
        """All three splits, from files that are already there; ``val`` may be left out."""

    def setup(self, stage: str | None = None) -> None:
        """Builds the splits unless they are there already and checks them against the YAML.

        Raises:
            UserError: ``num_classes`` is not what the data holds.
        """
        if not self.splits:
            splits = self.build()
            found = 1 + max(int(split.labels.max()) for split in splits.values())
            check_facts(self.choice, {"num_classes": self.num_classes}, {"num_classes": found})
            assert len(self.class_names) == self.num_classes
            assert {split.pos.shape[1:] for split in splits.values()} == {(self.num_points, 3)}
            self.splits = splits

    def loader(self, split: Split, *, training: bool = False, shared: bool = True) -> ArrayLoader:
        """A loader of one split.

        Args:
            split: which.
            training: a new order each epoch, and augmentation.
            shared: the processes of a run share each batch; False gives all of it to each.
        """
        if not self.splits:
            raise RuntimeError(f"{type(self).__name__}: call setup() before asking for a loader")
        module = None if self.trainer is None else self.trainer.lightning_module
        sampler = EpochBatchSampler(
            len(self.splits[split]),
            self.batch_size,
            training=training,
            seed=self.seed,
            # epochs of earlier phases: no phase repeats the orders of the one before
            first_epoch=int(getattr(module, "epochs_before", 0)) if training else 0,
            rank=None if shared else 0,
            world=None if shared else 1,
            drop_last=self.drop_last,
        )
        augment: Augment = self.augment if training else "none"

        def transform(batch: Batch, draws: Tensor) -> Batch:
            return batch | {"pos": augmented(batch["pos"], draws, augment)}

        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        draws = num_draws(augment, self.num_points)
        return ArrayLoader(self._arrays(split, device), sampler, transform, draws, device)

    def _arrays(self, split: Split, device: torch.device) -> dict[str, Tensor]:
        """A split's tensors, put on ``device`` once unless they are too large for it."""
        if (split, device) not in self._resident:
            clouds = self.splits[split]
            arrays = {"pos": clouds.pos, "y": clouds.labels, "index": clouds.index}
            if clouds.pos.nbytes <= DEVICE_BYTES:
                with torch.inference_mode(False):
                    arrays = {name: array.to(device) for name, array in arrays.items()}
            self._resident[split, device] = arrays
        return self._resident[split, device]

    def train_dataloader(self) -> ArrayLoader:
        return self.loader("train", training=True)

    def val_dataloader(self) -> ArrayLoader | list[ArrayLoader]:
        return self.loader("val") if "val" in self.splits else []

    def test_dataloader(self) -> ArrayLoader:
        return self.loader("test")

    def predict_dataloader(self) -> ArrayLoader:
        # the whole set in every process, in its own order: the first one writes all rows of the table
        return self.loader("test", shared=False)


def num_draws(augment: Augment, num_points: int) -> int:
    """Random numbers that :func:`augmented` needs for one cloud."""
    return {"none": 0, "scale_shift": 6, "scale_shift_shuffle": 6 + num_points}[augment]


def augmented(pos: Tensor, draws: Tensor, augment: Augment) -> Tensor:
    """Clouds whose axes are scaled and shifted, and perhaps their points put into another order.

    Args:
        pos: ``[B, n, 3]``.
        draws: ``[B, num_draws(augment, n)]``, uniform in [0, 1).
        augment: what is done.
    """
    if augment == "none":
        return pos
    scale, shift = (
        (low + (high - low) * part).unsqueeze(1).to(pos.dtype)  # [B, 1, 3]
        for (low, high), part in zip((SCALE, SHIFT), draws[:, :6].split(3, dim=1), strict=True)
    )
    pos = pos * scale + shift
    if augment == "scale_shift_shuffle":
        # stable, since two draws can be equal and every device has to put them in one order
        order = draws[:, 6:].argsort(dim=1, stable=True)  # [B, n]
        pos = pos.gather(1, order.unsqueeze(2).expand_as(pos))
    return pos


def in_unit_sphere(pos: NDArray[np.float64]) -> NDArray[np.float32]:
    """Clouds moved and scaled so that their mean is 0 and their farthest point has the norm 1.

    Args:
        pos: ``[..., n, 3]``; the points of a cloud are not all the same.
    """
    pos = pos - pos.mean(axis=-2, keepdims=True)
    radius = np.sqrt((pos**2).sum(axis=-1)).max(axis=-1)
    return (pos / radius[..., None, None]).astype(np.float32)


def hold_out_clouds(
    choice: str, train: PointClouds, test: PointClouds, num_val: int, split_seed: int
) -> dict[Split, PointClouds]:
    """The splits of a set with a test set of its own, validation clouds being taken from the training set.

    Args:
        choice: the ``data=`` choice, for the message.
        train: the published training set.
        test: the published test set.
        num_val: clouds taken, each class with its share; 0 leaves ``val`` out.
        split_seed: seed of the draw, >= 0.

    Raises:
        UserError: no cloud would be left to train on.
    """
    if num_val == 0:
        return {"train": train, "test": test}
    num_train = len(train) - num_val
    if num_train < 1:
        raise UserError(
            f"data.num_val={num_val} leaves no cloud for training: {choice} has {len(train)} of them."
            f" Try data.num_val={len(train) // 10}."
        )
    parts = stratified_split(train.labels.numpy(), (num_train, num_val), split_seed)
    rest, val = (train.take(torch.from_numpy(part)) for part in parts)
    return {"train": rest, "val": val, "test": test}
