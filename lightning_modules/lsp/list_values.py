"""Inner products and distances of points and those in their lists, without a tensor of pairs x channels.

Compiled loops on CPU. Elsewhere all points of a cloud are multiplied with each other: n^2 numbers, where the
ends of all pairs would be n * K * D.
"""

from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import Function

from lightning_modules.node_classification.attention import uses_kernels

Value = Literal["products", "squared_distances", "l1_distances"]


def list_values(value: Value, z: Tensor, index: Tensor) -> Tensor:
    """Inner product, squared or L1 distance of each point and those in its list.

    Args:
        value: which of the three.
        z: ``[B, n, D]``.
        index: ``[B, n, K]`` long, points within their own cloud.

    Returns:
        ``[B, n, K]``, in at least float32; differentiable.
    """
    z = z.to(torch.promote_types(z.dtype, torch.float32))
    if uses_kernels(z):
        clouds, points, _ = index.shape
        first = torch.arange(0, clouds * points, points).view(-1, 1, 1)
        flat = (index + first).flatten(0, 1)
        out: Tensor = _ListValues.apply(z.flatten(0, 1).contiguous(), flat.contiguous(), value)
        return out.view_as(index)
    if value == "products":
        return (z @ z.mT).gather(2, index)
    if value == "l1_distances":
        return torch.cdist(z, z, p=1.0).gather(2, index)
    z = z - z.mean(dim=1, keepdim=True)  # moves no distance, and leaves less to cancel
    norms = z.square().sum(dim=2)  # [B, n]
    others = norms.unsqueeze(1).expand(-1, index.size(1), -1).gather(2, index)
    return (norms.unsqueeze(2) + others - 2 * (z @ z.mT).gather(2, index)).clamp(min=0)


class _ListValues(Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, lists: Tensor, value: Value) -> Tensor:
        from lightning_modules.lsp import list_kernels

        ctx.save_for_backward(z, lists)
        ctx.value = value
        out = z.new_empty(lists.shape)
        getattr(list_kernels, value)(z.numpy(), lists.numpy(), out.numpy())
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        from lightning_modules.lsp import list_kernels

        z, lists = ctx.saved_tensors
        d_z = torch.zeros_like(z)
        backward = getattr(list_kernels, f"{ctx.value}_backward")
        backward(grad.contiguous().numpy(), z.numpy(), lists.numpy(), d_z.numpy())
        return d_z, None, None
