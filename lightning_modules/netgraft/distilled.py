"""Plain distillation of a whole student from few unlabelled images."""

import torch
from torch import Tensor

from harness.annotations import ClassSpec, NetworkSpec, NonNegativeInt, PositiveFloat, PositiveInt
from lightning_modules.image_classification.build import build_network
from lightning_modules.image_classification.losses import soft_target_loss
from lightning_modules.image_classification.module import Batch
from lightning_modules.netgraft.few_shot import FewShotDistiller


class FewShotDistillation(FewShotDistiller):
    """A student, all of it from scratch, against its teacher's softened answers (Hinton et al., 1503.02531).

    A baseline under NetGraft's protocol: the same few images and the same student. The paper's loss has a
    part for the labels, which this protocol does not give; what is left is :func:`soft_target_loss`, summed
    over the batch as NetGraft's losses are. Batch normalisation keeps the averages of training.

    Args:
        in_channels: colours of the images.
        image_size: pixels of a side.
        num_classes: number of classes.
        student: the student's network, any that a classifier may have.
        shots: K, unlabelled images of each class.
        sample_seed: of the draw of these images, and of nothing else.
        batch_size: images of one step at K = 10; ``int(batch_size * K / 10)`` for others.
        epochs: passes over the few images.
        temperature: T, above 0: how soft both networks' probabilities are made.
        optimizer: ``{name: class of torch.optim, **keywords}``.
        scheduler: ``{name: class of torch.optim.lr_scheduler, **keywords}``, stepped once an epoch, or None.
    """

    task = "image_classification"
    prerequisites = ("teacher",)
    training_only = (*FewShotDistiller.training_only, "epochs", "temperature")

    def __init__(
        self,
        in_channels: PositiveInt,
        image_size: PositiveInt,
        num_classes: PositiveInt,
        student: NetworkSpec,
        shots: PositiveInt,
        sample_seed: NonNegativeInt,
        batch_size: PositiveInt,
        epochs: PositiveInt,
        temperature: PositiveFloat,
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
    ) -> None:
        super().__init__(
            in_channels,
            image_size,
            num_classes,
            student,
            shots,
            sample_seed,
            batch_size,
            [],
            optimizer,
            scheduler,
        )
        self.save_hyperparameters()
        self.epochs = epochs
        self.temperature = temperature
        self.network = build_network(student, in_channels, image_size, num_classes, key="model.student")

    @property
    def phases(self) -> tuple[str, ...]:
        return ("kd",)

    @property
    def phase_epochs(self) -> int:
        return self.epochs

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            targets = self.teacher(batch["x"])
        return {"loss": summed_soft_target_loss(self(batch["x"]), targets, self.temperature)}


def summed_soft_target_loss(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """:func:`soft_target_loss` as a sum over the batch instead of its mean, as NetGraft's losses are.

    Args:
        student: logits ``[B, C]``.
        teacher: logits ``[B, C]``.
        temperature: T, above 0.
    """
    return len(student) * soft_target_loss(student, teacher, temperature)
