"""LSP for static graphs: a student's loss, what it asks of its teacher, and the ruler for all trainings."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torchmetrics import MeanMetric

from harness.annotations import ClassSpec, Fraction, NonNegativeFloat, PositiveFloat, PositiveInt
from harness.errors import UserError
from lightning_modules.graph_prediction.batch import Graphs
from lightning_modules.graph_prediction.module import Batch, graph_sets_of
from lightning_modules.graph_prediction.networks import LayerOutput
from lightning_modules.graph_prediction.targets import is_multi_label, task_loss
from lightning_modules.image_classification.losses import soft_target_loss
from lightning_modules.lsp import report
from lightning_modules.lsp.distiller import DISTILLING, Distiller
from lightning_modules.lsp.inductive_gat import AttentionPredictor
from lightning_modules.lsp.losses import (
    Hint,
    mean_attention,
    soft_label_loss,
    squared_difference,
    unit_attention,
)
from lightning_modules.lsp.structure import (
    RULER,
    EdgeNeighbours,
    Kernel,
    log_structure,
    node_divergences,
    structure_loss,
)
from lightning_modules.lsp.teacher import Answers, AnswerTable, Teacher
from lightning_modules.lsp.terms import Terms, check_layer_pairs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from datamodules.graph_sets import GraphLoader, Split


class LSP(Distiller, AttentionPredictor):
    """A student that copies its teacher's local structure (Yang et al., CVPR 2020, arXiv 2003.10477).

    For each node the similarities to its neighbours, as a distribution, are to be those of the teacher's
    embedding: ``loss = task loss + lsp_weight * mean over nodes of KL``. ``distill`` picks the methods that
    it is compared with instead, see :class:`Terms`. Whatever is minimised, ``lsp_ruler`` reports L_LSP under
    rbf with sigma 100, so that all trainings can be compared by it.

    The graphs do not change and the teacher is frozen, so what it says is kept and looked up
    (``cache_teacher``). Departures from the authors' code: their kernel is ``l1exp`` and their term ends
    after 30 epochs, here the paper's ``rbf`` and all epochs are the default; labels count from a logit of 0
    and not 0.5; the checkpoint is that of the best validation F1, looked at in each epoch; the teacher is
    asked once and not twice a step, and is the best one of its own training, where theirs is that of the last
    epoch: ``callbacks.best_weights.monitor=null`` among the words of ``requires.teacher``.

    Args:
        in_channels: features of a node.
        num_classes: labels or classes.
        target: ``node_multi_label`` or ``node_class``.
        hidden_layers: of the student, beside its output layer.
        heads: of each hidden layer.
        channels: units of each head.
        out_heads: of the output layer.
        negative_slope: of the leaky ReLU on attention logits.
        distill: what is learnt from the teacher.
        layer_pairs: ``[[teacher's, student's], ...]`` hidden layers that are compared, from 1 on; losses are
            averaged over them.
        kernel: of L_LSP, see :class:`Kernel`.
        sigma: of ``rbf`` and ``l1exp``.
        degree: of ``poly``.
        offset: of ``poly``.
        kl: ``teacher_student`` is KL(teacher || student), ``student_teacher`` the other.
        lsp_weight: lambda.
        lsp_until: epochs with L_LSP; None for all.
        kd_alpha: share of soft labels in the task loss, of ``kd`` and ``lsp+kd``.
        kd_temperature: of soft labels.
        hint_weight: of ``fitnet`` and ``at``.
        attention_map: of ``at``: ``mean`` of absolute values (LSP's code) or ``unit`` (squares, length 1).
        cache_teacher: whether the teacher's answers are kept; False asks it in every step.
        logit_threshold: a label is predicted where its logit is above.
        optimizer: ``{name: class of torch.optim, **keywords}``.
        scheduler: ``{name: class of torch.optim.lr_scheduler, **keywords}`` or None.

    Raises:
        UserError: a pair names a layer that is not there.
    """

    prerequisites = ("teacher",)
    layers_in_words = "hidden layers"
    teachers = AttentionPredictor
    teacher_choice = "inductive_gat"
    training_only: ClassVar[tuple[str, ...]] = (
        *AttentionPredictor.training_only,
        *DISTILLING,
        "attention_map",
        "cache_teacher",
    )

    def __init__(
        self,
        in_channels: PositiveInt,
        num_classes: PositiveInt,
        target: Literal["node_multi_label", "node_class"],
        hidden_layers: PositiveInt,
        heads: PositiveInt,
        channels: PositiveInt,
        out_heads: PositiveInt,
        negative_slope: NonNegativeFloat,
        distill: Literal["full", "kd", "fitnet", "at", "lsp", "lsp+kd"],
        layer_pairs: list[list[PositiveInt]],
        kernel: Literal["rbf", "linear", "poly", "l2", "neg_l2", "l1exp"],
        sigma: PositiveFloat,
        degree: PositiveInt,
        offset: float,
        kl: Literal["teacher_student", "student_teacher"],
        lsp_weight: NonNegativeFloat,
        lsp_until: PositiveInt | None,
        kd_alpha: Fraction,
        kd_temperature: PositiveFloat,
        hint_weight: NonNegativeFloat,
        attention_map: Literal["mean", "unit"],
        cache_teacher: bool,
        logit_threshold: float,
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
    ) -> None:
        mistake = check_layer_pairs(layer_pairs, hidden_layers)
        if mistake:
            raise UserError(f"{mistake}.")
        super().__init__(
            in_channels,
            num_classes,
            target,
            hidden_layers,
            heads,
            channels,
            out_heads,
            negative_slope,
            logit_threshold,
            optimizer,
            scheduler,
        )
        self.save_hyperparameters()
        self.attention_map, self.cache_teacher = attention_map, cache_teacher
        measure = Kernel(kernel, sigma, degree, offset)
        terms = Terms(distill, measure, kl, lsp_weight, lsp_until, kd_alpha, kd_temperature, hint_weight)
        self.teach_by(terms, layer_pairs, "lsp_ruler")
        self.val_ruler = MeanMetric(nan_strategy="disable")
        # in a tuple it is no submodule: neither in the state dict nor among the parameters
        self._teacher: tuple[Teacher, ...] = ()
        self._tables: dict[str, AnswerTable] = {}
        self._rows: list[dict[str, Any]] = []  # metrics of each epoch, for the pictures

    # The teacher

    def check_teacher(self, model: Mapping[str, Any]) -> None:
        self.check_facts(model, ("in_channels", "num_classes", "target"))
        self.check_teacher_layers(model["hidden_layers"])

    def on_prerequisites(self, modules: Mapping[str, LightningModule]) -> None:
        """Takes ``modules["teacher"]``.

        Raises:
            UserError: it is no attention network for the same nodes and labels, or lacks a layer.
        """
        teacher = modules["teacher"]
        self.take_teacher(teacher)
        assert isinstance(teacher, AttentionPredictor)
        self._teacher = (
            Teacher(
                network=teacher.network,
                layers=[one for one, _ in self.layer_pairs],
                kernels=self.terms.kernels,
                logits=self.terms.soft_labels,
                hidden=self.terms.distill == "fitnet",
                maps=self.attention_map if self.terms.distill == "at" else None,
            ),
        )

    @property
    def teacher(self) -> Teacher | None:
        """What the student learns from; None in a module that was read from a checkpoint to be tested."""
        return self._teacher[0] if self._teacher else None

    def _ask_teacher(self) -> None:
        """Moves the teacher to the student's device; if answers are kept, asks about train and val."""
        if not self._teacher:
            return
        teacher = self._teacher[0]
        dtype = next(self.network.parameters()).dtype
        teacher.network.to(self.device, dtype).eval()
        if self.cache_teacher:
            splits: tuple[Split, ...] = ("train", "val")
            self._tables = {split: AnswerTable(teacher, self._whole(split), dtype) for split in splits}

    def _whole(self, split: "Split") -> "GraphLoader":
        """All graphs of a split in their order, all of them in every process."""
        data = graph_sets_of(self.trainer.datamodule)  # type: ignore[attr-defined]
        return data.loader(split, shared=False)

    def answers(self, split: str, batch: Batch, graphs: Graphs) -> Answers:
        """What the teacher says of a batch of a split.

        Raises:
            RuntimeError: there is no teacher.
        """
        if split in self._tables:
            return self._tables[split].look_up(batch)
        if not self._teacher:
            raise RuntimeError("LSP has no teacher: call on_prerequisites before fit")
        return self._teacher[0].answer(graphs)

    # Training

    def on_phase_start(self, datamodule: LightningDataModule) -> None:
        super().on_phase_start(datamodule)
        if self.terms.distill == "fitnet":
            if not self._teacher:
                raise RuntimeError("LSP has no teacher: call on_prerequisites before fit")
            widths = (self.network.hidden_channels, self._teacher[0].network.hidden_channels)
            slope = float(self.hparams["negative_slope"])
            self.hints = nn.ModuleList(Hint(*widths, slope) for _ in self.layer_pairs)

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self._ask_teacher()

    def on_train_start(self) -> None:
        for table in self._tables.values():
            table.verify()

    def training_loss(
        self, batch: Batch, predicted: Tensor, graphs: Graphs, found: list[LayerOutput]
    ) -> Tensor:
        epoch, terms = self.current_epoch, self.terms
        answers = self.answers("train", batch, graphs)
        parts = {"task_loss": task_loss(self.target, predicted, batch["y"])}
        if answers.logits is not None:
            kd = soft_label_loss if is_multi_label(self.target) else soft_target_loss
            parts["kd_loss"] = kd(predicted, answers.logits, terms.kd_temperature)
        if terms.hints:
            parts["hint_loss"] = self._hint_loss(answers, graphs, found)
        if terms.structure_in(epoch):
            parts["lsp_loss"] = self._structure_loss(answers, graphs, found, terms.kernel)
        own = "lsp_loss" in parts and terms.kernel == RULER and terms.direction == "teacher_student"
        ruler = parts["lsp_loss"].detach() if own else self._ruler(answers, graphs, found).mean()
        weights = list(self.network.parameters())
        return self.total(parts, weights, graphs.edges.num_groups, lsp_ruler=ruler)

    def _structure_loss(
        self, answers: Answers, graphs: Graphs, found: list[LayerOutput], kernel: Kernel
    ) -> Tensor:
        """L_LSP, mean over the pairs of layers."""
        neighbours, kernels = EdgeNeighbours(graphs.edges), self.terms.kernels
        losses = []
        for number, (_, layer) in enumerate(self.layer_pairs):
            student = log_structure(found[layer - 1].out, neighbours, kernel)
            teacher = answers.structures[:, number * len(kernels) + kernels.index(kernel)]
            losses.append(structure_loss(student, teacher, neighbours, self.terms.direction))
        return torch.stack(losses).mean()

    @torch.no_grad()
    def _ruler(self, answers: Answers, graphs: Graphs, found: list[LayerOutput]) -> Tensor:
        """S_i of each node under the common kernel, mean over the pairs of layers; ``[n]``."""
        neighbours, kernels = EdgeNeighbours(graphs.edges), self.terms.kernels
        each = []
        for number, (_, layer) in enumerate(self.layer_pairs):
            student = log_structure(found[layer - 1].out, neighbours, RULER)
            teacher = answers.structures[:, number * len(kernels) + kernels.index(RULER)]
            each.append(node_divergences(student, teacher, neighbours))
        return torch.stack(each).mean(dim=0)

    def _hint_loss(self, answers: Answers, graphs: Graphs, found: list[LayerOutput]) -> Tensor:
        """Difference from the teacher's features or attention maps, mean over the pairs of layers."""
        losses = []
        for number, (_, layer) in enumerate(self.layer_pairs):
            own = found[layer - 1].out
            if answers.maps is not None:
                own = mean_attention(own) if self.attention_map == "mean" else unit_attention(own, graphs)
                losses.append(squared_difference(own, answers.maps[:, number]))
            else:
                losses.append(squared_difference(self.hints[number](own, graphs), answers.hidden[number]))
        return torch.stack(losses).mean()

    def configure_optimizers(self) -> Any:
        return self.optimizers_of([*self.network.parameters(), *self.hints.parameters()])

    # Validation and what follows training

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self.val_ruler.reset()

    def on_validated(self, batch: Batch, graphs: Graphs, found: list[LayerOutput]) -> None:
        if self._teacher:
            self.val_ruler.update(self._ruler(self.answers("val", batch, graphs), graphs, found))

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if self._teacher:
            self._log({"val/lsp_ruler": self.val_ruler.compute()})

    def on_phase_end(self, trainer: Trainer, datamodule: LightningDataModule) -> dict[str, float]:
        """Measures L_LSP of the weights that are kept over all training graphs, and drops what maps hints.

        Returns:
            ``lsp_ruler``.
        """
        self.hints = nn.ModuleList()
        self.to(trainer.strategy.root_device)
        return {"lsp_ruler": float(self.divergences(datamodule, "train").mean())}

    @torch.no_grad()
    def divergences(self, datamodule: LightningDataModule, split: "Split") -> Tensor:
        """S_i under the common kernel of all nodes of a split, graph after graph; ``[N]`` on the CPU.

        Raises:
            RuntimeError: there is no teacher.
        """
        if not self._teacher:
            raise RuntimeError("LSP has no teacher: call on_prerequisites before fit")
        self.eval()
        self._teacher[0].network.to(self.device, next(self.network.parameters()).dtype).eval()
        parts = []
        for batch in graph_sets_of(datamodule).loader(split, shared=False):
            batch = {name: value.to(self.device) for name, value in batch.items()}
            graphs = self.graphs(batch)
            _, found = self.network(graphs)
            parts.append(self._ruler(self._teacher[0].answer(graphs), graphs, found).cpu())
        return torch.cat(parts)

    def training_figure(self, rows: list[dict[str, Any]]) -> "Figure":
        from lightning_modules.lsp.training_pictures import draw_training

        self._rows = rows
        return draw_training(rows, self.terms.lsp_until)

    def figures(
        self, datamodule: LightningDataModule, published: dict[str, Any] | None
    ) -> Iterator[tuple[str, "Figure"]]:
        return report.figures(self, datamodule, published, self._rows)  # heads are no factors
