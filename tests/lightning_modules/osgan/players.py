"""Two small players in float64, for the tests of training steps."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lightning_modules.osgan.losses import LOSSES
from lightning_modules.osgan.networks import Discriminator, Generator
from lightning_modules.osgan.schemes import Players

NUMBER, SIZE, LATENT = 16, 16, 8


def networks(norm: str = "group", **settings: Any) -> tuple[Generator, Discriminator]:
    """G with batch normalisation and D, with weights large enough for logits on both sides of the floors."""
    torch.manual_seed(0)
    generator = Generator(LATENT, 1, SIZE, 4, settings.get("num_classes")).double()
    discriminator = Discriminator(1, SIZE, 8, norm, 4, **settings).double()  # type: ignore[arg-type]
    with torch.no_grad():
        for network in (generator, discriminator):
            for name, parameter in network.named_parameters():
                if parameter.dim() == 4 and "original" not in name:
                    parameter.mul_(8)
        discriminator.logit.weight.mul_(3)
        if "spectral" not in settings:
            discriminator.logit.bias.sub_(4.5)  # generated images on both sides of the hinge
    return generator, discriminator


def noise(stage: int, number: int = NUMBER) -> Tensor:
    generator = torch.Generator().manual_seed(7 + stage)
    return torch.randn(number, LATENT, generator=generator, dtype=torch.float64)


def real_images(number: int = NUMBER) -> Tensor:
    generator = torch.Generator().manual_seed(3)
    return torch.rand(number, 1, SIZE, SIZE, generator=generator, dtype=torch.float64) * 2 - 1


def gradients(
    scheme: Callable[..., Any],
    loss: str,
    built: tuple[Generator, Discriminator],
    *,
    form: str = "weighted",
    floor: float | None = None,
    number: int = NUMBER,
    y: Tensor | None = None,
    fake_y: Tensor | None = None,
) -> dict[str, Tensor]:
    """The gradients that one step of ``scheme`` leaves at copies of the networks, which are not updated."""
    generator, discriminator = copy.deepcopy(built)
    found: dict[str, Tensor] = {}

    def clear(*names: str) -> None:
        for name in names:
            (generator if name == "generator" else discriminator).zero_grad()

    def update(*names: str) -> None:
        for name in names:
            network: nn.Module = generator if name == "generator" else discriminator
            for key, parameter in network.named_parameters():
                assert parameter.grad is not None, f"{name}.{key}"
                found[f"{name}.{key}"] = parameter.grad.clone()

    players = Players(
        generator,
        discriminator,
        LOSSES[loss],
        LOSSES[loss].floor if floor is None else floor,
        form,  # type: ignore[arg-type]
        class_weight=1.0,
        noise=lambda stage: (noise(stage, number), fake_y),
        backward=lambda scalar, **keywords: scalar.backward(**keywords),
        clear=clear,
        update=update,
    )
    scheme(players, real_images(number), y)
    return found


def relative_difference(one: dict[str, Tensor], other: dict[str, Tensor], player: str) -> float:
    """|one - other| / |other| over all of a player's gradients."""
    keys = [key for key in other if key.startswith(player)]
    a, b = (torch.cat([found[key].flatten() for key in keys]) for found in (one, other))
    return float((a - b).norm() / b.norm())
