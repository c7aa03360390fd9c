"""ReLU6 that keeps one map for the backward pass where torch's keeps two."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function


class LeanReLU6(nn.Module):
    """``min(max(x, 0), 6)`` in place, with the values and gradients of ``nn.ReLU6``, to the bit.

    Torch's clones its input for the backward pass although the result says as much: the gradient passes where
    that lies strictly between 0 and 6. The next convolution keeps the result in any case, so that the clone
    is all that an activation costs. What a training step holds with either: ``python -m benchmarks.deal``.

    Shapes:
        input of any shape, overwritten in training and in evaluation; output of the same.
    """

    def forward(self, x: Tensor) -> Tensor:
        # a compiler fuses activations and decides itself what is kept
        if torch.compiler.is_compiling() or not (torch.is_grad_enabled() and x.requires_grad):
            return F.relu6(x, inplace=True)
        out: Tensor = _ReLU6.apply(x)
        return out


class _ReLU6(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x.clamp_(0, 6)
        ctx.mark_dirty(x)
        ctx.save_for_backward(x)
        return x

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (out,) = ctx.saved_tensors
        return grads[0].masked_fill((out <= 0) | (out >= 6), 0)


def lean_activations(part: nn.Module) -> None:
    """Puts :class:`LeanReLU6` in place of every ``nn.ReLU6`` of ``part``."""
    for module in list(part.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.ReLU6):
                setattr(module, name, LeanReLU6())
