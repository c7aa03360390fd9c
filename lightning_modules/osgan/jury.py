"""Everyone who can judge generated images of a data set, having seen one of its splits."""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_modules.osgan.distances import ClassifierFeatures, DataFeatures, Judge
from lightning_modules.osgan.inception import InceptionFeatures
from lightning_modules.osgan.inception_weights import find_inception

if TYPE_CHECKING:
    from datamodules.images import ImageDataModule, Split

log = logging.getLogger("tenfold")

Samples = Callable[[], Iterable[Tensor]]
"""Makes the same generated images each time, in batches ``[n, C, H, W]`` in [0, 1]; this process's share."""


class Jury:
    """Distances of generated images from one split: by every network and function of features at hand.

    Inception judges where torch-fidelity is installed and the published weights lie under ``paths.data``, a
    classifier where the run has one, and the data set itself where it knows its own kind.

    Args:
        data: whose images are the real ones.
        split: which of them.
        classifier: features of a trained classifier, or None.
        device: where to compute.
        kernel: kernel distances as well, which compare all images with one another.
    """

    def __init__(
        self,
        data: "ImageDataModule",
        split: "Split",
        classifier: ClassifierFeatures | None,
        device: torch.device,
        *,
        kernel: bool,
    ) -> None:
        self.data = data
        # one look at the images for each, since features of a whole split can be larger than the split
        self.judges = [judge.to(device) for judge in _judges(data, classifier, kernel)]
        for judge in self.judges:
            judge.see_real(self._real(split))

    def judge(self, samples: Samples, all_samples: Samples) -> dict[str, float]:
        """Distances and whatever else the data set can say, by name.

        Args:
            samples: this process's share of the generated images.
            all_samples: all of them, for the data set's own look.
        """
        found: dict[str, float] = {}
        for judge in self.judges:
            found |= judge.compare(samples())
        if self.data.sample_name:
            found |= self.data.sample_metrics(torch.cat([images.cpu() for images in all_samples()]))
        return found

    def _real(self, split: "Split") -> Iterator[Tensor]:
        for batch in self.data.loader(split):
            yield self.data.denormalise(batch["x"])


def _judges(data: "ImageDataModule", classifier: ClassifierFeatures | None, kernel: bool) -> list[Judge]:
    judges = []
    root, cache = (getattr(data, key, None) for key in ("root", "cache"))
    weights = None if root is None or cache is None else find_inception(root, cache)
    if weights is not None:
        judges.append(Judge(InceptionFeatures(weights), "inception", kernel=kernel))
    if data.sample_name:
        one = data.sample_features(torch.zeros(1, data.in_channels, data.image_size, data.image_size))
        if one is not None:
            features = DataFeatures(data.sample_features, one.size(1))
            judges.append(Judge(features, data.sample_name, kernel=False))
    if classifier is not None:
        judges.append(Judge(classifier, "classifier", kernel=kernel))
    if not judges:
        log.warning(
            "no number will say how good the samples are: give model.requires.features a classifier of these"
            " data, or put Inception's weights under paths.data (README)"
        )
    return judges
