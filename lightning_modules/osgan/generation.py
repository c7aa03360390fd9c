"""What a generator is asked for, however it was trained: samples, their judgement, pictures, files."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from pytorch_lightning import LightningDataModule, LightningModule
from torch import Tensor

from harness.words import counted
from lightning_modules.experiment import ExperimentModule
from lightning_modules.image_classification.given import fitting_classifier, normalisation
from lightning_modules.image_classification.module import images_of
from lightning_modules.osgan.distances import ClassifierFeatures
from lightning_modules.osgan.jury import Jury
from lightning_modules.osgan.networks import Discriminator, Generator, evaluating, make_images
from lightning_modules.osgan.noise import sample_noise

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from datamodules.images import ImageDataModule, Split

Batch = dict[str, Tensor]
_CHUNK = 256  # images made at a time
_FOLLOWED = 10  # samples whose change over training is kept
_MOST_COLUMNS = 10  # classes that have a column each in a picture
_JUDGED = 1000  # images of each kind whose logits are drawn
_FEATURES = "judging_classifier"  # in a checkpoint
_HISTORY = "sample_history"  # likewise


class ImageGenerator(ExperimentModule):
    """A module whose ``generator`` makes images of noise.

    Samples are a fixed endless row: image i has the noise of (seed, i), and conditional networks go through
    the classes in turn. The validation compares as many of them as there are validation images with these,
    the test ``num_samples`` with the training images (see ``jury.py`` for who compares). The classifier that
    judges is kept in the checkpoint, so that ``mode=test`` measures with the same yardstick.

    Subclasses set, beside the networks:

    Attributes:
        generator: G.
        averaged: running average of G, which samples come from; or None.
        discriminator: D, whose logit a prediction states.
        latent_dim: length of the noise.
        classes: number of classes of conditional networks, else None.
        num_samples: generated images that the test judges.
        num_predicted: images that ``mode=predict`` writes.
        seed: of the noise.
    """

    task = "image_generation"
    prerequisites: ClassVar[tuple[str, ...]] = ("features",)
    optional_prerequisites: ClassVar[tuple[str, ...]] = ("features",)
    takes_images = True
    monitor = None  # no number says reliably which samples are best

    generator: Generator
    discriminator: Discriminator
    averaged: Generator | None
    latent_dim: int
    classes: int | None
    num_samples: int
    num_predicted: int
    seed: int

    def __init__(self) -> None:
        super().__init__()
        # in tuples and dictionaries they are no submodules: neither in the state dict nor optimised
        self._classifier: tuple[ClassifierFeatures, ...] = ()
        self._juries: dict[str, Jury] = {}
        self._history: list[tuple[int, Tensor]] = []  # epochs done, images [10, C, H, W] uint8

    def on_prerequisites(self, modules: Mapping[str, LightningModule]) -> None:
        """Takes ``modules["features"]``, a classifier, with the normalisation that it was trained with.

        Raises:
            UserError: if it is no image classifier, or one of images of another size or colour.
        """
        if "features" not in modules:
            return
        classifier = fitting_classifier(modules, "features", self, ("in_channels", "image_size"))
        own = (self.hparams["mean"], self.hparams["std"])
        self._classifier = (ClassifierFeatures.of(classifier, *(normalisation(classifier) or own)),)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint[_HISTORY] = [[epoch, images] for epoch, images in self._history]
        if self._classifier:
            checkpoint[_FEATURES] = self._classifier[0].to_plain()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._history = [(epoch, images) for epoch, images in checkpoint[_HISTORY]]
        if _FEATURES in checkpoint:
            self._classifier = (ClassifierFeatures.from_plain(checkpoint[_FEATURES]),)

    # --- samples

    @property
    def sampler(self) -> Generator:
        """The generator that samples come from."""
        return self.generator if self.averaged is None else self.averaged

    @property
    def generator_dtype(self) -> torch.dtype:
        """Of G's weights."""
        return next(self.generator.parameters()).dtype

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Images ``[N, C, H, W]`` in [-1, 1] of noise ``[N, Z]`` and, if conditional, classes ``[N]``."""
        images: Tensor = self.sampler(z, y)
        return images

    def sample(self, number: int, first: int = 0) -> Tensor:
        """Images of the fixed row of samples, in evaluation mode.

        Args:
            number: how many, N >= 1.
            first: number of the first in the row.

        Returns:
            ``[N, C, H, W]`` in [0, 1], float32, on the module's device.
        """
        return torch.cat([images for images, _ in self.samples(number, first)])

    @torch.no_grad()
    def samples(self, number: int, first: int = 0) -> Iterator[tuple[Tensor, Tensor | None]]:
        """The same in parts, each with its classes ``[n]``, or None where the networks know none."""
        for begin in range(first, first + number, _CHUNK):
            share = min(_CHUNK, first + number - begin)
            z, y = sample_noise(self.seed, begin, share, self.latent_dim, self.classes)
            yield make_images(self.sampler, z, y), y

    # --- judgement

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        """Nothing: the whole validation set is looked at once, when the first epoch ends."""

    def on_validation_epoch_end(self) -> None:
        self._judge("val", len(self._images().splits["val"]), "val")

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Nothing: the samples are compared with the training images."""

    def _images(self) -> "ImageDataModule":
        return images_of(self.trainer.datamodule)  # type: ignore[attr-defined]

    def on_test_epoch_end(self) -> None:
        self._judge("test", self.num_samples, "train")

    def _judge(self, prefix: str, number: int, split: "Split") -> None:
        if split not in self._juries:
            classifier = self._classifier[0] if self._classifier else None
            data, kernel = self._images(), prefix == "test"
            self._juries[split] = Jury(data, split, classifier, self.device, kernel=kernel)
        rank, world = self.trainer.global_rank, self.trainer.world_size
        if world > 1:  # each has averaged the statistics of its own share of the last step
            for buffer in self.sampler.buffers():
                torch.distributed.broadcast(buffer, 0)
        begin, end = number * rank // world, number * (rank + 1) // world

        def share() -> Iterator[Tensor]:
            return (images for images, _ in self.samples(end - begin, begin))

        def everything() -> Iterator[Tensor]:
            return (images for images, _ in self.samples(number))

        found = self._juries[split].judge(share, everything)
        named = {f"{prefix}/{name}": value for name, value in found.items()}
        # each process has the distances of the whole sets already
        self.log_dict(named, logger=False, sync_dist=True)

    # --- pictures and files

    def note_samples(self) -> None:
        """Keeps what the first samples look like; to be called at the end of an epoch."""
        done = self.epochs_before + self.current_epoch + 1
        # after 1, 2, 4, ... epochs: the early changes are the large ones
        if done & (done - 1) == 0 or done == self.trainer.max_epochs:
            images = (self.sample(_FOLLOWED) * 255).round().byte().cpu()
            self._history.append((done, images))

    def epoch_figures(self, datamodule: LightningDataModule) -> Iterator[tuple[str, "Figure"]]:
        from lightning_modules.osgan.pictures import AT_MOST, draw_samples

        done = self.epochs_before + self.current_epoch + 1
        title = f"Samples after {counted(done, 'epoch')}"
        names = self._column_names(images_of(datamodule))
        yield "samples", draw_samples(self.sample(AT_MOST).cpu().numpy(), title, names=names)

    def figures(
        self, datamodule: LightningDataModule, published: dict[str, Any] | None
    ) -> Iterator[tuple[str, "Figure"]]:
        from lightning_modules.osgan.pictures import AT_MOST, BESIDE, draw_progress, draw_samples
        from lightning_modules.osgan.training_pictures import draw_logits

        data = images_of(datamodule)
        names = self._column_names(data)
        most = AT_MOST if names else BESIDE
        real, _ = _real(data, _in_turn(data, most) if names else _evenly(data, most))
        done = counted(self._history[-1][0], "epoch") if self._history else "training"
        title = f"Samples after {done}, beside training images"
        yield "samples", draw_samples(self.sample(most).cpu().numpy(), title, real.numpy(), names)
        if self._history:
            grids = [(epoch, images.float().numpy() / 255) for epoch, images in self._history]
            yield "progress", draw_progress(grids)
        real, real_y = _real(data, _evenly(data, _JUDGED))
        logits = [self.logits(real, real_y if self.classes else None)]
        logits += [torch.cat([self.logits(images, y) for images, y in self.samples(len(real))])]
        yield "logits", draw_logits(*(values.float().cpu().numpy() for values in logits))

    def _column_names(self, data: "ImageDataModule") -> tuple[str, ...]:
        """Class names of a conditional generator, where a column for each has room."""
        return data.class_names if self.classes is not None and self.classes <= _MOST_COLUMNS else ()

    def training_figure(self, rows: list[dict[str, Any]]) -> "Figure":
        from lightning_modules.osgan.training_pictures import draw_training

        return draw_training(rows)

    @torch.no_grad()
    def logits(self, images: Tensor, y: Tensor | None) -> Tensor:
        """D's logits ``[N]`` of images ``[N, C, H, W]`` in [0, 1] and, if conditional, their classes."""
        x = (images * 2 - 1).to(self.device, self.generator_dtype)
        with evaluating(self.discriminator):
            found = self.discriminator(x, None if y is None else y.to(self.device))
        return found if isinstance(found, Tensor) else found[0]

    def predict_step(self, batch: Batch, batch_idx: int) -> tuple[()]:
        """Nothing: what is predicted does not depend on images."""
        return ()

    def prediction_files(
        self, outputs: list[Any], datamodule: LightningDataModule, folder: Path
    ) -> Iterator[dict[str, Any]]:
        """Writes ``samples/000000.png``, ...; a row for each with its class, if any, and D's logit."""
        from harness.predictions import write_images

        names = images_of(datamodule).class_names
        number = 0
        for images, y in self.samples(self.num_predicted):
            logits = self.logits(images, y).tolist()
            paths = write_images(images, folder / "samples", number)
            for place, path in enumerate(paths):
                row: dict[str, Any] = {"file": str(path.relative_to(folder))}
                if y is not None:
                    row["class"] = names[int(y[place])]
                yield row | {"logit": f"{logits[place]:.6f}"}
            number += len(paths)

    def prediction_figures(
        self, outputs: list[Any], datamodule: LightningDataModule
    ) -> Iterator[tuple[str, "Figure"]]:
        from lightning_modules.osgan.pictures import AT_MOST, draw_samples

        images = self.sample(min(AT_MOST, self.num_predicted)).cpu().numpy()
        names = self._column_names(images_of(datamodule)) if len(images) == AT_MOST else ()
        yield "samples", draw_samples(images, "Samples", names=names)


def _evenly(data: "ImageDataModule", most: int) -> Tensor:
    """Numbers of training images, evenly spaced over the set."""
    total = len(data.splits["train"])
    return torch.linspace(0, total - 1, min(most, total)).long()


def _in_turn(data: "ImageDataModule", most: int) -> Tensor:
    """Numbers of training images whose classes take turns, as those of a conditional generator's samples."""
    labels = data.splits["train"].labels
    of_class = [torch.nonzero(labels == y).flatten() for y in range(data.num_classes)]
    rows = min(most // data.num_classes, *map(len, of_class))
    return torch.stack([members[:rows] for members in of_class], dim=1).flatten()


def _real(data: "ImageDataModule", picked: Tensor) -> tuple[Tensor, Tensor]:
    """Training images ``[n, C, H, W]`` in [0, 1] by their numbers ``[n]``, and their classes."""
    train = data.splits["train"]
    return train.images[picked].float() / data.max_pixel, train.labels[picked]
