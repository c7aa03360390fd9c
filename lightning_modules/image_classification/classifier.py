"""The image classifier that other methods start from, of any network, and what it may begin with."""

import logging
from typing import Any, ClassVar, Literal

from pytorch_lightning import LightningDataModule

from harness.annotations import ClassSpec, NetworkSpec, PositiveInt, Probability
from harness.errors import UserError
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
        fine_tune: whether training goes on from published weights; False takes them as they are, and tests
            them.
        root: folder of data sets, where files of weights are looked for in ``weights``.
        cache: where they are downloaded to if that is read-only.
        label_smoothing: share of the target spread evenly over all classes, in [0, 1).
        optimizer: ``{name: class of torch.optim, **keywords}``.
        scheduler: ``{name: class of torch.optim.lr_scheduler, **keywords}`` or None.
        scheduler_interval: how often the schedule takes a step, every ``epoch`` or every optimiser ``step``.

    Raises:
        UserError: if there is no such network, it cannot take such images, or nothing is left to do.
    """

    training_only: ClassVar[tuple[str, ...]] = (
        *ClassifierModule.training_only,
        "weights",
        "fine_tune",
        "root",
        "cache",
    )

    def __init__(
        self,
        in_channels: PositiveInt,
        image_size: PositiveInt,
        num_classes: PositiveInt,
        network: NetworkSpec,
        weights: str | None,
        fine_tune: bool,
        root: str,
        cache: str,
        label_smoothing: Probability,
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
        scheduler_interval: Literal["epoch", "step"],
    ) -> None:
        if weights is None and not fine_tune:
            raise UserError(
                "model.fine_tune=false takes published weights as they are, and model.weights is null. Name"
                " some, such as model.weights=IMAGENET1K_V1, or leave model.fine_tune out."
            )
        super().__init__(num_classes, label_smoothing, optimizer, scheduler, scheduler_interval)
        self.save_hyperparameters()
        self.spec = network
        self.weights = weights
        self.fine_tune = fine_tune
        self.root = root
        self.cache = cache
        self._continued = False
        self.network = build_network(network, in_channels, image_size, num_classes)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._continued = True

    @property
    def phase_epochs(self) -> int | None:
        return None if self.fine_tune else 0

    def on_phase_start(self, datamodule: LightningDataModule) -> None:
        """Puts published weights in; a run that continues has its own and does not ask for the file again.

        Raises:
            UserError: they cannot be had or do not fit.
        """
        if self.weights is None or self._continued:
            return
        from lightning_modules.image_classification.published_weights import load_published

        whole = load_published(self.network, self.weights, self.spec, self.num_classes, self.root, self.cache)
        if not whole:
            log.warning(
                "model.weights knows other classes: the last layer starts from weights drawn at random"
            )
