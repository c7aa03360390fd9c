"""NetGraft: a student grown block by block inside its teacher."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn

from harness.annotations import ClassSpec, NetworkSpec, NonNegativeInt, PositiveFloat, PositiveInt
from harness.errors import UserError
from lightning_modules.image_classification.build import build_block_network
from lightning_modules.image_classification.module import Batch, images_of
from lightning_modules.netgraft.few_shot import TEN, FewShotDistiller, plain_values
from lightning_modules.netgraft.folding import fold_student
from lightning_modules.netgraft.grafting import Grafting
from lightning_modules.netgraft.losses import LOSSES, Loss
from lightning_modules.netgraft.paired import paired_blocks
from lightning_modules.netgraft.report import Report, cost_rows
from lightning_modules.netgraft.stages import Joining, Stages, per_block
from lightning_modules.netgraft.student import GraftedStudent
from lightning_modules.optimizers import build_optimizer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from datamodules.images import ImageDataModule


OWN_RATES = ("OneCycleLR", "CyclicLR")
"""Schedules that do not begin at the optimiser's rates."""


class NetGraft(FewShotDistiller):
    """Progressive network grafting (Shen et al., AAAI 2021, arXiv 2012.04915).

    Stage 1 puts one student block at a time into the frozen teacher and trains it, with its adaptions,
    against the teacher's logits. Stage 2 joins the trained blocks, one more in each phase, and trains all
    that are joined with what is left of the teacher behind them. Then the adaptions are folded into the
    layers behind them, and what is tested, predicts and is exported is the plain student.

    Departures from the authors' code, none of which changes what a step computes: the blocks of stage 1,
    which do not depend on each other, are trained together on the same batches; the teacher and its blocks
    before the first graft run once a step, without a graph; the test set is looked at once a phase and
    chooses nothing, where they keep the epoch with the best test accuracy. Ours are also: a student's batch
    normalisation is re-estimated on the few images at the end of a phase; one number, the ratio of the
    teacher's mean logit norm to the student's on the few images, scales the student's logits at the end,
    which the loss leaves open.

    The first weights of a head are those of its network: of a VGG the authors', N(0, 0.01^2) or what
    ``linear_std`` says, of others torch's own. ``callbacks.best_weights.monitor=train/loss`` keeps the
    weights of the epoch with the lowest few-shot loss in place of the last.

    Under DDP a step averages the processes' sums, where one process would add them up; Adam does not see the
    factor.

    Args:
        in_channels: colours of the images.
        image_size: pixels of a side.
        num_classes: number of classes.
        student: the student's network, one that can be cut: as many blocks as the teacher, equal maps at the
            cuts.
        grafted: numbers of the blocks that are trained, ascending; the others are copied from the teacher.
            None for all.
        adaption_bias: whether the 1x1 convolutions have a bias; without, the plain student has the layers of
            its network and no maps of biases.
        shots: K, unlabelled images of each class.
        sample_seed: of the draw of these images, and of nothing else.
        batch_size: images of one step at K = 10; ``int(batch_size * K / 10)`` for others.
        loss: ``normalised``, of logits of unit length, or ``mse``.
        stage1: whether blocks are trained alone first.
        stage2: how they are joined: from the ``front``, in ``random`` order, all ``at_once`` or not at all
            (``none``).
        stage1_epochs: epochs of each grafted block in stage 1, in order; one number for all.
        stage2_epochs: epochs after each join.
        lr_blocks: learning rates of the grafted blocks in stage 1, in order, at K = 10; one number for all.
        lr_adaption: that of their adaptions, at K = 10.
        lr_stage2: learning rate of all joined blocks in stage 2, whatever K.
        scale_lr: whether the learning rates of stage 1 are in proportion to K, as the authors have them.
        optimizer: ``{name: class of torch.optim, **keywords}`` without ``lr``.
        scheduler: ``{name: class of torch.optim.lr_scheduler, **keywords}``, stepped once an epoch, or None.
        eval_every: epochs between two looks at the validation set while training goes on; 0 for none.
        export: file of the plain student that ``mode=predict`` writes: ``none``, ``torch``
            (``torch.export``) or ``onnx``.
        seed: of the ``random`` order of joins.

    Raises:
        UserError: if the student cannot be cut, settings contradict each other, or a list is not as long as
            ``grafted``.
    """

    task = "image_classification"
    prerequisites = ("teacher",)
    training_only = (
        *FewShotDistiller.training_only,
        "loss",
        "stage1_epochs",
        "stage2_epochs",
        "lr_blocks",
        "lr_adaption",
        "lr_stage2",
        "scale_lr",
        "eval_every",
        "seed",
    )
    not_compiled = "its blocks run in other company in every phase"
    evaluation_only = ("export",)

    network: GraftedStudent

    def __init__(
        self,
        in_channels: PositiveInt,
        image_size: PositiveInt,
        num_classes: PositiveInt,
        student: NetworkSpec,
        grafted: list[NonNegativeInt] | None,
        adaption_bias: bool,
        shots: PositiveInt,
        sample_seed: NonNegativeInt,
        batch_size: PositiveInt,
        loss: Loss,
        stage1: bool,
        stage2: Joining,
        stage1_epochs: PositiveInt | list[PositiveInt],
        stage2_epochs: PositiveInt,
        lr_blocks: PositiveFloat | list[PositiveFloat],
        lr_adaption: PositiveFloat,
        lr_stage2: PositiveFloat,
        scale_lr: bool,
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
        eval_every: NonNegativeInt,
        export: Literal["none", "torch", "onnx"],
        seed: NonNegativeInt,
    ) -> None:
        network = build_block_network(student, in_channels, image_size, num_classes, key="model.student")
        blocks = tuple(range(len(network.blocks()))) if grafted is None else tuple(grafted)
        super().__init__(
            in_channels,
            image_size,
            num_classes,
            student,
            shots,
            sample_seed,
            batch_size,
            [f"loss_block{block}" for block in blocks],
            optimizer,
            scheduler,
        )
        self.save_hyperparameters()
        if "lr" in optimizer:
            raise UserError(
                f"model.optimizer.lr={optimizer['lr']} has no effect: model.lr_blocks, model.lr_adaption and"
                " model.lr_stage2 are the learning rates. Take it away."
            )
        if scheduler is not None and scheduler["name"] in OWN_RATES:
            raise UserError(
                f"model.scheduler.name={scheduler['name']} sets rates of its own in place of model.lr_blocks,"
                " model.lr_adaption and model.lr_stage2. Take one that scales them, such as"
                " CosineAnnealingLR."
            )
        self.blocks = blocks
        self.loss = LOSSES[loss]
        self.stages = Stages(blocks, stage1, stage2, seed)
        self.stage1_epochs = per_block("stage1_epochs", stage1_epochs, blocks)
        self.stage2_epochs = stage2_epochs
        scale = shots / TEN if scale_lr else 1.0
        rates = per_block("lr_blocks", lr_blocks, blocks)
        self.lr_blocks = {block: rate * scale for block, rate in rates.items()}
        self.lr_adaption = lr_adaption * scale
        self.lr_stage2 = lr_stage2
        self.eval_every = eval_every
        self.export = export
        self.network = GraftedStudent(network, blocks, in_channels, image_size, adaption_bias)
        self.report = Report()
        self._plain: tuple[nn.Module, ...] = ()  # the folded student, while one tests or predicts
        self._grafting: Grafting | None = None

    @property
    def phases(self) -> tuple[str, ...]:
        return self.stages.names

    @property
    def joined(self) -> tuple[int, ...]:
        """The blocks that stand together in this phase; empty in stage 1."""
        return self.stages.joined(self.phase_index)

    @property
    def phase_epochs(self) -> int:
        return self.stage2_epochs if self.joined else max(self.stage1_epochs.values())

    @property
    def trained_alone(self) -> tuple[int, ...]:
        """The blocks that stage 1 still trains in this epoch."""
        return tuple(block for block in self.blocks if self.current_epoch < self.stage1_epochs[block])

    def check_teacher(self, network: nn.Module) -> None:
        own = self.network.network.blocks()
        blocks, _ = paired_blocks(network, own, self.in_channels, self.image_size)
        self.network.check_copies(blocks)

    def on_prerequisites(self, modules: Mapping[str, LightningModule]) -> None:
        """Takes ``modules["teacher"]``, makes the adaptions and copies the blocks that are not grafted.

        Raises:
            UserError: as :class:`FewShotDistiller`, or if the teacher cannot be cut as the student is.
        """
        super().on_prerequisites(modules)
        own = self.network.network.blocks()
        blocks, shapes = paired_blocks(self.teacher.network, own, self.in_channels, self.image_size)
        self.network.fit_into(shapes)
        self.network.copy_blocks(blocks)
        self._grafting = Grafting(blocks, self.network)

    @property
    def grafting(self) -> Grafting:
        """Teacher and student together.

        Raises:
            RuntimeError: before :meth:`on_prerequisites`.
        """
        if self._grafting is None:
            raise RuntimeError("NetGraft has no teacher: call on_prerequisites before fit")
        return self._grafting

    def on_phase_start(self, datamodule: LightningDataModule) -> None:
        super().on_phase_start(datamodule)
        if self.eval_every and "val" not in images_of(datamodule).splits:
            raise UserError(
                f"model.eval_every={self.eval_every} needs validation images and the data have none. Set"
                " data.num_val, or model.eval_every=0."
            )
        self._plain = ()
        trained = self.joined or self.blocks
        self.network.requires_grad_(False)
        for block in trained:
            self.network.block(block).requires_grad_(True)
        for adaption in self.network.adaptions(trained):
            adaption.requires_grad_(True)

    def configure_optimizers(self) -> Any:
        if self.joined:
            blocks = [p for block in self.joined for p in self.network.block(block).parameters()]
            adaptions = [p for one in self.network.adaptions(self.joined) for p in one.parameters()]
            groups: list[dict[str, Any]] = [{"params": [*blocks, *adaptions], "lr": self.lr_stage2}]
        else:
            groups = []
            for block in self.blocks:
                adaptions = [p for one in self.network.adaptions([block]) for p in one.parameters()]
                own = [*self.network.block(block).parameters()]
                groups.append({"params": own, "lr": self.lr_blocks[block], "block": block})
                groups.append({"params": adaptions, "lr": self.lr_adaption, "block": block})
        return self.with_schedule(build_optimizer(groups, self._optimizer_spec))

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        if not self.joined:
            done = set(self.blocks) - set(self.trained_alone)
            for group in self.optimizers(use_pl_optimizer=False).param_groups:  # type: ignore[union-attr]
                if group["block"] in done:
                    group["lr"] = 0.0  # whatever its momentum still wants

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        cuts = self.grafting.cuts(batch["x"])
        if self.joined:
            return {"loss": self.loss(self.grafting.logits(cuts, self.joined), cuts[-1])}
        active = self.trained_alone
        found = {
            f"loss_block{block}": self.loss(logits, cuts[-1])
            for block, logits in zip(active, self.grafting.lone_logits(cuts, active), strict=True)
        }
        total = torch.stack([*found.values()]).sum()
        if self.trainer.world_size > 1:
            # every process expects a gradient of all that it once had one of
            done = [block for block in self.blocks if block not in active]
            parameters = [p for block in done for p in self._trainable(block)]
            total = total + sum(
                (0.0 * parameter.sum() for parameter in parameters), start=total.new_zeros(())
            )
        return found | {"loss": total}

    def _trainable(self, block: int) -> Iterator[nn.Parameter]:
        yield from self.network.block(block).parameters()
        for adaption in self.network.adaptions([block]):
            yield from adaption.parameters()

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        if self.eval_every and (self.current_epoch + 1) % self.eval_every == 0:
            data = images_of(self.trainer.datamodule)  # type: ignore[attr-defined]
            sets = [self.joined] if self.joined else [(block,) for block in self.blocks]
            was_training = self.network.training
            self.network.eval()
            found = self.grafting.accuracies(data.loader("val", shared=False), sets)
            self.network.train(was_training)
            # not val/: that is for what Lightning's own validation finds
            names = ["graft/val_acc"] if self.joined else [f"graft/val_acc_block{b}" for b in self.blocks]
            self.log_dict(dict(zip(names, found, strict=True)), logger=False, sync_dist=True)

    def on_phase_end(self, trainer: Trainer, datamodule: LightningDataModule) -> dict[str, float]:
        """Re-estimates batch normalisation and measures what the phase has made, on the test set."""
        self.to_device_of(trainer)
        few = self.few_batches(datamodule)
        self.grafting.settle_norms(few, [self.joined] if self.joined else [(block,) for block in self.blocks])
        self.network.eval()
        is_last = self.phase_index + 1 == len(self.phases)
        if is_last and self.loss is LOSSES["normalised"]:
            self.grafting.settle_scale(few)
        self.report.epochs[self.phase] = trainer.current_epoch
        data, measured, metrics = images_of(datamodule), self._measured(), {}
        found: dict[tuple[int, ...], float] = {}
        if is_last:  # the whole student is compared anyway
            found[self.blocks], compared = self._compared(data)
            metrics = {"test/acc_teacher": self.report.teacher} | compared
            costs = self.report.costs
            metrics["graft/parameters"] = float(sum(row["student_parameters"] for row in costs))
            metrics["graft/macs"] = float(sum(row["student_macs"] for row in costs))
        others = [joined for _, _, joined in measured if joined not in found]
        if others:
            accuracies = self.grafting.accuracies(data.loader("test", shared=False), others)
            found |= zip(others, accuracies, strict=True)
        for name, kind, joined in measured:
            metrics[f"test/acc_{name}"] = found[joined]
            self.report.bars.append((_label(joined, kind), found[joined], kind))
        return metrics

    def _measured(self) -> list[tuple[str, str, tuple[int, ...]]]:
        """Name, kind and blocks of every network that is worth a test at the end of this phase."""
        if self.joined:
            return [(self.phase, "joined", self.joined)]
        alone = [(f"block_{block}", "graft", (block,)) for block in self.blocks]
        # what the trained blocks are together without having seen each other
        return alone + ([("naive_join", "naive", self.blocks)] if len(self.blocks) > 1 else [])

    def _compared(self, data: "ImageDataModule") -> tuple[float, dict[str, float]]:
        """Accuracy of the student before folding, and what else :meth:`Report.compare` finds."""
        plain = self._folded()
        image = (self.in_channels, self.image_size, self.image_size)
        self.report.costs = cost_rows(self.grafting.teacher, list(plain), self.blocks, image)
        loader = data.loader("test", shared=False)
        return self.report.compare(loader, self.grafting, plain, self.num_classes)

    def _folded(self) -> nn.Sequential:
        # convolutions and pooling of a CPU are up to twice as fast in this order
        return self.plain_student().to(memory_format=torch.channels_last)

    def plain_student(self) -> nn.Sequential:
        """The trained student with its adaptions folded in: a network of its own, in evaluation mode.

        Shapes:
            input ``[B, in_channels, image_size, image_size]``; output ``[B, num_classes]``, logits whose
            scale is the teacher's.
        """
        return fold_student(self.network, self.in_channels, self.image_size)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[B, num_classes]``; of the plain student while one tests or predicts."""
        if self._plain and not self.training:
            logits: Tensor = self._plain[0](x)
            return logits
        return super().forward(x)

    def on_test_epoch_start(self) -> None:
        super().on_test_epoch_start()
        self._plain = (self._folded(),)

    def on_predict_start(self) -> None:
        self._plain = (self._folded(),)

    def prediction_files(
        self, outputs: list[Tensor], datamodule: LightningDataModule, folder: Path
    ) -> Iterable[dict[str, Any]]:
        if self.export != "none":
            from lightning_modules.netgraft.export import export_student

            data = images_of(datamodule)
            example = next(iter(data.loader("test", shared=False)))["x"][:2].cpu()
            export_student(self.plain_student().cpu(), example.to(self.dtype), folder, self.export)
        return self.prediction_rows(outputs, datamodule)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        shapes = self.network.teacher_shapes
        checkpoint["netgraft"] = {"teacher_shapes": shapes, "report": self.report.state()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        content = plain_values(checkpoint, "netgraft")
        shapes = content["teacher_shapes"]
        if shapes != self.network.teacher_shapes:
            with torch.random.fork_rng(devices=[]):  # the weights will be those of the checkpoint
                self.network.fit_into(shapes)
        self.report = Report.of(content["report"])

    def training_figure(self, rows: list[dict[str, Any]]) -> "Figure | None":
        from lightning_modules.netgraft.loss_picture import draw_phase_losses

        phases, first = [], 0
        for phase in self.phases[: self.phase_index + 1]:
            end = first + self.report.epochs.get(phase, len(rows) - first)
            if end > first:
                phases.append((phase, first, end))
            first = end
        joins = dict(zip(reversed(self.phases), reversed(self.stages.joins), strict=False))
        return draw_phase_losses(rows, phases, joins) if phases else None

    def figures(
        self, datamodule: LightningDataModule, published: dict[str, Any] | None
    ) -> Iterator[tuple[str, "Figure"]]:
        yield from super().figures(datamodule, published)
        data = images_of(datamodule)
        if self._teacher:  # what is kept is of the run's own test, and not of a later one
            few = data.splits["train"].images / data.max_pixel
            yield from self.report.figures(data.class_names, few, self.shots)


def _label(joined: Sequence[int], kind: str) -> str:
    numbers = ", ".join(map(str, joined))
    word = "block" if len(joined) == 1 else "blocks"
    ending = {"graft": "", "naive": ", naive join", "joined": " joined"}[kind]
    return f"{word} {numbers}" + (ending if len(joined) > 1 else "")
