"""A plain convolutional network for small images."""

from typing import Literal

from torch import nn

from harness.annotations import PositiveInt, Probability
from harness.errors import UserError
from lightning_modules.image_classification.block_network import BlockNetwork

Norm = Literal["batch", "none"]


class PlainCNN(BlockNetwork):
    """Stages of two 3x3 convolutions, halved in size and doubled in width from stage to stage.

    Stage s has ``width * 2^s`` channels; between stages stands a 2x2 max-pool; the mean over the last map
    goes to one linear layer. Convolutions have a bias only without normalisation, which would take it away.

    Args:
        in_channels: colours of the images.
        image_size: height and width of the images; at least ``2^depth``, so that the last map is 2x2 or more.
        num_classes: number of classes.
        width: channels of the first stage.
        depth: number of stages.
        norm: ``batch`` normalisation after each convolution, or ``none``.
        dropout: on the input of the linear layer.

    Shapes:
        input ``[B, in_channels, image_size, image_size]``; output ``[B, num_classes]``, logits.

    Raises:
        UserError: if the images are too small for so many stages.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        num_classes: int,
        width: PositiveInt,
        depth: PositiveInt,
        norm: Norm,
        dropout: Probability,
    ) -> None:
        super().__init__()
        if image_size < 2**depth:
            raise UserError(
                f"network.depth={depth} halves images of {image_size} pixels too often."
                f" Set network.depth to at most {max(image_size.bit_length() - 1, 0)}."
            )
        stages: list[nn.Module] = []
        channels = in_channels
        for stage in range(depth):
            if stage:
                stages.append(nn.MaxPool2d(2))  # [B, C, H, W] -> [B, C, H/2, W/2]
            for _ in range(2):
                stages.append(_convolution(channels, width * 2**stage, norm))
                channels = width * 2**stage
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(dropout)
        self.classifier = nn.Linear(channels, num_classes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weights: He et al. (2015) before each ReLU, torch's own for the linear layer."""
        for module in self.stages.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm2d):
                module.reset_parameters()
        self.classifier.reset_parameters()

    def blocks(self) -> list[nn.Module]:
        # a stage with the pooling that follows it, so that a cut lies between two convolutions' maps
        parts: list[list[nn.Module]] = [[]]
        for layer in self.stages:
            parts[-1].append(layer)
            if isinstance(layer, nn.MaxPool2d):
                parts.append([])
        # [B, C, h, w] -> [B, C] -> [B, num_classes]
        head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), self.dropout, self.classifier)
        return [*(nn.Sequential(*part) for part in parts), head]


def _convolution(in_channels: int, out_channels: int, norm: Norm) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1, bias=norm == "none")
    ]
    if norm == "batch":
        layers.append(nn.BatchNorm2d(out_channels))
    return nn.Sequential(*layers, nn.ReLU(inplace=True))
