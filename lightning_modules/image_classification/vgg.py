"""VGG for small images, without normalisation between its convolutions."""

from torch import nn

from harness.annotations import PositiveFloat, PositiveInt
from harness.errors import UserError
from lightning_modules.image_classification.block_network import BlockNetwork


class VGG(BlockNetwork):
    """Blocks of 3x3 convolutions with ReLUs, each ending with a 2x2 max-pool; then two linear layers.

    Simonyan and Zisserman, arXiv 1409.1556, configuration D, as NetGraft (arXiv 2012.04915) has it for
    CIFAR: no normalisation between convolutions, and no non-linearity between the two linear layers, which
    is what the authors' code does. The names of the parameters are those of the authors' published files.

    Args:
        in_channels: colours of the images.
        image_size: height and width of the images, at least 2 to the number of blocks.
        num_classes: number of classes.
        widths: channels of each convolution, a list for each block.
        head: features between the two linear layers.
        head_norm: batch normalisation between the two.
        linear_std: standard deviation of the first weights of both.

    Shapes:
        input ``[B, in_channels, image_size, image_size]``; output ``[B, num_classes]``, logits.

    Raises:
        UserError: if there is no block, one without a convolution, or the images are too small for so many.
    """

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        num_classes: int,
        widths: list[list[PositiveInt]],
        head: PositiveInt,
        head_norm: bool,
        linear_std: PositiveFloat,
    ) -> None:
        super().__init__()
        if not widths or not all(widths):
            raise UserError(
                f"network.widths={widths} must hold a list of channels for each block, such as [[16, 16],"
                " [32, 32]]."
            )
        side = image_size >> len(widths)
        if side < 1:
            raise UserError(
                f"network.widths has {len(widths)} blocks, which halve images of {image_size} pixels too"
                " often."
                f" At most {image_size.bit_length() - 1} blocks fit."
            )
        features, channels = [], in_channels
        for block in widths:
            layers: list[nn.Module] = []
            for width in block:
                layers += [nn.Conv2d(channels, width, kernel_size=3, padding=1), nn.ReLU(inplace=True)]
                channels = width
            features.append(nn.Sequential(*layers, nn.MaxPool2d(2)))  # [B, C, H, W] -> [B, C, H/2, W/2]
        self.features = nn.Sequential(*features)
        norm: list[nn.Module] = [nn.BatchNorm1d(head)] if head_norm else []
        self.classifier = nn.Sequential(
            nn.Linear(channels * side**2, head), *norm, nn.Linear(head, num_classes)
        )
        self.linear_std = linear_std
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the weights: He et al. (2015) before each ReLU, fan-out; the head from a normal one."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                assert module.bias is not None
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=self.linear_std)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.BatchNorm1d):
                module.reset_parameters()

    def blocks(self) -> list[nn.Module]:
        return [*self.features, nn.Sequential(nn.Flatten(), *self.classifier)]
