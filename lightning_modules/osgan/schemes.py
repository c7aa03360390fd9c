"""One step of training for two players: in one stage, and in the ways it is compared with.

With g and d the cost of a forward pass of G and of D over a batch, and a backward pass twice that (half for
what goes on to the input, half for the weights), a step costs

========================  =========  =====================================================
``one_stage``             3g + 6d    both gradients from one forward and one backward pass
``two_stage``             4g + 9d    D, then G with new noise; D's gradients of the second
                                     backward pass are computed and thrown away
``two_stage_lean``        4g + 8d    the same, without what is thrown away
``two_stage_reuse``       3g + 8d    the same, with the first images in both stages
``simultaneous``          3g + 8d    both gradients at the same parameters, by two backward
                                     passes: what ``one_stage`` must equal
========================  =========  =====================================================
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.osgan.losses import GanLoss, wide
from lightning_modules.osgan.networks import Discriminator, Generator
from lightning_modules.osgan.one_stage import (
    Form,
    carried_slopes,
    discriminator_surrogate,
    scale_gradient,
)

Scheme = Literal["one_stage", "two_stage", "two_stage_lean", "two_stage_reuse", "simultaneous"]


@dataclass(frozen=True)
class Players:
    """What a step works with.

    Attributes:
        generator: G.
        discriminator: D.
        loss: of both.
        floor: smallest slope that carries a gradient in one-stage training.
        form: of the one loss in one-stage training.
        class_weight: of the cross-entropy of an auxiliary class head, in both players' losses.
        noise: stage (0 or 1) to noise ``[N, Z]`` and classes ``[N]`` or None, on the device.
        backward: backward pass from a scalar; keywords are those of ``Tensor.backward``.
        clear: removes the gradients of players.
        update: one optimiser step for players, from their gradients.
    """

    generator: Generator
    discriminator: Discriminator
    loss: GanLoss
    floor: float
    form: Form
    class_weight: float
    noise: Callable[[int], tuple[Tensor, Tensor | None]]
    backward: Callable[..., None]
    clear: Callable[..., None]
    update: Callable[..., None]

    def make(self, stage: int) -> tuple[Tensor, Tensor | None]:
        """Images of new noise, and their classes."""
        z, y = self.noise(stage)
        return self.generator(z, y), y


@dataclass(frozen=True)
class Judged:
    """What D says of a batch.

    Attributes:
        real: logits of the real images ``[M]``, float32 or wider.
        fake: logits of the generated images ``[N]``.
        real_class_loss: cross-entropy of D's class head on the real images, 0 without one.
        fake_class_loss: likewise on the generated ones.
    """

    real: Tensor
    fake: Tensor
    real_class_loss: Tensor
    fake_class_loss: Tensor


@dataclass(frozen=True)
class Report:
    """What a step tells of itself, without gradients.

    Attributes:
        real: logits of the real images, ``[M]``.
        fake: logits of the generated images before the update, ``[N]``.
        loss_real: D's loss on real images.
        loss_fake: D's loss on generated images.
        loss_g: G's loss.
    """

    real: Tensor
    fake: Tensor
    loss_real: Tensor
    loss_fake: Tensor
    loss_g: Tensor


def one_stage(players: Players, images: Tensor, y: Tensor | None) -> Report:
    """Both players from one forward and one backward pass (arXiv 2103.00430).

    Args:
        players: of whom D has no class head and, unless the loss is symmetric, no batch normalisation.
        images: real ones, ``[M, C, H, W]`` in [-1, 1].
        y: their classes ``[M]``, for a conditional D.
    """
    fake, fake_y = players.make(0)
    judged = _judge(players, images, y, fake, fake_y)
    slope, gamma = carried_slopes(players.loss, judged.fake.detach(), players.floor)
    scale_gradient(fake, gamma)
    objective = discriminator_surrogate(players.loss, judged.real, judged.fake, slope, gamma, players.form)
    players.clear("generator", "discriminator")
    players.backward(objective)
    players.update("generator", "discriminator")
    return _report(players.loss, judged)


def simultaneous(players: Players, images: Tensor, y: Tensor | None) -> Report:
    """Both players' gradients at the same parameters, each from a backward pass of its own."""
    fake, fake_y = players.make(0)
    judged = _judge(players, images, y, fake, fake_y)
    players.clear("generator", "discriminator")
    of_d, of_g = (
        [p for p in network.parameters() if p.requires_grad]
        for network in (players.discriminator, players.generator)
    )
    players.backward(_discriminator_loss(players, judged), inputs=of_d, retain_graph=True)
    players.backward(_generator_loss(players, judged.fake, judged.fake_class_loss), inputs=of_g)
    players.update("generator", "discriminator")
    return _report(players.loss, judged)


def two_stage(players: Players, images: Tensor, y: Tensor | None) -> Report:
    """The usual way, as the paper compares with it: D first, then G with new noise."""
    fake, fake_y = players.make(0)
    fake = fake.detach()  # not only handed over so: nothing then holds G's graph while D is trained
    report = _train_discriminator(players, images, y, fake, fake_y)
    fake, fake_y = players.make(1)
    return _train_generator(players, fake, fake_y, report)


def two_stage_lean(players: Players, images: Tensor, y: Tensor | None) -> Report:
    """The usual way without wasted work: no graph of G for D's sake, no gradients of D for G's."""
    with torch.no_grad():
        fake, fake_y = players.make(0)
    report = _train_discriminator(players, images, y, fake, fake_y)
    fake, fake_y = players.make(1)
    with _frozen(players.discriminator):
        return _train_generator(players, fake, fake_y, report)


def two_stage_reuse(players: Players, images: Tensor, y: Tensor | None) -> Report:
    """The lean way with the same images in both stages."""
    fake, fake_y = players.make(0)
    report = _train_discriminator(players, images, y, fake.detach(), fake_y)
    with _frozen(players.discriminator):
        return _train_generator(players, fake, fake_y, report)


SCHEMES: dict[str, Callable[[Players, Tensor, Tensor | None], Report]] = {
    "one_stage": one_stage,
    "two_stage": two_stage,
    "two_stage_lean": two_stage_lean,
    "two_stage_reuse": two_stage_reuse,
    "simultaneous": simultaneous,
}
"""By the name that ``model.scheme`` gives."""


def _train_discriminator(
    players: Players, images: Tensor, y: Tensor | None, fake: Tensor, fake_y: Tensor | None
) -> Report:
    judged = _judge(players, images, y, fake, fake_y)
    players.clear("discriminator")
    players.backward(_discriminator_loss(players, judged))
    players.update("discriminator")
    return _report(players.loss, judged)


def _train_generator(players: Players, fake: Tensor, fake_y: Tensor | None, report: Report) -> Report:
    logits, class_loss = _logits(players.discriminator, fake, fake_y)
    loss = _generator_loss(players, logits, class_loss)
    players.clear("generator")
    players.backward(loss)
    players.update("generator")
    loss_g = players.loss.generator(logits.detach()).mean()
    return Report(report.real, report.fake, report.loss_real, report.loss_fake, loss_g)


def _discriminator_loss(players: Players, judged: Judged) -> Tensor:
    loss = players.loss.real(judged.real).mean() + players.loss.fake(judged.fake).mean()
    return loss + players.class_weight * (judged.real_class_loss + judged.fake_class_loss)


def _generator_loss(players: Players, fake: Tensor, class_loss: Tensor) -> Tensor:
    return players.loss.generator(fake).mean() + players.class_weight * class_loss


def _judge(players: Players, images: Tensor, y: Tensor | None, fake: Tensor, fake_y: Tensor | None) -> Judged:
    network = players.discriminator
    if not network.is_samplewise or network.class_head is not None:
        # under batch normalisation the two kinds of images have statistics of their own
        real_logits, real_class_loss = _logits(network, images, y)
        fake_logits, fake_class_loss = _logits(network, fake, fake_y)
        return Judged(real_logits, fake_logits, real_class_loss, fake_class_loss)
    # one pass over both is quicker, and one power iteration of spectral normalisation
    both_y = None if y is None or fake_y is None else torch.cat([y, fake_y])
    logits, no_loss = _logits(network, torch.cat([images.to(fake.dtype), fake]), both_y)
    return Judged(logits[: len(images)], logits[len(images) :], no_loss, no_loss)


def _logits(network: Discriminator, x: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
    """Logits ``[N]``, and the cross-entropy of the class head or 0; in float32 at least."""
    found = network(x, y)
    if isinstance(found, Tensor):
        logits = wide(found)
        return logits, logits.new_zeros(())
    assert y is not None
    logits, class_logits = found
    return wide(logits), F.cross_entropy(wide(class_logits), y)


def _report(loss: GanLoss, judged: Judged) -> Report:
    real, fake = judged.real.detach(), judged.fake.detach()
    return Report(real, fake, loss.real(real).mean(), loss.fake(fake).mean(), loss.generator(fake).mean())


@contextmanager
def _frozen(network: Any) -> Iterator[None]:
    """No gradients for the network's weights within; they still pass through it."""
    active = [p for p in network.parameters() if p.requires_grad]
    for parameter in active:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in active:
            parameter.requires_grad_(True)
