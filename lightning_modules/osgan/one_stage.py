"""Both players' gradients from one backward pass: the idea of one-stage training.

Let s_i = D(x_i) be the logit of a generated image that depends on no other image of the batch, and
J_i = ds_i/dx_i. Then dL_D/dx_i = l_f'(s_i) J_i / N and dL_G/dx_i = l_g'(s_i) J_i / N: the two differ by one
number per image,

    gamma_i = l_g'(s_i) / l_f'(s_i).

So L_D is sent backward through D, whose parameters get their right gradients; the gradient that leaves D at
x_i is multiplied by gamma_i and goes on into G as the gradient of L_G (Shen et al., CVPR 2021, arXiv
2103.00430). The update is the simultaneous one: both gradients at the same parameters, for the same noise.

Where l_f'(s_i) is zero nothing carries J_i. Our remedy: D learns with a slope of at least ``floor``, a leaky
form of its loss, and gamma is taken against that slope, so that G's gradient stays exact.
"""

from typing import Literal

import torch
from torch import Tensor

from lightning_modules.osgan.losses import GanLoss

Form = Literal["weighted", "direct", "packed"]


def scale_gradient(x: Tensor, factor: Tensor) -> None:
    """Multiplies the gradient that arrives at ``x`` before it goes on to what ``x`` was made from.

    A hook on the tensor itself. The older hooks on modules act on the last operation of a network, or on its
    input: there the generator would be trained in the wrong direction.

    Args:
        x: ``[N, ...]``, requires a gradient.
        factor: ``[N]`` or a scalar, float32 or wider, without gradient; multiplied in this precision.
    """
    assert not factor.requires_grad
    if factor.dim():
        factor = factor.view(-1, *[1] * (x.dim() - 1))  # [N] -> [N, 1, ...]
    x.register_hook(lambda gradient: (gradient.to(factor.dtype) * factor).to(gradient.dtype))


@torch.no_grad()
def carried_slopes(loss: GanLoss, logits: Tensor, floor: float) -> tuple[Tensor, Tensor]:
    """The slope w that carries each gradient through D, and gamma = l_g' / w.

    Args:
        loss: the pair of losses.
        logits: s, ``[N]``, of generated images.
        floor: smallest absolute value of w, >= 0; in effect at least the root of the smallest number of
            the logits' type, below which 1 / w would not be finite.

    Returns:
        w and gamma, ``[N]`` each. w is l_f' where that reaches the floor, else the floor with l_f's sign, +
        at 0. Of a symmetric loss gamma is -1, also where l_f' is too small to divide by; it takes no floor.
    """
    slope = loss.fake_slope(logits)
    if loss.is_symmetric:
        return slope, -torch.ones_like(slope)
    # the root leaves as much room for gamma as for the gradient that w carries
    floor = max(floor, torch.finfo(slope.dtype).tiny ** 0.5)
    least = torch.full_like(slope, floor)
    slope = torch.where(slope.abs() < floor, torch.where(slope < 0, -least, least), slope)
    return slope, loss.generator_slope(logits) / slope


def discriminator_surrogate(
    loss: GanLoss, real: Tensor, fake: Tensor, slope: Tensor, gamma: Tensor, form: Form
) -> Tensor:
    """The scalar whose one backward pass trains both players, given gamma at the images.

    The three forms have the same gradients where no slope is floored:

    - ``weighted``: mean l_r + mean(w s), with w constant; the only one that keeps to the floor.
    - ``direct``: L_D itself.
    - ``packed``: mean l_r + mean((l_f - l_g) / (1 - gamma)), with gamma constant, as in the authors' code. It
      breaks down where l_f' = l_g'.

    Args:
        loss: the pair of losses.
        real: logits of the real images, ``[M]``.
        fake: logits of the generated images, ``[N]``.
        slope: w of :func:`carried_slopes`, ``[N]``.
        gamma: of :func:`carried_slopes`, ``[N]``.
        form: which.
    """
    of_real = loss.real(real).mean()
    if form == "weighted":
        return of_real + (slope * fake).mean()
    if form == "direct":
        return of_real + loss.fake(fake).mean()
    return of_real + ((loss.fake(fake) - loss.generator(fake)) / (1 - gamma)).mean()
