"""Settings that do not go together are refused in one line, before any work."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.build import build_module
from harness.errors import UserError
from lightning_modules.osgan.validity import check_average, check_processes
from tests.small_runs import configuration

SMALL = ("model=osgan", "data=bumps16")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("model.norm=batch",), r"model\.norm=batch and model\.loss=non_saturating do not go together"),
        (("model.norm=batch", "model.loss=lsgan"), r"norm=batch and model\.loss=lsgan"),
        (("model.norm=batch", "model.loss=hinge"), "Use model.norm=group, or a symmetric loss"),
        (("model.network=acgan",), r"one_stage cannot train model\.network=acgan.*Use model\.network=cgan"),
        (("model.loss=hinge", "model.form=direct"), r"model\.form=direct cannot keep to model\.floor=0\.01"),
        (("model.loss=lsgan", "model.form=packed"), r"Use model\.form=weighted"),
        (
            ("model.loss=hinge", "model.floor=0"),
            r"model\.floor=0 leaves model\.loss=hinge without a gradient",
        ),
        (
            ("model.loss=lsgan", "model.floor=0"),
            r"model\.floor=0 leaves model\.loss=lsgan .* logit is 0\. Use model\.floor=0\.01",
        ),
        (("model.loss=minimax", "model.norm=batch", "model.floor=0.01"), r"model\.floor=0\.01 is not for"),
        (("model.loss=lsgan", "model.floor=5"), r"Set it to at most 0\.1"),
        (("model.scheme=two_stage", "model.floor=0.05"), r"model\.floor=0\.05 is .* Leave model\.floor=null"),
        (("model.scheme=simultaneous", "model.floor=0"), r"model\.scheme=simultaneous has no floor"),
        (("model.scheme=two_stage_lean", "model.form=packed"), r"Leave model\.form=weighted"),
        (("model.network=sngan", "model.loss=wgan"), r"Set model\.weight_clip=null"),
        (("+model.optimizer.lr=0.1",), r"model\.optimizer\.lr=0\.1.*model\.lr_generator"),
        (("model.mean=[0.5,0.5]",), r"model\.mean=\[0\.5, 0\.5\] must have one number per colour, 1"),
        (("model.norm_groups=5",), r"model\.norm_groups=5 must divide"),
    ],
)
def test_what_does_not_go_together_is_refused(words: tuple[str, ...], says: str) -> None:
    config = configuration(*SMALL, *words)
    with pytest.raises(UserError, match=says) as refused:
        build_module(config).configure_optimizers()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "words",
    [
        ("model.norm=batch", "model.loss=minimax"),
        ("model.norm=batch", "model.loss=wgan"),
        ("model.norm=batch", "model.scheme=two_stage"),
        ("model.network=acgan", "model.scheme=two_stage_lean"),
        ("model.network=acgan", "model.scheme=simultaneous"),
        ("model.network=sngan", "model.norm=batch"),  # it has none
        ("model.loss=lsgan", "model.form=packed", "model.floor=0"),
        ("model.loss=lsgan", "model.form=direct", "model.floor=0"),
        ("model.loss=non_saturating", "model.floor=0"),
        ("model.loss=hinge", "model.scheme=two_stage"),
    ],
)
def test_what_goes_together_is_built(words: tuple[str, ...]) -> None:
    assert build_module(configuration(*SMALL, *words)) is not None


def test_conditional_networks_need_classes() -> None:
    config = configuration(*SMALL, "model.network=cgan")
    config["model"]["num_classes"] = 1
    with pytest.raises(UserError, match=r"model\.network=cgan is conditional on the class"):
        build_module(config)


def test_a_scheme_that_ddp_cannot_run_is_refused(tmp_path: Path) -> None:
    from pytorch_lightning.strategies import DDPStrategy

    trainer = SimpleNamespace(strategy=DDPStrategy())
    check_processes(trainer, "one_stage")
    with pytest.raises(UserError, match=r"hardware\.strategy=ddp_find_unused_parameters_true"):
        check_processes(trainer, "two_stage")
    with pytest.raises(UserError, match=r"model\.scheme=simultaneous has two backward passes"):
        check_processes(trainer, "simultaneous")
    check_processes(SimpleNamespace(strategy=DDPStrategy(find_unused_parameters=True)), "two_stage")


def test_an_average_that_would_stand_still_is_refused() -> None:
    trainer = SimpleNamespace(precision="bf16-true")
    check_average(trainer, None)
    check_average(SimpleNamespace(precision="bf16-mixed"), 0.999)
    with pytest.raises(UserError, match=r"hardware\.precision=bf16-true keeps three digits.*model\.ema=null"):
        check_average(trainer, 0.999)
