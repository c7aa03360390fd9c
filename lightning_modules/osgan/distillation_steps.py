"""One step of data-free distillation: a student that agrees with a teacher, a generator that parts them.

With x = G(z) and logits T(x), S(x) of teacher and student, L = mean |T(x) - S(x)| is one number a batch
(Fang et al., 2019, arXiv 1912.11006). The student lowers it, the generator raises it: L_G = -L or
L_G = -log(L + 1), ``symmetric`` and ``log``. Both are functions of L alone, so that the two gradients at x
differ by one factor for the whole batch, and batch normalisation in the student takes nothing from this
(Shen et al., CVPR 2021, arXiv 2103.00430):

    gamma = dL_G / dL = -1, or -1 / (L + 1).

With g, s and t the cost of a forward pass of G, S and T, and a backward pass twice that (half for what goes
on to the input, half for the weights, of which T trains none), a step costs

=================  ==========================  =================================================
``one_stage``      3g + 3s + 2t                one forward and one backward pass of each
``simultaneous``   3g + 4s + 2t                one forward pass of each, two backward passes of S
``two_stage``      (k + 3)g + 3(k + 1)s        k updates of S, each with new images, one of G
                   + (k + 2)t
=================  ==========================  =================================================
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_modules.osgan.losses import wide
from lightning_modules.osgan.one_stage import scale_gradient

Scheme = Literal["one_stage", "two_stage", "simultaneous"]
Form = Literal["symmetric", "log"]


@dataclass(frozen=True)
class Players:
    """What a step works with.

    Attributes:
        teacher: T, in evaluation mode and frozen; gradients pass through it to the images.
        student: S.
        generator: G, of images in [-1, 1].
        form: of G's loss.
        student_steps: k, the student's updates in a step of ``two_stage``.
        noise: number within the step (0, 1, ...) to noise ``[N, Z]``, on the device.
        normalise: images in [-1, 1] to what S and T are used to.
        backward: backward pass from a scalar; keywords are those of ``Tensor.backward``.
        clear: removes the gradients of players.
        update: one optimiser step for players, from their gradients.
    """

    teacher: nn.Module
    student: nn.Module
    generator: nn.Module
    form: Form
    student_steps: int
    noise: Callable[[int], Tensor]
    normalise: Callable[[Tensor], Tensor]
    backward: Callable[..., None]
    clear: Callable[..., None]
    update: Callable[..., None]


@dataclass(frozen=True)
class Comparison:
    """What teacher and student say of a batch of generated images.

    Attributes:
        student: logits ``[N, num_classes]``, without gradient.
        teacher: likewise.
        loss: L, a scalar, float32 or wider.
    """

    student: Tensor
    teacher: Tensor
    loss: Tensor


def disagreement(student: Tensor, teacher: Tensor) -> Tensor:
    """L, the mean absolute difference of logits ``[N, num_classes]``, in float32 at least."""
    return (wide(teacher) - wide(student)).abs().mean()


def generator_loss(loss: Tensor, form: Form) -> Tensor:
    """L_G, from L."""
    return -loss if form == "symmetric" else -torch.log1p(loss)


@torch.no_grad()
def gradient_ratio(loss: Tensor, form: Form) -> Tensor:
    """Gamma = dL_G / dL, a scalar on the device of L; between -1 and 0."""
    return -torch.ones_like(loss) if form == "symmetric" else -1 / (loss + 1)


def one_stage(players: Players) -> list[Comparison]:
    """Both players from one forward and one backward pass: the update of :func:`simultaneous`, exactly."""
    images = players.generator(players.noise(0))
    compared = _compare(players, images)
    scale_gradient(images, gradient_ratio(compared.loss, players.form))
    players.clear("student", "generator")
    players.backward(compared.loss)
    players.update("student", "generator")
    return [compared]


def simultaneous(players: Players) -> list[Comparison]:
    """Both players' gradients at the same parameters, each from a backward pass of its own."""
    compared = _compare(players, players.generator(players.noise(0)))
    players.clear("student", "generator")
    of_s, of_g = (list(network.parameters()) for network in (players.student, players.generator))
    players.backward(compared.loss, inputs=of_s, retain_graph=True)
    players.backward(generator_loss(compared.loss, players.form), inputs=of_g)
    players.update("student", "generator")
    return [compared]


def two_stage(players: Players) -> list[Comparison]:
    """The usual way: k updates of the student, then one of the generator, each with new noise."""
    found = []
    for number in range(players.student_steps):
        with torch.no_grad():
            images = players.generator(players.noise(number))
        found.append(_compare(players, images))
        players.clear("student")
        players.backward(found[-1].loss)
        players.update("student")
    compared = _compare(players, players.generator(players.noise(players.student_steps)))
    # the student's gradients are computed, too, and thrown away: so does the usual code
    players.clear("generator")
    players.backward(generator_loss(compared.loss, players.form))
    players.update("generator")
    return found


SCHEMES: dict[str, Callable[[Players], list[Comparison]]] = {
    "one_stage": one_stage,
    "two_stage": two_stage,
    "simultaneous": simultaneous,
}
"""By the name that ``model.scheme`` gives; each returns what the student has learned from, batch by batch."""


def _compare(players: Players, images: Tensor) -> Comparison:
    x = players.normalise(images)
    of_student, of_teacher = players.student(x), players.teacher(x)
    return Comparison(of_student.detach(), of_teacher.detach(), disagreement(of_student, of_teacher))
