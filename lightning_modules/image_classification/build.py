"""From the settings of a network to the network."""

import importlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from harness.annotations import NetworkSpec
from harness.errors import UserError, nearest
from harness.library_errors import first_line
from lightning_modules.image_classification.architectures import (
    KINDS,
    TORCHVISION,
    check_network,
    settings_of,
)
from lightning_modules.image_classification.block_network import BlockNetwork


class TorchvisionNetwork(nn.Module):
    """One of torchvision's classifiers by name.

    The parameters keep the names that torchvision's published files have.

    Args:
        name: as in ``torchvision.models.list_models``.
        in_channels: colours of the images, 3.
        image_size: pixels of a side.
        num_classes: number of classes.

    Shapes:
        input ``[B, 3, H, W]``; output ``[B, num_classes]``, logits.

    Raises:
        UserError: if torchvision has no such classifier, or it cannot take such images.
    """

    def __init__(self, name: str, in_channels: int, image_size: int, num_classes: int) -> None:
        from torchvision import models

        super().__init__()
        names = models.list_models(module=models)
        if name not in names:
            raise UserError(
                f"network={TORCHVISION}{name}: torchvision has no such classifier."
                f"{nearest(name, names) or ' It has ' + ', '.join(names) + '.'}"
            )
        if in_channels != 3:
            raise UserError(
                f"network={TORCHVISION}{name} takes images in 3 colours; these have {in_channels}."
                " Take a network of this project, such as plain_cnn or resnet18_cifar."
            )
        settings = {"num_classes": num_classes}
        if name in ("googlenet", "inception_v3"):
            # Training would give a second output besides the logits; the input is scaled as their published
            # weights expect it; the last is torchvision's default, which it warns of when it is left out.
            settings |= {"aux_logits": False, "transform_input": True, "init_weights": True}
        self.name = name
        self.network = models.get_model(name, weights=None, **settings)
        try:
            self._try(torch.empty(1, in_channels, image_size, image_size, device="meta"))
        except (RuntimeError, AssertionError, ValueError) as error:
            raise UserError(
                f"network={TORCHVISION}{name} cannot take images of {image_size} pixels"
                f" ({first_line(error).rstrip('.!')}). Take another network, or set data.image_size where the"
                " data set can be resized."
            ) from error

    @torch.no_grad()
    def _try(self, x: Tensor) -> None:
        """One pass without numbers: it takes neither memory nor time, and draws nothing."""
        tensors = {**dict(self.network.named_parameters()), **dict(self.network.named_buffers())}
        shapes = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
        functional_call(self.network.eval(), shapes, (x,))
        self.network.train()

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, num_classes]``."""
        logits: Tensor = self.network(x)
        return logits


def build_network(
    spec: NetworkSpec, in_channels: int, image_size: int, num_classes: int, key: str = "model.network"
) -> nn.Module:
    """The network that ``spec`` describes, its weights drawn from torch's global generator.

    Args:
        spec: a name of :data:`architectures.NAMED` or of torchvision, or ``{name: ..., **arguments}``.
        in_channels: colours of the images.
        image_size: pixels of a side.
        num_classes: number of classes.
        key: full key that holds ``spec``, for messages.

    Raises:
        UserError: if there is no such network, or it takes no such arguments or images.
    """
    check_network(key, spec)
    settings = settings_of(spec)
    name: str = settings.pop("name")
    try:
        if name.startswith(TORCHVISION):
            return TorchvisionNetwork(name.removeprefix(TORCHVISION), in_channels, image_size, num_classes)
        home, _, kind = KINDS[name].rpartition(".")
        made: nn.Module = getattr(importlib.import_module(home), kind)(
            in_channels=in_channels, image_size=image_size, num_classes=num_classes, **settings
        )
    except UserError as error:
        raise UserError(
            str(error).replace("network.", f"{key}.").replace("network=", f"{key}=", 1)
        ) from error
    return made


def build_block_network(
    spec: NetworkSpec, in_channels: int, image_size: int, num_classes: int, key: str = "model.network"
) -> BlockNetwork:
    """As :func:`build_network`, for a network that can be cut.

    Raises:
        UserError: if it cannot be, as those of torchvision.
    """
    network = build_network(spec, in_channels, image_size, num_classes, key)
    if not isinstance(network, BlockNetwork):
        raise UserError(f"{key}={_named(spec)} cannot be cut into blocks. Take one of {', '.join(KINDS)}.")
    return network


def _named(spec: NetworkSpec) -> Any:
    return spec["name"] if isinstance(spec, dict) else spec
