"""Residual networks of basic blocks, cut at their stages."""

from typing import Literal

from torch import nn
from torchvision.models.resnet import BasicBlock

from harness.annotations import PositiveInt
from harness.errors import UserError
from lightning_modules.image_classification.block_network import BlockNetwork

Stem = Literal["imagenet", "cifar"]


class ResNet(BlockNetwork):
    """ResNet-18, ResNet-34 and their like (He et al., arXiv 1512.03385), of torchvision's basic blocks.

    Its blocks are the stem, the stages and the head, as NetGraft cuts them. Unlike torchvision's class it has
    any number of stages of any width, and a stem for small images: 3x3 instead of 7x7 and no pooling, as in
    section 4.2 of the paper. Names of the parameters are those of torchvision's files.

    Args:
        in_channels: colours of the images.
        image_size: height and width of the images in pixels.
        num_classes: number of classes.
        layers: basic blocks of each stage.
        widths: channels of each stage; all but the first halve the maps.
        stem: ``imagenet`` (7x7, stride 2, max-pool) or ``cifar`` (3x3).

    Shapes:
        input ``[B, in_channels, image_size, image_size]``; output ``[B, num_classes]``, logits.

    Raises:
        UserError: if ``layers`` and ``widths`` differ in length or are empty.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        num_classes: int,
        layers: list[PositiveInt],
        widths: list[PositiveInt],
        stem: Stem,
    ) -> None:
        super().__init__()
        if not layers or len(layers) != len(widths):
            raise UserError(
                f"network.layers={layers} and network.widths={widths} must hold one number for each stage."
            )
        large = stem == "imagenet"
        channels = widths[0]
        self.conv1 = nn.Conv2d(
            in_channels, channels, 7 if large else 3, 2 if large else 1, padding=3 if large else 1, bias=False
        )
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if large else nn.Identity()
        self.num_stages = len(layers)
        for number, (depth, width) in enumerate(zip(layers, widths, strict=True)):
            self.add_module(f"layer{number + 1}", _stage(channels, width, depth, stride=2 if number else 1))
            channels = width
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weights: He et al. (2015), fan-out; torch's own for the linear layer."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(module, nn.BatchNorm2d | nn.Linear):
                module.reset_parameters()

    def blocks(self) -> list[nn.Module]:
        stem = nn.Sequential(self.conv1, self.bn1, self.relu, self.maxpool)
        stages = [self.get_submodule(f"layer{number + 1}") for number in range(self.num_stages)]
        # [B, C, h, w] -> [B, C] -> [B, num_classes]
        return [stem, *stages, nn.Sequential(self.avgpool, nn.Flatten(), self.fc)]


def _stage(in_channels: int, width: int, depth: int, stride: int) -> nn.Sequential:
    downsample = None
    if stride != 1 or in_channels != width:
        downsample = nn.Sequential(
            nn.Conv2d(in_channels, width, kernel_size=1, stride=stride, bias=False), nn.BatchNorm2d(width)
        )
    first = BasicBlock(in_channels, width, stride, downsample)
    return nn.Sequential(first, *(BasicBlock(width, width) for _ in range(depth - 1)))
