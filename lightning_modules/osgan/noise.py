"""Noise that follows from seed and step alone, whatever the number of processes and earlier draws."""

import torch
from torch import Tensor

from datamodules.loaders import derived_generator

_TRAINING, _SAMPLES = 11, 12  # what the noise is for, so that samples are not what training has seen


def training_noise(
    seed: int,
    step: int,
    stage: int,
    number: int,
    latent_dim: int,
    num_classes: int | None = None,
    rank: int = 0,
    world: int = 1,
) -> tuple[Tensor, Tensor | None]:
    """One process's share of the noise of a training step.

    Args:
        seed: of the run, >= 0.
        step: batches before this one.
        stage: 0 for the first noise of the step, 1 for a second one.
        number: images N that this process makes; the same in each.
        latent_dim: length Z of the noise.
        num_classes: classes to draw from; None draws none.
        rank: number of this process.
        world: number of processes.

    Returns:
        Noise ``[N, Z]`` from N(0, 1), and classes ``[N]`` or None; on the CPU.
    """
    generator = derived_generator(seed, _TRAINING, step, stage, 0)
    share = slice(rank * number, (rank + 1) * number)
    z = torch.randn(world * number, latent_dim, generator=generator)[share]
    if num_classes is None:
        return z, None
    return z, torch.randint(num_classes, (world * number,), generator=generator)[share]


def sample_noise(
    seed: int, first: int, number: int, latent_dim: int, num_classes: int | None = None
) -> tuple[Tensor, Tensor | None]:
    """Noise of the images ``first`` to ``first + number - 1`` of an endless fixed row of samples.

    Classes take turns, so that any stretch of the row holds them in equal parts.

    Args:
        seed: of the run, >= 0.
        first: number of the first image, >= 0.
        number: how many, N.
        latent_dim: length Z of the noise.
        num_classes: classes to take turns; None gives none.

    Returns:
        Noise ``[N, Z]`` and classes ``[N]`` or None; on the CPU. An image's noise does not depend on the
        stretch that it is asked for in.
    """
    blocks = range(first // _BLOCK, (first + number - 1) // _BLOCK + 1)
    rows = [
        torch.randn(_BLOCK, latent_dim, generator=derived_generator(seed, _SAMPLES, block, 0, 0))
        for block in blocks
    ]
    begin = first - blocks.start * _BLOCK
    z = torch.cat(rows)[begin : begin + number] if rows else torch.empty(0, latent_dim)
    return z, None if num_classes is None else torch.arange(first, first + number) % num_classes


_BLOCK = 64  # samples drawn by one generator
