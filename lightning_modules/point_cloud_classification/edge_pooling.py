"""Maximum and statistics over the edges of a k-nearest-neighbour graph, without a tensor of the edges.

An edge from point i to its neighbour j has the values ``h = u_j + v_i``. Compiled loops on the CPU, elsewhere
``embedding_bag``, which gathers and reduces in one pass; both ways are tested against the sums written out.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from lightning_modules.numba_import import numba_fault


def _uses_kernels(x: Tensor) -> bool:
    return x.device.type == "cpu" and not numba_fault()


class _NeighbourMax(Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, index: Tensor) -> Tensor:
        if _uses_kernels(u):
            from lightning_modules.point_cloud_classification import edge_pooling_kernels as kernels

            out, place = torch.empty_like(u), torch.empty_like(u, dtype=torch.int32)
            kernels.neighbour_max(u.numpy(), index.numpy(), out.numpy(), place.numpy())
        else:
            out, place = _bag_max(u, index)
        ctx.save_for_backward(place)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (place,) = ctx.saved_tensors
        return _scatter(grad.contiguous(), place), None


def neighbour_max(u: Tensor, index: Tensor) -> Tensor:
    """``out[i] = max over s of u[index[i, s]]``, channel by channel.

    Args:
        u: ``[N, C]``, contiguous, float32 or float64.
        index: ``[N, k]`` int32.

    Returns:
        ``[N, C]``; of equal values the first neighbour's has the gradient.
    """
    out: Tensor = _NeighbourMax.apply(u, index)
    return out


class _EdgeMoments(Function):
    """The maximum of u over neighbours, and mean and biased variance of h over edges, in one pass."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, v: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        k = index.size(1)
        edges = index.numel()
        degree = _times_read(index, u)
        # The mean is known before any edge is seen. Taken off v it leaves edges around 0, whose squares can
        # be summed without the cancellation of E[h^2] - E[h]^2.
        mean = (degree @ u + k * v.sum(dim=0)) / edges
        centred = v - mean
        if _uses_kernels(u):
            from lightning_modules.point_cloud_classification import edge_pooling_kernels as kernels

            out, total = torch.empty_like(u), torch.empty_like(u)
            place = torch.empty_like(u, dtype=torch.int32)
            squares = u.new_zeros(u.size(1))
            kernels.max_and_moments(
                u.numpy(),
                centred.numpy(),
                index.numpy(),
                out.numpy(),
                place.numpy(),
                total.numpy(),
                squares.numpy(),
            )
        else:
            out, place = _bag_max(u, index)
            total = F.embedding_bag(index, u, mode="sum")
            squares = degree @ u.square() + (centred * (2 * total + k * centred)).sum(dim=0)
        ctx.save_for_backward(u, centred, index, place, total, degree)
        return out, mean, (squares / edges).clamp_(min=0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_out: Tensor, d_mean: Tensor, d_variance: Tensor) -> tuple[Tensor | None, ...]:
        u, centred, index, place, total, degree = ctx.saved_tensors
        edges, k = index.numel(), index.size(1)
        # dL/dh of every edge is a + b h, h being centred; the mean's own share of the variance is then 0
        a, b = d_mean / edges, 2 * d_variance / edges
        d_v = torch.addcmul(k * a, b, total.add(centred, alpha=k))
        d_u = torch.addcmul(a, b, u).mul_(degree.unsqueeze(1))
        if _uses_kernels(u):
            from lightning_modules.point_cloud_classification import edge_pooling_kernels as kernels

            kernels.add_to_neighbours((centred * b).numpy(), index.numpy(), d_u.numpy())
            kernels.scatter(d_out.contiguous().numpy(), place.numpy(), d_u.numpy())
            return d_u, d_v, None
        d_u += _readers_sum(centred, index, degree) * b
        d_u += _scatter(d_out.contiguous(), place)
        return d_u, d_v, None


def max_and_moments(u: Tensor, v: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Maximum over neighbours, and mean and variance of ``u[index[i, s]] + v[i]`` over all edges.

    Args:
        u: ``[N, C]``, contiguous, float32 or float64.
        v: ``[N, C]``, likewise.
        index: ``[N, k]`` int32.

    Returns:
        ``max over s of u[index[i, s]]``, ``[N, C]``; the mean ``[C]``; the biased variance ``[C]``.
    """
    out: tuple[Tensor, Tensor, Tensor] = _EdgeMoments.apply(u, v, index)
    return out


def _times_read(index: Tensor, u: Tensor) -> Tensor:
    """Edges that read each point, ``[N]`` of u's type.

    Not by ``bincount``, which on CUDA waits for the largest index. Whole numbers add up alike in any order.
    """
    ones = u.new_ones(1).expand(index.numel())
    return u.new_zeros(len(u)).index_add_(0, index.flatten(), ones)


def _bag_max(u: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    """Maximum over neighbours, and the point that has it, both ``[N, C]``."""
    offsets = torch.arange(0, index.numel(), index.size(1), device=u.device, dtype=index.dtype)
    # F.embedding_bag keeps to itself where its maxima are
    out, _, _, place = torch.ops.aten._embedding_bag(u, index.flatten(), offsets, False, 2)
    return out, place


def _scatter(values: Tensor, place: Tensor) -> Tensor:
    """``out[place[i, c], c] += values[i, c]``."""
    out = torch.zeros_like(values)
    if _uses_kernels(values):
        from lightning_modules.point_cloud_classification import edge_pooling_kernels as kernels

        kernels.scatter(values.numpy(), place.numpy(), out.numpy())
        return out
    return out.scatter_add_(0, place.long(), values)


def _readers_sum(values: Tensor, index: Tensor, degree: Tensor) -> Tensor:
    """``out[j] = sum of values[i] over the edges (i, s) with index[i, s] = j``, in a fixed order."""
    readers = index.flatten().argsort(stable=True).div_(index.size(1), rounding_mode="floor")
    offsets = F.pad(degree.long().cumsum(0), (1, 0))
    return F.embedding_bag(readers, values, offsets, mode="sum", include_last_offset=True)
