"""A student that is first led to its teacher's maps, then to its answers, from few unlabelled images."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn

from harness.annotations import ClassSpec, NetworkSpec, NonNegativeInt, PositiveFloat, PositiveInt
from lightning_modules.image_classification.block_network import BlockNetwork, cut_shapes
from lightning_modules.image_classification.build import build_block_network
from lightning_modules.image_classification.module import Batch
from lightning_modules.netgraft.distilled import summed_soft_target_loss
from lightning_modules.netgraft.few_shot import FewShotDistiller
from lightning_modules.netgraft.paired import paired_blocks

HINTS = "hints"


class FewShotFitNet(FewShotDistiller):
    """Hints, then distillation (FitNets, Romero et al., ICLR 2015, arXiv 1412.6550).

    In the phase ``hints`` a 1x1 convolution behind each student block, the regressor, gives the teacher's
    channels, and the mean squared difference from what leaves the teacher's block is lowered (Eq. 3); the
    head rests. Then the regressors are thrown away, and the phase ``kd`` trains the whole student as
    :class:`FewShotDistillation` of ``distilled.py`` does.

    A baseline under NetGraft's protocol, which departs from the paper: each block but the head has a hint,
    and all are learnt together, where the paper has one hint in the middle of the network; the second phase
    has no part for the labels, and its temperature is fixed. Batch normalisation keeps the averages of
    training.

    Args:
        in_channels: colours of the images.
        image_size: pixels of a side.
        num_classes: number of classes.
        student: the student's network, one that can be cut: as many blocks as the teacher, equal maps at the
            cuts.
        shots: K, unlabelled images of each class.
        sample_seed: of the draw of these images, and of nothing else.
        batch_size: images of one step at K = 10; ``int(batch_size * K / 10)`` for others.
        hint_epochs: passes over the few images in the first phase.
        epochs: those in the second.
        temperature: T, above 0, of the second phase.
        optimizer: ``{name: class of torch.optim, **keywords}``, made anew for each phase.
        scheduler: ``{name: class of torch.optim.lr_scheduler, **keywords}``, stepped once an epoch, or None.

    Raises:
        UserError: if the student cannot be cut.
    """

    task = "image_classification"
    prerequisites = ("teacher",)
    training_only = (*FewShotDistiller.training_only, "hint_epochs", "epochs", "temperature")

    network: BlockNetwork

    def __init__(
        self,
        in_channels: PositiveInt,
        image_size: PositiveInt,
        num_classes: PositiveInt,
        student: NetworkSpec,
        shots: PositiveInt,
        sample_seed: NonNegativeInt,
        batch_size: PositiveInt,
        hint_epochs: PositiveInt,
        epochs: PositiveInt,
        temperature: PositiveFloat,
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
    ) -> None:
        network = build_block_network(student, in_channels, image_size, num_classes, key="model.student")
        hinted = tuple(range(len(network.blocks()) - 1))
        super().__init__(
            in_channels,
            image_size,
            num_classes,
            student,
            shots,
            sample_seed,
            batch_size,
            [f"hint_block{block}" for block in hinted],
            optimizer,
            scheduler,
        )
        self.save_hyperparameters()
        self.hint_epochs = hint_epochs
        self.epochs = epochs
        self.temperature = temperature
        self.network = network
        self._hinted = hinted
        self.regressors = nn.ModuleList()  # in the first phase alone
        self._teacher_blocks: tuple[nn.Module, ...] = ()

    @property
    def phases(self) -> tuple[str, ...]:
        return (HINTS, "kd")

    @property
    def phase_epochs(self) -> int:
        return self.hint_epochs if self.phase == HINTS else self.epochs

    def check_teacher(self, network: nn.Module) -> None:
        paired_blocks(network, self.network.blocks(), self.in_channels, self.image_size)

    def on_prerequisites(self, modules: Mapping[str, LightningModule]) -> None:
        """Takes ``modules["teacher"]``.

        Raises:
            UserError: as :class:`FewShotDistiller`, or if the teacher cannot be cut as the student is.
        """
        super().on_prerequisites(modules)
        blocks = self.network.blocks()
        self._teacher_blocks, self._teacher_shapes = paired_blocks(
            self.teacher.network, blocks, self.in_channels, self.image_size
        )

    def on_phase_start(self, datamodule: LightningDataModule) -> None:
        super().on_phase_start(datamodule)
        hints = self.phase == HINTS
        if hints:
            own = cut_shapes(self.network.blocks(), self.in_channels, self.image_size)
            cuts = [block + 1 for block in self._hinted]
            made = [nn.Conv2d(own[cut][0], self._teacher_shapes[cut][0], kernel_size=1) for cut in cuts]
            self.regressors = nn.ModuleList(made)
        self.network.blocks()[-1].requires_grad_(not hints)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        if self.phase == HINTS:
            return self.hint_losses(batch["x"])
        with torch.no_grad():
            targets = self.teacher(batch["x"])
        return {"loss": summed_soft_target_loss(self(batch["x"]), targets, self.temperature)}

    def hint_losses(self, x: Tensor) -> dict[str, Tensor]:
        """Mean squared differences from the teacher's maps, times B, for each hint and in all (``loss``).

        Args:
            x: ``[B, C, H, W]``.
        """
        own, target = x, x
        found = {}
        blocks = self.network.blocks()
        for block, regressor in zip(self._hinted, self.regressors, strict=True):
            own = blocks[block](own)
            with torch.no_grad():
                target = self._teacher_blocks[block](target)
            found[f"hint_block{block}"] = len(x) * F.mse_loss(regressor(own), target)
        return found | {"loss": torch.stack([*found.values()]).sum()}

    def on_phase_end(self, trainer: Trainer, datamodule: LightningDataModule) -> dict[str, float]:
        """Throws the regressors away: the plain student is what goes on."""
        self.regressors = nn.ModuleList()
        return {}
