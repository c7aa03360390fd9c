"""Learning from a teacher: what of it counts, and that it leaves no trace in the student."""

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.build import Run, build_callbacks, build_datamodule, build_loggers, build_module
from harness.errors import UserError
from harness.phases import fit_phases
from lightning_modules.image_classification.classifier import ImageClassifier
from lightning_modules.image_classification.distillation import Distillation
from lightning_modules.image_classification.losses import soft_target_loss
from lightning_modules.image_classification.module import Batch, ClassifierModule
from tests.small_runs import assert_same_weights, configuration

SHARED: dict[str, Any] = {
    "in_channels": 1,
    "image_size": 8,
    "num_classes": 10,
    "label_smoothing": 0.0,
    "optimizer": {"name": "Adam", "lr": 0.01},
    "scheduler": None,
    "scheduler_interval": "epoch",
}
PLAIN: dict[str, Any] = {"depth": 2, "norm": "batch", "dropout": 0.0}
STUDENT = SHARED | PLAIN | {"width": 2}


def teacher(**keywords: Any) -> ImageClassifier:
    torch.manual_seed(1)
    made = ImageClassifier(
        **SHARED | keywords,
        network={"name": "plain_cnn", "width": 4, **PLAIN},
        weights=None,
        fine_tune=True,
        root="",
        cache="",
    )
    return made.eval().requires_grad_(False)


def student(temperature: float = 4.0, alpha: float = 0.9) -> Distillation:
    torch.manual_seed(0)
    return Distillation(**STUDENT, temperature=temperature, alpha=alpha)


def random_batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    return {"x": torch.randn(6, 1, 8, 8, generator=generator), "y": torch.arange(6)}


def taught(alpha: float) -> torch.Tensor:
    module = student(alpha=alpha)
    module.on_prerequisites({"teacher": teacher()})
    return module.training_step(random_batch(), 0)


def test_the_loss_weighs_teacher_and_labels() -> None:
    batch = random_batch()
    logits, targets = student()(batch["x"]), teacher()(batch["x"])
    from_teacher = soft_target_loss(logits, targets, 4.0)
    from_labels = torch.nn.functional.cross_entropy(logits, batch["y"])
    torch.testing.assert_close(taught(1.0), from_teacher)
    torch.testing.assert_close(taught(0.0), from_labels)
    torch.testing.assert_close(taught(0.25), 0.25 * from_teacher + 0.75 * from_labels)


def test_one_step_moves_every_parameter_of_the_student_and_none_of_the_teacher() -> None:
    module, source = student(), teacher()
    before = {name: value.clone() for name, value in source.state_dict().items()}
    module.on_prerequisites({"teacher": source})
    module.train()
    module.training_step(random_batch(), 0).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in module.parameters())
    assert all(p.grad is None for p in source.parameters())
    assert not source.training
    assert_same_weights(before, source.state_dict())


def test_the_teacher_is_no_part_of_the_student() -> None:
    module, alone = student(), student()
    module.on_prerequisites({"teacher": teacher()})
    assert module.state_dict().keys() == alone.state_dict().keys()
    assert len(list(module.parameters())) == len(list(alone.parameters()))


def test_training_without_a_teacher_is_our_own_mistake() -> None:
    with pytest.raises(RuntimeError, match="no teacher"):
        student().training_step(random_batch(), 0)


def test_a_teacher_of_other_classes_or_of_another_kind_is_refused() -> None:
    with pytest.raises(UserError, match=r"requires\.teacher was trained with num_classes=5, this run has"):
        student().on_prerequisites({"teacher": teacher(num_classes=5)})
    other = build_module(configuration("model=gcn", "data=mini_citation"))
    with pytest.raises(UserError, match=r"requires\.teacher: GCNClassifier is no image classifier"):
        student().on_prerequisites({"teacher": other})


def fitted(folder: Path, model: str, *overrides: str) -> ClassifierModule:
    width = "model.network.width" if model == "classifier" else "model.width"
    words = (f"model={model}", "data=digits", f"{width}=4", "trainer.max_epochs=2", "data.batch_size=128")
    config = configuration(*words, "model.optimizer.lr=0.01", *overrides)
    (folder / "checkpoints").mkdir(parents=True)
    module = build_module(config)
    assert isinstance(module, ClassifierModule)
    module.on_prerequisites({"teacher": teacher()})
    data, callbacks = build_datamodule(config), build_callbacks(config["callbacks"])
    loggers = build_loggers(config["logger"], folder)
    fit_phases(Run(config, folder, module, data, callbacks, loggers))
    return module


def test_without_weight_the_teacher_changes_nothing(tmp_path: Path) -> None:
    plain = fitted(tmp_path / "plain", "classifier")
    distilled = fitted(tmp_path / "distilled", "distillation", "model.alpha=0.0")
    assert_same_weights(plain.state_dict(), distilled.state_dict())


def test_its_checkpoint_holds_the_student_alone_and_loads_without_a_teacher(tmp_path: Path) -> None:
    module = fitted(tmp_path, "distillation")
    again = Distillation.load_from_checkpoint(tmp_path / "checkpoints" / "best.ckpt", weights_only=True)
    assert_same_weights(again.state_dict(), module.state_dict())
    assert again.hparams == module.hparams
    assert again.hparams["alpha"] == 0.9
