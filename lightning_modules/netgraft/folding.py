"""The plain student: adaptions multiplied into the layers behind them, exactly.

Between two grafted blocks stand ``s2t`` and ``t2s``, two 1x1 convolutions without a non-linearity between
them, hence one: weight ``A = A2 A1``, bias ``a = A2 a1 + a2``. What follows is linear as well, and takes it
up:

- a linear layer: ``W' = W A``, ``b' = b + W a``;
- a convolution: ``K'[o, c, i, j] = sum_m K[o, m, i, j] A[m, c]``. Zero padding is added behind the bias
  ``a``,
  so that near the border fewer terms of it arrive: the bias becomes a map, ``b + (K * a)(u, v)``.
"""

import copy
import logging
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from lightning_modules.image_classification.block_network import cut_shapes, last_linear
from lightning_modules.netgraft.student import GraftedStudent

log = logging.getLogger("tenfold")


@dataclass(frozen=True)
class Pointwise:
    """A linear map of the channels at each place, ``x -> weight x + bias``.

    Attributes:
        weight: ``[out, in]``.
        bias: ``[out]``.
    """

    weight: Tensor
    bias: Tensor

    @classmethod
    def of(cls, convolution: nn.Conv2d) -> "Pointwise":
        """A 1x1 convolution as such a map, in float64."""
        weight = convolution.weight.detach().double().flatten(1)
        bias = convolution.bias
        return cls(weight, weight.new_zeros(len(weight)) if bias is None else bias.detach().double())

    def after(self, first: "Pointwise") -> "Pointwise":
        """``self`` of ``first``."""
        return Pointwise(self.weight @ first.weight, self.weight @ first.bias + self.bias)

    def to_convolution(self, like: Tensor) -> nn.Conv2d:
        """As a 1x1 convolution of the type and on the device of ``like``."""
        out, into = self.weight.shape
        made = nn.Conv2d(into, out, kernel_size=1, device=like.device, dtype=like.dtype)
        with torch.no_grad():
            made.weight.copy_(self.weight[:, :, None, None])
            assert made.bias is not None
            made.bias.copy_(self.bias)
        return made


class BiasMapConv2d(nn.Module):
    """A convolution whose bias differs from place to place; for maps of one size.

    Args:
        convolution: gives kernel, stride, padding and dilation.
        weight: its new kernel ``[O, C, k, k]``.
        bias: ``[O, H, W]`` for the maps that it gives.
    """

    bias_map: Tensor

    def __init__(self, convolution: nn.Conv2d, weight: Tensor, bias: Tensor) -> None:
        super().__init__()
        self.stride, self.padding, self.dilation = (
            convolution.stride,
            convolution.padding,
            convolution.dilation,
        )
        self.weight = nn.Parameter(weight, requires_grad=False)
        self.register_buffer("bias_map", bias)

    def forward(self, x: Tensor) -> Tensor:
        """``[B, C, H, W] -> [B, O, H', W']``."""
        return F.conv2d(x, self.weight, None, self.stride, self.padding, self.dilation) + self.bias_map


def fold_into_linear(linear: nn.Linear, first: Pointwise) -> nn.Linear:
    """``linear`` of ``first``, exactly.

    Args:
        linear: takes ``[B, M]``, or flattened maps ``[B, M * h * w]``.
        first: with M outputs.

    Returns:
        One that takes as many channels as ``first`` does.
    """
    weight, out = linear.weight.detach().double(), linear.out_features
    by_channel = weight.view(out, len(first.weight), -1)  # [out, M * h * w] -> [out, M, h * w]
    folded = torch.einsum("oms,mc->ocs", by_channel, first.weight).flatten(1)
    bias = by_channel.sum(dim=2) @ first.bias
    if linear.bias is not None:
        bias = bias + linear.bias.detach().double()
    made = nn.Linear(folded.size(1), out, device=linear.weight.device, dtype=linear.weight.dtype)
    with torch.no_grad():
        made.weight.copy_(folded)
        made.bias.copy_(bias)
    return made


def fold_into_convolution(
    convolution: nn.Conv2d, first: Pointwise, height: int, width: int
) -> nn.Conv2d | BiasMapConv2d:
    """``convolution`` of ``first``, exactly.

    Args:
        convolution: padded with zeros or not at all, of one group; takes M channels.
        first: with M outputs.
        height: of the maps that enter.
        width: of the maps that enter.

    Returns:
        A plain convolution where the bias is the same everywhere, else one with a map of biases.
    """
    kernel = convolution.weight.detach().double()
    weight = torch.einsum("omij,mc->ocij", kernel, first.weight)
    constant = first.bias[None, :, None, None].expand(1, -1, height, width)
    stride, padding, dilation = convolution.stride, convolution.padding, convolution.dilation
    bias = F.conv2d(constant, kernel, None, stride, padding, dilation)[0]  # [O, H', W']
    if convolution.bias is not None:
        bias = bias + convolution.bias.detach().double()[:, None, None]
    dtype = convolution.weight.dtype
    if not torch.equal(bias, bias[:, :1, :1].expand_as(bias)):
        return BiasMapConv2d(convolution, weight.to(dtype), bias.to(dtype))
    made = nn.Conv2d(
        weight.size(1),
        weight.size(0),
        kernel_size=weight.shape[2:],  # type: ignore[arg-type]
        stride=stride,  # type: ignore[arg-type]
        padding=padding,  # type: ignore[arg-type]
        dilation=dilation,  # type: ignore[arg-type]
        device=weight.device,
        dtype=dtype,
    )
    with torch.no_grad():
        made.weight.copy_(weight)
        assert made.bias is not None
        made.bias.copy_(bias[:, 0, 0])
    return made


@torch.no_grad()
def fold_student(student: GraftedStudent, in_channels: int, image_size: int) -> nn.Sequential:
    """A plain network that gives the student's logits, without its adaptions.

    Where a block begins with something that is not linear, or with the identity of a residual block, the
    merged adaption stays in front of it as one 1x1 convolution, and a message says so.

    Args:
        student: with all its blocks.
        in_channels: colours of the images.
        image_size: pixels of a side, for which the maps of biases are made.

    Returns:
        Its blocks, in evaluation mode, without gradients; the copies share nothing with ``student``.
    """
    blocks = [copy.deepcopy(student.block(number)) for number in range(len(student.grafted + student.copied))]
    shapes = cut_shapes(blocks, in_channels, image_size)
    for number in range(1, len(blocks)):
        first = _between(student, number)
        if first is not None:
            height, width = shapes[number][1:]
            blocks[number] = _folded(blocks[number], first, height, width, number)
    plain = nn.Sequential(*blocks)
    head = last_linear(plain)
    head.weight.mul_(student.logit_scale)
    head.bias.mul_(student.logit_scale)
    return plain.eval().requires_grad_(False)


def _between(student: GraftedStudent, number: int) -> Pointwise | None:
    """What stands between block ``number - 1`` and block ``number``."""
    before, after = str(number - 1), str(number)
    found = [each[name] for each, name in ((student.s2t, before), (student.t2s, after)) if name in each]
    maps = [Pointwise.of(one) for one in found if isinstance(one, nn.Conv2d)]
    if not maps:
        return None
    return maps[1].after(maps[0]) if len(maps) == 2 else maps[0]


def _folded(block: nn.Module, first: Pointwise, height: int, width: int, number: int) -> nn.Module:
    """``block`` of ``first``."""
    folded = _absorb(block, first, height, width)
    if folded is not None:
        return folded
    log.info(f"the adaption before block {number} stays as one 1x1 convolution: nothing linear follows it")
    return nn.Sequential(first.to_convolution(next(block.parameters())), block)


def _absorb(module: nn.Module, first: Pointwise, height: int, width: int) -> nn.Module | None:
    """``module`` of ``first`` without a further layer; None where it does not begin with a linear one."""
    if isinstance(module, nn.Linear):
        return fold_into_linear(module, first)
    if isinstance(module, nn.Conv2d):
        padded = isinstance(module.padding, str) or module.padding_mode != "zeros"
        return None if padded or module.groups != 1 else fold_into_convolution(module, first, height, width)
    if isinstance(module, BasicBlock):
        if module.downsample is None:
            return None  # the shortcut hands on what enters
        conv1 = _absorb(module.conv1, first, height, width)
        downsample = _absorb(module.downsample, first, height, width)
        assert conv1 is not None
        assert downsample is not None
        module.conv1, module.downsample = conv1, downsample
        return module
    if isinstance(module, nn.Sequential):
        for place, layer in enumerate(module):
            folded = _absorb(layer, first, height, width)
            if folded is not None:
                module[place] = folded
                return module
            if not _commutes(layer):
                return None
    return None


def _commutes(layer: nn.Module) -> bool:
    """Whether it makes no difference if the channels are mapped before the layer or behind it."""
    # a mean over places; what only rearranges; what does nothing once trained
    return isinstance(layer, nn.AdaptiveAvgPool2d | nn.Flatten | nn.Identity | nn.Dropout)
