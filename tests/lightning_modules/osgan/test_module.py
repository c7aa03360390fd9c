"""Training of a GAN: all schemes and networks, averages, clipping, resume, precision, samples."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.plugins import MixedPrecision
from torch import Tensor

from callbacks.best_weights import BestWeights
from callbacks.epoch_metrics import EpochMetricsCallback
from harness.build import build_datamodule, build_module
from harness.savepoints import read_savepoint
from lightning_modules.osgan.module import OSGAN
from lightning_modules.osgan.networks import Generator
from lightning_modules.osgan.schemes import SCHEMES, Players
from tests.lightning_modules.osgan.players import LATENT, networks, noise, real_images
from tests.small_runs import FittedRun, assert_same_weights, configuration, fit

SMALL = (
    "model=osgan",
    "data=bumps16",
    "data.num_train=64",
    "data.num_val=32",
    "model.generator_width=4",
    "model.discriminator_width=8",
    "model.num_samples=16",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=1",
)


def small(folder: Path, *words: str, extra: Any = ()) -> FittedRun:
    return fit(folder, *SMALL, *words, extra=extra)


def osgan(run: FittedRun) -> OSGAN:
    assert isinstance(run.module, OSGAN)
    return run.module


class Rows(EpochMetricsCallback):
    """Metrics of each epoch."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_epoch_metrics(
        self, trainer: Trainer, pl_module: LightningModule, epoch: int, metrics: Mapping[str, float]
    ) -> None:
        self.rows.append(dict(metrics))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_scheme_trains_both_players(tmp_path: Path, scheme: str) -> None:
    rows = Rows()
    run = small(tmp_path, f"model.scheme={scheme}", extra=[rows])
    fresh = build_module(run.config)
    for name, parameter in osgan(run).named_parameters():
        before = fresh.get_parameter(name)
        # a bias before a norm has no effect
        in_vain = name.endswith(".bias") and torch.equal(parameter, before)
        assert in_vain or not torch.equal(parameter, before), name
    assert set(OSGAN.epoch_metrics) >= set(rows.rows[-1])
    assert {"train/loss_g", "train/below_minus_14", "train/grad_norm_d", "val/fd_bumps"} <= set(rows.rows[-1])
    # only one stage multiplies a gradient, and only there a slope is floored
    of_one_stage = {"train/gamma_low", "train/gamma_median", "train/gamma_high", "train/floored"}
    assert of_one_stage & set(rows.rows[-1]) == (of_one_stage if scheme == "one_stage" else set())
    assert all(torch.tensor(list(row.values())).isfinite().all() for row in rows.rows)
    found = run.test()
    assert {"test/fd_bumps", "test/modes", "test/on_mode"} == set(found)


@pytest.mark.parametrize("loss", ["minimax", "wgan", "lsgan", "hinge"])
def test_every_loss_trains(tmp_path: Path, loss: str) -> None:
    rows = Rows()
    module = osgan(small(tmp_path, f"model.loss={loss}", extra=[rows]))
    assert all(torch.isfinite(p).all() for p in module.parameters())
    largest = max(float(p.detach().abs().max()) for p in module.discriminator.parameters())
    assert (largest <= 0.01 + 1e-7) is (loss == "wgan")
    if loss in ("minimax", "wgan"):
        assert rows.rows[-1]["train/gamma_low"] == rows.rows[-1]["train/gamma_high"] == -1


@pytest.mark.parametrize("network", ["sngan", "cgan", "acgan"])
def test_every_network_trains(tmp_path: Path, network: str) -> None:
    scheme = "two_stage_lean" if network == "acgan" else "one_stage"
    module = osgan(small(tmp_path, f"model.network={network}", f"model.scheme={scheme}"))
    assert (module.classes == 8) is (network != "sngan")
    assert module.sample(3).shape == (3, 1, 16, 16)


def test_schemes_see_the_same_noise_and_images_whatever_counts_their_steps(tmp_path: Path) -> None:
    """With a learning rate of next to nothing all schemes report the same losses."""
    rates = ("model.lr_generator=1e-12", "model.lr_discriminator=1e-12")
    words = (*rates, "model.optimizer.name=SGD", "~model.optimizer.betas")
    found: dict[str, list[float]] = {}
    for scheme in ("one_stage", "two_stage", "two_stage_reuse", "simultaneous"):
        rows = Rows()
        small(tmp_path / scheme, f"model.scheme={scheme}", *words, extra=[rows])
        found[scheme] = [row[f"train/{name}"] for row in rows.rows for name in ("loss_real", "loss_fake")]
    for scheme, losses in found.items():
        assert losses == pytest.approx(found["one_stage"], rel=1e-5), scheme


def test_one_stage_is_the_simultaneous_update(tmp_path: Path) -> None:
    runs = [
        osgan(small(tmp_path / scheme, f"model.scheme={scheme}", "hardware.precision=64-true"))
        for scheme in ("one_stage", "simultaneous")
    ]
    for one, other in zip(*(run.parameters() for run in runs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


def test_one_optimiser_with_two_groups_equals_two(tmp_path: Path) -> None:
    module = osgan(small(tmp_path))
    (optimizer,) = module.configure_optimizers()
    assert [group["player"] for group in optimizer.param_groups] == ["generator", "discriminator"]
    assert [group["lr"] for group in optimizer.param_groups] == [0.001, 0.001]
    weights = [torch.ones(2), torch.ones(3)]
    together, apart = ([torch.nn.Parameter(weight.clone()) for weight in weights] for _ in range(2))
    one = [
        torch.optim.Adam([{"params": [p], "lr": lr} for p, lr in zip(together, (1e-2, 1e-3), strict=True)])
    ]
    two = [torch.optim.Adam([p], lr=lr) for p, lr in zip(apart, (1e-2, 1e-3), strict=True)]
    for step in range(5):
        for parameters, optimizers in ((together, one), (apart, two)):
            for parameter in parameters:
                parameter.grad = torch.full_like(parameter, 0.3 * (step + 1))
            for each in optimizers:
                each.step()
    assert all(torch.equal(a, b) for a, b in zip(together, apart, strict=True))


def test_samples_come_from_the_average_and_are_a_fixed_row(tmp_path: Path) -> None:
    module = osgan(small(tmp_path, "model.ema=0.9"))
    assert module.averaged is not None
    assert not any(p.requires_grad for p in module.averaged.parameters())
    assert not torch.equal(module.averaged.layers[0].weight, module.generator.layers[0].weight)  # type: ignore[arg-type]
    images = module.sample(70)
    assert images.shape == (70, 1, 16, 16)
    assert images.min() >= 0
    assert images.max() <= 1
    torch.testing.assert_close(module.sample(3, first=66), images[66:69])
    averaged = copy.deepcopy(module)
    averaged.averaged = None
    assert not torch.allclose(averaged.sample(3), images[:3])


@pytest.mark.parametrize("normalisation", [("0.5", "0.5"), ("0.305", "0.376")])
def test_the_data_s_normalisation_is_undone(tmp_path: Path, normalisation: tuple[str, str]) -> None:
    mean, std = normalisation
    run = small(tmp_path, f"data.mean=[{mean}]", f"data.std=[{std}]", "trainer.max_epochs=1")
    data: Any = run.datamodule
    x = next(iter(data.loader("train")))["x"]
    pixels = data.splits["train"].images.float() / 255
    torch.testing.assert_close(osgan(run)._as_generated(x), 2 * pixels[: len(x)] - 1, rtol=0, atol=1e-5)


def test_each_player_is_clipped_by_itself(tmp_path: Path) -> None:
    seen: list[list[float]] = []

    class Norms(Callback):
        def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
            players = [pl_module.generator.parameters(), pl_module.discriminator.parameters()]
            seen.append(
                [float(torch.nn.utils.get_total_norm([p.grad for p in list(player)])) for player in players]
            )

    small(tmp_path, "trainer.gradient_clip_val=0.01", "trainer.max_epochs=1", extra=[Norms()])
    assert seen
    assert all(norm == pytest.approx(0.01, rel=1e-3) for norms in seen for norm in norms)


def test_a_schedule_steps_once_an_epoch(tmp_path: Path) -> None:
    rates: list[list[float]] = []

    class Rates(Callback):
        def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
            rates.append([group["lr"] for each in trainer.optimizers for group in each.param_groups])

    schedule = "model.scheduler={name: MultiStepLR, milestones: [1], gamma: 0.1}"
    for scheme in ("one_stage", "two_stage"):
        rates.clear()
        small(tmp_path / scheme, schedule, f"model.scheme={scheme}", extra=[Rates()])
        assert rates == [[0.001, 0.001], [pytest.approx(1e-4), pytest.approx(1e-4)]]


class StopAt(Callback):
    """Ends the process's run at a batch, as a kill would, after the savepoint of that batch."""

    def __init__(self, batch: int) -> None:
        self.left = batch

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.left -= 1
        if self.left < 0:
            raise InterruptedError


@pytest.mark.parametrize(("scheme", "batch"), [("one_stage", 1), ("two_stage", 2), ("one_stage", 3)])
def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path, scheme: str, batch: int) -> None:
    from harness.build import Run, build_callbacks, build_datamodule, build_loggers
    from harness.phases import fit_phases

    words = (
        f"model.scheme={scheme}",
        "model.ema=0.9",
        "callbacks.savepoints.every_seconds=0",
        "trainer.max_epochs=3",
    )
    whole = small(tmp_path / "whole", *words)
    with pytest.raises(InterruptedError):
        small(tmp_path / "killed", *words, extra=[StopAt(batch)])
    savepoint = read_savepoint(tmp_path / "killed" / "checkpoints")
    assert savepoint is not None
    config = configuration(*SMALL, *words)
    again = Run(
        config,
        tmp_path / "killed",
        build_module(config),
        build_datamodule(config),
        build_callbacks(config["callbacks"]),
        build_loggers(config["logger"], tmp_path / "killed"),
    )
    fit_phases(again, savepoint)
    assert_same_weights(again.module.state_dict(), whole.weights)
    assert [epoch for epoch, _ in again.module._history] == [1, 2, 3]  # type: ignore[attr-defined]


def test_mixed_precision_on_the_cpu_trains(tmp_path: Path) -> None:
    rows = Rows()
    small(tmp_path, "hardware.precision=bf16-mixed", extra=[rows])
    full = Rows()
    small(tmp_path / "full", extra=[full])
    assert rows.rows[0]["train/loss_real"] == pytest.approx(full.rows[0]["train/loss_real"], rel=0.05)


def test_a_gradient_scaler_s_factor_is_logged(tmp_path: Path) -> None:
    config = configuration(*SMALL, "trainer.max_epochs=1")
    found = {}
    for precision in ("16-mixed", "bf16-mixed"):
        scaler = torch.amp.GradScaler("cpu", init_scale=64.0) if precision == "16-mixed" else None
        plugin = MixedPrecision(precision, "cpu", scaler)  # type: ignore[arg-type]
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=1,
            plugins=[plugin],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(build_module(config), datamodule=build_datamodule(config))
        found[precision] = trainer.callback_metrics
    assert found["16-mixed"]["train/loss_scale"] == 64.0
    assert "train/loss_scale" not in found["bf16-mixed"]
    assert "train/loss_scale" in OSGAN.epoch_metrics


def test_the_speed_is_told_beside_the_seconds_and_not_among_the_metrics(tmp_path: Path) -> None:
    rows = Rows()
    run = small(tmp_path, "data.batch_size=32", "trainer.max_epochs=3", extra=[rows])
    timings = run.record.timings
    assert 0 < timings["step"] < run.record.seconds["fit"]
    assert timings["images_per_second"] == pytest.approx(32 / timings["step"])
    assert not any("second" in name or "step" in name for name in rows.rows[-1])


def test_one_step_alone_tells_no_speed(tmp_path: Path) -> None:
    run = small(tmp_path, "data.batch_size=64", "trainer.max_epochs=1")
    assert run.record.timings == {}


def test_the_last_weights_are_tested_and_nothing_is_chosen(tmp_path: Path) -> None:
    run = small(tmp_path)
    best = next(callback for callback in run.callbacks if isinstance(callback, BestWeights))
    assert best.best_epoch == -1


def stepped(scheme: str, scale: float | None, overflow: bool = False) -> tuple[list[Tensor], float]:
    """Weights after two steps of SGD, under a gradient scaler unless ``scale`` is None."""
    generator, discriminator = networks()
    generator, discriminator = generator.float(), discriminator.float()
    groups = [{"params": generator.parameters()}, {"params": discriminator.parameters()}]
    optimizer = torch.optim.SGD(groups, lr=0.1)
    scaler = torch.amp.GradScaler(
        "cpu", init_scale=scale or 1.0, growth_interval=1, enabled=scale is not None
    )

    def backward(loss: Tensor, **keywords: Any) -> None:
        scaler.scale(loss * (float("inf") if overflow else 1.0)).backward(**keywords)

    def update(*players: str) -> None:
        assert len(players) == 2
        scaler.step(optimizer)
        scaler.update()

    from lightning_modules.osgan.losses import LOSSES

    players = Players(
        generator,
        discriminator,
        LOSSES["non_saturating"],
        0.0,
        "weighted",
        1.0,
        lambda stage: (noise(stage).float(), None),
        backward,
        lambda *_: optimizer.zero_grad(),
        update,
    )
    for _ in range(2):
        SCHEMES[scheme](players, real_images().float(), None)
    return [p.detach() for p in (*generator.parameters(), *discriminator.parameters())], scaler.get_scale()


def test_a_growing_scale_changes_no_update() -> None:
    plain, _ = stepped("one_stage", None)
    scaled, scale = stepped("one_stage", 1024.0)
    assert scale == 4096.0  # grown twice
    for one, other in zip(plain, scaled, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-7)


def test_an_overflow_skips_both_players() -> None:
    before = [*networks()[0].float().parameters(), *networks()[1].float().parameters()]
    after, scale = stepped("one_stage", 1024.0, overflow=True)
    assert scale == 256.0  # halved twice
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")
def test_compiled_networks_have_the_gradients_of_eager_ones() -> None:
    def weights(compiled: bool) -> list[Tensor]:
        from lightning_modules.osgan.losses import LOSSES

        generator, discriminator = (network.float() for network in networks())
        if compiled:
            generator.compile(backend="aot_eager")
            discriminator.compile(backend="aot_eager")
        optimizer = torch.optim.SGD([*generator.parameters(), *discriminator.parameters()], lr=0.1)
        players = Players(
            generator,
            discriminator,
            LOSSES["non_saturating"],
            0.0,
            "weighted",
            1.0,
            lambda stage: (noise(stage).float(), None),
            lambda loss, **keywords: loss.backward(**keywords),
            lambda *_: optimizer.zero_grad(),
            lambda *_: optimizer.step(),
        )
        SCHEMES["one_stage"](players, real_images().float(), None)
        return [p.detach() for p in (*generator.parameters(), *discriminator.parameters())]

    for one, other in zip(weights(False), weights(True), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_a_generator_in_evaluation_leaves_its_statistics_alone(tmp_path: Path) -> None:
    module = osgan(small(tmp_path, "model.ema=null"))
    module.train()
    before = copy.deepcopy(module.state_dict())
    module.sample(5)
    assert_same_weights(module.state_dict(), before)
    assert module.generator.training
    assert isinstance(module.sampler, Generator)
    assert module.sampler.latent_dim == 16 != LATENT
