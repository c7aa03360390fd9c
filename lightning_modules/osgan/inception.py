"""Features of the Inception network of 2015, on which FID and KID are defined."""

import hashlib
import io
from pathlib import Path
from typing import Self

import torch
from torch import Tensor, nn

from datamodules.download import RemoteFile
from lightning_modules.osgan.inception_weights import INCEPTION, check_inception


class InceptionFeatures(nn.Module):
    """The 2048 features of the last pooling layer.

    Images are rounded to bytes, grey ones repeated in three colours, and resized to 299 pixels as the
    published distances do it (bilinear as TensorFlow 1 did, without smoothing); torchmetrics' own default
    smooths and gives other values.

    Args:
        path: the weights, as ``find_inception`` gives them.
        file: what the file has to be.

    Shapes:
        input ``[N, 1 or 3, H, W]`` in [0, 1]; output ``[N, 2048]``.

    Raises:
        UserError: ``path`` is not the published file.
    """

    num_features = 2048

    def __init__(self, path: Path, file: RemoteFile = INCEPTION) -> None:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        super().__init__()
        content = path.read_bytes()  # hashed and used from one read: nothing can slip between
        check_inception(path, hashlib.sha256(content).hexdigest(), file)
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        # torch-fidelity reads its file as a pickle that may run code: it gets what was read without.
        tensors = io.BytesIO()
        torch.save(state, tensors)
        tensors.seek(0)
        with torch.random.fork_rng(devices=[]):  # its first weights are drawn only to be replaced
            self.network = FeatureExtractorInceptionV3(
                "inception-v3-compat", ["2048"], feature_extractor_weights_path=tensors
            )
        self.requires_grad_(False)
        self.train(False)

    def train(self, mode: bool = True) -> Self:
        return super().train(False)

    def forward(self, images: Tensor) -> Tensor:
        """Features ``[N, 2048]``."""
        pixels = (images.clamp(0.0, 1.0) * 255).round().byte()
        features: Tensor = self.network(pixels.expand(-1, 3, -1, -1))[0]  # [N, 1 or 3, H, W] -> 3 colours
        return features
