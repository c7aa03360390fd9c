"""EdgeConv, and what it computes written out."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lightning_modules.point_cloud_classification.edge_pooling import max_and_moments, neighbour_max


class EdgeConv(nn.Module):
    """Edge convolution (Wang et al., "Dynamic Graph CNN", arXiv 1801.07829, section 3.1).

    ``out_i = max over neighbours j of LeakyReLU(BN(W [x_j - x_i || x_i]))``, W without bias. With
    ``W = [W1 || W2]`` an edge has the values ``W1 x_j + (W2 - W1) x_i = u_j + v_i``: two products for n
    points instead of one for n k edges. Normalisation and LeakyReLU are monotone channel by channel, rising
    where the scale of the normalisation is positive. So of the edges only their maximum or minimum, their
    mean and their variance are needed, and no tensor of the edges is made (``edge_pooling.py``).

    Parameters, buffers and results are those of the textbook form, :meth:`textbook`: a 1x1 convolution of 2 D
    channels and a ``BatchNorm2d`` over edges.

    Args:
        in_channels: width D of the input.
        out_channels: width C of the output.
        negative_slope: of LeakyReLU, in [0, 1); 0.2 in the authors' code.

    Shapes:
        input ``[B, n, D]`` and neighbours ``[B, n, k]``; output ``[B, n, C]``, in the type of the input.
    """

    def __init__(self, in_channels: int, out_channels: int, negative_slope: float = 0.2) -> None:
        super().__init__()
        self.negative_slope = negative_slope
        self.conv = nn.Conv2d(2 * in_channels, out_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, neighbours: Tensor) -> Tensor:
        """Features of every point.

        Args:
            x: ``[B, n, D]``.
            neighbours: ``[B, n, k]`` long, points of the same cloud.
        """
        if self.training and _gathers_statistics(self.norm):
            return self.textbook(x, neighbours)
        batch, points, width = x.shape
        first = torch.arange(0, batch * points, points, device=x.device).view(-1, 1, 1)
        index = (neighbours + first).view(batch * points, -1).to(torch.int32)
        near, own = self.conv.weight.flatten(1).split(width, dim=1)  # W1, W2: [C, D] each
        flat = x.reshape(batch * points, width)
        u, v = F.linear(flat, near), F.linear(flat, own - near)  # [B*n, C]
        with torch.autocast(x.device.type, enabled=False):
            out = self._pool(_widened(u), _widened(v), index)
        return F.leaky_relu(out, self.negative_slope).view(batch, points, -1).to(x.dtype)

    def _pool(self, u: Tensor, v: Tensor, index: Tensor) -> Tensor:
        """The extreme edge of every point, normalised: ``[B*n, C]``."""
        norm = self.norm
        # where the scale is negative, the minimum of u becomes the maximum of -u
        sign = torch.where(norm.weight < 0, -1.0, 1.0).to(u.dtype)
        u, v = u * sign, v * sign
        if self.training:
            extreme, mean, variance = max_and_moments(u, v, index)
            self._follow(mean.detach() * sign, variance.detach(), index.numel())
        else:
            assert norm.running_mean is not None
            assert norm.running_var is not None
            extreme = neighbour_max(u, index)
            mean, variance = norm.running_mean * sign, norm.running_var
        scale = norm.weight * sign * (variance + norm.eps).rsqrt()
        return torch.addcmul(norm.bias - mean * scale, extreme + v, scale)

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, edges: int) -> None:
        """Moves the running statistics as ``BatchNorm2d`` does, the variance without its bias."""
        norm = self.norm
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert norm.num_batches_tracked is not None
        assert norm.momentum is not None
        norm.num_batches_tracked.add_(1)
        norm.running_mean.lerp_(mean.to(norm.running_mean.dtype), norm.momentum)
        unbiased = variance * (edges / max(edges - 1, 1))
        norm.running_var.lerp_(unbiased.to(norm.running_var.dtype), norm.momentum)

    def textbook(self, x: Tensor, neighbours: Tensor) -> Tensor:
        """:meth:`forward` as the paper writes it, with all edges in memory: the reference.

        It is also what training takes where the statistics are those of several processes.
        """
        edges = edge_features(x, neighbours).permute(0, 3, 1, 2)  # [B, n, k, 2D] -> [B, 2D, n, k]
        values = F.leaky_relu(self.norm(self.conv(edges)), self.negative_slope)
        return values.max(dim=3).values.mT  # [B, C, n] -> [B, n, C]


def edge_features(x: Tensor, neighbours: Tensor) -> Tensor:
    """``[x_j - x_i || x_i]`` of every edge: ``[B, n, D], [B, n, k] -> [B, n, k, 2 D]``."""
    clouds = torch.arange(len(x), device=x.device).view(-1, 1, 1)
    centre = x.unsqueeze(2).expand(-1, -1, neighbours.size(2), -1)
    return torch.cat([x[clouds, neighbours] - centre, centre], dim=3)


def _gathers_statistics(norm: nn.Module) -> bool:
    """Whether ``hardware.sync_batchnorm`` has made the normalisation one over several processes."""
    return isinstance(norm, nn.SyncBatchNorm) and torch.distributed.is_initialized()


def _widened(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32)).contiguous()
