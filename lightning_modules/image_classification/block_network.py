"""Networks that are a row of blocks, so that one of them can be taken out and replaced."""

from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harness.errors import UserError


class BlockNetwork(nn.Module):
    """A classifier that can be cut into blocks: passed through one after the other they are the network."""

    @abstractmethod
    def blocks(self) -> list[nn.Module]:
        """The blocks in order, the last of them giving the logits; their parameters are the network's."""

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, num_classes]``."""
        for block in self.blocks():
            x = block(x)
        return x


def embed(network: nn.Module, x: Tensor) -> Tensor:
    """What the last linear layer of a network sees of ``x``, ``[B, num_features]``.

    Args:
        network: a classifier.
        x: ``[B, C, H, W]``.

    Raises:
        UserError: its logits are not those of a linear layer.
    """
    seen: list[Tensor] = []
    hook = last_linear(network).register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    try:
        network(x)
    finally:
        hook.remove()
    return seen[0]


def last_linear(network: nn.Module) -> nn.Linear:
    """The last linear layer of a network.

    Raises:
        UserError: its logits are not those of a linear layer.
    """
    found = output_layer(network)
    if not isinstance(found, nn.Linear):
        kind = getattr(network, "name", type(network).__name__)
        raise UserError(
            f"{kind} does not end with a linear layer, whose input is asked for. Take another network."
        )
    return found


def output_layer(network: nn.Module) -> nn.Linear | nn.Conv2d:
    """The layer that makes the logits: the last linear one or, as in SqueezeNet, the last convolution.

    Raises:
        ValueError: it has neither.
    """
    found = [module for module in network.modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    if not found:
        raise ValueError(f"{type(network).__name__} has no layer that could make logits")
    return found[-1]


@torch.no_grad()
def cut_shapes(blocks: Sequence[nn.Module], in_channels: int, image_size: int) -> list[tuple[int, ...]]:
    """Shapes at the cuts, without the batch: what enters each block, and the logits last.

    Args:
        blocks: of one network, in order.
        in_channels: colours of the images.
        image_size: pixels of a side.

    Returns:
        One more than there are blocks; ``(C, H, W)`` of maps.
    """
    parameter = next((p for block in blocks for p in block.parameters()), torch.empty(0))
    x = parameter.new_zeros(1, in_channels, image_size, image_size)
    shapes = [tuple(x.shape[1:])]
    # of each module by itself: a block may be a mere bracket around modules that are in another mode
    modes = [(module, module.training) for block in blocks for module in block.modules()]
    try:
        for block in blocks:
            x = block.eval()(x)
            shapes.append(tuple(x.shape[1:]))
    finally:
        for module, mode in modes:
            module.training = mode
    return shapes
