"""Networks that give every pixel a class: DeepLabv3+ on MobileNetV2, and a small one for tiny scenes.

Both say what they do in two halves: :meth:`Segmenter.encode` has no dropout in it, so that a committee of
dropout passes runs it once. All bilinear resizing has aligned corners, as in DEAL's code.
"""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from harness.errors import UserError
from harness.words import counted
from lightning_modules.segmentation.lean_relu6 import lean_activations

Size = tuple[int, int]


def resize(x: Tensor, size: Size) -> Tensor:
    """``x``, ``[B, C, h, w]``, resized to ``[B, C, *size]``: bilinear, with aligned corners."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=True)


class Segmenter(nn.Module):
    """A network of two groups of parameters: a backbone that may be pretrained, and all new layers.

    Shapes:
        input ``[B, 3, H, W]``; output the scores ``[B, num_classes, h, w]`` and the features that the head
        made them of, ``[B, feature_channels, h, w]``. Logits are the scores resized to ``[H, W]``.
    """

    feature_channels: int
    """Channels of the features."""

    head: nn.Module
    """Makes scores of the features."""

    @abstractmethod
    def encode(self, x: Tensor) -> tuple[Tensor, ...]:
        """What the decoder needs of images ``[B, 3, H, W]``; every entry has B rows. No dropout in here."""

    @abstractmethod
    def join(self, *encoded: Tensor) -> Tensor:
        """Features, ``[B, feature_channels, h, w]``, of what :meth:`encode` gave."""

    @abstractmethod
    def backbone(self) -> nn.Module:
        """The part whose learning rate is not multiplied."""

    @abstractmethod
    def reset_parameters(self) -> None:
        """Draws all weights anew, those of the backbone too."""

    def decode(self, *encoded: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and features of what :meth:`encode` gave."""
        features = self.join(*encoded)
        return self.head(features), features

    def before_head(self, x: Tensor) -> Tensor:
        """The features alone of images ``[B, 3, H, W]``, without the price of the head."""
        return self.join(*self.encode(x))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.decode(*self.encode(x))


class DeepLabV3Plus(Segmenter):
    """DeepLabv3+ (Chen et al., ECCV 2018) on MobileNetV2 at output stride 16, as DEAL's code has it.

    The backbone is torchvision's up to its 320 channels; the stride of its 160-channel stage is 1, the
    320-channel block is dilated by 2 instead. It keeps torchvision's padding, that of its published weights,
    where DEAL's code pads before the expansion, so that the borders see the biases of batch normalisation.

    Args:
        num_classes: number of classes.

    Shapes:
        input ``[B, 3, H, W]``; scores ``[B, num_classes, H/4, W/4]``; features ``[B, 304, H/4, W/4]``;
        sizes are rounded up.
    """

    feature_channels = 304
    _LOW_LEVEL = 4  # layers of the backbone up to stride 4 and 24 channels

    def __init__(self, num_classes: int) -> None:
        from torchvision.models import mobilenet_v2

        super().__init__()
        self.features = mobilenet_v2(weights=None).features[:18]
        lean_activations(self.features)
        self.features[14].conv[1][0].stride = (1, 1)
        dilated = self.features[17].conv[1][0]
        dilated.dilation = dilated.padding = (2, 2)
        self.aspp = ASPP(320, 256, dilations=(6, 12, 18))
        self.low_level = convolution(24, 48, 1)
        self.aspp_dropout = nn.Dropout(0.5)
        self.head = nn.Sequential(
            convolution(self.feature_channels, 256, 3),
            nn.Dropout(0.5),
            convolution(256, 256, 3),
            nn.Dropout(0.2),
            nn.Conv2d(256, num_classes, kernel_size=1),
        )
        for part in (self.aspp, self.low_level, self.head):
            draw_kaiming(part)

    def reset_parameters(self) -> None:
        # as torchvision draws them: fan-out for the backbone, and DEAL's fan-in for what is new
        draw_kaiming(self.features, mode="fan_out")
        for part in (self.aspp, self.low_level, self.head):
            draw_kaiming(part)

    def backbone(self) -> nn.Module:
        return self.features

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        low = self.features[: self._LOW_LEVEL](x)  # [B, 3, H, W] -> [B, 24, H/4, W/4]
        high = self.aspp(self.features[self._LOW_LEVEL :](low))  # -> [B, 256, H/16, W/16]
        return self.low_level(low), high

    def join(self, *encoded: Tensor) -> Tensor:
        low, high = encoded
        high = resize(self.aspp_dropout(high), (low.shape[-2], low.shape[-1]))
        return torch.cat([high, low], dim=1)  # [B, 304, H/4, W/4]


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling: one map seen at several distances, and as a whole.

    Args:
        in_channels: of the map.
        channels: of each branch, and of what they are joined to.
        dilations: of the 3x3 convolutions; a 1x1 convolution and the mean over the map stand beside them.

    Shapes:
        input ``[B, in_channels, h, w]``; output ``[B, channels, h, w]``.
    """

    def __init__(self, in_channels: int, channels: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [convolution(in_channels, channels, 1)]
            + [convolution(in_channels, channels, 3, dilation=dilation) for dilation in dilations]
        )
        self.pooled = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(in_channels, channels, kernel_size=1, bias=False),
            OneValueBatchNorm(channels),
            nn.ReLU(inplace=True),
        )
        self.project = convolution(channels * (len(dilations) + 2), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        # a map of one value is resized to a constant one
        whole = self.pooled(x).expand(-1, -1, x.shape[-2], x.shape[-1])
        joined: Tensor = self.project(torch.cat([*(branch(x) for branch in self.branches), whole], dim=1))
        return joined


class OneValueBatchNorm(nn.BatchNorm2d):
    """Batch normalisation of one value an image, which trains on a last batch of one image too.

    A single value has no deviation: it is normalised by the running statistics, and leaves them alone. Were
    every batch like that, the statistics would stay those of birth: :func:`check_batch` refuses it.
    """

    def forward(self, input: Tensor) -> Tensor:
        if self.training and len(input) == 1:
            return F.batch_norm(
                input, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        return super().forward(input)


def check_batch(batch_size: int, parts: int, labelled: int | None = None) -> None:
    """Refuses batches whose parts are single images, by which :class:`OneValueBatchNorm` never trains.

    The last batch of an epoch may be as small as that.

    Args:
        batch_size: images of one optimiser step, over all processes.
        parts: into which it is split to be normalised: processes, or 1 where SyncBatchNorm joins them.
        labelled: images that are trained on, which may be fewer than a batch; None where that is not known.

    Raises:
        UserError: naming the keys and the ways out.
    """
    images = batch_size if labelled is None else min(batch_size, labelled)
    if images // parts >= 2:
        return
    over = f" over {parts} processes" if parts > 1 else ""
    others = ""
    if parts > 1 and images > 1:
        others = f", or hardware.devices={images // 2} at most, or on GPUs hardware.sync_batchnorm=true"
    if labelled is not None and batch_size // parts >= 2:
        cause = f"{counted(labelled, 'labelled image')}{over} {'gives' if labelled == 1 else 'give'}"
        missing = 2 * parts - labelled
        ways = (
            f"Annotate {counted(missing, 'more image')}, or where they have a mask let the first round take"
            f" them (model.initial={2 * parts}){others}."
        )
    else:
        cause, ways = f"data.batch_size={batch_size}{over} gives", f"Set data.batch_size={2 * parts}{others}."
    raise UserError(
        f"{cause} one image at a time to the batch normalisation of the features of whole images, which would"
        f" never train. {ways}"
    )


class SmallUNet(Segmenter):
    """Five 3x3 convolutions, 8 to 24 channels, down to a quarter of the size and up again: tiny scenes.

    It has no pretrained part: its backbone are the three convolutions on the way down.

    Args:
        num_classes: number of classes.

    Shapes:
        input ``[B, 3, H, W]``; scores ``[B, num_classes, H, W]``; features ``[B, 24, H, W]``.
    """

    feature_channels = 24

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            [convolution(3, 8, 3), convolution(8, 16, 3, stride=2), convolution(16, 24, 3, stride=2)]
        )
        self.up = convolution(24 + 16, 16, 3)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Sequential(
            convolution(self.feature_channels, 16, 3),
            nn.Dropout(0.2),
            nn.Conv2d(16, num_classes, kernel_size=1),
        )
        draw_kaiming(self)

    def reset_parameters(self) -> None:
        draw_kaiming(self)

    def backbone(self) -> nn.Module:
        return self.down

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        whole = self.down[0](x)  # [B, 8, H, W]
        half = self.down[1](whole)  # [B, 16, H/2, W/2]
        quarter = self.down[2](half)  # [B, 24, H/4, W/4]
        back = resize(quarter, (half.shape[-2], half.shape[-1]))
        return whole, self.up(torch.cat([back, half], dim=1))

    def join(self, *encoded: Tensor) -> Tensor:
        whole, half = encoded
        back = resize(self.dropout(half), (whole.shape[-2], whole.shape[-1]))
        return torch.cat([back, whole], dim=1)  # [B, 16 + 8, H, W]


def convolution(
    in_channels: int, out_channels: int, kernel: int, *, stride: int = 1, dilation: int = 1
) -> nn.Sequential:
    """A convolution that keeps the size but for its stride, batch normalisation, ReLU."""
    padding = dilation * (kernel // 2)
    layer = nn.Conv2d(in_channels, out_channels, kernel, stride, padding, dilation, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))


def draw_kaiming(part: nn.Module, mode: str = "fan_in") -> None:
    """Draws convolutions as He et al. (2015) with normal draws, biases 0; resets batch normalisations."""
    for module in part.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode=mode, nonlinearity="relu")  # type: ignore[arg-type]
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, _BatchNorm):  # what hardware.sync_batchnorm leaves behind is no BatchNorm2d
            module.reset_parameters()
