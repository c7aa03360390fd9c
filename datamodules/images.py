"""What all sets of labelled images share: splits in memory, checks, normalisation, augmentation, loaders.

In a run the splits lie on its device, where batches are indexed, augmented and normalised: a GPU is not kept
waiting for a copy. What is larger than :data:`DEVICE_BYTES` stays in memory or in its file.

A batch is a dictionary with

- ``x``: ``[B, C, H, W]`` float32, pixels scaled to [0, 1], augmented in training, then normalised;
- ``y``: ``[B]`` long, the class;
- ``index``: ``[B]`` long, the number of the image in the data set's own files.

A method that learns from few images without their labels keeps some of the training images before it begins:
:meth:`ImageDataModule.keep_few`. Training batches have no ``y`` from then on.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from torch import Tensor

from datamodules.augmentation import AUGMENTATIONS
from datamodules.facts import check_facts
from datamodules.few_shot import few_shot_rows
from datamodules.loaders import ArrayLoader, Batch, EpochBatchSampler
from harness.errors import UserError

Split = Literal["train", "val", "test"]

DEVICE_BYTES = 4 << 30
"""Largest split that is put on the training device as a whole."""


@dataclass(frozen=True)
class LabelledImages:
    """One split.

    Attributes:
        images: ``[N, C, H, W]`` uint8; may be mapped from a file.
        labels: ``[N]`` long, in ``[0, num_classes)``.
        index: ``[N]`` long, number of each image in the data set's own files.
    """

    images: Tensor
    labels: Tensor
    index: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, rows: Tensor) -> "LabelledImages":
        """Those of some rows, ``[n]`` long; a view where these follow each other, so that none is read."""
        start = int(rows[0]) if len(rows) else 0
        if torch.equal(rows, torch.arange(start, start + len(rows))):
            stretch = slice(start, start + len(rows))
            return LabelledImages(self.images[stretch], self.labels[stretch], self.index[stretch])
        return LabelledImages(self.images[rows], self.labels[rows], self.index[rows])

    def decoded(self) -> "LabelledImages":
        """The same with all images in memory, for those of a set that is decoded on demand."""
        return self


@dataclass(frozen=True)
class _Few:
    """What of the training split was kept.

    Attributes:
        whole: the training split before.
        draw: shots and seed.
        batch_size: of training, over all processes.
    """

    whole: LabelledImages
    draw: tuple[int, int]
    batch_size: int


class ImageDataModule(LightningDataModule):
    """Labelled images in memory, split into train, val and test.

    A subclass says how its splits are made in :meth:`build`, and fetches files in ``prepare_data`` if it has
    any. They are kept in :attr:`splits`, empty before ``setup``.

    Args:
        choice: the ``data=`` choice, for messages.
        in_channels: colours C, as stated in the data set's YAML.
        image_size: height and width in pixels, as stated there.
        num_classes: classes, as stated there.
        class_names: names of the classes in order.
        mean: subtracted from each colour after scaling to [0, 1]; C numbers.
        std: what each colour is divided by then; C numbers above 0.
        batch_size: images of one optimiser step, over all processes; evaluation takes as many at a time.
        augment: ``none``, or a name in :data:`datamodules.augmentation.AUGMENTATIONS`.
        seed: of the order and the augmentation, >= 0.
        max_pixel: pixel value that becomes 1.

    Raises:
        UserError: ``mean`` or ``std`` does not have one number per colour, or a deviation is not above 0.
    """

    tasks: tuple[str, ...] = ("image_classification",)
    training_only: tuple[str, ...] = ("batch_size", "augment", "seed")
    """Arguments that change neither the splits nor what a network sees of a test image."""
    sample_name: str = ""
    """What :meth:`sample_features` describe, for the name of a distance over them."""

    def __init__(
        self,
        choice: str,
        in_channels: int,
        image_size: int,
        num_classes: int,
        class_names: Sequence[str],
        mean: Sequence[float],
        std: Sequence[float],
        batch_size: int,
        augment: str,
        seed: int,
        max_pixel: int = 255,
    ) -> None:
        super().__init__()
        for key, values in (("mean", mean), ("std", std)):
            if len(values) != in_channels:
                raise UserError(
                    f"data.{key}={list(values)} must have one number per colour, {in_channels} for {choice}."
                    f" Try data.{key}={[0.5] * in_channels}."
                )
        if min(std) <= 0:
            raise UserError(f"data.std={list(std)} must be above 0. Try data.std={[0.5] * in_channels}.")
        self.choice = choice
        self.in_channels = in_channels
        self.image_size = image_size
        self.num_classes = num_classes
        self.class_names = tuple(class_names)
        self.mean = tuple(mean)
        self.std = tuple(std)
        self.batch_size = batch_size
        self.augment = augment
        self.seed = seed
        self.max_pixel = max_pixel
        self.splits: dict[Split, LabelledImages] = {}
        self._few: _Few | None = None
        self._resident: dict[tuple[Split, torch.device], dict[str, Tensor]] = {}
        self._columns: dict[tuple[torch.dtype, torch.device], tuple[Tensor, Tensor]] = {}

    @abstractmethod
    def build(self) -> dict[Split, LabelledImages]:
        """All three splits, from files that are already there; ``val`` may be left out."""

    def setup(self, stage: str | None = None) -> None:
        """Builds the splits unless they are there already and checks them against the YAML.

        Raises:
            UserError: ``in_channels``, ``image_size`` or ``num_classes`` is not what the data holds.
        """
        if not self.splits:
            splits = self.build()
            self._check_facts(splits)
            self.splits = splits

    def _check_facts(self, splits: Mapping[Split, LabelledImages]) -> None:
        train = splits["train"]
        _, channels, height, width = train.images.shape
        assert height == width, "a data set of images that are not square has to crop them"
        found = {
            "in_channels": channels,
            "image_size": height,
            "num_classes": 1 + max(int(split.labels.max()) for split in splits.values() if len(split)),
        }
        check_facts(self.choice, {key: getattr(self, key) for key in found}, found)
        assert len(self.class_names) == self.num_classes

    def sample_features(self, images: Tensor) -> Tensor | None:
        """Features in which the set itself measures how like its own some generated images are.

        Args:
            images: ``[N, C, H, W]`` in [0, 1].

        Returns:
            ``[N, F]``, or None where the set defines none.
        """
        return None

    def sample_metrics(self, images: Tensor) -> dict[str, float]:
        """What else the set can say of generated images, by name.

        Args:
            images: ``[N, C, H, W]`` in [0, 1].
        """
        return {}

    def normalise(self, pixels: Tensor) -> Tensor:
        """What a network sees of pixels in [0, 1], ``[B, C, H, W]``."""
        mean, std = self._mean_std(pixels)
        return (pixels - mean) / std

    def denormalise(self, x: Tensor) -> Tensor:
        """The pixels in [0, 1] that became ``x``, ``[B, C, H, W]``; values outside are cut off."""
        mean, std = self._mean_std(x)
        return (x * std + mean).clamp(0.0, 1.0)

    def _mean_std(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Both as ``[C, 1, 1]``, made once for each type and device."""
        key = (like.dtype, like.device)
        if key not in self._columns:
            # a tensor made in inference mode could never take part in a backward pass
            with torch.inference_mode(False):
                mean, std = (
                    torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]
                    for values in (self.mean, self.std)
                )
            self._columns[key] = mean, std
        return self._columns[key]

    def loader(self, split: Split, *, training: bool = False, shared: bool = True) -> ArrayLoader:
        """A loader of one split.

        Args:
            split: which.
            training: a new order each epoch, and augmentation.
            shared: the processes of a run share each batch; False gives all of it to each.
        """
        if not self.splits:
            raise RuntimeError(f"{type(self).__name__}: call setup() before asking for a loader")
        few = self._few if split == "train" and training else None
        sampler = EpochBatchSampler(
            len(self.splits[split]),
            self.batch_size if few is None else few.batch_size,
            batch_key="data.batch_size" if few is None else "model.batch_size",
            training=training,
            seed=self.seed,
            first_epoch=self._epochs_before() if training else 0,
            rank=None if shared else 0,
            world=None if shared else 1,
        )
        augmentation = AUGMENTATIONS[self.augment] if training else AUGMENTATIONS["none"]

        def transform(batch: Batch, draws: Tensor) -> Batch:
            pixels = batch["x"].float() / self.max_pixel
            return batch | {"x": self.normalise(augmentation.apply(pixels, draws))}

        device = self._device()
        return ArrayLoader(self._arrays(split, device), sampler, transform, augmentation.draws, device)

    def keep_few(self, shots: int, sample_seed: int, batch_size: int) -> Tensor:
        """Leaves so many training images of each class, whose labels no loader gives any more.

        ``splits["train"]`` holds these images alone, in the order of :func:`few_shot_rows`, and no loader of
        it gives ``y``. Called again with the same arguments, as by a run that is resumed, it changes nothing;
        with others it draws from all training images anew.

        Args:
            shots: images of each class, K >= 1.
            sample_seed: of the draw, >= 0.
            batch_size: training images of one optimiser step, over all processes; evaluation goes on in
                batches of ``data.batch_size``.

        Returns:
            ``[C K]`` long, the ``index`` of each image kept.

        Raises:
            UserError: a class has fewer training images than ``shots``.
        """
        if not self.splits:
            raise RuntimeError(f"{type(self).__name__}: call setup() before keep_few()")
        draw = shots, sample_seed
        whole = self.splits["train"] if self._few is None else self._few.whole
        if self._few is None or self._few.draw != draw:
            self.splits["train"] = whole.take(few_shot_rows(whole.labels, *draw, self.choice)).decoded()
            # a copy of all images on the device would lie there for nothing
            self._resident = {key: arrays for key, arrays in self._resident.items() if key[0] != "train"}
        self._few = _Few(whole, draw, batch_size)
        return self.splits["train"].index

    def _device(self) -> torch.device:
        """Where this process trains; the CPU outside of a run."""
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    def _arrays(self, split: Split, device: torch.device) -> dict[str, Tensor]:
        """A split's tensors, put on ``device`` once unless they are too large for it."""
        if (split, device) not in self._resident:
            images = self.splits[split]
            arrays = {"x": images.images, "index": images.index}
            if split != "train" or self._few is None:
                arrays["y"] = images.labels
            if sum(array.nbytes for array in arrays.values()) <= DEVICE_BYTES:
                with torch.inference_mode(False):
                    arrays = {name: array.to(device) for name, array in arrays.items()}
            self._resident[split, device] = arrays
        return self._resident[split, device]

    def _epochs_before(self) -> int:
        """Epochs of a method's earlier phases: no phase repeats the orders of the one before."""
        module = None if self.trainer is None else self.trainer.lightning_module
        return int(getattr(module, "epochs_before", 0))

    def train_dataloader(self) -> ArrayLoader:
        return self.loader("train", training=True)

    def val_dataloader(self) -> ArrayLoader | list[ArrayLoader]:
        return self.loader("val") if "val" in self.splits else []

    def test_dataloader(self) -> ArrayLoader:
        return self.loader("test")

    def predict_dataloader(self) -> ArrayLoader:
        # the whole set in every process, in its own order: the first one writes all rows of the table
        return self.loader("test", shared=False)


def hold_out(
    choice: str, train: LabelledImages, test: LabelledImages, num_val: int, split_seed: int
) -> dict[Split, LabelledImages]:
    """The splits of a set with a test set of its own, validation images being taken from the training set.

    Args:
        choice: the ``data=`` choice, for the message.
        train: the published training set.
        test: the published test set.
        num_val: images taken, each class with its share; 0 leaves ``val`` out.
        split_seed: seed of the draw, >= 0.

    Raises:
        UserError: no image would be left to train on.
    """
    if num_val == 0:
        return {"train": train, "test": test}
    num_train = len(train) - num_val
    if num_train < 1:
        raise UserError(
            f"data.num_val={num_val} leaves no image for training: {choice} has {len(train)} training images."
            f" Try data.num_val={len(train) // 10}."
        )
    parts = stratified_split(train.labels.numpy(), (num_train, num_val), split_seed)
    rest, val = (train.take(torch.from_numpy(part)) for part in parts)
    return {"train": rest, "val": val, "test": test}


def resized(images: Tensor, size: int) -> Tensor:
    """Images of another size, by antialiased bilinear interpolation; unchanged if they have it already.

    Args:
        images: ``[N, C, H, W]`` uint8, square.
        size: pixels of a side.

    Returns:
        ``[N, C, size, size]`` uint8.
    """
    if images.size(-1) == size:
        return images
    parts = [
        F.interpolate(part.float(), (size, size), mode="bilinear", antialias=True, align_corners=False)
        .round_()
        .clamp_(0, 255)
        .to(torch.uint8)
        for part in images.split(4096)  # the floats of all at once would take four times the memory
    ]
    return torch.cat(parts)


def stratified_split(labels: NDArray[np.int64], sizes: Sequence[int], seed: int) -> list[NDArray[np.int64]]:
    """Disjoint random sets in which every class has its share, to within one sample.

    Args:
        labels: ``[N]`` classes.
        sizes: samples of each set; N at most in all.
        seed: of the draw, >= 0.

    Returns:
        For each size so many numbers in ``[0, N)``, sorted.
    """
    generator = np.random.default_rng(seed)
    order = generator.permutation(len(labels))
    # The place of each sample within its class, as a share of the class: sorted by it, every stretch of the
    # order holds the classes in proportion.
    share = np.empty(len(labels))
    by_class = order[np.argsort(labels[order], kind="stable")]
    class_sizes = np.unique(labels, return_counts=True)[1]
    for members in np.split(by_class, np.cumsum(class_sizes)[:-1]):
        share[members] = (np.arange(len(members)) + generator.random()) / len(members)
    order = np.argsort(share, kind="stable")
    ends = np.cumsum(sizes)
    return [np.sort(order[end - size : end]) for end, size in zip(ends, sizes, strict=True)]
