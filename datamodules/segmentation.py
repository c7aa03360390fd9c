"""What all sets of images with masks share: splits, loaders, and a training set whose labels grow.

The training split is a pool. Which of its images are labelled stands in one array, :attr:`labelled`, by the
number of the image in the split: 0 is unlabelled, r >= 1 the round in which its label was acquired (the form
of baal). Everything outside speaks of images by these numbers; none is ever relative to what is left of the
pool. Training sees labelled images alone; :meth:`SegmentationDataModule.pool_loader` serves the others and
holds no mask at all.

A batch is a dictionary with

- ``x``: ``[B, 3, H, W]`` float32, pixels scaled to [0, 1], augmented in training, then normalised;
- ``y``: ``[B, H, W]`` long, the class of each pixel, 255 where it has none; absent from the pool's batches;
- ``id``: ``[B]`` long, the number of the image in its split.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal, cast

import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor

from datamodules.facts import check_facts
from datamodules.images import DEVICE_BYTES, Split
from datamodules.loaders import POOL, ArrayLoader, Batch, EpochBatchSampler, derived_generator
from datamodules.paired_augmentation import PAIRED_AUGMENTATIONS, VOID
from datamodules.palette import Colour
from datamodules.scenes import Masks, Rows, Scenes, column, normaliser
from harness.errors import UserError

Augment = Literal["none", "flip", "deal"]


class SegmentationDataModule(LightningDataModule):
    """Images with masks, split into train, val and test; the labels of the training split may grow.

    A subclass says how its splits are made in :meth:`build`, and looks for its files in ``prepare_data``.
    Before :meth:`set_labelled` is called every training image that has a mask counts as labelled.

    Args:
        choice: the ``data=`` choice, for messages.
        in_channels: colours, 3, as stated in the data set's YAML.
        height: rows H of an image, as stated there.
        width: columns W of an image, as stated there.
        num_classes: classes, as stated there; at most 254.
        class_names: names of the classes in order; () where they are known later.
        palette: a colour for each class, for pictures.
        mean: subtracted from each colour after scaling to [0, 1]; 3 numbers.
        std: what each colour is divided by then; 3 numbers above 0.
        batch_size: images of one optimiser step, over all processes; evaluation takes as many at a time.
        augment: a name in :data:`datamodules.paired_augmentation.PAIRED_AUGMENTATIONS`.
        seed: of the order, the augmentation, the first labelled images and the candidates, >= 0.

    Raises:
        UserError: ``mean`` or ``std`` is not three numbers, or a deviation is not above 0.
    """

    tasks: tuple[str, ...] = ("semantic_segmentation",)
    training_only: tuple[str, ...] = ("batch_size", "augment", "seed")
    """Arguments that change neither the splits nor what a network sees of a test image."""

    def __init__(
        self,
        choice: str,
        in_channels: int,
        height: int,
        width: int,
        num_classes: int,
        class_names: Sequence[str],
        palette: Sequence[Colour],
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        augment: Augment,
        seed: int,
    ) -> None:
        super().__init__()
        for key, values, usual in (
            ("mean", mean, [0.485, 0.456, 0.406]),
            ("std", std, [0.229, 0.224, 0.225]),
        ):
            if len(values) != 3 or (key == "std" and min(values) <= 0):
                raise UserError(
                    f"data.{key}={list(values)} must be three numbers{' above 0' * (key == 'std')}, one per"
                    f" colour. Try data.{key}={usual}."
                )
        if num_classes >= VOID:
            raise UserError(f"data.num_classes={num_classes} must be at most {VOID - 1}: {VOID} marks void.")
        self.choice = choice
        self.in_channels = in_channels
        self.height = height
        self.width = width
        self.num_classes = num_classes
        self.class_names = tuple(class_names)
        self.palette = tuple(palette)
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.batch_size = batch_size
        self.augment: Augment = augment
        self.seed = seed
        self.splits: dict[Split, Scenes] = {}
        self._labelled = torch.empty(0, dtype=torch.long)
        self._resident: dict[tuple[Split, torch.device], tuple[Tensor | Rows, Masks]] = {}

    @abstractmethod
    def build(self) -> dict[Split, Scenes]:
        """All splits, from files that are already there; ``val`` may be left out."""

    def setup(self, stage: str | None = None) -> None:
        """Builds the splits unless they are there already and checks them against the YAML.

        Raises:
            UserError: ``in_channels``, ``height`` or ``width`` is not what the data holds.
        """
        if not self.splits:
            splits = self.build()
            keys = ("in_channels", "height", "width")
            stated = {key: int(getattr(self, key)) for key in keys}
            for split in splits.values():
                check_facts(self.choice, stated, dict(zip(keys, split.images.shape[1:], strict=True)))
                assert len(split) == len(split.masks) == len(split.has_mask) == len(split.names)
            if not self.class_names:
                self.class_names = tuple(f"class {number}" for number in range(self.num_classes))
            check_facts(
                self.choice, {"num_classes": self.num_classes}, {"num_classes": len(self.class_names)}
            )
            assert len(self.palette) == self.num_classes
            self.splits = splits
            self._labelled = splits["train"].has_mask.long()

    @property
    def labelled(self) -> Tensor:
        """``[N]`` long, the round in which each training image was labelled, 0 for none; a copy."""
        return self._labelled.clone()

    @property
    def labelled_ids(self) -> Tensor:
        """``[n]`` long, the labelled training images, in rising order."""
        return self._labelled.nonzero()[:, 0]

    @property
    def unlabelled_ids(self) -> Tensor:
        """``[N - n]`` long, the other training images, in rising order."""
        return (self._labelled == 0).nonzero()[:, 0]

    def set_labelled(self, labelled: Tensor) -> None:
        """Says of every training image whether it is labelled: a state that :attr:`labelled` gave.

        Args:
            labelled: ``[N]`` integer, 0 or the round.

        Raises:
            ValueError: it is of another length, has a number below 0, or labels nothing.
            UserError: an image is to be labelled that has no mask.
        """
        size = len(self._split("train"))
        if labelled.shape != (size,) or (size and int(labelled.min()) < 0):
            raise ValueError(
                f"labelled must be [{size}] rounds of 0 and above, one for each training image, got shape"
                f" {list(labelled.shape)}"
            )
        if not bool(labelled.any()):
            raise ValueError("labelled must not be 0 everywhere: there would be nothing to train on")
        self._must_have_masks(labelled.nonzero()[:, 0].cpu())
        self._labelled = labelled.detach().cpu().long().clone()

    def initial_ids(self, count: int) -> Tensor:
        """The images that a growing training set begins with, the same for every method of one ``seed``.

        Args:
            count: images that are wanted, >= 1.

        Returns:
            ``[count]`` long, in rising order, drawn from those that have a mask.

        Raises:
            UserError: there are fewer.
        """
        candidates = self._split("train").has_mask.nonzero()[:, 0]
        if not 1 <= count <= len(candidates):
            raise UserError(
                f"data={self.choice} has {len(candidates)} training images with a mask, so that a first set"
                f" of {count} cannot be drawn from them. Choose 1 to {len(candidates)}."
            )
        return self._drawn(candidates, count, 0)

    def candidate_ids(self, acquiring: int, share: float = 1.0) -> Tensor:
        """Unlabelled images that are looked at in one round: a random part of them, to have fewer alike.

        Follows from ``seed``, the round and what is labelled, whatever was drawn in training.

        Args:
            acquiring: the round, >= 1.
            share: of the unlabelled images, in (0, 1].

        Returns:
            ``[m]`` long, in rising order; empty where everything is labelled, else at least one.
        """
        unlabelled = self.unlabelled_ids
        if not 0 < share <= 1:
            raise ValueError(f"share={share} must be above 0 and at most 1")
        return self._drawn(
            unlabelled, min(len(unlabelled), max(1, round(share * len(unlabelled)))), acquiring
        )

    def _drawn(self, ids: Tensor, count: int, acquiring: int) -> Tensor:
        generator = derived_generator(self.seed, acquiring, POOL)
        return ids[torch.randperm(len(ids), generator=generator)[:count]].sort().values

    def pool_loader(self, ids: Tensor, batch_size: int | None = None) -> ArrayLoader:
        """A loader of ``x`` and ``id`` of some training images as they are evaluated, in the order given.

        It holds no mask. The processes of a run share each batch, no image coming twice.

        Args:
            ids: ``[m]`` long, training images, each once; m >= 1.
            batch_size: over all processes; None for ``data.batch_size``.

        Raises:
            ValueError: a number is no training image's or comes twice, or there is none.
            UserError: there are fewer images than processes.
        """
        ids = ids.cpu()
        self._check_ids(ids)
        device = self._device()
        images, _ = self._on_device("train", device)
        sampler = EpochBatchSampler(len(ids), batch_size or self.batch_size, training=False, seed=self.seed)
        arrays = {"x": cast(Tensor, Rows(images, ids)), "id": ids}
        return ArrayLoader(arrays, sampler, _without_labels(self.mean, self.std), 0, device)

    def loader(
        self, split: Split, *, training: bool = False, shared: bool = True, ids: Tensor | None = None
    ) -> ArrayLoader:
        """A loader of one split; of the training split its labelled images.

        Args:
            split: which.
            training: a new order each epoch, and augmentation.
            shared: the processes of a run share each batch; False gives all of it to each.
            ids: ``[n]`` long, images of the split that are wanted alone; None for all.
        """
        scenes = self._split(split)
        if ids is None:
            ids = self.labelled_ids if split == "train" else torch.arange(len(scenes))
        module = None if self.trainer is None else self.trainer.lightning_module
        sampler = EpochBatchSampler(
            len(ids),
            self.batch_size,
            training=training,
            seed=self.seed,
            # epochs of earlier phases: no phase repeats the orders of the one before
            first_epoch=int(getattr(module, "epochs_before", 0)) if training else 0,
            rank=None if shared else 0,
            world=None if shared else 1,
        )
        augmentation = PAIRED_AUGMENTATIONS[self.augment if training else "none"]
        normalise = normaliser(self.mean, self.std)

        def transform(batch: Batch, draws: Tensor) -> Batch:
            x, y = augmentation.apply(batch["x"].float() / 255, batch["y"].long(), draws)
            return batch | {"x": normalise(x), "y": y}

        device = self._device()
        images, masks = self._on_device(split, device)
        # an array that is read where it lies and only by the rows wanted
        arrays = {name: cast(Tensor, Rows(whole, ids)) for name, whole in (("x", images), ("y", masks))}
        return ArrayLoader(arrays | {"id": ids}, sampler, transform, augmentation.draws, device)

    def denormalise(self, x: Tensor) -> Tensor:
        """The pixels in [0, 1] that became ``x``, ``[B, 3, H, W]``; values outside are cut off."""
        mean, std = (column(values, x) for values in (self.mean, self.std))
        return (x * std + mean).clamp(0.0, 1.0)

    def train_dataloader(self) -> ArrayLoader:
        return self.loader("train", training=True)

    def val_dataloader(self) -> ArrayLoader | list[ArrayLoader]:
        return self.loader("val") if "val" in self.splits else []

    def test_dataloader(self) -> ArrayLoader:
        return self.loader("test")

    def predict_dataloader(self) -> ArrayLoader:
        # the whole set in every process, in its own order: the first one writes all rows of the table
        return self.loader("test", shared=False)

    def _split(self, split: Split) -> Scenes:
        if not self.splits:
            raise RuntimeError(f"{type(self).__name__}: call setup() first")
        return self.splits[split]

    def _device(self) -> torch.device:
        """Where this process trains; the CPU outside of a run."""
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    def _on_device(self, split: Split, device: torch.device) -> tuple[Tensor | Rows, Masks]:
        """A split's images and masks, put on ``device`` once unless they are too large for it."""
        if (split, device) not in self._resident:
            scenes = self._split(split)
            images, masks = scenes.images, scenes.masks
            if device != images.device and images.nbytes + masks.nbytes <= DEVICE_BYTES:
                with torch.inference_mode(False):
                    images, masks = images.to(device), masks.to(device)
            self._resident[split, device] = images, masks
        return self._resident[split, device]

    def _check_ids(self, ids: Tensor) -> None:
        size = len(self._split("train"))
        if not len(ids) or int(ids.min()) < 0 or int(ids.max()) >= size:
            raise ValueError(f"ids must be some of the training images 0 to {size - 1}, got {ids.tolist()}")
        if len(ids.unique()) != len(ids):
            raise ValueError("ids must name each image once")

    def _must_have_masks(self, ids: Tensor) -> None:
        scenes = self._split("train")
        bare = ids[~scenes.has_mask[ids]].tolist()
        if bare:
            raise UserError(
                f"data={self.choice}: {', '.join(scenes.names[number] for number in bare[:5])}"
                f"{', ...' if len(bare) > 5 else ''} cannot be trained on without a mask. Annotate"
                f" {'it' if len(bare) == 1 else f'these {len(bare)} images'} and run again."
            )


def _without_labels(mean: Sequence[float], std: Sequence[float]) -> Callable[[Batch, Tensor], Batch]:
    """The transform of the pool's batches; a function of its own, so that it holds no data module."""
    normalise = normaliser(mean, std)

    def transform(batch: Batch, draws: Tensor) -> Batch:
        return batch | {"x": normalise(batch["x"].float() / 255)}

    return transform
