"""The image classifier that other methods start from, of any network, and what it may begin with."""

import logging
from typing import ClassVar, Literal

from pytorch_lightning import LightningDataModule

from harness.annotations import ClassSpec, NetworkSpec, PositiveInt, Probability
from lightning_modules.image_classification.build import build_network
from lightning_modules.image_classification.module import ClassifierModule

log = logging.getLogger("tenfold")


class ImageClassifier(ClassifierModule):
    """Trains a network with cross-entropy on the batches of an ``ImageDataModule``.

    Args:
        in_channels: colours of the images.
        image_size: pixels of a side.
        num_classes: number of classes.
        network: a name of ``architectures.NAMED``, ``torchvision/<name>``, or ``{name: ..., **arguments}``.
        weights: what training starts from, see ``published_weights.py``; None draws them.
        root: folder of data sets, where files of weights are looked for in ``weights``.
        cache: where they are downloaded to if that is read-only.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).
        optimizer: ``{name: class of torch.optim, **keywords}``.
        scheduler: ``{name: class of torch.optim.lr_scheduler, **keywords}`` or None.
        scheduler_interval: how often the schedule takes a step, every ``epoch`` or every optimiser ``step``.

    Raises:
        UserError: if there is no such network, or it cannot take such images.
    """

    training_only: ClassVar[tuple[str, ...]] = (*ClassifierModule.training_only, "weights", "root", "cache")

    def __init__(
        self,
        in_channels: PositiveInt,
        image_size: PositiveInt,
        num_classes: PositiveInt,
        network: NetworkSpec,
        weights: str | None,
        root: str,
        cache: str,
        label_smoothing: Probability,
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
        scheduler_interval: Literal["epoch", "step"],
    ) -> None:
        super().__init__(num_classes, label_smoothing, optimizer, scheduler, scheduler_interval)
        self.save_hyperparameters()
        self.spec = network
        self.weights = weights
        self.root = root
        self.cache = cache
        self.network = build_network(network, in_channels, image_size, num_classes)

    def on_phase_start(self, datamodule: LightningDataModule) -> None:
        """Puts published weights in; those of a run that continues replace them again.

        Raises:
            UserError: they cannot be had or do not fit.
        """
        if self.weights is None:
            return
        from lightning_modules.image_classification.published_weights import load_published

        whole = load_published(self.network, self.weights, self.spec, self.num_classes, self.root, self.cache)
        if not whole:
            log.warning(
                "model.weights knows other classes: the last layer starts from weights drawn at random"
            )
