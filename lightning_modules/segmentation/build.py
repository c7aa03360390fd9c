"""From the name of a segmentation network to the network, and to the weights that it starts from."""

from typing import Literal

import torch

from harness.errors import UserError
from lightning_modules.segmentation.networks import DeepLabV3Plus, Segmenter, SmallUNet

SegmenterName = Literal["deeplab_mobilenet", "small_unet"]

_KINDS: dict[str, type[Segmenter]] = {"deeplab_mobilenet": DeepLabV3Plus, "small_unet": SmallUNet}


def build_segmenter(name: SegmenterName, num_classes: int) -> Segmenter:
    """The network of that name, its weights drawn from torch's global generator.

    Args:
        name: one of :data:`SegmenterName`.
        num_classes: number of classes.
    """
    return _KINDS[name](num_classes)


def check_weights(name: SegmenterName, weights: str | None) -> None:
    """Refuses weights for a network of which none are published.

    Raises:
        UserError: naming both ways out.
    """
    if weights is not None and name != "deeplab_mobilenet":
        raise UserError(
            f"model.weights={weights} is for the backbone of model.network=deeplab_mobilenet; {name} has"
            " none. Set model.weights=null."
        )


def load_backbone(network: Segmenter, weights: str, root: str, cache: str) -> None:
    """Puts published weights of MobileNetV2 into the backbone; its classifier is left out.

    The global random state is left as it was, so that a run with these weights draws what one without does.

    Args:
        network: a :class:`DeepLabV3Plus`.
        weights: a name of torchvision's, ``IMAGENET1K_V1``, or a file that holds a state dict of its
            MobileNetV2.
        root: folder of data sets, where the file is looked for in ``weights``.
        cache: where it is downloaded to if that is read-only.

    Raises:
        UserError: the file cannot be had, is not the published one, or is of another network.
    """
    from lightning_modules.image_classification.build import TorchvisionNetwork
    from lightning_modules.image_classification.published_weights import load_published

    spec = "torchvision/mobilenet_v2"
    with torch.random.fork_rng(devices=[]):
        whole = TorchvisionNetwork("mobilenet_v2", 3, image_size=224, num_classes=1000)
    try:
        load_published(whole, weights, spec, 1000, root, cache)
    except UserError as error:
        raise UserError(f"{error} Or start from random weights: model.weights=null.") from error
    backbone = network.backbone()
    backbone.load_state_dict(whole.network.features[: len(backbone)].state_dict())  # type: ignore[arg-type]
