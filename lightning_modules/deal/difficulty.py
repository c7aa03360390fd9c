"""The second branch: where the segmentation is likely to be wrong, smoothed over pixels of like classes.

DEAL (Xie et al., ACCV 2020, arXiv 2010.08705), after the authors' code.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.errors import UserError
from lightning_modules.segmentation.networks import Size, convolution, draw_kaiming, resize

DifficultyFrom = Literal["auto", "scores", "features"]
"""What the branch starts from; ``auto`` is what :func:`starts_from_features` says."""

LANES = 8
"""The fused kernels want a multiple of so many channels."""


def class_attention(p: Tensor, gamma: Tensor) -> Tensor:
    """Probabilities with those of like pixels added: ``q_i = p_i + gamma sum_j A_ij p_j``.

    ``A_ij = exp(p_i p_j) / sum_k exp(p_i p_k)``: attention without projections and without a scale. Products
    of probabilities lie in [0, 1], so that one weight is at most e times another. The matrix A, of N x N
    numbers, is never made; channels of zeros, which change no product, make the fused kernels available.

    Args:
        p: ``[B, N, C]``, class probabilities of N pixels.
        gamma: scalar, or anything of one element.

    Returns:
        ``[B, N, C]``; sums to ``1 + gamma`` over the classes.
    """
    num_classes = p.shape[-1]
    padded = F.pad(p, (0, -num_classes % LANES)).unsqueeze(1)  # [B, 1, N, C'], one head
    gathered = F.scaled_dot_product_attention(padded, padded, padded, scale=1.0)
    return p + gamma * gathered.squeeze(1)[..., :num_classes]


def starts_from_features(given: DifficultyFrom, num_classes: int) -> bool:
    """Whether the branch has class scores of its own, made of the features.

    ``auto`` is DEAL's form, the scores of the segmentation, for three classes and more. Of two classes they
    are p and 1 - p: whatever a 1x1 convolution and the attention make of them rises or falls with p all the
    way (while gamma > -2), so that a pixel that is undecided is never harder than one at either end. There it
    is the features.

    Args:
        given: ``model.difficulty_from``.
        num_classes: C >= 2.
    """
    return given == "features" or (given == "auto" and num_classes == 2)


class DifficultyBranch(nn.Module):
    """Difficulty of every pixel, as a logit, from the class scores of the segmentation.

    Scores are resized to a grid, made probabilities P, mixed by :func:`class_attention` and reduced by a
    1x1 convolution, whose output is resized to the image. The mixing factor gamma is learnt and starts at 0,
    where the branch is that convolution on P. Where the authors leave the attention out while gamma < -0.01,
    it is always computed: a look at gamma would make a GPU wait in every step.

    Args:
        num_classes: C.
        att_stride: pixels of the image between two points of the grid, >= 1: the authors' grid is 60 x 80 for
            images of 360 x 480 (6) and 86 x 86 for 688 x 688 (8).
        attention: False leaves it out, and gamma with it: an ablation.
        feature_channels: where given, the branch has class scores of its own, which a 3x3 and a 1x1
            convolution make of the segmentation's features: an ablation, and of two classes the only form
            that can tell an undecided pixel, see :func:`starts_from_features`.
        detach: whether the branch teaches the segmentation nothing: its input is then cut from the graph.

    Shapes:
        input: scores ``[B, C, h, w]``, features ``[B, feature_channels, h, w]`` and the image's size;
        output ``[B, 1, H, W]``; its sigmoid is the difficulty map in (0, 1).

    Raises:
        UserError: ``att_stride`` is not above 0.
    """

    def __init__(
        self,
        num_classes: int,
        att_stride: int,
        attention: bool = True,
        feature_channels: int | None = None,
        detach: bool = False,
    ) -> None:
        if att_stride < 1:
            raise UserError(
                f"model.att_stride={att_stride} must be an integer > 0: pixels between two points of the"
                " attention's grid. Try model.att_stride=8."
            )
        super().__init__()
        self.att_stride = att_stride
        self.attention = attention
        self.detach = detach
        self.own_scores: nn.Module | None = None
        if feature_channels is not None:
            self.own_scores = nn.Sequential(
                convolution(feature_channels, 256, 3), nn.Conv2d(256, num_classes, kernel_size=1)
            )
        if attention:
            self.gamma = nn.Parameter(torch.empty(1))
        self.reduce = nn.Conv2d(num_classes, 1, kernel_size=1)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the convolutions as the segmentation's new layers; gamma is 0."""
        draw_kaiming(self)
        if self.attention:
            nn.init.zeros_(self.gamma)

    def grid(self, size: Size) -> Size:
        """Points of the attention's grid for an image of ``size``, each side rounded up."""
        return -(-size[0] // self.att_stride), -(-size[1] // self.att_stride)

    def forward(self, scores: Tensor, features: Tensor, size: Size) -> Tensor:
        given = features if self.own_scores is not None else scores
        given = given.detach() if self.detach else given
        scores = given if self.own_scores is None else self.own_scores(given)
        height, width = self.grid(size)
        if scores.dtype != torch.float64:
            scores = scores.float()
        mixed = resize(scores, (height, width)).softmax(dim=1)  # [B, C, h, w]
        if self.attention:
            # not autocast, which would round what attention is given: probabilities are compared by products
            with torch.autocast(scores.device.type, enabled=False):
                pixels = mixed.flatten(2).transpose(1, 2)  # -> [B, h*w, C]
                mixed = class_attention(pixels, self.gamma).transpose(1, 2).reshape(mixed.shape)
        return resize(self.reduce(mixed.to(self.reduce.weight.dtype)), size)
