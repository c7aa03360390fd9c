"""Plain knowledge distillation: a small network learns from the labels and from a trained one."""

from collections.abc import Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningModule
from torch import Tensor

from harness.annotations import ClassSpec, Fraction, PositiveFloat, PositiveInt, Probability
from lightning_modules.image_classification.build import build_network
from lightning_modules.image_classification.given import fitting_classifier
from lightning_modules.image_classification.losses import soft_target_loss
from lightning_modules.image_classification.module import Batch, ClassifierModule


class Distillation(ClassifierModule):
    """A :class:`PlainCNN` whose teacher is a trained classifier (Hinton et al., arXiv 1503.02531).

    The loss is ``alpha * soft_target_loss + (1 - alpha) * cross-entropy``. The teacher sees the same
    augmented images, is never trained, and belongs to no checkpoint of the student.

    Args:
        in_channels: colours of the images.
        image_size: pixels of a side.
        num_classes: number of classes.
        width: channels of the student's first stage.
        depth: its stages of two convolutions.
        norm: ``batch`` normalisation or ``none``.
        dropout: on the input of its last layer.
        label_smoothing: of the labels' part of the loss, in [0, 1).
        temperature: T, above 0: how soft the teacher's probabilities are made.
        alpha: weight of the teacher's part of the loss, in [0, 1].
        optimizer: ``{name: class of torch.optim, **keywords}``.
        scheduler: ``{name: class of torch.optim.lr_scheduler, **keywords}`` or None.
        scheduler_interval: ``epoch`` or ``step``.
    """

    task = "image_classification"
    prerequisites = ("teacher",)
    training_only = (*ClassifierModule.training_only, "temperature", "alpha")

    def __init__(
        self,
        in_channels: PositiveInt,
        image_size: PositiveInt,
        num_classes: PositiveInt,
        width: PositiveInt,
        depth: PositiveInt,
        norm: Literal["batch", "none"],
        dropout: Probability,
        label_smoothing: Probability,
        temperature: PositiveFloat,
        alpha: Fraction,
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
        scheduler_interval: Literal["epoch", "step"],
    ) -> None:
        super().__init__(num_classes, label_smoothing, optimizer, scheduler, scheduler_interval)
        self.save_hyperparameters()
        self.temperature = temperature
        self.alpha = alpha
        self.spec = {"name": "plain_cnn", "width": width, "depth": depth, "norm": norm, "dropout": dropout}
        self.network = build_network(self.spec, in_channels, image_size, num_classes, key="model")
        # in a tuple it is no submodule: neither in the state dict nor among the parameters
        self._teacher: tuple[ClassifierModule, ...] = ()

    def on_prerequisites(self, modules: Mapping[str, LightningModule]) -> None:
        """Takes ``modules["teacher"]``.

        Raises:
            UserError: if it is no image classifier or does not know the same images and classes.
        """
        self._teacher = (fitting_classifier(modules, "teacher", self),)

    def on_fit_start(self) -> None:
        for teacher in self._teacher:
            teacher.to(self.device, self.dtype).eval()

    def training_loss(self, batch: Batch, logits: Tensor) -> Tensor:
        if not self._teacher:
            raise RuntimeError("Distillation has no teacher: call on_prerequisites before fit")
        with torch.no_grad():
            soft_targets = self._teacher[0](batch["x"])
        from_teacher = soft_target_loss(logits, soft_targets, self.temperature)
        from_labels = F.cross_entropy(logits, batch["y"], label_smoothing=self.label_smoothing)
        return self.alpha * from_teacher + (1 - self.alpha) * from_labels
