"""How far generated images are from real ones: Fréchet and kernel distances on features.

The distances are those of torchmetrics. What differs from run to run is the network or function whose
features they compare, so each result carries its name: ``fid`` and ``kid`` are of Inception's features alone
(``inception.py``), ``fd_classifier`` and ``kd_classifier`` of a classifier that this project trained,
``fd_<data set>`` of features that a data set defines. None of them can be compared with one of another name.
"""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from harness.errors import UserError
from harness.words import counted
from lightning_modules.image_classification.block_network import embed, last_linear
from lightning_modules.image_classification.build import build_network
from lightning_modules.image_classification.module import ClassifierModule
from lightning_modules.osgan.inception import InceptionFeatures

KERNEL_SUBSETS = 100
KERNEL_SUBSET_SIZE = 1000
"""Subsets and their size as published for KID (Bińkowski et al., 2018, arXiv 1801.01401)."""

_FACTS = ("in_channels", "image_size", "num_classes")


class ClassifierFeatures(nn.Module):
    """What the last layer of a trained :class:`ClassifierModule` sees of an image.

    It holds a copy of the network, frozen and in evaluation mode for good. :meth:`to_plain` puts all of it
    into a checkpoint, so that a trained generator can be judged without the run that made the classifier.

    Args:
        settings: arguments of :func:`build_network`; plain values.
        mean: subtracted from each colour of an image in [0, 1], as in the classifier's training.
        std: what each colour is divided by then.

    Shapes:
        input ``[N, C, H, W]`` in [0, 1]; output ``[N, num_features]``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, settings: Mapping[str, Any], mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.settings = dict(settings)
        with torch.random.fork_rng(devices=[]):  # its first weights are drawn only to be replaced
            self.network = build_network(**self.settings)
        self.num_features = last_linear(self.network).in_features
        self.register_buffer("mean", torch.tensor([*mean])[:, None, None])  # [C, 1, 1]
        self.register_buffer("std", torch.tensor([*std])[:, None, None])
        self.requires_grad_(False)
        self.train(False)

    @classmethod
    def of(cls, classifier: ClassifierModule, mean: Sequence[float], std: Sequence[float]) -> Self:
        """The features of a trained classifier whose images were normalised by ``mean`` and ``std``."""
        facts = {key: classifier.hparams[key] for key in _FACTS}
        features = cls({"spec": classifier.spec, **facts}, mean, std)
        features.network.load_state_dict(classifier.network.state_dict())
        return features

    def to_plain(self) -> dict[str, Any]:
        """Everything in plain values and tensors; :meth:`from_plain` makes equal features of it."""
        return {
            "settings": dict(self.settings),
            "mean": self.mean.flatten().tolist(),
            "std": self.std.flatten().tolist(),
            "state": {name: value.detach().cpu() for name, value in self.network.state_dict().items()},
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The features that :meth:`to_plain` was asked of."""
        features = cls(plain["settings"], plain["mean"], plain["std"])
        features.network.load_state_dict(plain["state"])
        return features

    def train(self, mode: bool = True) -> Self:
        return super().train(False)  # statistics of a batch would make the features of one image vary

    def forward(self, images: Tensor) -> Tensor:
        """Features ``[N, num_features]``."""
        x = (images.to(self.mean.dtype) - self.mean) / self.std
        return embed(self.network, x)


class DataFeatures(nn.Module):
    """Features that a data set defines, as ``ImageDataModule.sample_features``.

    Args:
        function: images ``[N, C, H, W]`` in [0, 1] to features ``[N, num_features]``.
        num_features: how many it gives of an image.
    """

    def __init__(self, function: Callable[[Tensor], Tensor | None], num_features: int) -> None:
        super().__init__()
        self.function = function
        self.num_features = num_features

    def forward(self, images: Tensor) -> Tensor:
        """Features ``[N, num_features]``."""
        features = self.function(images)
        if features is None or features.shape != (len(images), self.num_features):
            found = None if features is None else list(features.shape)
            raise ValueError(f"features of shape {[len(images), self.num_features]} expected, got {found}")
        return features


class _Given(nn.Module):
    """Stands where torchmetrics expects a network: the features are computed once for both distances."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: Tensor) -> Tensor:
        return features


class Judge:
    """Real images seen once, with which any number of sets of generated ones is compared.

    It is no module: its network and statistics go into no state dict and no optimiser. Under DDP each
    process shows it its own share of the images, and all get the distances of the whole sets, which is why
    every process has to call :meth:`compare`. Statistics are kept in float64; kernel distances need all
    features, 16 kB an image for Inception's 2048.

    Args:
        features: images ``[N, C, H, W]`` in [0, 1] to ``[N, num_features]``, with that attribute.
        name: whose features they are: ``inception``, ``classifier`` or the data set's name for its own.
        kernel: the kernel distance as well.

    Raises:
        ValueError: ``name`` is ``inception`` and ``features`` are others, or the other way round.
    """

    def __init__(self, features: nn.Module, name: str, *, kernel: bool = True) -> None:
        if isinstance(features, InceptionFeatures) != (name == "inception"):
            raise ValueError(f"features named {name!r} must not be a {type(features).__name__}")
        self.features = features
        self.name = name
        given = _Given(cast(int, features.num_features))
        self._frechet = FrechetInceptionDistance(given, reset_real_features=False)
        self._frechet.set_dtype(torch.float64)
        self._kernel: KernelInceptionDistance | None = None
        if kernel:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # that it keeps all features; said above
                self._kernel = KernelInceptionDistance(given, reset_real_features=False)

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the distances that :meth:`compare` gives."""
        both = ("fid", "kid") if self.name == "inception" else (f"fd_{self.name}", f"kd_{self.name}")
        return both if self._kernel is not None else both[:1]

    def to(self, device: torch.device | str) -> Self:
        """Moves the features' network and what is known of the real images to ``device``."""
        device = torch.device(device)
        self.features.to(device)
        # Apple's GPUs know no float64
        statistics = torch.device("cpu") if device.type == "mps" else device
        for metric in self._metrics():
            metric.to(statistics)
        return self

    def see_real(self, batches: Iterable[Tensor]) -> None:
        """Adds real images, batches ``[n, C, H, W]`` in [0, 1]; on any device."""
        self._see(batches, real=True)

    def compare(self, batches: Iterable[Tensor]) -> dict[str, float]:
        """The distances from the real images seen so far to those of ``batches``.

        Args:
            batches: generated images ``[n, C, H, W]`` in [0, 1].

        Returns:
            For each of :attr:`keys` a distance; the smaller, the more alike. The kernel distance is without
            bias and can fall below 0. With fewer images than features a Fréchet distance depends on their
            number more than on what they show. NaN where features are no finite numbers, as of a generator
            that has diverged.

        Raises:
            UserError: if there are fewer than two images on either side.
        """
        for metric in self._metrics():
            metric.reset()
        self._see(batches, real=False)
        real, fake, is_finite = self._seen()
        if fake < 2:
            raise UserError(
                f"model.num_samples: {fake} generated {'image has' if fake == 1 else 'images have'} no spread"
                " to compare. Set model.num_samples to 2 or more; 1000 give a steady value."
            )
        if real < 2:
            raise UserError(
                f"the split to compare with holds {counted(real, 'image')}: 2 are needed. Name other data."
            )
        found = dict.fromkeys(self.keys, math.nan)
        if is_finite:
            # rounding can leave equal sets at -1e-12
            found[self.keys[0]] = max(float(self._frechet.compute()), 0.0)
            if self._kernel is not None:
                found[self.keys[1]] = self._kernel_distance(real, fake)
        for metric in self._metrics():
            metric.reset()  # of the generated images' features, which are many
        return found

    def _metrics(self) -> list[FrechetInceptionDistance | KernelInceptionDistance]:
        return [self._frechet] if self._kernel is None else [self._frechet, self._kernel]

    @torch.no_grad()
    def _see(self, batches: Iterable[Tensor], *, real: bool) -> None:
        held = next(chain(self.features.parameters(), self.features.buffers()), None)
        # An empty first batch: under DDP a process without images must still take part.
        empty = torch.zeros(0, cast(int, self.features.num_features), dtype=torch.float64)
        found = [empty.to(self._frechet.device)]
        self._frechet.update(found[0], real=real)
        for images in batches:
            images = images if held is None else images.to(held.device)
            with torch.autocast(images.device.type, enabled=False):
                features = self.features(images)
            features = features.to(self._frechet.device).double()
            self._frechet.update(features, real=real)
            if self._kernel is not None:
                found.append(features)
        if self._kernel is not None:
            # At once: processes exchange the entries of this list one by one, and may hold unequally many.
            self._kernel.update(torch.cat(found), real=real)

    def _seen(self) -> tuple[int, int, bool]:
        """Real and generated images over all processes, and whether all their features are finite."""
        with self._frechet.sync_context():
            real, fake = self._frechet.real_features_num_samples, self._frechet.fake_features_num_samples
            squares = self._frechet.real_features_cov_sum + self._frechet.fake_features_cov_sum
            return int(real), int(fake), bool(squares.isfinite().all())

    def _kernel_distance(self, real: int, fake: int) -> float:
        assert self._kernel is not None
        size = min(KERNEL_SUBSET_SIZE, real, fake)
        self._kernel.subset_size = size
        # the only subset of its size gives the same value each time
        self._kernel.subsets = 1 if size == real == fake else KERNEL_SUBSETS
        with torch.random.fork_rng(devices=[]):
            # torchmetrics draws subsets from the global state: left as it was, and equal in all processes
            torch.default_generator.manual_seed(0)
            mean, _ = self._kernel.compute()
        return float(mean)


def measure(
    features: nn.Module, real: Iterable[Tensor], fake: Iterable[Tensor], *, name: str, kernel: bool = True
) -> dict[str, float]:
    """Distances between two sets of images, each looked at once; see :class:`Judge`.

    Args:
        features: images ``[N, C, H, W]`` in [0, 1] to ``[N, num_features]``, with that attribute.
        real: batches of real images.
        fake: batches of generated images.
        name: whose features they are.
        kernel: the kernel distance as well.

    Returns:
        ``{"fid": ..., "kid": ...}`` for Inception's features, ``{"fd_<name>": ..., "kd_<name>": ...}`` for
        others.
    """
    judge = Judge(features, name, kernel=kernel)
    judge.see_real(real)
    return judge.compare(fake)
