"""From the settings of a network to the network."""

import importlib
from typing import Any

from torch import Tensor, nn

from harness.annotations import NetworkSpec
from harness.errors import UserError, nearest
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
        num_classes: number of classes.

    Shapes:
        input ``[B, 3, H, W]``; output ``[B, num_classes]``, logits.

    Raises:
        UserError: if torchvision has no such classifier, or the images are not in colour.
    """

    def __init__(self, name: str, in_channels: int, num_classes: int) -> None:
        from torchvision import models

        super().__init__()
        names = models.list_models(module=models)
        if name not in names:
            raise UserError(
                f"network={TORCHVISION}{name}: no network of torchvision has such a name."
                f"{nearest(name, names)} There are {', '.join(names)}."
            )
        if in_channels != 3:
            raise UserError(
                f"network={TORCHVISION}{name} takes images in 3 colours; these have {in_channels}."
                " Take a network of this project, such as plain_cnn or resnet18_cifar."
            )
        # of these two the training gives a second output besides the logits
        settings = {"aux_logits": False} if name in ("googlenet", "inception_v3") else {}
        if settings:
            settings["init_weights"] = True  # what it will be, and else a warning says so
        self.name = name
        self.network = models.get_model(name, weights=None, num_classes=num_classes, **settings)

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
            return TorchvisionNetwork(name.removeprefix(TORCHVISION), in_channels, num_classes)
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
