"""What LSP is compared with: soft labels, hints and attention maps as distillation losses."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.graph_prediction.batch import Graphs
from lightning_modules.lsp.network import AttentionHeads


def soft_label_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """``T^2 * KL(teacher || student)`` of each label on its own, mean over labels and nodes; a scalar.

    Knowledge distillation (Hinton et al., arXiv 1503.02531) where any number of labels may hold: each is a
    coin whose probability is the sigmoid of ``logit / T``. The LSP paper gives no value for it.

    Args:
        student: logits ``[n, C]``.
        teacher: logits ``[n, C]``, without gradient.
        temperature: T, above 0.
    """
    own, other = student / temperature, teacher / temperature
    target = other.sigmoid()
    # KL = cross-entropy minus the teacher's own entropy, both from logits
    divergence = F.binary_cross_entropy_with_logits(own, target) - F.binary_cross_entropy_with_logits(
        other, target
    )
    return temperature**2 * divergence


class Hint(nn.Module):
    """Maps a student's features to the teacher's width: leaky ReLU, then one head of attention.

    FitNet (Romero et al., arXiv 1412.6550) for graphs, as LSP's code defines it.

    Args:
        in_channels: of the student.
        out_channels: of the teacher.
        negative_slope: of the leaky ReLUs.
    """

    def __init__(self, in_channels: int, out_channels: int, negative_slope: float) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.attention = AttentionHeads(in_channels, 1, out_channels, negative_slope, residual=False)

    def forward(self, x: Tensor, graphs: Graphs) -> Tensor:
        """``[n, D_s] -> [n, D_t]``."""
        out, _ = self.attention(F.leaky_relu(x, self.negative_slope), graphs)
        return out.squeeze(1)


def mean_attention(z: Tensor) -> Tensor:
    """How active each node is, ``[..., D] -> [...]``: the mean of absolute values, as LSP's code has it."""
    return z.abs().mean(dim=-1)


def unit_attention(z: Tensor, graphs: Graphs) -> Tensor:
    """Sum of squares, scaled so that each graph's map has length 1; ``[n, D] -> [n]``.

    Attention transfer (Zagoruyko and Komodakis, arXiv 1612.03928, section 3.1), a graph taking an image's
    place.
    """
    energy = z.square().sum(dim=1)
    length = graphs.pooled_sum(energy.square().unsqueeze(1)).squeeze(1)  # [B], of squares
    return energy * graphs.nodes.centres(length.clamp(min=1e-24).rsqrt().to(energy.dtype))


def squared_difference(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean squared difference in at least float32, a scalar."""
    dtype = torch.promote_types(student.dtype, torch.float32)
    return F.mse_loss(student.to(dtype), teacher.to(dtype))
