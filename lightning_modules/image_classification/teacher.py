"""Which trained network may teach a student."""

from collections.abc import Mapping

from pytorch_lightning import LightningModule

from harness.errors import UserError
from lightning_modules.image_classification.module import ImageClassifier


def fitting_teacher(modules: Mapping[str, LightningModule], student: ImageClassifier) -> ImageClassifier:
    """``modules["teacher"]``, if it knows the images and classes of ``student``.

    Raises:
        UserError: if it is no image classifier or was trained with other images or classes.
    """
    teacher = modules["teacher"]
    if not isinstance(teacher, ImageClassifier):
        raise UserError(
            f"model.requires.teacher: {type(teacher).__name__} is no image classifier."
            " Name one, such as [model=classifier, data=${data}]."
        )
    for key in ("in_channels", "image_size", "num_classes"):
        own, other = student.hparams[key], teacher.hparams[key]
        if own != other:
            raise UserError(
                f"model.requires.teacher was trained with {key}={other}, the student has {key}={own}."
                " Name a teacher of the same data."
            )
    return teacher
