"""A block of the teacher with fewer channels, those whose filters are largest."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from harness.errors import UserError
from lightning_modules.netgraft.folding import BiasMapConv2d, Pointwise, fold_into_convolution

_SAME = (nn.ReLU, nn.MaxPool2d, nn.Identity, nn.Dropout)


def layers_of(block: nn.Module, number: int) -> list[nn.Module]:
    """The layers of a block that is a row of convolutions, normalisations, ReLUs and max-pools.

    Args:
        block: of a teacher or a student.
        number: of the block, for the message.

    Raises:
        UserError: there is another layer in it, such as a residual block.
    """
    layers = [*_flat(block)]
    for layer in layers:
        plain = (
            layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
            if isinstance(layer, nn.Conv2d)
            else isinstance(layer, (BiasMapConv2d, nn.BatchNorm2d, *_SAME))
        )
        if not plain:
            raise UserError(
                f"model.student: block {number} has a {type(layer).__name__}, whose channels cannot be pruned"
                " exactly. Take a plain_cnn or a vgg for student and teacher, or leave this block and the one"
                " before it out of model.grafted."
            )
    return layers


def _flat(block: nn.Module) -> Iterator[nn.Module]:
    if not isinstance(block, nn.Sequential):
        yield block
        return
    for layer in block:
        yield from _flat(layer)


def with_bias_map(block: nn.Module, height: int, width: int) -> None:
    """Gives the first convolution of a block a bias for each place, all 0.

    Args:
        block: a Sequential, or one within another.
        height: of the maps that enter.
        width: of the maps that enter.
    """
    while isinstance(block, nn.Sequential) and isinstance(block[0], nn.Sequential):
        block = block[0]
    assert isinstance(block, nn.Sequential)
    first = block[0]
    assert isinstance(first, nn.Conv2d), "a cut lies between maps and a convolution"
    shape = first(first.weight.new_zeros(1, first.in_channels, height, width)).shape[1:]
    block[0] = BiasMapConv2d(first, first.weight.detach().clone(), first.weight.new_zeros(shape))


def paired_layers(student: nn.Module, teacher: nn.Module, number: int) -> list[tuple[nn.Module, nn.Module]]:
    """The layers of a student's block, each with the teacher's that it is a narrower form of.

    Args:
        student: its block.
        teacher: its block.
        number: of both, for the message.

    Raises:
        UserError: if the student's block is not the teacher's with as many or fewer channels.
    """
    own, other = layers_of(student, number), layers_of(teacher, number)
    if len(own) != len(other) or not all(_is_narrower(*pair) for pair in zip(own, other, strict=True)):
        raise UserError(
            f"model.student: block {number} is not the teacher's with as many or fewer channels in each"
            " convolution. Give the student the teacher's layers, with other widths alone."
        )
    return list(zip(own, other, strict=True))


def _is_narrower(student: nn.Module, teacher: nn.Module) -> bool:
    if isinstance(teacher, nn.Conv2d):
        if not isinstance(student, nn.Conv2d | BiasMapConv2d):
            return False
        ways = ("stride", "padding", "dilation")
        same = all(getattr(student, name) == getattr(teacher, name) for name in ways)
        fits = len(student.weight) <= len(teacher.weight)
        # a map of biases takes up the bias of the teacher's convolution, if it has one
        bias = isinstance(student, BiasMapConv2d) or (student.bias is None) == (teacher.bias is None)
        return same and fits and bias and student.weight.shape[2:] == teacher.weight.shape[2:]
    if isinstance(teacher, nn.BatchNorm2d):
        return isinstance(student, nn.BatchNorm2d) and student.eps == teacher.eps
    if isinstance(teacher, nn.MaxPool2d):
        return isinstance(student, nn.MaxPool2d) and student.extra_repr() == teacher.extra_repr()
    return type(student) is type(teacher)


def largest_filters(weight: Tensor, number: int) -> Tensor:
    """The ``number`` output channels whose filters have the largest L1 norm, in ascending order.

    Section 3.1 of Li et al., Pruning filters for efficient convnets, arXiv 1608.08710. Of equal ones the
    first is kept.

    Args:
        weight: ``[O, C, k, k]``.
        number: how many, at most O.

    Returns:
        ``[number]`` long.
    """
    order = weight.abs().flatten(1).sum(dim=1).argsort(descending=True, stable=True)
    return order[:number].sort().values


@torch.no_grad()
def copy_pruned(
    student: nn.Module,
    teacher: nn.Module,
    number: int,
    first: Pointwise | None,
    height: int,
    width: int,
) -> Tensor:
    """Writes the teacher's block into a narrower one of the student.

    Each convolution keeps its largest filters, and of each the channels that the one before has kept.

    Args:
        student: its block; where ``first`` is given, its first convolution is a :class:`BiasMapConv2d`.
        teacher: its block, in evaluation mode.
        number: of both, for messages.
        first: from the channels that enter the student's block to those that enter the teacher's, multiplied
            into the first convolution; None where they are the same.
        height: of the maps that enter.
        width: of the maps that enter.

    Returns:
        The channels of the teacher's block that leave the student's, ascending.
    """
    kept: Tensor | None = None  # None: all
    for own, source in paired_layers(student, teacher, number):
        if isinstance(source, nn.Conv2d):
            assert isinstance(own, nn.Conv2d | BiasMapConv2d)
            weight, bias = source.weight, source.bias
            weight = weight if kept is None else weight[:, kept]
            kept = largest_filters(source.weight, len(own.weight))
            weight, bias = weight[kept], None if bias is None else bias[kept]
            if isinstance(own, BiasMapConv2d):
                assert first is not None
                _write_folded(own, source, weight, bias, first, height, width)
                first = None
            else:
                own.weight.copy_(weight)
                if own.bias is not None:
                    assert bias is not None
                    own.bias.copy_(bias)
        elif isinstance(source, nn.BatchNorm2d):
            assert kept is not None
            for name, value in source.state_dict().items():
                target: Tensor = getattr(own, name)
                target.copy_(value[kept] if value.dim() else value)
    assert kept is not None, "a block has a convolution"
    return kept


def _write_folded(
    own: BiasMapConv2d,
    source: nn.Conv2d,
    weight: Tensor,
    bias: Tensor | None,
    first: Pointwise,
    height: int,
    width: int,
) -> None:
    pruned = nn.Conv2d(
        weight.size(1),
        weight.size(0),
        kernel_size=weight.shape[2:],  # type: ignore[arg-type]
        stride=source.stride,  # type: ignore[arg-type]
        padding=source.padding,  # type: ignore[arg-type]
        dilation=source.dilation,  # type: ignore[arg-type]
        device=weight.device,
        dtype=torch.float64,
    )
    pruned.weight.copy_(weight)
    assert pruned.bias is not None
    pruned.bias.zero_() if bias is None else pruned.bias.copy_(bias)
    folded = fold_into_convolution(pruned, first, height, width)
    own.weight.copy_(folded.weight)
    if isinstance(folded, BiasMapConv2d):
        own.bias_map.copy_(folded.bias_map)
    else:  # the same at every place
        assert folded.bias is not None
        own.bias_map.copy_(folded.bias[:, None, None].expand_as(own.bias_map))
