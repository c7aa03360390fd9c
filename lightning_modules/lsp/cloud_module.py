"""LSP for dynamic graphs: a student of point clouds whose graph is another one than its teacher's."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import torch
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torchmetrics import MeanMetric

from harness.annotations import (
    ClassSpec,
    Fraction,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Probability,
)
from harness.errors import UserError
from lightning_modules.image_classification.losses import soft_target_loss
from lightning_modules.lsp import cloud_report
from lightning_modules.lsp.clouds import CloudNeighbours, overlap
from lightning_modules.lsp.distiller import DISTILLING, Distiller
from lightning_modules.lsp.losses import mean_attention, squared_difference
from lightning_modules.lsp.structure import (
    RULER,
    Kernel,
    log_structure,
    node_divergences,
    structure_loss,
)
from lightning_modules.lsp.terms import Terms, check_layer_pairs
from lightning_modules.point_cloud_classification.module import Batch, PointCloudClassifier, clouds_of
from lightning_modules.point_cloud_classification.networks import EmbeddedClouds

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class CloudLSP(Distiller, PointCloudClassifier):
    """A :class:`DGCNN` that copies its teacher's local structure (Yang et al., arXiv 2003.10477).

    For a pair of layers both networks' structures are taken over the union of the two graphs of nearest
    neighbours that are built from those very layers' outputs. The teacher sees the student's batch,
    augmentation and order of points included, in evaluation mode and without gradient. ``distill`` picks the
    methods that it is compared with, see :class:`Terms`. The common ruler, L_LSP under rbf with sigma 100 on
    the union, is measured on validation clouds in every mode.

    The authors' code has no such part. Ours, where the paper was not found to say: the last layers are
    paired; hints go through a leaky ReLU and a linear map of each point; attention maps are those of points.

    Args:
        num_points: points of a cloud.
        num_classes: number of classes.
        widths: output of each EdgeConv of the student.
        embedding: width of a point's embedding.
        classifier: width of each hidden layer of the classifier.
        k: neighbours of a point, itself included.
        dropout: after each hidden layer of the classifier.
        label_smoothing: share of the target spread evenly over all classes.
        distill: what is learnt from the teacher.
        layer_pairs: ``[[teacher's, student's], ...]`` EdgeConvs that are compared, from 1 on.
        edges: ``union`` of both graphs, or one of them alone.
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
        optimizer: ``{name: class of torch.optim, **keywords}``.
        scheduler: ``{name: class of torch.optim.lr_scheduler, **keywords}`` or None.

    Raises:
        UserError: a pair names a layer that is not there.
    """

    prerequisites = ("teacher",)
    layers_in_words = "EdgeConvs"
    teachers = PointCloudClassifier
    teacher_choice = "dgcnn"
    training_only: ClassVar[tuple[str, ...]] = (
        *PointCloudClassifier.training_only,
        *DISTILLING,
        "edges",
    )
    epoch_metrics: ClassVar[tuple[str, ...]] = (
        # written out: the configuration check reads literals alone
        "train/loss",
        "train/acc",
        "train/mean_class_acc",
        "val/loss",
        "val/acc",
        "val/mean_class_acc",
        "val/lsp_ruler",
        "val/graph_overlap",
    )

    def __init__(
        self,
        num_points: PositiveInt,
        num_classes: PositiveInt,
        widths: list[PositiveInt],
        embedding: PositiveInt,
        classifier: list[PositiveInt],
        k: PositiveInt,
        dropout: Probability,
        label_smoothing: Probability,
        distill: Literal["full", "kd", "fitnet", "at", "lsp", "lsp+kd"],
        layer_pairs: list[list[PositiveInt]],
        edges: Literal["union", "teacher", "student"],
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
        optimizer: ClassSpec,
        scheduler: ClassSpec | None,
    ) -> None:
        mistake = check_layer_pairs(layer_pairs, len(widths))
        if mistake:
            raise UserError(f"{mistake}.")
        super().__init__(
            num_points,
            num_classes,
            widths,
            embedding,
            classifier,
            k,
            dropout,
            label_smoothing,
            optimizer,
            scheduler,
        )
        self.save_hyperparameters()
        self.edges = edges
        measure = Kernel(kernel, sigma, degree, offset)
        terms = Terms(distill, measure, kl, lsp_weight, lsp_until, kd_alpha, kd_temperature, hint_weight)
        self.teach_by(terms, layer_pairs, "lsp_ruler")
        self.val_averages = nn.ModuleDict({name: MeanMetric(nan_strategy="disable") for name in _MEASURED})
        # in a tuple it is no submodule: neither in the state dict nor among the parameters
        self._teacher: tuple[PointCloudClassifier, ...] = ()
        self._rows: list[dict[str, Any]] = []  # metrics of each epoch, for the pictures

    # The teacher

    def check_teacher(self, model: Mapping[str, Any]) -> None:
        self.check_facts(model, ("num_classes",))
        self.check_teacher_layers(len(model["widths"]))
        points, k = int(self.hparams["num_points"]), model["k"]
        if k > points:
            raise UserError(
                f"model.requires.teacher looks at {k} neighbours, and clouds have data.num_points={points}."
                f" Set data.num_points={k} or more."
            )

    def on_prerequisites(self, modules: Mapping[str, LightningModule]) -> None:
        """Takes ``modules["teacher"]``.

        Raises:
            UserError: it is no classifier of the same point clouds, or lacks a layer.
        """
        teacher = modules["teacher"]
        self.take_teacher(teacher)
        assert isinstance(teacher, PointCloudClassifier)
        self._teacher = (teacher,)

    @property
    def teacher(self) -> PointCloudClassifier | None:
        """What the student learns from; None in a module that was read from a checkpoint to be tested."""
        return self._teacher[0] if self._teacher else None

    @torch.no_grad()
    def ask(self, pos: Tensor) -> EmbeddedClouds:
        """What the teacher makes of a batch of clouds ``[B, n, 3]``.

        Raises:
            RuntimeError: there is no teacher.
        """
        if not self._teacher:
            raise RuntimeError("LSP has no teacher: call on_prerequisites before fit")
        found: EmbeddedClouds = self._teacher[0].network(pos)
        return found

    def place_teacher(self) -> None:
        """Puts the teacher, if there is one, where the student is, in its precision and evaluation mode."""
        dtype = next(self.network.parameters()).dtype
        for teacher in self._teacher:
            teacher.to(self.device, dtype).eval()

    # Training

    def on_phase_start(self, datamodule: LightningDataModule) -> None:
        super().on_phase_start(datamodule)
        if self.terms.distill == "fitnet":
            if not self._teacher:
                raise RuntimeError("LSP has no teacher: call on_prerequisites before fit")
            own, other = self.hparams["widths"], self._teacher[0].hparams["widths"]
            self.hints = nn.ModuleList(
                nn.Sequential(nn.LeakyReLU(0.2), nn.Linear(own[s - 1], other[t - 1]))
                for t, s in self.layer_pairs
            )

    def on_fit_start(self) -> None:
        super().on_fit_start()
        self.place_teacher()

    def training_loss(self, batch: Batch, embedded: EmbeddedClouds) -> Tensor:
        epoch, terms = self.current_epoch, self.terms
        parts = {"task_loss": super().training_loss(batch, embedded)}
        asks = terms.soft_labels or terms.hints or terms.structure_in(epoch)
        noted: dict[str, Tensor] = {}
        if asks:  # else the teacher's pass would be for the ruler alone, which validation measures
            taught = self.ask(batch["pos"])
            if terms.soft_labels:
                parts["kd_loss"] = soft_target_loss(embedded.logits, taught.logits, terms.kd_temperature)
            if terms.hints:
                parts["hint_loss"] = self._hint_loss(taught, embedded)
            if terms.structure_in(epoch):
                parts["lsp_loss"] = self.structure_loss(taught, embedded)
            noted["lsp_ruler"] = self.divergences(taught, embedded).mean()
        return self.total(parts, list(self.network.parameters()), len(batch["y"]), **noted)

    def neighbours(
        self, taught: EmbeddedClouds, embedded: EmbeddedClouds, pair: tuple[int, int]
    ) -> CloudNeighbours:
        """The pairs of points that a pair of layers is compared over."""
        graphs = taught.graph(pair[0] - 1), embedded.graph(pair[1] - 1)
        return CloudNeighbours.of(*graphs, self.edges)

    def structure_loss(self, taught: EmbeddedClouds, embedded: EmbeddedClouds) -> Tensor:
        """L_LSP, mean over the pairs of layers; gradients reach ``embedded`` alone."""
        losses = []
        for pair in self.layer_pairs:
            neighbours = self.neighbours(taught, embedded, pair)
            teacher = log_structure(taught.features[pair[0] - 1], neighbours, self.terms.kernel)
            student = log_structure(embedded.features[pair[1] - 1], neighbours, self.terms.kernel)
            losses.append(structure_loss(student, teacher, neighbours, self.terms.direction))
        return torch.stack(losses).mean()

    def _hint_loss(self, taught: EmbeddedClouds, embedded: EmbeddedClouds) -> Tensor:
        """Difference from the teacher's features or attention maps, mean over the pairs of layers."""
        losses = []
        for number, (one, other) in enumerate(self.layer_pairs):
            own, target = embedded.features[other - 1], taught.features[one - 1]
            if self.terms.distill == "at":
                losses.append(squared_difference(mean_attention(own), mean_attention(target)))
            else:
                losses.append(squared_difference(self.hints[number](own), target))
        return torch.stack(losses).mean()

    def configure_optimizers(self) -> Any:
        return self.optimizers_of([*self.network.parameters(), *self.hints.parameters()])

    # Validation and what follows training

    @torch.no_grad()
    def divergences(self, taught: EmbeddedClouds, embedded: EmbeddedClouds) -> Tensor:
        """S_i of each point under the common kernel on the union, mean over pairs of layers; ``[B, n]``."""
        each = []
        for one, other in self.layer_pairs:
            neighbours = CloudNeighbours.joined(taught.graph(one - 1), embedded.graph(other - 1))
            teacher = log_structure(taught.features[one - 1], neighbours, RULER)
            student = log_structure(embedded.features[other - 1], neighbours, RULER)
            each.append(node_divergences(student, teacher, neighbours))
        return torch.stack(each).mean(dim=0)

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        for average in self.val_averages.values():
            assert isinstance(average, MeanMetric)
            average.reset()

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        embedded = self.evaluate(self.val_metrics, batch)
        if self._teacher:
            taught = self.ask(batch["pos"])
            shares = [overlap(taught.graph(t - 1), embedded.graph(s - 1)) for t, s in self.layer_pairs]
            found = {"lsp_ruler": self.divergences(taught, embedded).mean(), "graph_overlap": _mean(shares)}
            for name, value in found.items():
                average: Any = self.val_averages[name]
                average.update(value.expand(len(batch["y"])))

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if self._teacher:
            averages: dict[str, Any] = dict(self.val_averages.items())
            self._log({f"val/{name}": average.compute() for name, average in averages.items()})

    @torch.no_grad()
    def on_phase_end(self, trainer: Trainer, datamodule: LightningDataModule) -> dict[str, float]:
        """Measures L_LSP of the weights that are kept over all training clouds as they are.

        Returns:
            ``lsp_ruler``.
        """
        self.hints = nn.ModuleList()
        self.to(trainer.strategy.root_device)
        self.eval()
        self.place_teacher()
        dtype, total, count = next(self.network.parameters()).dtype, 0.0, 0
        for batch in clouds_of(datamodule).loader("train", shared=False):
            pos = batch["pos"].to(self.device, dtype)
            found = self.divergences(self.ask(pos), self.network(pos))
            total, count = total + float(found.sum()), count + found.numel()
        return {"lsp_ruler": total / count}

    # Pictures

    def training_figure(self, rows: list[dict[str, Any]]) -> "Figure":
        self._rows = rows
        return cloud_report.training_figure(self, rows)

    def figures(
        self, datamodule: LightningDataModule, published: dict[str, Any] | None
    ) -> Iterator[tuple[str, "Figure"]]:
        self.place_teacher()
        yield from super().figures(datamodule, published)
        yield from cloud_report.figures(self, datamodule, published, self._rows)

    def spaces(self, pos: Tensor) -> dict[str, Tensor]:
        """Those of the layers that are compared, teacher's beside student's, or its own without a teacher."""
        return super().spaces(pos) if self.teacher is None else cloud_report.compared_spaces(self, pos)


_MEASURED = ("lsp_ruler", "graph_overlap")


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean()
