"""Which trained classifier may serve another method, as a teacher or a judge."""

from collections.abc import Mapping, Sequence

from pytorch_lightning import LightningModule

from harness.errors import UserError
from lightning_modules.image_classification.module import ClassifierModule

_FACTS = ("in_channels", "image_size", "num_classes")


def fitting_classifier(
    modules: Mapping[str, LightningModule],
    name: str,
    method: LightningModule,
    facts: Sequence[str] = _FACTS,
) -> ClassifierModule:
    """``modules[name]``, if it knows the images and classes that ``method`` works with.

    Args:
        modules: what the run starts from, by name.
        name: under ``model.requires``.
        method: whose ``hparams`` hold the same facts.
        facts: what must agree.

    Raises:
        UserError: if it is no image classifier, or was trained with other images or classes.
    """
    classifier = modules[name]
    if not isinstance(classifier, ClassifierModule):
        raise UserError(
            f"model.requires.{name}: {type(classifier).__name__} is no image classifier."
            " Name one, such as [model=classifier, data=${data}]."
        )
    for key in facts:
        own, other = method.hparams[key], classifier.hparams[key]
        if own != other:
            raise UserError(
                f"model.requires.{name} was trained with {key}={other}, this run has {key}={own}."
                " Name a classifier of the same data."
            )
    return classifier


def normalisation(classifier: ClassifierModule) -> tuple[list[float], list[float]] | None:
    """``mean`` and ``std`` of the data that ``classifier`` was trained on; None where nobody knows."""
    data = classifier.trained_on or {}
    if "mean" not in data or "std" not in data:
        return None
    return list(data["mean"]), list(data["std"])
