"""Whole runs of NetGraft at K = 10, ours and its authors', with the time that each part of them takes."""

import statistics
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from benchmarks.authors_grafting import AuthorsGrafting, now, since
from callbacks.epoch_metrics import EpochMetricsCallback
from datamodules.images import ImageDataModule
from harness.build import Run, build_callbacks, build_datamodule, build_loggers, build_module
from harness.configuration.compose import compose
from harness.phases import fit_phases
from harness.prerequisites import provide
from lightning_modules.netgraft.module import NetGraft
from lightning_modules.netgraft.stages import STAGE1

Seconds = tuple[float, float]
"""Wall-clock and CPU."""

_PUBLISHED = (
    "model.student=vgg16_half",
    "model.stage1_epochs=[100, 60, 60]",
    "model.stage2_epochs=100",
    "model.lr_blocks=2.5e-4",
    "model.lr_stage2=1e-4",
    "model.scale_lr=true",
    "trainer.max_epochs=100",
    "data.num_train=1000",
    "data.num_val=0",
    "data.num_test=500",
    "data.augment=crop_flip",
)


@dataclass(frozen=True)
class Setting:
    """What both ways are run with.

    Attributes:
        name: for the tables.
        words: of the command line, after ``model=netgraft data=shapes``.
        teacher: network whose weights are drawn at random; None for the trained one that a run requires.
        epochs: measured in each phase, one more being run before; None runs all.
        num_test: test images for which those of the data stand; None for these themselves.
    """

    name: str
    words: tuple[str, ...] = ()
    teacher: Any = None
    epochs: int | None = None
    num_test: int | None = None

    @property
    def command(self) -> list[str]:
        """Words after ``python run.py``."""
        return ["model=netgraft", "data=shapes", "hardware=cpu", "logger=csv", *self.words]


SETTINGS = {
    "shapes": Setting("shapes"),
    "published": Setting("published", _PUBLISHED, "vgg16", epochs=2, num_test=10_000),
}


class Candidates:
    """Modules and data of one setting, its teacher being loaded or drawn once.

    Args:
        setting: which.
        runs: folder in which a trained teacher is looked for, and left.
    """

    def __init__(self, setting: Setting, runs: Path) -> None:
        self.setting = setting
        self.words = [*setting.command, f"paths.runs={runs}"]
        composed = compose(self.words)
        self.config = composed.config
        if setting.teacher is None:
            (given,) = provide(self.config, composed.choices, self.words)
            self.teacher: LightningModule = given.module
            self.teacher_folder: str | None = given.report["folder"]
        else:
            self.teacher, self.teacher_folder = _random_teacher(setting.teacher), None
        self.data: ImageDataModule = build_datamodule(self.config)  # type: ignore[assignment]
        self.num_test = len(self.data.splits["test"])
        self.share = self.num_test / (setting.num_test or self.num_test)
        self.is_complete = setting.epochs is None and self.share == 1

    def module(self, **settings: Any) -> NetGraft:
        """A fresh one with its teacher, its weights always the same.

        Args:
            settings: instead of those of the configuration.
        """
        config = {**self.config, "model": self.config["model"] | settings}
        module = build_module(config)
        assert isinstance(module, NetGraft)
        module.on_prerequisites({"teacher": self.teacher})
        module.on_phase_start(self.data)
        module.teacher.eval()  # as at the start of a fit
        return module

    def authors(self) -> AuthorsGrafting:
        """Theirs, with the same weights."""
        return AuthorsGrafting(self.module(), self.data)

    def images(self) -> Tensor:
        """A full batch of the few images, ``[B, C, H, W]``, normalised."""
        module = self.module()
        return next(iter(self.data.loader("train", training=True)))["x"].to(module.dtype)


def _random_teacher(network: Any) -> LightningModule:
    config = compose(["model=classifier", "data=shapes"]).config
    config["model"]["network"] = network
    return build_module(config).requires_grad_(False)


def check(candidates: Candidates) -> None:
    """Raises AssertionError unless both ways have the same losses and gradients in every phase."""
    module, theirs, x = candidates.module(), candidates.authors(), candidates.images()
    module.train()
    for phase in theirs.phases:
        cuts = module.grafting.cuts(x)
        if phase.stage == 1:
            logits = module.grafting.lone_logits(cuts, module.blocks)[module.blocks.index(phase.joined[0])]
        else:
            logits = module.grafting.logits(cuts, phase.joined)
        ours = module.loss(logits, cuts[-1])
        reference = theirs.loss(x, phase.joined)
        torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-6)
        of_ours = [p for block in phase.joined for p in module._trainable(block)]
        of_theirs = [
            p
            for block in phase.joined
            for one in (theirs.blocks[block], *theirs.adaptions[block])
            for p in one.parameters()
        ]
        pair = (torch.autograd.grad(ours, of_ours), torch.autograd.grad(reference, of_theirs))
        for one, other in zip(*pair, strict=True):
            scale = float(other.abs().max())
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3 * scale + 1e-12)


@dataclass
class Whole:
    """A run of all phases.

    Attributes:
        seconds: of all of it, extrapolated where not all of it was run.
        measured: seconds that were measured for that.
        accuracy: of the student that came out, where it was trained to its end.
        phases: seconds of each phase.
        train_epoch: by phase, seconds of an epoch's steps.
        test: by phase, seconds of a test pass.
    """

    seconds: Seconds
    measured: Seconds
    accuracy: float | None
    phases: dict[str, Seconds]
    train_epoch: dict[str, Seconds]
    test: dict[str, Seconds]


def run_authors(candidates: Candidates) -> Whole:
    """Their whole run: all epochs of all phases, or what a few of each tell of it."""
    theirs = candidates.authors()
    phases: dict[str, Seconds] = {}
    train_epoch, tests = {}, {}
    started = now()
    for phase in theirs.phases:
        few = candidates.setting.epochs
        # the first one warms the memory up, as it does in a whole run
        epochs = [*theirs.run(phase)] if few is None else [*theirs.run(phase, few + 1)][1:]
        train_epoch[phase.name] = median_of([epoch.train for epoch in epochs])
        tests[phase.name] = _times(median_of([epoch.test for epoch in epochs]), 1 / candidates.share)
        if candidates.is_complete:
            phases[phase.name] = _total([one for epoch in epochs for one in (epoch.train, epoch.test)])
        else:
            an_epoch = _total([train_epoch[phase.name], tests[phase.name]])
            phases[phase.name] = _times(an_epoch, phase.epochs)
    measured = since(started)
    if not candidates.is_complete:
        return Whole(_total(phases.values()), measured, None, phases, train_epoch, tests)
    accuracy = theirs.test(theirs.phases[-1].joined)
    return Whole(measured, measured, accuracy, phases, train_epoch, tests)


class _Marks(EpochMetricsCallback):
    """When each epoch of each phase ended, and its training began."""

    def __init__(self) -> None:
        self.by_phase: dict[str, list[Seconds]] = {}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.by_phase[_phase(pl_module)] = [now()]

    def on_epoch_metrics(
        self, trainer: Trainer, pl_module: LightningModule, epoch: int, metrics: Mapping[str, float]
    ) -> None:
        self.by_phase[_phase(pl_module)].append(now())


def _phase(module: LightningModule) -> str:
    return str(module.phases[module.phase_index])  # type: ignore[index]


class _Clock:
    """Wall-clock and CPU seconds within one function of an object."""

    def __init__(self, owner: Any, name: str) -> None:
        self.calls: list[Seconds] = []
        self._function = getattr(owner, name)
        setattr(owner, name, self._timed)

    def _timed(self, *arguments: Any) -> Any:
        started = now()
        result = self._function(*arguments)
        self.calls.append(since(started))
        return result


def run_ours(candidates: Candidates) -> Whole:
    """Our whole run, as ``run.py`` does all phases of it, or what a few epochs of each tell of it."""
    config, few = candidates.config, candidates.setting.epochs
    complete = candidates.module()
    lengths = sorted({*complete.stage1_epochs.values()})
    module = complete
    if few is not None:
        # as many epochs until the next block is done, one more being run before
        alone = [(few + 1) * (lengths.index(one) + 1) for one in complete.stage1_epochs.values()]
        module = candidates.module(stage1_epochs=alone, stage2_epochs=few + 1)
    marks, ends = _Marks(), _Clock(module, "on_phase_end")
    nodes = {name: node for name, node in config["callbacks"].items() if name != "pictures"}
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        (folder / "checkpoints").mkdir()
        callbacks = [*build_callbacks(nodes), marks]
        loggers = build_loggers(config["logger"], folder)
        started = now()
        record = fit_phases(Run(config, folder, module, candidates.data, callbacks, loggers))
        measured = since(started)
    phases: dict[str, Seconds] = {}
    train_epoch, tests = {}, {}
    for name, after in zip(module.phases, ends.calls, strict=True):
        times = [since(one, two) for one, two in pairwise(marks.by_phase[name])]
        train_epoch[name], tests[name] = median_of(times), _times(after, 1 / candidates.share)
        if few is None:
            trained = _total(times)
        elif name == STAGE1:
            trained = stage1_seconds(times, few + 1, lengths)
        else:
            trained = _times(median_of(times[1:]), complete.stage2_epochs)
        phases[name] = _total([trained, tests[name]])
    if candidates.is_complete:
        accuracy = record.metrics[f"test/acc_{module.phases[-1]}"]
        return Whole(measured, measured, accuracy, phases, train_epoch, tests)
    # Trainers, savepoints, checkpoints: what is neither an epoch nor a test stands as it was measured
    inner = [since(times[0], times[-1]) for times in marks.by_phase.values()]
    fixed = _total([measured, *(_times(one, -1) for one in (*inner, *ends.calls))])
    return Whole(_total([fixed, *phases.values()]), measured, None, phases, train_epoch, tests)


def stage1_seconds(times: list[Seconds], few: int, lengths: list[int]) -> Seconds:
    """Seconds of stage 1, whose epochs become shorter as blocks are done.

    Args:
        times: of ``few`` epochs with all blocks, then with those that are trained longer, and so on.
        few: as many each, the first of which does not count.
        lengths: epochs after which one or more blocks are done, ascending.
    """
    parts = []
    for place, (before, length) in enumerate(zip([0, *lengths], lengths, strict=False)):
        parts.append(_times(median_of(times[place * few + 1 : (place + 1) * few]), length - before))
    return _total(parts)


def median_of(times: list[Seconds]) -> Seconds:
    """Of both kinds of seconds, each by itself."""
    walls, cpus = zip(*times, strict=True)
    return statistics.median(walls), statistics.median(cpus)


def _total(times: Iterable[Seconds]) -> Seconds:
    walls, cpus = zip(*times, strict=True)
    return sum(walls), sum(cpus)


def _times(seconds: Seconds, factor: float) -> Seconds:
    return seconds[0] * factor, seconds[1] * factor
