"""Time a training step of a GAN in one stage against the usual two, for every scheme and loss.

    python -m benchmarks.osgan
    python -m benchmarks.osgan --device cuda --width 128 --batch 128 --precision bf16-mixed

DCGAN with GroupNorm in the discriminator. The framework's steps are those of ``model=osgan`` in Lightning's
loop, without averaged weights, which cost every scheme the same. "plain" is the usual loop in nothing but
torch; the same weights must come out of it before anything is timed. "without detach" forgets to detach the
images that the discriminator learns from, as some public code does.

Every candidate takes its turns right beside one stage with the same loss, so that what else the machine does
hits both alike; a ratio is the median over these pairs, with its quartiles. On the CPU the figures are CPU
time of one thread, on a GPU wall-clock time. The model counts a backward pass as two forward passes, measured
as g and d for a batch of the generator and of the discriminator; normalisation, optimiser and logging are not
in it.
"""

import argparse
import itertools
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn

from benchmarks.report import Table, add_arguments, write_report
from harness.figures import save_png
from harness.peak_memory import LiveBytes
from harness.run_log import quieten_libraries
from lightning_modules.osgan.losses import LOSSES
from lightning_modules.osgan.module import OSGAN
from lightning_modules.osgan.networks import Discriminator, Generator
from lightning_modules.osgan.noise import training_noise
from lightning_modules.osgan.scheme_pictures import draw_costs
from lightning_modules.osgan.schemes import SCHEMES

LATENT = 100
COLOURS = 3
STEPS = 2  # timed in one turn, after one that is not
PLAIN, NO_DETACH = "two_stage, plain torch", "two_stage without detach, plain torch"

Noise = Callable[[int, int], Tensor]


@dataclass(frozen=True)
class Setting:
    """What all candidates share.

    Attributes:
        size: pixels of a side.
        width: channels of both players at their widest map.
        batch: images of a step.
        device: ``cpu`` or ``cuda``.
        precision: ``32-true`` or ``bf16-mixed``.
    """

    size: int
    width: int
    batch: int
    device: str
    precision: str

    def module(self, scheme: str, loss: str) -> OSGAN:
        """The method as its YAML has it, at this size."""
        torch.manual_seed(0)
        arguments: dict[str, Any] = {
            "in_channels": COLOURS,
            "image_size": self.size,
            "num_classes": 1,
            "mean": [0.5] * COLOURS,
            "std": [0.5] * COLOURS,
            "scheme": scheme,
            "loss": loss,
            "form": "weighted",
            "floor": None,
            "network": "dcgan",
            "latent_dim": LATENT,
            "generator_width": self.width,
            "discriminator_width": self.width,
            "norm": "group",
            "norm_groups": math.gcd(32, 2 * self.width),
            "class_weight": 1.0,
            "weight_clip": 0.01,
            "ema": None,
            "lr_generator": 2e-4,
            "lr_discriminator": 1e-4,
            "optimizer": {"name": "Adam", "betas": [0.5, 0.999]},
            "scheduler": None,
            "num_samples": 1,
            "num_predicted": 1,
            "seed": 0,
        }
        return OSGAN(**arguments)

    def images(self) -> Tensor:
        """Real images of a batch, ``[batch, 3, size, size]`` in [-1, 1]."""
        generator = torch.Generator().manual_seed(0)
        return (torch.rand(self.batch, COLOURS, self.size, self.size, generator=generator) * 2 - 1).to(
            self.device
        )

    def clock(self) -> float:
        """Seconds of the device's work; waits for a GPU."""
        if self.device == "cpu":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()


class Watch(Callback):
    """Times the steps of a fit after its first."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._started = self._ended = 0.0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 1:
            self._started = self._clock()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == STEPS:
            self._ended = self._clock()

    @property
    def seconds(self) -> float:
        """Of one step."""
        return (self._ended - self._started) / STEPS


class Peak(Callback):
    """The most memory in use at a time within the second step of a fit, beyond what was there before."""

    def __init__(self, device: str) -> None:
        self.megabytes = 0.0
        self._before = 0
        self._storages = LiveBytes() if device == "cpu" else None

    def begin(self, *networks: nn.Module) -> None:
        """Begins to measure, without the gradients of the step before."""
        for network in networks:
            network.zero_grad(set_to_none=True)
        if self._storages is not None:
            self._storages.__enter__()
        else:
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()

    def end(self) -> None:
        """Notes the most since :meth:`begin`."""
        if self._storages is not None:
            self._storages.__exit__(None, None, None)
            self.megabytes = self._storages.peak / 1e6
        else:
            self.megabytes = (torch.cuda.max_memory_allocated() - self._before) / 1e6

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 1:
            self.begin(pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == 1:
            self.end()


@dataclass(frozen=True)
class Batches:
    """The same batch so many times; of a list Lightning would make a loader each."""

    batch: dict[str, Tensor]
    number: int

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        return itertools.repeat(self.batch, self.number)


class Framework:
    """A candidate that trains in Lightning's loop."""

    def __init__(self, setting: Setting, scheme: str, loss: str) -> None:
        self.setting = setting
        self.module = setting.module(scheme, loss).to(setting.device)
        self._batch = {"x": setting.images()}

    def seconds(self) -> float:
        """Of one step."""
        watch = Watch(self.setting.clock)
        self.train(1 + STEPS, watch)
        return watch.seconds

    def train(self, steps: int, *callbacks: Callback) -> None:
        """So many steps with fresh optimisers."""
        trainer = Trainer(
            accelerator="gpu" if self.setting.device == "cuda" else "cpu",
            devices=1,
            precision=self.setting.precision,  # type: ignore[arg-type]
            max_epochs=1,
            limit_val_batches=0,
            log_every_n_steps=1,
            callbacks=list(callbacks),
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        batches = Batches(self._batch, steps)
        trainer.fit(self.module, batches, val_dataloaders=batches)


class Plain:
    """The usual loop: D learns from real and generated images, then G from new ones.

    Args:
        setting: sizes and device.
        loss: key of :data:`LOSSES`.
        detach: cut the discriminator's images off from the generator.
        noise: (step, stage) to ``[batch, LATENT]``; None draws as usual, on the device.
    """

    def __init__(self, setting: Setting, loss: str, *, detach: bool, noise: Noise | None = None) -> None:
        self.setting = setting
        self.detach = detach
        self.noise = noise
        self.loss = LOSSES[loss]
        module = setting.module("two_stage", loss).to(setting.device)
        self.generator: Generator = module.generator
        self.discriminator: Discriminator = module.discriminator
        self.images = setting.images()

    def seconds(self) -> float:
        """Of one step."""
        marks = list(self.steps(1 + STEPS))
        return (marks[STEPS] - marks[0]) / STEPS

    def train(self, steps: int) -> None:
        """So many steps with fresh optimisers."""
        for _ in self.steps(steps):
            pass

    def steps(self, steps: int) -> Iterator[float]:
        """Trains, and tells the time after each step."""
        rates = ((self.generator, 2e-4), (self.discriminator, 1e-4))
        of_g, of_d = (torch.optim.Adam(n.parameters(), lr=lr, betas=(0.5, 0.999)) for n, lr in rates)
        for step in range(steps):
            with self._autocast():
                fake = self._make(step, 0)
                if self.detach:
                    fake = fake.detach()
                loss_d = self.loss.real(self._judge(self.images)).mean()
                loss_d = loss_d + self.loss.fake(self._judge(fake)).mean()
            of_d.zero_grad()
            loss_d.backward()
            of_d.step()
            with self._autocast():
                loss_g = self.loss.generator(self._judge(self._make(step, 1))).mean()
            of_g.zero_grad()
            loss_g.backward()
            of_g.step()
            yield self.setting.clock()

    def _make(self, step: int, stage: int) -> Tensor:
        if self.noise is None:
            z = torch.randn(self.setting.batch, LATENT, device=self.setting.device)
        else:
            z = self.noise(step, stage).to(self.setting.device)
        return self.generator(z)

    def _judge(self, images: Tensor) -> Tensor:
        return self.discriminator(images).float()

    def _autocast(self) -> torch.autocast:
        is_mixed = self.setting.precision != "32-true"
        return torch.autocast(self.setting.device, torch.bfloat16, enabled=is_mixed)


def check(setting: Setting) -> None:
    """Raises AssertionError unless plain loop and framework train the same weights in two stages."""
    ours = Framework(setting, "two_stage", "non_saturating")
    ours.train(2)

    def noise(step: int, stage: int) -> Tensor:
        return training_noise(0, step, stage, setting.batch, LATENT)[0]

    plain = Plain(setting, "non_saturating", detach=True, noise=noise)
    plain.train(2)
    tolerance = 1e-5 if setting.precision == "32-true" else 1e-3
    for name in ("generator", "discriminator"):
        networks = (getattr(candidate, name) for candidate in (ours.module, plain))
        for one, other in zip(*(network.parameters() for network in networks), strict=True):
            # Adam makes a full step of what is rounding alone, such as the bias before a norm
            share = ((one - other).abs() > tolerance).float().mean()
            assert share < 0.05 or one.dim() == 1, f"{name}: {share:.0%} of the weights differ"


def candidates(setting: Setting) -> dict[tuple[str, str], Framework | Plain]:
    """By scheme and loss."""
    default = "non_saturating"
    found: dict[tuple[str, str], Framework | Plain] = {
        (scheme, default): Framework(setting, scheme, default) for scheme in SCHEMES
    }
    found[NO_DETACH, default] = Plain(setting, default, detach=False)
    found[PLAIN, default] = Plain(setting, default, detach=True)
    for loss in LOSSES:
        for scheme in ("one_stage", "two_stage"):
            if (scheme, loss) not in found:
                found[scheme, loss] = Framework(setting, scheme, loss)
    return found


def forward_seconds(setting: Setting, network: Callable[[Tensor], Tensor], x: Tensor) -> float:
    """Of one forward pass in training."""
    started = setting.clock()
    with torch.autocast(setting.device, torch.bfloat16, enabled=setting.precision != "32-true"):
        network(x)
    return setting.clock() - started


def modelled(g: float, d: float) -> dict[str, float]:
    """Cost of a step by candidate, from forward passes of G (g) and D (d) on a batch."""
    return {
        "one_stage": 3 * g + 6 * d,
        "two_stage": 4 * g + 9 * d,
        "two_stage_lean": 4 * g + 8 * d,
        "two_stage_reuse": 3 * g + 8 * d,
        "simultaneous": 3 * g + 8 * d,
        NO_DETACH: 6 * g + 9 * d,
        PLAIN: 4 * g + 9 * d,
    }


def peak_megabytes(setting: Setting, candidate: Framework | Plain) -> float:
    """The most that torch holds at a time in a step beyond weights and optimisers: activations, gradients."""
    peak = Peak(setting.device)
    if isinstance(candidate, Framework):
        candidate.train(2, peak)
    else:
        steps = candidate.steps(2)
        next(steps)
        peak.begin(candidate.generator, candidate.discriminator)
        next(steps)
        peak.end()
    return peak.megabytes


def measure(setting: Setting, rounds: int) -> tuple[list[dict[str, Any]], float, float]:
    """A row a candidate, and the milliseconds g and d of the model.

    Args:
        setting: sizes and device.
        rounds: turns of every candidate, 2 or more.
    """
    runs = candidates(setting)
    memory = {key: peak_megabytes(setting, candidate) for key, candidate in runs.items()}
    plain, z = Plain(setting, "non_saturating", detach=True), torch.randn(setting.batch, LATENT)
    z, forward = z.to(setting.device), {"g": [], "d": []}  # type: ignore[var-annotated]
    seconds: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    ratios: dict[tuple[str, str], list[float]] = {key: [] for key in runs}
    for number in range(rounds):
        for key in runs:
            # each right beside one stage, before it or after it by turns
            pair = [key, ("one_stage", key[1])] if key[0] != "one_stage" else [key]
            found = {each: runs[each].seconds() for each in pair[:: 1 if number % 2 else -1]}
            for each, took in found.items():
                seconds[each].append(took)
            ratios[key].append(found[key] / found[pair[-1]])
        for _ in range(3):
            forward["g"].append(forward_seconds(setting, plain.generator, z))
            forward["d"].append(forward_seconds(setting, plain.discriminator, plain.images))
    g, d = (statistics.median(forward[name]) for name in "gd")
    model = modelled(g, d)
    rows = []
    for scheme, loss in runs:
        step = statistics.median(seconds[scheme, loss])
        low, ratio, high = statistics.quantiles(ratios[scheme, loss])
        rows.append(
            {
                "scheme": scheme,
                "loss": loss,
                "ms a step": 1e3 * step,
                "images/s": setting.batch / step,
                "peak MB": memory[scheme, loss],
                "ratio to one_stage": ratio,
                "25 %": low,
                "75 %": high,
                "modelled": model[scheme] / model["one_stage"],
            }
        )
    return rows, 1e3 * g, 1e3 * d


def bars(rows: list[dict[str, Any]]) -> list[Mapping[str, Any]]:
    """What :func:`draw_costs` takes, of the loss with which all schemes were measured."""
    return [
        {
            "scheme": row["scheme"],
            "measured": row["ratio to one_stage"],
            "modelled": row["modelled"],
            "low": row["25 %"],
            "high": row["75 %"],
        }
        for row in rows
        if row["loss"] == "non_saturating" and row["scheme"] != PLAIN
    ]


def main() -> None:
    """Check, measure, print, write ``osgan.json`` and ``osgan.png``."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--rounds", type=int, default=15, help="measured rounds, 2 or more (default: 15)")
    parser.add_argument("--size", type=int, default=64, help="pixels of a side (default: 64)")
    parser.add_argument("--width", type=int, default=24, help="channels; the authors' are 128 (default: 24)")
    parser.add_argument("--batch", type=int, default=8, help="images of a step (default: 8)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="default: cpu")
    parser.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true")
    arguments = parser.parse_args()
    quieten_libraries(Path(tempfile.gettempdir()) / "tenfold-benchmarks")
    torch.set_num_threads(1)
    setting = Setting(arguments.size, arguments.width, arguments.batch, arguments.device, arguments.precision)
    check(setting)
    rows, g, d = measure(setting, arguments.rounds)
    on = "CPU time of one thread" if setting.device == "cpu" else torch.cuda.get_device_name()
    title = (
        f"A training step of DCGAN at {setting.size} pixels, width {setting.width}, batch {setting.batch},"
        f" {setting.precision}, {on}, medians of {arguments.rounds} rounds; forward passes g = {g:.3g} ms and"
        f" d = {d:.3g} ms"
    )
    write_report("osgan", [Table(title, rows)], arguments.output)
    save_png(draw_costs(bars(rows)), arguments.output / "osgan.png")


if __name__ == "__main__":
    main()
