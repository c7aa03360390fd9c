"""A student made of its teacher in closed form: pruned, and its maps aligned by least squares."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn

from harness.annotations import NetworkSpec, NonNegativeInt, PositiveInt
from harness.errors import UserError
from lightning_modules.image_classification.block_network import cut_shapes
from lightning_modules.image_classification.build import build_block_network
from lightning_modules.image_classification.module import Batch, images_of
from lightning_modules.netgraft.affine_head import check_heads, copy_head, head_layers
from lightning_modules.netgraft.few_shot import FewShotDistiller
from lightning_modules.netgraft.folding import Pointwise
from lightning_modules.netgraft.least_squares import fit_pointwise, unexplained
from lightning_modules.netgraft.paired import paired_blocks
from lightning_modules.netgraft.pruning import copy_pruned, layers_of, paired_layers, with_bias_map
from lightning_modules.netgraft.student import check_grafted


class FewShotFSKD(FewShotDistiller):
    """Block by block the best 1x1 convolution, without a gradient step (FSKD: Li et al., arXiv 1812.01839).

    Each block of the student is the teacher's with those channels whose filters have the largest L1 norm. The
    linear map, with a bias, that brings what leaves the student's block nearest to what leaves the teacher's
    is fitted on the few images by least squares, blocks in order, each behind what is fitted already. It is
    multiplied into the next block's first convolution exactly, whose bias becomes a map where it pads with
    zeros. The heads have no non-linearity, so that the student's follows from the teacher's exactly.

    A baseline under NetGraft's protocol, which departs from the paper: there the 1x1 convolution at the end
    of a block has no bias and is merged into the layer before it, which needs blocks that end with a
    convolution; the student comes pruned by another method. Ours are the further draws of ``views``, and
    that a fit which the images do not determine stays nearest to the pruned network. Batch normalisation
    keeps the teacher's statistics.

    Args:
        in_channels: colours of the images.
        image_size: pixels of a side.
        num_classes: number of classes.
        student: the student's network, a ``plain_cnn`` or a ``vgg``: the teacher's with as many or fewer
            channels.
        grafted: numbers of the blocks that are pruned and fitted, ascending; the others are copied from the
            teacher. None for all. The head is made to fit in any case.
        shots: K, unlabelled images of each class.
        sample_seed: of the draw of these images, and of nothing else.
        batch_size: images that pass the networks at once at K = 10; ``int(batch_size * K / 10)`` for others.
        views: augmented draws of each of the few images that the fits see beside it, as ``data.augment``
            says; 0 for none.

    Raises:
        UserError: if the student has blocks that cannot be pruned, or ``grafted`` names others than it has.
    """

    task = "image_classification"
    prerequisites = ("teacher",)
    training_only = (*FewShotDistiller.training_only, "views")

    network: nn.Sequential

    def __init__(
        self,
        in_channels: PositiveInt,
        image_size: PositiveInt,
        num_classes: PositiveInt,
        student: NetworkSpec,
        grafted: list[NonNegativeInt] | None,
        shots: PositiveInt,
        sample_seed: NonNegativeInt,
        batch_size: PositiveInt,
        views: NonNegativeInt,
    ) -> None:
        super().__init__(
            in_channels, image_size, num_classes, student, shots, sample_seed, batch_size, [], {}, None
        )
        self.save_hyperparameters()
        network = build_block_network(student, in_channels, image_size, num_classes, key="model.student")
        self.network = nn.Sequential(*network.blocks())
        self.views = views
        shapes = cut_shapes(list(self.network), in_channels, image_size)
        last = len(self.network) - 1
        named = tuple(range(last + 1)) if grafted is None else tuple(grafted)
        check_grafted(named, len(self.network))
        self.pruned = tuple(block for block in named if block < last)
        head_layers(self.network[last], "model.student")
        for block in self.pruned:
            layers_of(self.network[block], block)
        for block in range(1, last):
            if block - 1 in self.pruned:
                layers_of(self.network[block], block)
                with_bias_map(self.network[block], *shapes[block][1:])
        self._teacher_blocks: tuple[nn.Module, ...] = ()

    @property
    def phases(self) -> tuple[str, ...]:
        return ("align",)

    @property
    def phase_epochs(self) -> int:
        return 0  # the Trainer only prepares the devices; on_phase_end does the work

    def configure_optimizers(self) -> Any:
        # Lightning warns of none; no step is ever taken with it
        return torch.optim.SGD(self.parameters(), lr=0.0)

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        raise RuntimeError("FewShotFSKD is computed, not trained")

    def check_teacher(self, network: nn.Module) -> None:
        paired_blocks(network, list(self.network), self.in_channels, self.image_size)

    def on_prerequisites(self, modules: Mapping[str, LightningModule]) -> None:
        """Takes ``modules["teacher"]``.

        Raises:
            UserError: as :class:`FewShotDistiller`, or if the student is not the teacher with fewer channels.
        """
        super().on_prerequisites(modules)
        self._teacher_blocks, _ = paired_blocks(
            self.teacher.network, list(self.network), self.in_channels, self.image_size
        )
        check_heads(self.network[-1], self._teacher_blocks[-1])
        for block in range(len(self.network) - 1):
            own, other = self.network[block], self._teacher_blocks[block]
            if block in self.pruned or block - 1 in self.pruned:
                paired_layers(own, other, block)
            if block not in self.pruned and not _is_copy(own, other, narrow=block - 1 in self.pruned):
                raise UserError(
                    f"block {block} is not the same in student and teacher, so that it cannot be copied."
                    " Name it in model.grafted, or give model.student the teacher's block there."
                )

    def on_phase_end(self, trainer: Trainer, datamodule: LightningDataModule) -> dict[str, float]:
        """Makes the student.

        Returns:
            ``align/unexplained_block<n>``, the share of the variance of what leaves the teacher's block that
            the student's leaves unexplained on the images of the fit.
        """
        self.to_device_of(trainer)
        self.network.eval()
        left = self.align([*self.few_batches(datamodule), *self._views(datamodule)])
        return {f"align/unexplained_block{block}": share for block, share in left.items()}

    def _views(self, datamodule: LightningDataModule) -> Iterator[Tensor]:
        loader = images_of(datamodule).loader("train", training=True, shared=False)
        for view in range(self.views):
            loader.sampler.set_epoch(view)
            for batch in loader:
                yield batch["x"].to(self.device, self.dtype)

    @torch.no_grad()
    def align(self, images: Sequence[Tensor]) -> dict[int, float]:
        """Prunes the teacher's blocks and fits the maps between them.

        Args:
            images: batches ``[b, C, H, W]``.

        Returns:
            For each pruned block the share of variance that its map leaves unexplained.
        """
        left: dict[int, float] = {}
        own, other = list(images), list(images)  # what enters the two blocks
        first: Pointwise | None = None  # from the student's channels to the teacher's
        for number, (block, source) in enumerate(
            zip(self.network[:-1], self._teacher_blocks[:-1], strict=True)
        ):
            if number not in self.pruned and first is None:
                block.load_state_dict(source.state_dict())
                if not left:  # both networks are the same so far
                    own = other = [source(x) for x in other]
                    continue
            else:
                kept = copy_pruned(block, source, number, first, *own[0].shape[2:])
            own, other, first = [block(x) for x in own], [source(x) for x in other], None
            if number in self.pruned:
                channels = other[0].size(1)
                pairs = list(zip(own, other, strict=True))
                first = fit_pointwise(pairs, _selection(kept, channels))
                left[number] = unexplained(pairs, first)
        copy_head(self.network[-1], self._teacher_blocks[-1], first)
        return left


def _selection(kept: Tensor, channels: int) -> Pointwise:
    """Each kept channel where it was, 0 for the others."""
    weight = torch.zeros(channels, len(kept), dtype=torch.float64, device=kept.device)
    weight[kept, torch.arange(len(kept), device=kept.device)] = 1.0
    return Pointwise(weight, weight.new_zeros(channels))


def _is_copy(student: nn.Module, teacher: nn.Module, narrow: bool) -> bool:
    """Whether two blocks have the same weights, or, with ``narrow``, outputs, by their shapes."""
    if narrow:  # its convolutions may take fewer channels
        return [len(value) for value in student.parameters() if value.dim() == 4] == [
            len(value) for value in teacher.parameters() if value.dim() == 4
        ]
    own, other = student.state_dict(), teacher.state_dict()
    return own.keys() == other.keys() and all(own[name].shape == other[name].shape for name in own)
