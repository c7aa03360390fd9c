"""How a student's loss is put together, whatever kind of graph it sees."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torchmetrics import MeanMetric

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

    @property
    def hints(self) -> bool:
        """Whether the teacher's features or attention maps are asked for."""
        return self.distill in ("fitnet", "at")

    @property
    def copies_structure(self) -> bool:
        """Whether the loss is one of local structure, whatever the epoch and the weight."""
        return self.distill in ("lsp", "lsp+kd")

    def structure_in(self, epoch: int) -> bool:
        """Whether L_LSP is part of the loss in an epoch, counted from 0."""
        wanted = self.copies_structure and self.lsp_weight > 0
        return wanted and (self.lsp_until is None or epoch < self.lsp_until)

    @property
    def kernels(self) -> tuple[Kernel, ...]:
        """Of the structures that are computed: the loss's own, then the common ruler's if it differs."""
        return (self.kernel,) if self.kernel == RULER else (self.kernel, RULER)

    @property
    def names(self) -> tuple[str, ...]:
        """Of what training reports beside the loss as a whole."""
        names = ["task_loss"]
        if self.soft_labels:
            names.append("kd_loss")
        if self.hints:
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


def term_notes(
    parts: Mapping[str, Tensor],
    loss: Tensor,
    terms: Terms,
    epoch: int,
    parameters: Sequence[nn.Parameter] | None,
) -> dict[str, Tensor]:
    """What is reported of a step: the parts of its loss, and how much of it is local structure.

    Args:
        parts: as of :meth:`Terms.total`.
        loss: what they add up to.
        terms: of the loss.
        epoch: from 0 on.
        parameters: that the loss is lowered by, where the share of the gradient is asked for; None saves the
            two backward passes that it takes.
    """
    noted = {name: value.detach() for name, value in parts.items()}
    if terms.structure_in(epoch):
        term = terms.lsp_weight * parts["lsp_loss"]
        noted["lsp_term"] = term.detach()
        if parameters is not None:
            noted["lsp_gradient_share"] = gradient_share(term, loss, parameters)
    return noted


class TermAverages(nn.ModuleDict):
    """Averages over an epoch of what :func:`term_notes` reports and of what else has a name.

    Args:
        terms: of the loss.
        further: names of what else there is.
    """

    def __init__(self, terms: Terms, *further: str) -> None:
        names = (*terms.names, *further)
        super().__init__({name: MeanMetric(nan_strategy="disable") for name in names})

    def add(self, noted: Mapping[str, Tensor], count: int) -> None:
        """Adds a batch of ``count`` nodes, points or clouds, so that a short one counts for less."""
        for name, value in noted.items():
            average = self[name]
            assert isinstance(average, MeanMetric)
            average.update(value.expand(count))

    def of_epoch(self) -> dict[str, MeanMetric]:
        """Those that have been added to, by the name that they are logged under."""
        pairs = ((f"train/{name}", average) for name, average in self.items())
        return {name: one for name, one in pairs if isinstance(one, MeanMetric) and one.update_called}

    def reset(self) -> None:
        """Begins an epoch."""
        for average in self.values():
            assert isinstance(average, MeanMetric)
            average.reset()


_SCALE = 1024.0


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
        # a factor that both have, lest half precision rounds a small term's gradients to 0
        grads = torch.autograd.grad(_SCALE * value, parameters, retain_graph=True, allow_unused=True)
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
