"""Training of a generative adversarial network, in one stage or in two."""

import copy
from typing import ClassVar, Literal

import torch
from torch import Tensor

from harness.annotations import (
    ClassSpec,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Probability,
    TwoOrMore,
)
from lightning_modules.osgan.averages import StepAverages, average_weights
from lightning_modules.osgan.generation import Batch, ImageGenerator
from lightning_modules.osgan.losses import LOSSES, LossName
from lightning_modules.osgan.networks import Discriminator, Generator, Norm
from lightning_modules.osgan.noise import training_noise
from lightning_modules.osgan.one_stage import Form, carried_slopes
from lightning_modules.osgan.schemes import SCHEMES, Players, Report, Scheme
from lightning_modules.osgan.two_players import TwoPlayers
from lightning_modules.osgan.validity import (
    check_average,
    check_players,
    check_processes,
    check_settings,
    effective_floor,
)

Network = Literal["dcgan", "sngan", "cgan", "acgan"]
_AVERAGED = (
    "loss_real",
    "loss_fake",
    "loss_g",
    "real_logit",
    "fake_logit",
    "below_minus_14",
    "grad_norm_g",
    "grad_norm_d",
)
_OF_ONE_STAGE = ("gamma_low", "gamma_median", "gamma_high", "floored")


class OSGAN(TwoPlayers, ImageGenerator):
    """A GAN whose players are trained by one of :data:`SCHEMES` (Shen et al., CVPR 2021, arXiv 2103.00430).

    Departures from the authors' code, which has one script for each case: every scheme has the same learning
    rates, noise and networks, so that they can be compared; GroupNorm stands wherever BatchNorm in D would be
    wrong; slopes are floored where they vanish (``one_stage.py``); WGAN averages over each kind of image.

    Batches come from an ``ImageDataModule``. Its normalisation is undone: G and D work in [-1, 1].

    Args:
        in_channels: colours C of the images.
        image_size: pixels of a side, 4 times a power of two.
        num_classes: classes of the data; used by conditional networks alone.
        mean: that the data were normalised with, C numbers.
        std: likewise.
        scheme: how a step trains both players, see ``schemes.py``.
        loss: pair of losses, see ``losses.py``.
        form: ``weighted``, ``direct`` or ``packed``: how the one loss of one-stage training is written;
            ``weighted`` in other schemes, which have two.
        floor: smallest slope that carries a gradient in one-stage training; None for the loss's own, and in
            other schemes, which have none.
        network: ``dcgan``; ``sngan``, without norms and with spectral normalisation in D; ``cgan``, whose G
            embeds the class and whose D projects on it; ``acgan``, whose D has a class head.
        latent_dim: length Z of the noise.
        generator_width: channels before G's last layer.
        discriminator_width: channels after D's first layer.
        norm: of D: ``batch``, ``group`` or ``none``; ``sngan`` has none.
        norm_groups: groups of ``group``.
        class_weight: weight of acgan's cross-entropy in both losses.
        weight_clip: with ``loss=wgan`` D's weights are cut to +- this after each step; None leaves them.
        ema: share of the old average of G's weights that a step keeps; samples are made with the average.
            None makes them with the last weights.
        lr_generator: learning rate of G.
        lr_discriminator: learning rate of D.
        optimizer: ``{name: class of torch.optim, **keywords}`` without ``lr``.
        scheduler: ``{name: class of torch.optim.lr_scheduler, **keywords}``, stepped once an epoch, or None.
        num_samples: generated images that the test judges.
        num_predicted: images that ``mode=predict`` writes.
        seed: of the noise, >= 0.

    Raises:
        UserError: for settings that do not go together, see ``validity.py``.
    """

    epoch_metrics = (
        "train/loss",
        "train/loss_real",
        "train/loss_fake",
        "train/loss_g",
        "train/real_logit",
        "train/fake_logit",
        "train/gamma_low",
        "train/gamma_median",
        "train/gamma_high",
        "train/floored",
        "train/below_minus_14",
        "train/grad_norm_g",
        "train/grad_norm_d",
        "train/loss_scale",
        "val/fid",
        "val/fd_classifier",
        "val/fd_bumps",
        "val/modes",
        "val/on_mode",
    )
    progress_metrics = (
        "val/fid",
        "val/fd_classifier",
        "val/fd_bumps",
        "val/modes",
        "train/loss_real",
        "train/loss_fake",
        "train/loss_g",
        "train/gamma_median",
    )
    training_only: ClassVar[tuple[str, ...]] = (
        "class_weight",
        "weight_clip",
        "lr_generator",
        "lr_discriminator",
    )
    evaluation_only = ("num_samples", "num_predicted")

    def __init__(
        self,
        in_channels: PositiveInt,
        image_size: PositiveInt,
        num_classes: PositiveInt,
        mean: list[float],
        std: list[float],
        scheme: Scheme,
        loss: LossName,
        form: Form,
        floor: NonNegativeFloat | None,
        network: Network,
        latent_dim: PositiveInt,
        generator_width: PositiveInt,
        discriminator_width: PositiveInt,
        norm: Norm,
        norm_groups: PositiveInt,
        class_weight: NonNegativeFloat,
        weight_clip: PositiveFloat | None,
        ema: Probability | None,
        lr_generator: PositiveFloat,
        lr_discriminator: PositiveFloat,
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
        num_samples: TwoOrMore,
        num_predicted: PositiveInt,
        seed: NonNegativeInt,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.loss = LOSSES[loss]
        self.floor = effective_floor(self.loss, floor)
        norm = "none" if network == "sngan" else norm
        check_settings(
            scheme=scheme,
            loss=loss,
            floor=floor,
            form=form,
            network=network,
            norm=norm,
            num_classes=num_classes,
            weight_clip=weight_clip if loss == "wgan" else None,
        )
        lrs = {"generator": lr_generator, "discriminator": lr_discriminator}
        check_players(in_channels, {"mean": mean, "std": std}, optimizer, lrs)
        self.scheme = scheme
        self.form = form
        self.latent_dim = latent_dim
        self.classes = num_classes if network in ("cgan", "acgan") else None
        self.class_weight = class_weight
        self.weight_clip = weight_clip if loss == "wgan" else None
        self.ema = ema
        self.num_samples = num_samples
        self.num_predicted = num_predicted
        self.seed = seed
        self.set_players(
            lrs,
            scheme in ("one_stage", "simultaneous"),
            optimizer,
            scheduler,
        )
        self.generator = Generator(latent_dim, in_channels, image_size, generator_width, self.classes)
        self.discriminator = Discriminator(
            in_channels,
            image_size,
            discriminator_width,
            norm,
            norm_groups,
            spectral=network == "sngan",
            head="projection" if network == "cgan" else "auxiliary" if network == "acgan" else "plain",
            num_classes=self.classes,
        )
        self.averaged: Generator | None = None
        if ema is not None:
            self.averaged = copy.deepcopy(self.generator).requires_grad_(False)
        # not made anew in each step, which would have a GPU wait for the copy
        self.register_buffer("shares", torch.tensor([0.05, 0.5, 0.95], dtype=torch.float32), persistent=False)
        for name, values in (("mean", mean), ("std", std)):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)  # [C, 1, 1]
        self.step_averages = StepAverages(_AVERAGED + (_OF_ONE_STAGE if scheme == "one_stage" else ()))
        self._norms: dict[str, Tensor] = {}  # of each player's gradients in its last update

    # --- training

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        players = self._players(len(batch["x"]))
        y = batch["y"] if self.classes else None
        report = SCHEMES[self.scheme](players, self._as_generated(batch["x"]), y)
        if self.averaged is not None and self.ema is not None:
            average_weights(self.averaged, self.generator, self.ema, self._step - 1)
        self._note(report)
        return {
            "loss": report.loss_real + report.loss_fake,
            "generator_loss": report.loss_g,
        }

    @property
    def _step(self) -> int:
        """Batches done, whatever the number of optimisers that count them."""
        return (self.steps_before + self.global_step) // (1 if self.together else 2)

    def _players(self, number: int) -> Players:
        step = self._step

        def noise(stage: int) -> tuple[Tensor, Tensor | None]:
            z, y = training_noise(
                self.seed,
                step,
                stage,
                number,
                self.latent_dim,
                self.classes,
                self.trainer.global_rank,
                self.trainer.world_size,
            )
            z = z.to(self.device, self.generator_dtype, non_blocking=True)
            return z, None if y is None else y.to(self.device, non_blocking=True)

        return Players(
            self.generator,
            self.discriminator,
            self.loss,
            self.floor,
            self.form,
            self.class_weight,
            noise,
            self.manual_backward,
            self.clear,
            self.update,
        )

    def player(self, name: str) -> Generator | Discriminator:
        return self.generator if name == "generator" else self.discriminator

    def update(self, *players: str) -> None:
        super().update(*players)
        if "discriminator" in players and self.weight_clip is not None:
            with torch.no_grad():
                for parameter in self.discriminator.parameters():
                    parameter.clamp_(-self.weight_clip, self.weight_clip)

    wants_norms = True

    def note_gradient_norm(self, player: str, norm: Tensor) -> None:
        self._norms[player] = norm

    @torch.no_grad()
    def _note(self, report: Report) -> None:
        values = [
            report.loss_real,
            report.loss_fake,
            report.loss_g,
            report.real.mean(),
            report.fake.mean(),
            (report.fake < -14).float().mean(),  # where float16 begins to lose the gradient
            self._norms["generator"],
            self._norms["discriminator"],
        ]
        if self.scheme == "one_stage":
            values += self._ratios(report.fake)
        self.step_averages.update(torch.stack([value.float() for value in values]))

    def _ratios(self, fake: Tensor) -> list[Tensor]:
        """What one stage alone has: quantiles of gamma, and the share of images whose slope is floored."""
        slope, gamma = carried_slopes(self.loss, fake, self.floor)
        # with the weights they may be float64, or bfloat16 that no quantile knows
        shares = self.get_buffer("shares").float()
        floored = (slope != self.loss.fake_slope(fake)).float().mean()
        return [*gamma.float().quantile(shares), floored]

    def on_fit_start(self) -> None:
        check_processes(self.trainer, self.scheme)
        check_average(self.trainer, self.ema)

    def on_train_epoch_start(self) -> None:
        self.step_averages.reset()

    def on_train_epoch_end(self) -> None:
        found = self.step_averages.compute()
        found["loss"] = found["loss_real"] + found["loss_fake"]
        self.log_dict({f"train/{name}": value for name, value in found.items()}, logger=False, sync_dist=True)
        self.log_loss_scale()
        self.note_samples()
        self.step_schedules()

    def _as_generated(self, x: Tensor) -> Tensor:
        """Images of a batch in [-1, 1], ``[N, C, H, W]``."""
        mean, std = self.get_buffer("mean"), self.get_buffer("std")
        return (x * std + mean) * 2 - 1
