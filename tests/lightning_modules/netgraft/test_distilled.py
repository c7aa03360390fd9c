"""Plain distillation from few images: its loss, what it moves, and what it leaves behind."""

from pathlib import Path

import pytest
import torch

from harness.errors import UserError
from lightning_modules.image_classification.losses import soft_target_loss
from lightning_modules.netgraft.distilled import FewShotDistillation
from tests.lightning_modules.netgraft.few_shot_runs import (
    ADAM,
    FACTS,
    FEW,
    fitted,
    images,
    plain_cnn,
    teacher,
)
from tests.small_runs import assert_same_weights


def student(temperature: float = 4.0) -> FewShotDistillation:
    torch.manual_seed(0)
    return FewShotDistillation(
        **FACTS, **FEW, **ADAM, student=plain_cnn(2), epochs=3, temperature=temperature
    )


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_loss_is_that_of_softened_answers_summed_and_needs_no_labels(temperature: float) -> None:
    module, source, x = student(temperature), teacher(plain_cnn(4)), images(6)
    module.on_prerequisites({"teacher": source})
    found = module.losses({"x": x})
    expected = soft_target_loss(module(x), source(x), temperature)
    assert found.keys() == {"loss"}
    torch.testing.assert_close(found["loss"], 6 * expected)
    assert expected > 0


def test_one_step_moves_every_parameter_of_the_student_and_none_of_the_teacher() -> None:
    module, source = student(), teacher(plain_cnn(4))
    before = {name: value.clone() for name, value in source.state_dict().items()}
    module.on_prerequisites({"teacher": source})
    module.train()
    module.training_step({"x": images(6)}, 0).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
    assert all(p.grad is None for p in source.parameters())
    assert not source.training
    assert_same_weights(before, source.state_dict())


def test_a_run_has_the_epochs_that_the_model_says_on_the_few_images_alone(tmp_path: Path) -> None:
    source = teacher(plain_cnn(4))
    before = {name: value.clone() for name, value in source.state_dict().items()}
    module, record = fitted(tmp_path, source, "few_shot_kd", "model.epochs=4", "trainer.max_epochs=9")
    assert record.epochs == {"kd": 4}
    assert module.steps_before == 8, "30 images in batches of 19"
    assert_same_weights(before, source.state_dict())


def test_its_checkpoint_holds_the_plain_student_and_loads_without_a_teacher(tmp_path: Path) -> None:
    module, _ = fitted(tmp_path, teacher(plain_cnn(4)), "few_shot_kd")
    file = tmp_path / "checkpoints" / "best.ckpt"
    again = FewShotDistillation.load_from_checkpoint(file, weights_only=True)
    assert_same_weights(again.state_dict(), module.state_dict())
    assert all(name.startswith("network.") for name, _ in again.named_parameters())


def test_a_teacher_of_other_classes_is_refused() -> None:
    with pytest.raises(UserError, match=r"requires\.teacher was trained with num_classes=5"):
        student().on_prerequisites({"teacher": teacher(plain_cnn(4), num_classes=5)})
