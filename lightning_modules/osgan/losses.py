"""Losses of two players as functions of one logit each, with their derivatives in closed form.

With logits s of the discriminator on real and on generated images, L_D = mean l_r(s) + mean l_f(s) and
L_G = mean l_g(s). What one-stage training needs of a loss is l_f' and l_g' alone (see ``one_stage.py``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

LossName = Literal["minimax", "wgan", "non_saturating", "lsgan", "hinge"]


@dataclass(frozen=True)
class GanLoss:
    """One pair of losses; every function takes logits of any shape and works entry by entry.

    Attributes:
        real: l_r, the discriminator's loss on real images.
        fake: l_f, its loss on generated images.
        generator: l_g, the generator's loss.
        fake_slope: l_f'.
        generator_slope: l_g'.
        is_symmetric: True where l_g = -l_f up to a constant, so that l_g' / l_f' is -1 for every logit.
        floor: smallest |l_f'| that a gradient is carried with; 0 where gamma is -1 whatever l_f' is.
    """

    real: Callable[[Tensor], Tensor]
    fake: Callable[[Tensor], Tensor]
    generator: Callable[[Tensor], Tensor]
    fake_slope: Callable[[Tensor], Tensor]
    generator_slope: Callable[[Tensor], Tensor]
    is_symmetric: bool
    floor: float = 0.0


def wide(values: Tensor) -> Tensor:
    """``values`` in float32 at least: exp(-s), a part of gamma, leaves the range of float16 below s = -11."""
    return values if values.dtype == torch.float64 else values.float()


def _softplus(s: Tensor) -> Tensor:
    # torch's own softplus is the identity above 20, where its slope is 2e-9 off the sigmoid
    return -F.logsigmoid(-s)


TECHNICAL_FLOOR = 1e-6
"""A floor up to here is a matter of rounding; one above changes what the discriminator learns."""

LOSSES: dict[str, GanLoss] = {
    # Goodfellow et al., 2014, arXiv 1406.2661, Eq. 1
    "minimax": GanLoss(
        real=lambda s: _softplus(-s),
        fake=_softplus,
        generator=lambda s: -_softplus(s),
        fake_slope=torch.sigmoid,
        generator_slope=lambda s: -torch.sigmoid(s),
        is_symmetric=True,
    ),
    # Arjovsky et al., 2017, arXiv 1701.07875, Eqs. 2 and 3
    "wgan": GanLoss(
        real=torch.neg,
        fake=torch.clone,
        generator=torch.neg,
        fake_slope=torch.ones_like,
        generator_slope=lambda s: -torch.ones_like(s),
        is_symmetric=True,
    ),
    # the alternative of arXiv 1406.2661, section 3: G raises log D in place of lowering log(1 - D)
    "non_saturating": GanLoss(
        real=lambda s: _softplus(-s),
        fake=_softplus,
        generator=lambda s: _softplus(-s),
        fake_slope=torch.sigmoid,
        generator_slope=lambda s: -torch.sigmoid(-s),
        is_symmetric=False,
        floor=1e-12,  # sigmoid(s) never is 0 but in float32, below s = -88
    ),
    # Mao et al., 2017, arXiv 1611.04076, Eq. 9
    "lsgan": GanLoss(
        real=lambda s: 0.5 * (s - 1).square(),
        fake=lambda s: 0.5 * s.square(),
        generator=lambda s: 0.5 * (s - 1).square(),
        fake_slope=torch.clone,
        generator_slope=lambda s: s - 1,
        is_symmetric=False,
        floor=1e-2,
    ),
    # Lim and Ye, 2017, arXiv 1705.02894; Miyato et al., 2018, arXiv 1802.05957, Eqs. 16 and 17
    "hinge": GanLoss(
        real=lambda s: F.relu(1 - s),
        fake=lambda s: F.relu(1 + s),
        generator=torch.neg,
        fake_slope=lambda s: (s > -1).to(s.dtype),
        generator_slope=lambda s: -torch.ones_like(s),
        is_symmetric=False,
        floor=1e-2,
    ),
}
"""By the name that ``model.loss`` gives."""
