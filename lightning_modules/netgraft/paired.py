"""A teacher and a student that are cut at the same places."""

from collections.abc import Sequence

from torch import nn

from harness.errors import UserError
from lightning_modules.image_classification.block_network import BlockNetwork, cut_shapes
from lightning_modules.netgraft.student import check_cuts


def paired_blocks(
    teacher: nn.Module,
    student: Sequence[nn.Module],
    in_channels: int,
    image_size: int,
) -> tuple[tuple[nn.Module, ...], list[tuple[int, ...]]]:
    """The teacher's blocks, and the shapes at their cuts as :func:`cut_shapes` gives them.

    Args:
        teacher: the teacher's network.
        student: the student's blocks.
        in_channels: colours of the images.
        image_size: pixels of a side.

    Raises:
        UserError: if the teacher cannot be cut, or has another number of blocks or maps of another size.
    """
    if not isinstance(teacher, BlockNetwork):
        raise UserError(
            "model.requires.teacher cannot be cut into blocks. Train one whose model.network is a plain_cnn,"
            " a vgg or a resnet."
        )
    blocks = tuple(teacher.blocks())
    shapes = cut_shapes(blocks, in_channels, image_size)
    check_cuts(cut_shapes(student, in_channels, image_size), shapes)
    return blocks, shapes
