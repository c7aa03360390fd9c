"""The student in blocks, with the 1x1 convolutions that let each of them stand inside the teacher."""

from collections.abc import Iterable, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from harness.errors import UserError
from lightning_modules.image_classification.block_network import BlockNetwork, cut_shapes


class GraftedStudent(nn.Module):
    """A student whose blocks fit into its teacher one by one: ``H_l = s2t_l . h_l . t2s_l``.

    The adaption ``s2t_l`` turns the channels that student block l gives into the teacher's, ``t2s_l`` the
    teacher's into those that it takes; where the two networks have equally many, there is none. Blocks that
    are not grafted are copies of the teacher's, frozen and in evaluation mode for good.

    Args:
        network: the student; its weights are those of its own initialisation.
        grafted: numbers of the blocks that are trained, ascending.
        in_channels: colours of the images.
        image_size: pixels of a side.
        adaption_bias: whether the adaptions have a bias, as in the authors' code.

    Shapes:
        input ``[B, in_channels, image_size, image_size]``; output ``[B, num_classes]``, logits.

    Raises:
        UserError: if it has no blocks of the numbers asked for.
    """

    logit_scale: Tensor

    def __init__(
        self,
        network: BlockNetwork,
        grafted: Sequence[int],
        in_channels: int,
        image_size: int,
        adaption_bias: bool,
    ) -> None:
        super().__init__()
        self.network = network
        self.grafted = tuple(grafted)
        self.adaption_bias = adaption_bias
        self.shapes = cut_shapes(network.blocks(), in_channels, image_size)
        """At the cuts: what enters each block, and the logits last."""
        self.teacher_shapes: list[list[int]] = [[*shape] for shape in self.shapes]
        # in a tuple they are no submodules: the parameters are those of the network
        self._blocks = tuple(network.blocks())
        check_grafted(grafted, len(self._blocks))
        # none, as of a student that stands in itself, until the teacher is known
        self.t2s, self.s2t = nn.ModuleDict(), nn.ModuleDict()
        # one number for all logits, which the normalised loss leaves open; 1 until training is over
        self.register_buffer("logit_scale", torch.ones(()))
        for block in self.copied:
            self._blocks[block].requires_grad_(False)
        self.train(self.training)

    def fit_into(self, teacher_shapes: Sequence[Sequence[int]]) -> None:
        """Makes the adaptions anew for a teacher, in place of those that were there.

        Args:
            teacher_shapes: what enters each block of the teacher, and its logits last, as :func:`cut_shapes`
                gives.

        Raises:
            UserError: if it has another number of blocks, or maps of another size at a cut.
        """
        check_cuts(self.shapes, teacher_shapes)
        self.teacher_shapes = [[*shape] for shape in teacher_shapes]
        like = next(self.network.parameters())
        self.t2s.clear()
        self.s2t.clear()
        for block in self.grafted:
            for adaptions, cut in ((self.t2s, block), (self.s2t, block + 1)):
                student, teacher = self.shapes[cut][0], teacher_shapes[cut][0]
                ends = (teacher, student) if adaptions is self.t2s else (student, teacher)
                if student != teacher:
                    made = nn.Conv2d(*ends, kernel_size=1, bias=self.adaption_bias)
                    adaptions[str(block)] = made.to(like)
        self.reset_adaptions()

    @property
    def copied(self) -> tuple[int, ...]:
        """Numbers of the blocks that are the teacher's own."""
        return tuple(block for block in range(len(self._blocks)) if block not in self.grafted)

    def reset_adaptions(self) -> None:
        """Draws the adaptions as the authors do: He et al. (2015), fan-out, gain of a ReLU; biases 0."""
        for adaption in self.adaptions():
            nn.init.kaiming_normal_(adaption.weight, mode="fan_out", nonlinearity="relu")
            if adaption.bias is not None:
                nn.init.zeros_(adaption.bias)

    def adaptions(self, blocks: Iterable[int] | None = None) -> list[nn.Conv2d]:
        """The 1x1 convolutions that some grafted blocks wear, of all by default."""
        wanted = [str(block) for block in (self.grafted if blocks is None else blocks)]
        both = (each[block] for block in wanted for each in (self.t2s, self.s2t) if block in each)
        return [one for one in both if isinstance(one, nn.Conv2d)]

    def block(self, number: int) -> nn.Module:
        """Student block ``number`` without its adaptions."""
        return self._blocks[number]

    def copy_blocks(self, teacher: Sequence[nn.Module]) -> None:
        """Gives the blocks that are not grafted the teacher's weights.

        Args:
            teacher: its blocks.

        Raises:
            UserError: as :meth:`check_copies`.
        """
        self.check_copies(teacher)
        for number in self.copied:
            self._blocks[number].load_state_dict(teacher[number].state_dict())

    def check_copies(self, teacher: Sequence[nn.Module]) -> None:
        """Refuses a teacher whose blocks cannot be copied where none is grafted.

        Args:
            teacher: its blocks.

        Raises:
            UserError: if such a block is another one in the teacher.
        """
        for number in self.copied:
            source, own = teacher[number].state_dict(), self._blocks[number].state_dict()
            differs = source.keys() ^ own.keys() or any(source[name].shape != own[name].shape for name in own)
            if differs:
                raise UserError(
                    f"block {number} is not the same in student and teacher, so that it cannot be copied."
                    f" Name it in model.grafted, or give model.student the teacher's block there."
                )

    def grafted_block(self, number: int, x: Tensor) -> Tensor:
        """``H_l`` of what enters the teacher's block l, ``[B, C, H, W]``: what leaves it, or the logits."""
        name = str(number)
        if name in self.t2s:
            x = self.t2s[name](x)
        x = self._blocks[number](x)
        return self.s2t[name](x) if name in self.s2t else x

    def forward(self, x: Tensor) -> Tensor:
        for number in range(len(self._blocks)):
            x = self.grafted_block(number, x)
        return x * self.logit_scale

    def train(self, mode: bool = True) -> Self:
        super().train(mode)
        for number in self.copied:
            self._blocks[number].eval()
        return self


def check_grafted(grafted: Sequence[int], num_blocks: int) -> None:
    """Refuses numbers that are no blocks of a student.

    Args:
        grafted: ``model.grafted``.
        num_blocks: of the student.

    Raises:
        UserError: if there are none, or they do not ascend, or one is too large.
    """
    last = num_blocks - 1
    if not grafted or sorted({*grafted}) != [*grafted] or grafted[-1] > last:
        raise UserError(
            f"model.grafted={[*grafted]} must name blocks of 0 to {last} in ascending order, or be null for"
            " all of them."
        )


def check_cuts(student: Sequence[Sequence[int]], teacher: Sequence[Sequence[int]]) -> None:
    """Refuses a student that cannot be grafted into a teacher.

    Args:
        student: shapes at its cuts, without the batch.
        teacher: those of the teacher.

    Raises:
        UserError: if they have unequally many blocks, or maps of other sizes at a cut.
    """
    own, other = len(student) - 1, len(teacher) - 1
    if own != other:
        raise UserError(
            f"model.student has {own} blocks and the teacher has {other}: both must have equally many. Take a"
            " student of the teacher's family, such as vgg_small_half for a vgg_small."
        )
    for cut, (one, two) in enumerate(zip(student, teacher, strict=True)):
        if [*one[1:]] != [*two[1:]]:
            raise UserError(
                f"model.student: block {cut - 1} gives {_maps(one)} and the teacher's {_maps(two)}: a graft"
                " needs equal ones. Give the student the teacher's strides."
            )


def _maps(shape: Sequence[int]) -> str:
    return f"maps of {'x'.join(map(str, shape[1:]))}" if len(shape) > 1 else "no maps"
