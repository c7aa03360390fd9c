"""Distillation without data: a generator asks what a student still has to learn from a trained classifier."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pytorch_lightning import LightningDataModule, LightningModule
from torch import Tensor, nn

from harness.annotations import ClassSpec, NonNegativeInt, PositiveFloat, PositiveInt
from harness.errors import UserError
from lightning_modules.image_classification.build import build_network
from lightning_modules.image_classification.given import fitting_classifier, normalisation
from lightning_modules.image_classification.module import Batch, ClassifierModule, images_of
from lightning_modules.osgan.averages import StepAverages
from lightning_modules.osgan.distillation_steps import SCHEMES, Form, Players, Scheme, generator_loss
from lightning_modules.osgan.networks import Generator, make_images
from lightning_modules.osgan.noise import sample_noise, training_noise
from lightning_modules.osgan.pictures import draw_samples
from lightning_modules.osgan.two_players import TwoPlayers
from lightning_modules.osgan.validity import check_players, check_processes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = 30  # images of the generator in its picture


class DataFreeDistillation(TwoPlayers, ClassifierModule):
    """A :class:`PlainCNN` that learns from a trained classifier and from no image of the data set.

    Student and generator play against each other as a discriminator and a generator do: the student lowers
    its disagreement with the teacher on generated images, the generator looks for images that raise it (Fang
    et al., 2019, arXiv 1912.11006), in one stage or in two (Shen et al., CVPR 2021, arXiv 2103.00430; see
    ``distillation_steps.py``). Of the training batches only their size is read. Validation and test are those
    of :class:`ClassifierModule`, on labelled images, for the report alone: a method without data has none to
    choose its best weights by, so that its last ones are kept.

    Departures: DFAD ends its generator in a BatchNorm without weights, we keep the plain one of
    ``networks.py``; DFAD trains the student with SGD, here one optimiser serves both players. Under DDP each
    process has the L of its share, so that ``form=log`` averages the logarithms.

    Args:
        in_channels: colours of the images.
        image_size: pixels of a side, 4 times a power of two.
        num_classes: number of classes.
        mean: that the data are normalised with, C numbers; generated images are treated likewise.
        std: likewise.
        width: channels of the student's first stage.
        depth: its stages of two convolutions.
        norm: ``batch`` normalisation or ``none``, in the student.
        latent_dim: length Z of the noise.
        generator_width: channels before the generator's last layer.
        scheme: how a step trains both players: ``one_stage``, ``two_stage`` or ``simultaneous``.
        form: of the generator's loss, ``symmetric`` (-L) or ``log`` (-log(L + 1)).
        student_steps: k, the student's updates to one of the generator; of ``two_stage`` alone.
        lr_student: learning rate of the student.
        lr_generator: learning rate of the generator.
        optimizer: ``{name: class of torch.optim, **keywords}`` without ``lr``.
        scheduler: ``{name: class of torch.optim.lr_scheduler, **keywords}``, stepped once an epoch, or None.
        seed: of the noise, >= 0.

    Raises:
        UserError: if ``mean`` or ``std`` does not have one number per colour, ``optimizer`` holds a learning
            rate, or the generator cannot make images of this size.
    """

    task = "image_classification"
    prerequisites = ("teacher",)
    monitor = None  # a method without data has none to choose its weights by
    epoch_metrics = (
        "train/loss",
        "train/loss_g",
        "train/agreement",
        "train/loss_scale",
        "val/loss",
        "val/acc",
    )
    training_only: ClassVar[tuple[str, ...]] = (
        "student_steps",
        "lr_student",
        "lr_generator",
        "seed",
    )

    def __init__(
        self,
        in_channels: PositiveInt,
        image_size: PositiveInt,
        num_classes: PositiveInt,
        mean: list[float],
        std: list[float],
        width: PositiveInt,
        depth: PositiveInt,
        norm: Literal["batch", "none"],
        latent_dim: PositiveInt,
        generator_width: PositiveInt,
        scheme: Scheme,
        form: Form,
        student_steps: PositiveInt,
        lr_student: PositiveFloat,
        lr_generator: PositiveFloat,
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
        seed: NonNegativeInt,
    ) -> None:
        lrs = {"student": lr_student, "generator": lr_generator}
        check_players(in_channels, {"mean": mean, "std": std}, optimizer, lrs)
        super().__init__(num_classes, 0.0, optimizer, scheduler, "epoch")
        self.save_hyperparameters()
        # without dropout, whose draws would be those of the global generator
        self.spec = {"name": "plain_cnn", "width": width, "depth": depth, "norm": norm, "dropout": 0.0}
        self.network = build_network(self.spec, in_channels, image_size, num_classes, key="model")
        self.latent_dim = latent_dim
        self.scheme = scheme
        self.form = form
        self.student_steps = student_steps
        self.set_players(lrs, scheme != "two_stage", optimizer, scheduler)
        self.seed = seed
        self.generator = Generator(latent_dim, in_channels, image_size, generator_width)
        # of the images in [-1, 1]: ((x + 1) / 2 - mean) / std
        centre, spread = (torch.tensor(values)[:, None, None] for values in (mean, std))
        self.register_buffer("scale", 0.5 / spread, persistent=False)
        self.register_buffer("shift", (0.5 - centre) / spread, persistent=False)
        self.train_metrics = StepAverages(self.epoch_metrics[:3])  # type: ignore[assignment]
        # in a tuple it is no submodule: neither in the state dict nor among the parameters
        self._teacher: tuple[ClassifierModule, ...] = ()

    def on_prerequisites(self, modules: Mapping[str, LightningModule]) -> None:
        """Takes ``modules["teacher"]``.

        Raises:
            UserError: if it is no image classifier or does not know the same images and classes, normalised
                in the same way.
        """
        teacher = fitting_classifier(modules, "teacher", self)
        known, own = normalisation(teacher), (list(self.hparams["mean"]), list(self.hparams["std"]))
        if known is not None and known != own:
            raise UserError(
                f"model.requires.teacher was trained with data.mean={known[0]} and data.std={known[1]}, this"
                f" run has data.mean={own[0]} data.std={own[1]}. Give both the same."
            )
        self._teacher = (teacher,)

    def on_fit_start(self) -> None:
        check_processes(self.trainer, self.scheme)
        for teacher in self._teacher:
            teacher.to(self.device, self.dtype).eval()

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        if not self._teacher:
            raise RuntimeError("DataFreeDistillation has no teacher: call on_prerequisites before fit")
        compared = SCHEMES[self.scheme](self.players(len(batch["y"])))
        losses = torch.stack([each.loss.detach() for each in compared])
        agreement = torch.cat([each.student.argmax(1) == each.teacher.argmax(1) for each in compared])
        values = (losses, generator_loss(losses, self.form), agreement)
        self.train_metrics.update(torch.stack([value.float().mean() for value in values]))
        return losses.mean()

    def players(self, number: int) -> Players:
        """What a step works with, for ``number`` images of this process."""
        # the same for every process and every session of the run, whatever was drawn before
        step = (self.steps_before + self.global_step) // self._optimizer_steps
        like = next(self.generator.parameters())

        def noise(stage: int) -> Tensor:
            rank, world = self.trainer.global_rank, self.trainer.world_size
            z, _ = training_noise(
                self.seed, step, stage, number, self.latent_dim, rank=rank, world=world
            )  # [number, Z]
            return z.to(like.device, like.dtype, non_blocking=True)

        return Players(
            self._teacher[0],
            self.network,
            self.generator,
            self.form,
            self.student_steps,
            noise,
            self.normalise,
            self.manual_backward,
            self.clear,
            self.update,
        )

    def normalise(self, images: Tensor) -> Tensor:
        """Images ``[N, C, H, W]`` in [-1, 1] as the data module would hand them to a network."""
        scale, shift = self.get_buffer("scale"), self.get_buffer("shift")
        return images * scale + shift

    @property
    def _optimizer_steps(self) -> int:
        """Of one batch."""
        return self.student_steps + 1 if self.scheme == "two_stage" else 1

    def player(self, name: str) -> nn.Module:
        return self.network if name == "student" else self.generator

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        self.log_loss_scale()
        self.step_schedules()

    def sample(self, number: int, first: int = 0) -> Tensor:
        """Images of a fixed row of samples, in evaluation mode.

        Args:
            number: how many, N.
            first: number of the first in the row.

        Returns:
            ``[N, C, H, W]`` in [0, 1], float32, on the module's device.
        """
        z, _ = sample_noise(self.seed, first, number, self.latent_dim)
        return make_images(self.generator, z)

    def figures(
        self, datamodule: LightningDataModule, published: dict[str, Any] | None
    ) -> Iterator[tuple[str, "Figure"]]:
        yield from super().figures(datamodule, published)
        data = images_of(datamodule)
        title = "What the student has learned from: images of the generator after its last step"
        real = data.splits["test"].images[:_SHOWN] / data.max_pixel
        yield "samples", draw_samples(self.sample(_SHOWN).cpu(), title, real=real)
