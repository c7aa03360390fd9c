"""Generator and discriminators of DCGAN, with the heads of conditional GANs."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from harness.errors import UserError

Norm = Literal["batch", "group", "none"]
Head = Literal["plain", "projection", "auxiliary"]

_FIRST_MAP = 4  # pixels of a side of the smallest map


def doublings(image_size: int) -> int:
    """How often a map of 4 x 4 pixels doubles to become an image.

    Raises:
        UserError: if ``image_size`` is not 4 times a power of two that is 2 or more.
    """
    times = (image_size // _FIRST_MAP).bit_length() - 1
    if times < 1 or image_size != _FIRST_MAP * 2**times:
        raise UserError(
            f"model.image_size={image_size} must be 8, 16, 32, 64, ...: the networks double a map of 4 x 4."
            " Set data.image_size to one of them where the data can be resized."
        )
    return times


class Generator(nn.Module):
    """Transposed convolutions from noise to an image (Radford et al., 2016, arXiv 1511.06434).

    Noise becomes a map of 4 x 4 pixels, doubled in size and halved in channels from layer to layer;
    BatchNorm and ReLU after all layers but the last, which ends in tanh. ``width`` channels stand before the
    last layer: the 128 of the authors' code make 1024 at 4 x 4 for images of 64 pixels. With
    ``num_classes``, an embedding of the class, as long as the noise, is appended to it. Layers before a norm
    keep the bias that it takes away, as in the authors' code, whose number of parameters this has.

    Args:
        latent_dim: length Z of the noise.
        out_channels: colours C of the images.
        image_size: pixels of a side, 4 times a power of two.
        width: channels before the last layer.
        num_classes: classes of a conditional generator; None for an unconditional one.

    Shapes:
        noise ``[N, Z]``, classes ``[N]`` long or None; images ``[N, C, image_size, image_size]`` in [-1, 1].

    Raises:
        UserError: for an ``image_size`` that cannot be reached.
    """

    def __init__(
        self,
        latent_dim: int,
        out_channels: int,
        image_size: int,
        width: int,
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        times = doublings(image_size)
        self.latent_dim = latent_dim
        self.embedding = nn.Embedding(num_classes, latent_dim) if num_classes else None
        channels = [latent_dim * (2 if num_classes else 1), *(width * 2**k for k in reversed(range(times)))]
        layers: list[nn.Module] = []
        for number, (before, after) in enumerate(pairwise(channels)):
            # [N, Z, 1, 1] -> [N, C, 4, 4], then [N, C, H, H] -> [N, C/2, 2H, 2H]
            stride, padding = (2, 1) if number else (1, 0)
            layers += [
                nn.ConvTranspose2d(before, after, _FIRST_MAP, stride, padding),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
        layers += [nn.ConvTranspose2d(width, out_channels, 4, 2, 1), nn.Tanh()]
        self.layers = nn.Sequential(*layers)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """DCGAN's: convolutions N(0, 0.02), norms 1 and 0; embeddings N(0, 0.1).

        Beside noise from N(0, 1) an embedding of that size soon outweighs it, and each class becomes one
        image: so it was on 1,024 digits, in one stage and in two.
        """
        _reset(self)
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, 0.0, 0.1)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Images of noise ``z`` and, if conditional, classes ``y``."""
        if self.embedding is not None:
            assert y is not None, "a conditional generator needs classes"
            z = torch.cat([z, self.embedding(y)], dim=1)  # [N, Z] -> [N, 2Z]
        images: Tensor = self.layers(z[:, :, None, None])  # [N, Z] -> [N, Z, 1, 1] -> [N, C, H, W]
        return images


class Discriminator(nn.Module):
    """Strided convolutions from an image to one logit, without sigmoid (arXiv 1511.06434).

    The mirror image of :class:`Generator`: convolutions of kernel 4 and stride 2 down to a map of 4 x 4, then
    one that leaves a single number. LeakyReLU(0.2); a norm after all but the first and the last.

    Heads: ``plain`` has the one logit. ``projection`` adds <e_y, phi(x)> to it (Miyato and Koyama, 2018,
    arXiv 1802.05637, Eq. 3), phi being the 4 x 4 map summed over its places. ``auxiliary`` has class logits
    from the same phi besides (Odena et al., 2017, arXiv 1610.09585).

    Args:
        in_channels: colours of the images.
        image_size: pixels of a side, 4 times a power of two.
        width: channels after the first convolution.
        norm: ``batch``, ``group`` or ``none``. Only with the latter two is a logit the image's own affair.
        norm_groups: groups of ``group``.
        spectral: spectral normalisation of every layer, one power iteration a forward pass in training
            (Miyato et al., 2018, arXiv 1802.05957).
        head: ``plain``, ``projection`` or ``auxiliary``.
        num_classes: classes of the latter two.

    Shapes:
        images ``[N, C, H, W]`` in [-1, 1], classes ``[N]`` for ``projection``; logits ``[N]``.

    Raises:
        UserError: ``norm_groups`` does not divide the channels, or the image size cannot be.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        width: int,
        norm: Norm,
        norm_groups: int,
        spectral: bool = False,
        head: Head = "plain",
        num_classes: int | None = None,
    ) -> None:
        super().__init__()
        times = doublings(image_size)
        self.norm = norm
        self.head = head
        layers: list[nn.Module] = [nn.Conv2d(in_channels, width, 4, 2, 1), nn.LeakyReLU(0.2, inplace=True)]
        channels = width
        for _ in range(times - 1):
            # [N, C, H, W] -> [N, 2C, H/2, W/2]
            layers += [
                nn.Conv2d(channels, 2 * channels, 4, 2, 1),
                *_norm(norm, norm_groups, 2 * channels),
                nn.LeakyReLU(0.2, inplace=True),
            ]
            channels *= 2
        self.layers = nn.Sequential(*layers)
        self.logit = nn.Conv2d(channels, 1, _FIRST_MAP)  # [N, C, 4, 4] -> [N, 1, 1, 1]
        self.embedding = nn.Embedding(num_classes, channels) if head == "projection" and num_classes else None
        self.class_head = nn.Linear(channels, num_classes) if head == "auxiliary" and num_classes else None
        assert head == "plain" or self.embedding or self.class_head, f"{head} needs num_classes"
        self.reset_parameters()
        if spectral:
            for module in [*self.modules()]:
                if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
                    nn.utils.parametrizations.spectral_norm(module)

    @property
    def is_samplewise(self) -> bool:
        """True if the logit of an image depends on no other image of its batch."""
        return self.norm != "batch"

    def reset_parameters(self) -> None:
        """DCGAN's: convolutions and linear layers N(0, 0.02), norms 1 and 0, biases 0; embeddings as these.

        Embeddings from N(0, 1) would let the class outweigh everything else that a logit says, and the
        generator make one image of each class.
        """
        _reset(self)
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, 0.0, 0.02)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """Logits ``[N]``; with the head ``auxiliary`` class logits ``[N, num_classes]`` besides."""
        maps = self.layers(x)
        logits: Tensor = self.logit(maps).flatten()  # [N, 1, 1, 1] -> [N], for N = 1 too
        if self.head == "plain":
            return logits
        summed = maps.sum(dim=(2, 3))  # [N, C, 4, 4] -> [N, C]
        if self.class_head is not None:
            return logits, self.class_head(summed)
        assert self.embedding is not None
        assert y is not None, "a projection needs classes"
        return logits + (self.embedding(y) * summed).sum(dim=1)


def _norm(norm: Norm, groups: int, channels: int) -> list[nn.Module]:
    if norm == "batch":
        return [nn.BatchNorm2d(channels)]
    if norm == "group":
        if channels % groups:
            raise UserError(
                f"model.norm_groups={groups} must divide the {channels} channels of a layer."
                f" Try model.norm_groups={max(g for g in (1, 2, 4, 8, 16, 32) if channels % g == 0)}."
            )
        return [nn.GroupNorm(groups, channels)]
    return []


def _reset(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d | nn.GroupNorm | nn.Embedding):
            module.reset_parameters()


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """``network`` in evaluation mode within, as it was afterwards."""
    training = network.training
    network.eval()
    try:
        yield
    finally:
        network.train(training)


@torch.no_grad()
def make_images(generator: Generator, z: Tensor, y: Tensor | None = None) -> Tensor:
    """What ``generator`` makes in evaluation mode.

    Args:
        generator: G.
        z: noise ``[N, Z]``, on any device.
        y: classes ``[N]`` for a conditional one.

    Returns:
        ``[N, C, H, W]`` in [0, 1], float32, on the generator's device.
    """
    like = next(generator.parameters())
    with evaluating(generator):
        images = generator(z.to(like.device, like.dtype), None if y is None else y.to(like.device))
    return ((images.float() + 1) / 2).clamp(0, 1)
