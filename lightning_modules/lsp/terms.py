"""How a student's loss is put together, whatever kind of graph it sees."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lightning_modules.lsp.structure import RULER, Direction, Kernel

Distill = Literal["full", "kd", "fitnet", "at", "lsp", "lsp+kd"]


@dataclass(frozen=True)
class Terms:
    """Which terms the loss has and what they weigh.

    ``loss = (1 - alpha) * task + alpha * kd`` with soft labels, else ``task``; to which is added
    ``lsp_weight * L_LSP``, or ``hint_weight`` times the difference of hints or of attention maps.

    Attributes:
        distill: ``full`` the task alone; ``kd`` soft labels; ``fitnet`` hints; ``at`` attention maps; ``lsp``
            local structure; ``lsp+kd`` both.
        kernel: of L_LSP.
        direction: of its divergence.
        lsp_weight: lambda.
        lsp_until: epochs with L_LSP, after which it is left out; None for all.
        kd_alpha: alpha.
        kd_temperature: T of soft labels.
        hint_weight: of ``fitnet`` and ``at``.
    """

    distill: Distill
    kernel: Kernel
    direction: Direction
    lsp_weight: float
    lsp_until: int | None
    kd_alpha: float
    kd_temperature: float
    hint_weight: float

    @property
    def soft_labels(self) -> bool:
        """Whether the teacher's predictions are asked for."""
        return self.distill in ("kd", "lsp+kd")

    def structure_in(self, epoch: int) -> bool:
        """Whether L_LSP is part of the loss in an epoch, counted from 0."""
        wanted = self.distill in ("lsp", "lsp+kd") and self.lsp_weight > 0
        return wanted and (self.lsp_until is None or epoch < self.lsp_until)

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """Of the structures that are computed: the loss's own, then the common ruler's if it differs."""
        return (self.kernel,) if self.kernel == RULER else (self.kernel, RULER)

    @property
    def names(self) -> tuple[str, ...]:
        """Of what training reports beside the loss as a whole."""
        names = ["task_loss", "lsp_ruler"]
        if self.soft_labels:
            names.append("kd_loss")
        if self.distill in ("fitnet", "at"):
            names.append("hint_loss")
        if self.structure_in(0):
            names += ["lsp_loss", "lsp_term", "lsp_gradient_share"]
        return tuple(names)

    def total(self, parts: Mapping[str, Tensor], epoch: int) -> Tensor:
        """The loss of a step from its parts by name, a scalar."""
        loss = parts["task_loss"]
        if self.soft_labels:
            loss = (1 - self.kd_alpha) * loss + self.kd_alpha * parts["kd_loss"]
        if "hint_loss" in parts:
            loss = loss + self.hint_weight * parts["hint_loss"]
        if self.structure_in(epoch):
            loss = loss + self.lsp_weight * parts["lsp_loss"]
        return loss


def gradient_share(part: Tensor, total: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor:
    """Length of a term's gradient over that of the rest's and its own together, in [0, 1]; a scalar.

    It costs two further backward passes.

    Args:
        part: the weighted term.
        total: the loss that it is part of.
        parameters: that the loss is lowered by.
    """
    lengths = []
    for value in (part, total - part):
        grads = torch.autograd.grad(value, parameters, retain_graph=True, allow_unused=True)
        squares = [grad.detach().float().square().sum() for grad in grads if grad is not None]
        lengths.append(torch.stack(squares).sum().sqrt() if squares else total.new_zeros(()))
    return (lengths[0] / (lengths[0] + lengths[1]).clamp(min=1e-30)).detach()


def check_layer_pairs(pairs: Sequence[Sequence[int]], layers: int) -> str | None:
    """What is wrong with pairs of a teacher's and a student's layer, or None.

    Args:
        pairs: ``[[teacher's, student's], ...]``, numbers from 1 on.
        layers: hidden layers of the student.
    """
    if not pairs or any(len(pair) != 2 for pair in pairs):
        return "model.layer_pairs must list [teacher's layer, student's layer], such as [[2, 3]]"
    beyond = [pair[1] for pair in pairs if pair[1] > layers]
    if beyond:
        return (
            f"model.layer_pairs names layer {beyond[0]} of a student with {layers} of them."
            f" Set it to at most {layers}"
        )
    return None
