"""Hints and then answers: what each phase trains, and that the regressors are gone afterwards."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from harness.build import build_datamodule
from harness.checkpoints import read_checkpoint
from harness.errors import UserError
from lightning_modules.image_classification.losses import soft_target_loss
from lightning_modules.image_classification.module import images_of
from lightning_modules.netgraft.distilled import FewShotDistillation
from lightning_modules.netgraft.fitnet import FewShotFitNet
from tests.lightning_modules.netgraft.few_shot_runs import (
    ADAM,
    FACTS,
    FEW,
    fitted,
    images,
    plain_cnn,
    teacher,
)
from tests.small_runs import assert_same_weights, configuration


def student(network: Any = None) -> FewShotFitNet:
    torch.manual_seed(0)
    return FewShotFitNet(
        **FACTS, **FEW, **ADAM, student=network or plain_cnn(2), hint_epochs=2, epochs=3, temperature=4.0
    )


def begun(module: FewShotFitNet, source: Any, phase: int = 0) -> FewShotFitNet:
    """In the phase of that number, with digits at hand."""
    module.on_prerequisites({"teacher": source})
    data = build_datamodule(configuration("model=few_shot_fitnet", "data=digits"))
    for index in range(phase + 1):
        module.phase_index = index
        module.on_phase_start(images_of(data))
        if index < phase:
            module.on_phase_end(None, data)  # type: ignore[arg-type]
    return module.train()


def test_a_hint_is_the_mean_squared_difference_behind_its_regressor() -> None:
    source = teacher(plain_cnn(4))
    module, x = begun(student(), source).eval(), images(5)
    assert [tuple(one.weight.shape) for one in module.regressors] == [(4, 2, 1, 1), (8, 4, 1, 1)]
    own, target, expected = x, x, {}
    for number in range(2):
        own, target = module.network.blocks()[number](own), source.network.blocks()[number](target)
        expected[f"hint_block{number}"] = 5 * F.mse_loss(module.regressors[number](own), target)
    found = module.losses({"x": x})
    torch.testing.assert_close(found, expected | {"loss": sum(expected.values())})


def test_a_student_that_is_its_teacher_has_nothing_to_learn() -> None:
    source = teacher(plain_cnn(4))
    module = begun(student(plain_cnn(4)), source).eval()
    module.network.load_state_dict(source.network.state_dict())
    for regressor in module.regressors:
        torch.nn.init.dirac_(regressor.weight)
        torch.nn.init.zeros_(regressor.bias)
    assert module.losses({"x": images(5)})["loss"].detach() == 0.0


def test_hints_train_all_but_the_head_and_the_second_phase_the_plain_student() -> None:
    source = teacher(plain_cnn(4))
    before = {name: value.clone() for name, value in source.state_dict().items()}
    for phase in (0, 1):
        module = begun(student(), source, phase)
        module.training_step({"x": images(6)}, 0).backward()
        trained = {name for name, p in module.named_parameters() if p.requires_grad}
        names = {name for name, p in module.named_parameters() if p.grad is not None and p.grad.any()}
        assert names == trained
        head = {name for name in trained if "classifier" in name}
        extra = {name for name in trained if "regressors" in name}
        assert (len(head), len(extra)) == ((0, 4) if phase == 0 else (2, 0))
        assert all(p.grad is None for p in source.parameters())
    assert_same_weights(before, source.state_dict())


def test_the_second_phase_is_plain_distillation() -> None:
    source, x = teacher(plain_cnn(4)), images(6)
    module = begun(student(), source, 1).eval()
    expected = 6 * soft_target_loss(module(x), source(x), 4.0)
    torch.testing.assert_close(module.losses({"x": x}), {"loss": expected})


def test_it_begins_with_the_weights_of_plain_distillation() -> None:
    torch.manual_seed(0)
    plain = FewShotDistillation(**FACTS, **FEW, **ADAM, student=plain_cnn(2), epochs=3, temperature=4.0)
    assert_same_weights(plain.network.state_dict(), student().network.state_dict())


def test_a_run_leaves_the_plain_student_and_loads_without_a_teacher(tmp_path: Path) -> None:
    module, record = fitted(tmp_path, teacher(plain_cnn(4)), "few_shot_fitnet")
    assert record.epochs == {"hints": 2, "kd": 2}
    best = tmp_path / "checkpoints" / "best.ckpt"
    assert not [name for name in read_checkpoint(best)["state_dict"] if "regressors" in name]
    again = FewShotFitNet.load_from_checkpoint(best, weights_only=True)
    assert_same_weights(again.state_dict(), module.state_dict())


def test_networks_that_are_not_cut_alike_are_refused() -> None:
    deep = plain_cnn(4) | {"depth": 3}
    with pytest.raises(UserError, match="student has 3 blocks and the teacher has 4"):
        student().on_prerequisites({"teacher": teacher(deep)})
    whole = FACTS | {"in_channels": 3, "student": "torchvision/mobilenet_v3_small"}
    with pytest.raises(UserError, match=r"model\.student=torchvision/mobilenet_v3_small cannot be cut"):
        FewShotFitNet(**whole, **FEW, **ADAM, hint_epochs=2, epochs=3, temperature=4.0)
