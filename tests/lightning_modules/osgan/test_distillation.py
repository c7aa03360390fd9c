"""Distillation without data: exact in one stage, and truly without data."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from callbacks.savepoints import Savepoints
from datamodules.images import ImageDataModule
from harness.build import Run, build_callbacks, build_datamodule, build_loggers, build_module
from harness.errors import UserError
from harness.phases import fit_phases
from harness.savepoints import Savepoint, Stage, read_savepoint
from lightning_modules.image_classification.classifier import ImageClassifier
from lightning_modules.image_classification.networks import PlainCNN
from lightning_modules.osgan.distillation import DataFreeDistillation
from lightning_modules.osgan.distillation_steps import (
    SCHEMES,
    Form,
    Players,
    disagreement,
    generator_loss,
    gradient_ratio,
)
from lightning_modules.osgan.networks import Generator
from tests.small_runs import assert_same_weights, configuration

WORDS = (
    "model=osgan_dfkd",
    "data=digits",
    "data.num_train=128",
    "data.batch_size=32",
    "model.width=4",
    "model.generator_width=4",
    "model.latent_dim=6",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
    "model.norm=batch",
    "model.scheduler.total_iters=2",
)


def teacher(**keywords: Any) -> ImageClassifier:
    torch.manual_seed(1)
    settings: dict[str, Any] = {
        "in_channels": 1,
        "image_size": 8,
        "num_classes": 10,
        "network": {"name": "plain_cnn", "width": 4, "depth": 2, "norm": "batch", "dropout": 0.0},
        "weights": None,
        "fine_tune": True,
        "root": "",
        "cache": "",
        "label_smoothing": 0.0,
        "optimizer": {"name": "Adam", "lr": 0.01},
        "scheduler": None,
        "scheduler_interval": "epoch",
    }
    return ImageClassifier(**settings | keywords).eval().requires_grad_(False)


def module(*overrides: str) -> DataFreeDistillation:
    made = build_module(configuration(*WORDS, *overrides))
    assert isinstance(made, DataFreeDistillation)
    return made


def players(form: Form, dtype: torch.dtype = torch.float64, lr: float = 0.0) -> Players:
    """Players outside of Lightning; with ``lr`` 0 the gradients of a step stay to be looked at."""
    torch.manual_seed(0)
    networks = {"student": PlainCNN(1, 8, 10, 4, 2, "batch", 0.0), "generator": Generator(6, 1, 8, 4)}
    for network in networks.values():
        network.to(dtype).train()

    def clear(*names: str) -> None:
        for name in names:
            networks[name].zero_grad()

    def update(*names: str) -> None:
        for name in names if lr else ():
            for parameter in networks[name].parameters():
                assert parameter.grad is not None
                parameter.data -= lr * parameter.grad

    return Players(
        teacher().network.to(dtype),
        networks["student"],
        networks["generator"],
        form,
        student_steps=3,
        noise=lambda stage: torch.randn(8, 6, generator=torch.Generator().manual_seed(stage)).to(dtype),
        normalise=lambda images: 1.3 * images + 0.5,
        backward=lambda scalar, **keywords: scalar.backward(**keywords),
        clear=clear,
        update=update,
    )


def gradients(network: nn.Module) -> Tensor:
    found = [p.grad for p in network.parameters()]
    return torch.cat([gradient.flatten() for gradient in found if gradient is not None])


def relative(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm())


# --- mathematics


def test_the_ratio_is_the_slope_of_the_generator_s_loss() -> None:
    forms: tuple[Form, ...] = ("symmetric", "log")
    for form in forms:
        loss = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
        (slope,) = torch.autograd.grad(generator_loss(loss, form), loss)
        torch.testing.assert_close(gradient_ratio(loss, form), slope, rtol=1e-15, atol=0)
    torch.testing.assert_close(gradient_ratio(torch.tensor(1.0), "log"), torch.tensor(-0.5))
    assert disagreement(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -2.0]])).item() == 3.0


@pytest.mark.parametrize("form", ["symmetric", "log"])
def test_one_stage_gives_both_players_the_gradients_of_the_simultaneous_update(form: Form) -> None:
    one, reference = players(form), players(form)
    SCHEMES["one_stage"](one)
    SCHEMES["simultaneous"](reference)
    for name in ("student", "generator"):
        found, expected = (gradients(getattr(each, name)) for each in (one, reference))
        assert expected.norm() > 1e-6
        assert relative(found, expected) < 1e-12, f"{name}, under a student with batch normalisation"


def test_the_generator_climbs_where_the_student_descends() -> None:
    # against autograd of L itself, so that a sign lost in both schemes would show
    one = players("symmetric")
    SCHEMES["one_stage"](one)
    reference = players("symmetric")
    x = reference.normalise(reference.generator(reference.noise(0)))
    disagreement(reference.student(x), reference.teacher(x)).backward()
    assert relative(gradients(one.student), gradients(reference.student)) < 1e-12
    assert relative(gradients(one.generator), -gradients(reference.generator)) < 1e-12


class Passes:
    """Counts a network's forward and backward passes."""

    def __init__(self, network: nn.Module) -> None:
        self.forward = self.backward = 0
        network.register_forward_hook(self._count)

    def _count(self, network: nn.Module, inputs: Any, output: Tensor) -> None:
        self.forward += 1
        if output.requires_grad:
            output.register_hook(self._count_back)

    def _count_back(self, gradient: Tensor) -> None:
        self.backward += 1


@pytest.mark.parametrize(
    ("scheme", "student", "generator", "of_teacher"),
    [
        ("one_stage", (1, 1), (1, 1), (1, 1)),
        ("simultaneous", (1, 2), (1, 1), (1, 1)),
        ("two_stage", (4, 4), (4, 1), (4, 1)),  # three steps of the student, one of the generator
    ],
)
def test_a_step_has_no_pass_too_many(
    scheme: str, student: tuple[int, int], generator: tuple[int, int], of_teacher: tuple[int, int]
) -> None:
    game = players("log")
    counts = [Passes(network) for network in (game.student, game.generator, game.teacher)]
    SCHEMES[scheme](game)
    assert [(count.forward, count.backward) for count in counts] == [student, generator, of_teacher]
    assert all(parameter.grad is None for parameter in game.teacher.parameters())


def test_two_stages_train_the_student_k_times_and_then_the_generator() -> None:
    updates: list[tuple[str, ...]] = []
    seen: list[Tensor] = []
    game = players("symmetric")

    def noise(stage: int) -> Tensor:
        seen.append(game.noise(stage))
        return seen[-1]

    noted = replace(game, noise=noise, update=lambda *names: updates.append(names))
    found = SCHEMES["two_stage"](noted)
    assert updates == [("student",)] * 3 + [("generator",)]
    assert len({tuple(z.flatten().tolist()) for z in seen}) == 4, "new noise every time"
    assert len(found) == 3
    # the last backward pass is that of G's loss
    x = game.normalise(game.generator(game.noise(3)))
    expected = torch.autograd.grad(
        -disagreement(game.student(x), game.teacher(x)), list(game.generator.parameters())
    )
    assert relative(gradients(game.generator), torch.cat([g.flatten() for g in expected])) < 1e-12


def test_a_few_steps_of_the_student_alone_bring_it_nearer_to_the_teacher() -> None:
    game = replace(players("symmetric", torch.float32, lr=0.02), student_steps=40)
    losses = [float(each.loss.detach()) for each in SCHEMES["two_stage"](game)]
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


# --- in the harness


class Teaching(Callback):
    """Gives the module its teacher before each fit, as ``harness/run.py`` does from ``requires``."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        assert isinstance(pl_module, DataFreeDistillation)
        pl_module.on_prerequisites({"teacher": teacher()})


def fitted(
    folder: Path,
    *overrides: str,
    savepoints: Savepoints | None = None,
    savepoint: Savepoint | None = None,
    spoil: Callable[[ImageDataModule], None] | None = None,
) -> Run:
    config = configuration(*WORDS, *overrides, "~callbacks.savepoints")
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    data, made = build_datamodule(config), build_module(config)
    assert isinstance(data, ImageDataModule)
    if spoil is not None:
        spoil(data)
    callbacks = [*build_callbacks(config["callbacks"]), Teaching(), *([savepoints] if savepoints else [])]
    run = Run(config, folder, made, data, callbacks, build_loggers(config["logger"], folder))
    fit_phases(run, savepoint)
    return run


SCHEME_WORDS = {
    "one_stage": ("model.scheme=one_stage", "model.form=log"),
    "two_stage": ("model.scheme=two_stage", "model.student_steps=2"),
}


@pytest.mark.parametrize("scheme", SCHEME_WORDS)
def test_neither_pixels_nor_labels_nor_the_global_generator_matter(scheme: str, tmp_path: Path) -> None:
    def spoil(data: ImageDataModule) -> None:
        train = data.splits["train"]
        images = torch.randint_like(train.images, data.max_pixel + 1)
        data.splits["train"] = replace(train, images=images, labels=train.labels.flip(0))
        torch.manual_seed(12345)

    plain = fitted(tmp_path / "plain", *SCHEME_WORDS[scheme])
    spoilt = fitted(tmp_path / "spoilt", *SCHEME_WORDS[scheme], spoil=spoil)
    assert_same_weights(plain.module.state_dict(), spoilt.module.state_dict())
    again = fitted(tmp_path / "again", *SCHEME_WORDS[scheme], "seed=1").module.state_dict()
    assert not torch.equal(
        again["network.classifier.weight"], plain.module.state_dict()["network.classifier.weight"]
    )


class KeepingSavepoints(Savepoints):
    """Keeps a copy of the run folder at every savepoint: what a kill right after it would leave."""

    def __init__(self, copies: Path) -> None:
        super().__init__(0.0)
        self.copies = copies

    def save(self, trainer: Trainer, stage: Stage) -> None:
        super().save(trainer, stage)
        assert self.checkpoints is not None
        number = len(list(self.copies.iterdir())) if self.copies.exists() else 0
        shutil.copytree(self.checkpoints.parent, self.copies / f"{number:03d}")


@pytest.mark.parametrize("scheme", SCHEME_WORDS)
def test_a_run_that_goes_on_ends_bit_for_bit_as_an_unbroken_one(scheme: str, tmp_path: Path) -> None:
    words = (*SCHEME_WORDS[scheme], "data.num_train=96")
    keeping = KeepingSavepoints(tmp_path / "copies")
    unbroken = fitted(tmp_path / "run", *words, savepoints=keeping)
    copies = sorted(keeping.copies.iterdir())
    assert len(copies) == 6, "after each batch but an epoch's last, after the first epoch, at the end"
    for copy_ in copies[1:5:2]:
        savepoint = read_savepoint(copy_ / "checkpoints")
        assert savepoint is not None
        again = fitted(copy_, *words, savepoints=Savepoints(0.0), savepoint=savepoint)
        assert_same_weights(again.module.state_dict(), unbroken.module.state_dict())


def test_an_epoch_reports_the_game_and_the_student_alone_is_saved_and_loaded(tmp_path: Path) -> None:
    run = fitted(tmp_path)
    head, *rows = (tmp_path / "metrics.csv").read_text(encoding="utf-8").splitlines()
    assert set(DataFreeDistillation.epoch_metrics) - {"train/loss_scale"} <= set(head.split(","))
    assert rows
    assert isinstance(run.module, DataFreeDistillation)
    assert not [name for name in run.module.state_dict() if "teacher" in name]
    again = DataFreeDistillation.load_from_checkpoint(
        tmp_path / "checkpoints" / "best.ckpt", weights_only=True
    )
    assert_same_weights(again.state_dict(), run.module.state_dict())
    assert again.hparams == run.module.hparams
    assert "dropout" not in again.hparams
    names = [name for name, _ in run.module.figures(run.datamodule, None)]
    assert names == ["confusion", "mistakes", "samples"]


def test_a_step_moves_every_parameter_of_both_players_and_nothing_of_the_teacher(tmp_path: Path) -> None:
    before, source = module().state_dict(), teacher().state_dict()
    taken: list[ImageClassifier] = []

    class Look(Callback):
        def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
            assert isinstance(pl_module, DataFreeDistillation)
            taken.extend(pl_module._teacher)

    config = configuration(*WORDS, "+trainer.limit_train_batches=1", "trainer.max_epochs=1")
    (tmp_path / "checkpoints").mkdir()
    made = build_module(config)
    callbacks = [*build_callbacks(config["callbacks"]), Teaching(), Look()]
    fit_phases(
        Run(
            config,
            tmp_path,
            made,
            build_datamodule(config),
            callbacks,
            build_loggers(config["logger"], tmp_path),
        )
    )
    for name, parameter in made.named_parameters():
        if "generator.layers" in name and name.endswith("bias") and "layers.0." in name:
            continue  # batch normalisation takes it away: its gradient is rounding
        assert not torch.equal(parameter, before[name]), name
    assert_same_weights(taken[0].state_dict(), source)
    assert not taken[0].training


def test_generated_images_are_normalised_as_the_data_s_own() -> None:
    config = configuration(*WORDS)
    data = build_datamodule(config)
    assert isinstance(data, ImageDataModule)
    images = torch.rand(2, 1, 8, 8) * 2 - 1
    torch.testing.assert_close(module().normalise(images), data.normalise((images + 1) / 2))


def test_one_optimiser_for_both_players_in_one_stage_and_one_each_in_two() -> None:
    one, schedulers = module("model.lr_student=0.5", "model.lr_generator=0.25").configure_optimizers()
    assert [[group["lr"] for group in each.param_groups] for each in one] == [[0.5, 0.25]]
    assert len(schedulers) == 1
    two = module("model.scheme=two_stage").configure_optimizers()
    assert [len(part) for part in two] == [2, 2]


def test_each_player_s_gradient_is_cut_by_itself() -> None:
    made = module()
    made.gradient_clip_val, made.gradient_clip_algorithm = 1.0, "norm"
    ((optimizer,), _) = made.configure_optimizers()
    for network, size in ((made.network, 100.0), (made.generator, 1e-6)):
        for parameter in network.parameters():
            parameter.grad = torch.full_like(parameter, size)
    made.on_before_optimizer_step(optimizer)
    assert gradients(made.network).norm().item() == pytest.approx(1.0, rel=1e-4)
    assert torch.equal(gradients(made.generator), torch.full_like(gradients(made.generator), 1e-6))


def test_mistakes_are_told_in_one_line() -> None:
    with pytest.raises(UserError, match=r"requires\.teacher was trained with num_classes=5, this run has"):
        module().on_prerequisites({"teacher": teacher(num_classes=5)})
    with pytest.raises(UserError, match=r"model\.optimizer\.lr=0\.1: each player has a learning rate"):
        module("+model.optimizer.lr=0.1")
    with pytest.raises(UserError, match=r"model\.mean=\[0\.1, 0\.2\] must have one number per colour, 1\."):
        module("model.mean=[0.1, 0.2]")
    with pytest.raises(RuntimeError, match="no teacher"):
        module().training_step({"y": torch.zeros(2)}, 0)
