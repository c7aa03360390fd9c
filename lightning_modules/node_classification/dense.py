"""Dense operations at which torch's CPU kernels are slow for the sizes of a small graph.

The figures in the comments are for one thread and Cora's sizes, gradients included where there are any:
``python -m benchmarks.operations`` measures them.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function

# MKL's product is slow with few columns: with 7, padding to 16 saves more than a third of the time.
MIN_COLUMNS = 16


def dropout_mask(shape: tuple[int, ...] | torch.Size, p: float, like: Tensor) -> Tensor:
    """Independent entries, 0 with probability ``p``, else ``1 / (1 - p)``; dtype and device of ``like``.

    Uniform draws and a comparison: on CPU a third of ``bernoulli_``'s time. Always drawn in float32, as
    bfloat16 draws would round ``p``.
    """
    keep = torch.rand(shape, device=like.device, dtype=torch.float32).ge_(p)
    return keep.mul_(1.0 / (1.0 - p)).to(like.dtype)


def dropout(x: Tensor, p: float) -> Tensor:
    """Dropout of a dense tensor: :func:`dropout_mask` on CPU, torch's kernel elsewhere; 0 is a no-op."""
    if p == 0:
        return x
    if x.device.type != "cpu":
        return F.dropout(x, p)
    return x * dropout_mask(x.shape, p, x)


class _ELU(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        out = x.clamp(max=0).exp_().sub_(1).add_(x.clamp(min=0))
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (out,) = ctx.saved_tensors
        return grad * out.clamp(max=0).add_(1)


def elu(x: Tensor) -> Tensor:
    """``x`` where positive, else ``exp(x) - 1``.

    torch's own goes through ``expm1``, exact near zero but taking three times as long on CPU; here the
    absolute error is a rounding of 1 (6e-8 in float32), far below what a layer's sum leaves.
    """
    out: Tensor = _ELU.apply(x) if x.device.type == "cpu" else F.elu(x)
    return out


def narrow_matmul(x: Tensor, weight: Tensor) -> Tensor:
    """``x @ weight``, ``[N, F], [F, K] -> [N, K]``; on CPU few columns are padded to a width that is fast.

    ``x`` is taken in the dtype of ``weight``: attention returns float32 into a network of half precision.
    """
    columns, x = weight.size(1), x.to(weight.dtype)
    if columns >= MIN_COLUMNS or x.device.type != "cpu":
        return x @ weight
    return (x @ F.pad(weight, (0, MIN_COLUMNS - columns)))[:, :columns]


def class_log_probabilities(logits: Tensor) -> Tensor:
    """Log-softmax over classes, ``[N, K]``, in at least float32.

    Taken down the columns of the transpose: along short rows torch's CPU kernel takes four times as long.
    """
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits.t().log_softmax(0).t()
