"""What goes together in one-stage training and its controls, told before any work is done.

Each condition is one of the derivation in ``one_stage.py``: one logit for an image, which depends on no other
image unless gamma is the same for all, and a slope that is not zero.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from harness.annotations import ClassSpec
from harness.errors import UserError
from lightning_modules.osgan.losses import LOSSES, TECHNICAL_FLOOR, GanLoss
from lightning_modules.osgan.one_stage import Form
from lightning_modules.osgan.schemes import Scheme

_HIGHEST_FLOOR = 0.1


def check_settings(
    *,
    scheme: Scheme,
    loss: str,
    floor: float | None,
    form: Form,
    network: str,
    norm: str,
    num_classes: int,
    weight_clip: float | None,
) -> None:
    """Refuses settings under which one-stage training would not be what it claims to be.

    Args:
        scheme: ``model.scheme``.
        loss: ``model.loss``.
        floor: ``model.floor``, None for the loss's own.
        form: ``model.form``.
        network: ``model.network``.
        norm: of D, in effect.
        num_classes: classes of the data.
        weight_clip: in effect, with ``loss=wgan``.

    Raises:
        UserError: naming the condition, and what to set.
    """
    if network in ("cgan", "acgan") and num_classes < 2:
        raise UserError(
            f"model.network={network} is conditional on the class, and the data have {num_classes}."
            " Use model.network=dcgan or model.network=sngan, or data with classes."
        )
    if network == "sngan" and weight_clip is not None:
        raise UserError(
            f"model.weight_clip={weight_clip} does nothing under model.network=sngan, whose spectral"
            " normalisation scales each layer again. Set model.weight_clip=null."
        )
    if scheme != "one_stage":
        _check_other_scheme(scheme, floor, form)
        return
    is_symmetric = LOSSES[loss].is_symmetric
    floor = effective_floor(LOSSES[loss], floor)
    if is_symmetric and floor > 0:
        raise UserError(
            f"model.floor={floor} is not for model.loss={loss}, whose ratio is -1 everywhere and needs none."
            " Leave model.floor=null."
        )
    if floor > _HIGHEST_FLOOR:
        raise UserError(
            f"model.floor={floor} would leave the discriminator little of model.loss={loss}."
            f" Set it to at most {_HIGHEST_FLOOR}, or leave model.floor=null."
        )
    if network == "acgan":
        raise UserError(
            "model.scheme=one_stage cannot train model.network=acgan: both players add the class head's loss,"
            " so their gradients at an image differ by more than one number. Use model.network=cgan, whose"
            " one logit knows the class, or model.scheme=two_stage_lean."
        )
    if norm == "batch" and not is_symmetric:
        raise UserError(
            f"model.norm=batch and model.loss={loss} do not go together under model.scheme=one_stage: batch"
            " normalisation in the discriminator makes each logit depend on all images, whose ratios differ."
            " Use model.norm=group, or a symmetric loss (minimax, wgan)."
        )
    if form != "weighted" and floor > TECHNICAL_FLOOR:
        raise UserError(
            f"model.form={form} cannot keep to model.floor={floor}, which model.loss={loss} needs where its"
            " slope is zero. Use model.form=weighted."
        )
    # the other forms keep to no floor, which lsgan, whose slope is 0 at one logit alone, can do without
    if floor < TECHNICAL_FLOOR and (loss == "hinge" or (loss == "lsgan" and form == "weighted")):
        raise UserError(
            f"model.floor={floor} leaves model.loss={loss} without a gradient for the generator wherever the"
            f" logit is {'below -1' if loss == 'hinge' else '0'}. Use model.floor=0.01."
        )


def _check_other_scheme(scheme: Scheme, floor: float | None, form: Form) -> None:
    if floor is not None:
        raise UserError(
            f"model.floor={floor} is for model.scheme=one_stage alone: model.scheme={scheme} has no floor."
            " Leave model.floor=null."
        )
    if form != "weighted":
        raise UserError(
            f"model.form={form} is a way to write the one loss of model.scheme=one_stage, and"
            f" model.scheme={scheme} has two. Leave model.form=weighted."
        )


def check_players(
    in_channels: int, means: Mapping[str, Sequence[float]], optimizer: ClassSpec, lrs: Iterable[str]
) -> None:
    """Refuses a normalisation of other colours, and one learning rate for two players.

    Args:
        in_channels: colours of the images.
        means: ``mean`` and ``std`` by name.
        optimizer: ``model.optimizer``.
        lrs: names of the players.

    Raises:
        UserError: naming what to set.
    """
    for key, values in means.items():
        if len(values) != in_channels:
            raise UserError(
                f"model.{key}={list(values)} must have one number per colour, {in_channels}."
                f" It follows data.{key}: set data.{key}={[0.5] * in_channels}."
            )
    if "lr" in optimizer:
        raise UserError(
            f"model.optimizer.lr={optimizer['lr']}: each player has a learning rate of its own."
            f" Set {' and '.join(f'model.lr_{name}' for name in lrs)}."
        )


def check_processes(trainer: Any, scheme: Scheme) -> None:
    """Refuses schemes that DDP cannot run as it is configured.

    Args:
        trainer: Lightning's, at the beginning of a fit.
        scheme: ``model.scheme``.

    Raises:
        UserError: naming what to set.
    """
    from pytorch_lightning.strategies import DDPStrategy

    if not isinstance(trainer.strategy, DDPStrategy) or scheme == "one_stage":
        return
    if scheme == "simultaneous":
        raise UserError(
            "model.scheme=simultaneous has two backward passes through one forward pass, which DDP does not"
            " allow. Use hardware.devices=1, or model.scheme=one_stage, which is the same update."
        )
    if not trainer.strategy._ddp_kwargs.get("find_unused_parameters"):
        raise UserError(
            f"model.scheme={scheme} trains one player at a time, for which DDP has to look for unused"
            " parameters. Set hardware.strategy=ddp_find_unused_parameters_true."
        )


def check_average(trainer: Any, ema: float | None) -> None:
    """Refuses weights of so few digits that an average of them would stand still.

    Args:
        trainer: Lightning's, at the beginning of a fit.
        ema: ``model.ema``.

    Raises:
        UserError: naming what to set.
    """
    if ema is not None and trainer.precision in ("bf16-true", "16-true"):
        raise UserError(
            f"hardware.precision={trainer.precision} keeps three digits of a weight, so that steps of"
            f" {1 - ema:.1g} leave the average of model.ema={ema} where it is. Use"
            " hardware.precision=bf16-mixed, or model.ema=null."
        )


def effective_floor(loss: GanLoss, floor: float | None) -> float:
    """``model.floor``, or the loss's own where that is null."""
    return loss.floor if floor is None else floor
