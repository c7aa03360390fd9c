"""A teacher with student blocks in the places of its own."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from lightning_modules.image_classification.module import Batch
from lightning_modules.netgraft.few_shot import norms_of
from lightning_modules.netgraft.student import GraftedStudent


class Grafting:
    """Grafted networks, made of a teacher's blocks and a student's.

    It is no module: neither network becomes part of the other.

    Args:
        teacher: its blocks, frozen and in evaluation mode.
        student: with adaptions that fit into the teacher.
    """

    def __init__(self, teacher: Sequence[nn.Module], student: GraftedStudent) -> None:
        self.teacher = tuple(teacher)
        self.student = student

    @torch.no_grad()
    def cuts(self, x: Tensor, last: int | None = None) -> list[Tensor]:
        """What enters each of the teacher's blocks for images ``[B, C, H, W]``, and its logits last.

        Args:
            x: the images, normalised.
            last: the last block whose input is wanted; None for the logits as well.
        """
        cuts = [x]
        for block in self.teacher[:last]:
            cuts.append(block(cuts[-1]))
        return cuts

    def lone_logits(self, cuts: Sequence[Tensor], blocks: Sequence[int]) -> list[Tensor]:
        """Logits ``[B, num_classes]`` of the teacher with one block grafted, for each of ``blocks``.

        What leaves the grafts goes through the rest of the teacher as one batch: its blocks are in evaluation
        mode, so that the images do not see each other.

        Args:
            cuts: of :meth:`cuts`.
            blocks: ascending.
        """
        passing: list[Tensor] = []
        for number in range(blocks[0], len(self.teacher)):
            if passing:
                passing = [self.teacher[number](torch.cat(passing))]
            if number in blocks:
                passing.append(self.student.grafted_block(number, cuts[number]))
        return list(torch.cat(passing).split(len(cuts[0])))

    def logits(self, cuts: Sequence[Tensor], joined: Sequence[int]) -> Tensor:
        """Logits ``[B, num_classes]`` of the teacher with all of ``joined`` grafted at once.

        Args:
            cuts: of :meth:`cuts`.
            joined: ascending.
        """
        x = cuts[joined[0]]
        for number in range(joined[0], len(self.teacher)):
            x = self.student.grafted_block(number, x) if number in joined else self.teacher[number](x)
        return x

    @torch.no_grad()
    def accuracies(self, batches: Iterable[Batch], sets: Sequence[Sequence[int]]) -> list[float]:
        """Accuracy of the teacher with each of ``sets`` grafted, on labelled images."""
        like = next(self.student.parameters())
        right = torch.zeros(len(sets), dtype=torch.long, device=like.device)
        last = max(joined[0] for joined in sets)
        total = 0
        for batch in batches:
            y = batch["y"].to(like.device)
            cuts = self.cuts(batch["x"].to(like), last)
            answers = [self.logits(cuts, joined) for joined in sets]
            right += torch.stack([(one.argmax(dim=1) == y).sum() for one in answers])
            total += len(y)
        return (right / total).tolist()

    @torch.no_grad()
    def settle_norms(self, few: Sequence[Tensor], sets: Iterable[Sequence[int]]) -> None:
        """Takes the running statistics of student blocks from images, all of which weigh alike.

        Args:
            few: batches of images without augmentation.
            sets: blocks that stand together; each is settled behind those before it.
        """
        self.student.eval()
        for joined in sets:
            for block in joined:
                norms = norms_of(self.student.block(block))
                if norms:
                    self._settle(norms, few, [one for one in joined if one <= block])

    def _settle(self, norms: Sequence[nn.Module], few: Sequence[Tensor], joined: Sequence[int]) -> None:
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()  # type: ignore[operator]
            norm.train()
        seen = 0
        for x in few:
            seen += len(x)
            for norm in norms:
                norm.momentum = len(x) / seen  # type: ignore[assignment]  # the cumulative average
            self.logits(self.cuts(x), joined)
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
            norm.eval()

    @torch.no_grad()
    def settle_scale(self, few: Sequence[Tensor]) -> None:
        """Makes the student's logits as long as the teacher's, in the mean over some images."""
        self.student.logit_scale.fill_(1.0)
        lengths = [(self.cuts(x)[-1].norm(dim=1), self.student(x).norm(dim=1)) for x in few]
        teacher, student = (torch.cat(one).mean() for one in zip(*lengths, strict=True))
        if student > 0:
            self.student.logit_scale.copy_(teacher / student)
