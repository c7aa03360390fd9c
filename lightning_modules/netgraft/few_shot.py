"""What methods have in common that teach a student from a few images without labels and a trained teacher."""

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torchmetrics import MeanMetric, MetricCollection

from harness.annotations import ClassSpec, NetworkSpec
from harness.errors import UserError
from lightning_modules.image_classification.architectures import FACTS
from lightning_modules.image_classification.build import build_network
from lightning_modules.image_classification.given import fitting_classifier, normalisation
from lightning_modules.image_classification.module import Batch, ClassifierModule, images_of

TEN = 10
"""Images of each class at which batch size and learning rates are stated."""


class FewShotDistiller(ClassifierModule):
    """A student that sees K images of each class, without their labels, and its teacher's answers.

    The images are drawn by ``sample_seed`` alone (``datamodules/few_shot.py``), so that runs with different
    ``seed`` share them. Validation images are not looked at; the last weights are tested. A batch holds
    ``int(batch_size * K / 10)`` images, as in NetGraft's code.

    Args:
        in_channels: colours of the images.
        image_size: pixels of a side.
        num_classes: number of classes.
        student: the student's network.
        shots: K, images of each class.
        sample_seed: of the draw of the images, >= 0.
        batch_size: images of one step at ten of each class; in proportion for other numbers.
        losses: what training reports beside ``train/loss``, by name.
        optimizer: ``{name: class of torch.optim, **keywords}``.
        scheduler: ``{name: class of torch.optim.lr_scheduler, **keywords}``, stepped once an epoch, or None.
    """

    prerequisites = ("teacher",)
    monitor = None  # no labelled image may choose the weights
    validates = False
    epoch_metrics = ()  # they differ from phase to phase
    training_only: ClassVar[tuple[str, ...]] = ("shots", "sample_seed", "batch_size")

    def __init__(
        self,
        in_channels: int,
        image_size: int,
        num_classes: int,
        student: NetworkSpec,
        shots: int,
        sample_seed: int,
        batch_size: int,
        losses: Iterable[str],
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
    ) -> None:
        super().__init__(num_classes, 0.0, optimizer, scheduler, "epoch")
        self.in_channels = in_channels
        self.image_size = image_size
        self.spec = student
        self.shots = shots
        self.sample_seed = sample_seed
        self.batch_size = batch_size
        self.train_metrics = MetricCollection(
            {name: MeanMetric(nan_strategy="disable") for name in ("loss", *losses)},
            prefix="train/",
            compute_groups=False,
        )
        # in a tuple it is no submodule: neither in the state dict nor among the parameters
        self._teacher: tuple[ClassifierModule, ...] = ()

    @property
    def teacher(self) -> ClassifierModule:
        """The trained network that the student learns from.

        Raises:
            RuntimeError: before :meth:`on_prerequisites`.
        """
        if not self._teacher:
            raise RuntimeError(f"{type(self).__name__} has no teacher: call on_prerequisites before fit")
        return self._teacher[0]

    def on_planned_prerequisites(self, configs: Mapping[str, Mapping[str, Any]]) -> None:
        """Looks whether student and teacher will go together, of networks without weights.

        Raises:
            UserError: they will not.
        """
        model = configs.get("teacher", {}).get("model", {})
        if "network" in model:
            with torch.device("meta"):
                facts = {key: model[key] for key in FACTS}
                self.check_teacher(build_network(model["network"], **facts))

    def check_teacher(self, network: nn.Module) -> None:
        """Refuses a teacher that this method cannot learn from; called with one on the meta device.

        Raises:
            UserError: naming what does not fit.
        """

    def on_prerequisites(self, modules: Mapping[str, LightningModule]) -> None:
        """Takes ``modules["teacher"]``.

        Raises:
            UserError: if it is no image classifier or does not know the same images and classes.
        """
        self._teacher = (fitting_classifier(modules, "teacher", self),)

    def on_phase_start(self, datamodule: LightningDataModule) -> None:
        """Draws the few images; the same ones in every phase.

        Raises:
            UserError: a class has too few, or the teacher saw images normalised in another way.
        """
        data = images_of(datamodule)
        known = normalisation(self.teacher)
        if known is not None and known != (list(data.mean), list(data.std)):
            raise UserError(
                f"model.requires.teacher was trained with data.mean={known[0]} and data.std={known[1]}, this"
                f" run has data.mean={list(data.mean)} data.std={list(data.std)}. Give both the same."
            )
        data.keep_few(self.shots, self.sample_seed, self.images_per_step)

    def to_device_of(self, trainer: Trainer) -> None:
        """Moves both networks to where ``trainer`` trained: after a fit Lightning leaves them on the CPU."""
        self.to(trainer.strategy.root_device)
        self.teacher.to(self.device, self.dtype).eval()

    def on_fit_start(self) -> None:
        self._check_shares()
        self.teacher.to(self.device, self.dtype).eval()
        # a pass through it is most of a step; in this order of memory a CPU takes half the time for it
        self.teacher.to(memory_format=torch.channels_last)

    @property
    def images_per_step(self) -> int:
        """Over all processes."""
        return max(int(self.batch_size * self.shots / TEN), 1)

    def _check_shares(self) -> None:
        """Refuses batches that the processes of a run cannot share.

        Raises:
            UserError: naming a ``model.batch_size`` whose batches they can.
        """
        size, world = self.images_per_step, self.trainer.world_size
        if size % world == 0:
            return
        own = self.batch_size
        steps = {key: int(key * self.shots / TEN) for key in range(1, 2 * own + world * TEN)}
        shared = [key for key, images in steps.items() if images and images % world == 0]
        raise UserError(
            f"model.batch_size={own} is {size} images a step at model.shots={self.shots}, which {world}"
            " processes cannot share evenly. Set"
            f" model.batch_size={min(shared, key=lambda key: abs(key - own))}."
        )

    @abstractmethod
    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Sums over the batch by name, ``loss`` being what a step lowers."""

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        found = self.losses(batch)
        size = len(batch["x"])
        for name, value in found.items():
            # per image, weighed by the images: the last batch of an epoch may be smaller
            self.train_metrics[name].update((value.detach() / size).expand(size))
        return found["loss"]

    def on_train_epoch_end(self) -> None:
        used = {
            f"train/{name}": metric.compute()
            for name, metric in self.train_metrics.items(keep_base=True)
            if metric.update_called
        }
        self.log_dict(used, logger=False, sync_dist=True)

    def few_batches(self, datamodule: LightningDataModule) -> list[Tensor]:
        """The few images as they are, normalised, in batches ``[b, C, H, W]`` on the module's device."""
        loader = images_of(datamodule).loader("train", shared=False)
        batches = [batch["x"].to(self.device, self.dtype) for batch in loader]
        if len(batches) > 1 and len(batches[-1]) == 1:  # of which batch normalisation can make nothing
            batches[-2:] = [torch.cat(batches[-2:])]
        return batches


def norms_of(network: nn.Module) -> list[nn.Module]:
    """The batch normalisations of a network."""
    return [one for one in network.modules() if isinstance(one, nn.modules.batchnorm._BatchNorm)]


def plain_values(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    """What a checkpoint holds under ``key``.

    Raises:
        ValueError: it is no group of values.
    """
    found = content[key]
    if not isinstance(found, dict):
        raise ValueError(f"what the checkpoint says under '{key}' cannot be read")
    return found


def count_matches(rows: Tensor, columns: Tensor, num_classes: int) -> Tensor:
    """How often class row met class column, ``[C, C]``.

    Args:
        rows: ``[N]`` classes.
        columns: ``[N]`` classes.
        num_classes: C.
    """
    return torch.bincount(rows * num_classes + columns, minlength=num_classes**2).view(num_classes, -1)
