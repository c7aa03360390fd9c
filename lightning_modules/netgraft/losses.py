"""How far a grafted network's logits are from its teacher's."""

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

Loss = Literal["normalised", "mse"]


def normalised_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """``sum_n |u_s,n - u_t,n|^2`` with ``u = z / |z|``, which is ``sum_n 2 (1 - cos(z_s,n, z_t,n))``.

    The loss of both stages of NetGraft (arXiv 2012.04915; the authors' code), summed over the batch as they
    do. Neither network's scale matters, so that the student's is not learned. Computed in float32 at least.

    Args:
        student: logits ``[B, C]``.
        teacher: logits ``[B, C]``.

    Returns:
        A scalar in ``[0, 4 B]``.
    """
    return (F.normalize(_precise(student), dim=-1) - F.normalize(_precise(teacher), dim=-1)).square().sum()


def squared_loss(student: Tensor, teacher: Tensor) -> Tensor:
    """``sum_n |z_s,n - z_t,n|^2``: the authors' code has it beside the one that the paper reports.

    Args:
        student: logits ``[B, C]``.
        teacher: logits ``[B, C]``.

    Returns:
        A scalar >= 0.
    """
    return (_precise(student) - _precise(teacher)).square().sum()


LOSSES: dict[Loss, Callable[[Tensor, Tensor], Tensor]] = {
    "normalised": normalised_loss,
    "mse": squared_loss,
}
"""By the name that ``model.loss`` gives."""


def _precise(logits: Tensor) -> Tensor:
    return logits if logits.element_size() >= 4 else logits.float()
