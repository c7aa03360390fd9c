"""What students have in common that copy a trained network, whatever kind of graph they see."""

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from pytorch_lightning import LightningModule
from torch import Tensor, nn
from torchmetrics import MeanMetric

from harness.configuration.targets import resolve_class
from harness.errors import UserError
from lightning_modules.experiment import ExperimentModule
from lightning_modules.lsp.terms import TermAverages, Terms, term_notes

DISTILLING = (
    *("distill", "layer_pairs", "kernel", "sigma", "degree", "offset", "kl", "lsp_weight", "lsp_until"),
    *("kd_alpha", "kd_temperature", "hint_weight"),
)
"""Constructor arguments that say how a student is taught, and nothing of what it is."""


class Distiller(ExperimentModule):
    """Looks at the teacher's layers, puts the loss together and reports its parts.

    A class for one kind of graph names this one first and then the class that trains its network on labels.
    """

    layers_in_words: ClassVar[str]
    """What hidden layers of the teacher are called."""

    teachers: ClassVar[type[ExperimentModule]]
    """What kind of module a teacher must be."""

    teacher_choice: ClassVar[str]
    """A choice of ``model=`` of that kind, for messages."""

    def teach_by(self, terms: Terms, layer_pairs: Sequence[Sequence[int]], *further: str) -> None:
        """Says how the student is taught; once, in the constructor.

        Args:
            terms: of the loss.
            layer_pairs: ``[teacher's, student's]`` layers, from 1 on.
            further: names of what training reports beside the terms.
        """
        self.terms = terms
        self.layer_pairs = tuple((one, other) for one, other in layer_pairs)
        self.averages = TermAverages(terms, *further)
        self.hints = nn.ModuleList()  # of FitNet, while training alone

    @abstractmethod
    def check_teacher(self, model: Mapping[str, Any]) -> None:
        """Refuses a teacher by its constructor arguments; called before and after it is fitted.

        Raises:
            UserError: it lacks a layer, or knows other data.
        """

    def on_planned_prerequisites(self, configs: Mapping[str, Mapping[str, Any]]) -> None:
        """Looks whether the teacher will do, before it is fitted.

        Raises:
            UserError: it will not.
        """
        if "teacher" in configs:
            self._check_kind(resolve_class(configs["teacher"]["model"]["_target_"], "LightningModule"))
            self.check_teacher(configs["teacher"]["model"])
            self._check_data(configs["teacher"]["data"])

    def take_teacher(self, teacher: LightningModule) -> None:
        """Refuses a trained teacher that will not do.

        Raises:
            UserError: naming what does not fit.
        """
        self._check_kind(type(teacher))
        self.check_teacher(teacher.hparams)
        if isinstance(teacher, ExperimentModule) and teacher.trained_on is not None:
            self._check_data(teacher.trained_on)

    def _check_kind(self, kind: type) -> None:
        if not issubclass(kind, self.teachers):
            raise UserError(
                f"model.requires.teacher: {kind.__name__} has no {self.layers_in_words} to be compared with."
                f' Name one that has: ["model={self.teacher_choice}","data=..."].'
            )

    def _check_data(self, teacher: Mapping[str, Any]) -> None:
        """Refuses a teacher whose splits or features are others than the student's."""
        own = self.trained_on
        if own is None or teacher.get("_target_") != own.get("_target_"):
            return
        kind = resolve_class(own["_target_"], "LightningDataModule")
        free = {*getattr(kind, "training_only", ()), "root", "cache"}
        for key in own:
            if key not in free and teacher.get(key) != own[key]:
                raise UserError(
                    f"model.requires.teacher is trained with data.{key}={teacher.get(key)}, this run has"
                    f" data.{key}={own[key]}: it would see other graphs, or learn what the student is"
                    " validated with."
                    f' Add to the words of model.requires.teacher: "data.{key}={json.dumps(own[key])}".'
                )

    def check_teacher_layers(self, layers: int) -> None:
        """Refuses a teacher of so many hidden layers.

        Raises:
            UserError: a pair names a layer that it lacks.
        """
        highest = max(one for one, _ in self.layer_pairs)
        if highest > layers:
            raise UserError(
                f"model.layer_pairs names layer {highest} of a teacher with {layers} {self.layers_in_words}."
                f" Name at most {layers}, as in model.layer_pairs=[[{layers},{self.layer_pairs[0][1]}]]."
            )

    def check_facts(self, teacher: Mapping[str, Any], facts: Sequence[str]) -> None:
        """Refuses a teacher that was trained for something else.

        Raises:
            UserError: one of the constructor arguments ``facts`` differs.
        """
        for key in facts:
            own, other = self.hparams[key], teacher[key]
            if own != other:
                raise UserError(
                    f"model.requires.teacher was trained with {key}={other}, this run has {key}={own}."
                    " Name a teacher of the same data."
                )

    def total(
        self, parts: Mapping[str, Tensor], parameters: Sequence[nn.Parameter], count: int, **further: Tensor
    ) -> Tensor:
        """The loss of a step from its parts, which are noted.

        Args:
            parts: as of :meth:`Terms.total`.
            parameters: of the student.
            count: nodes or clouds of the batch.
            further: what else is noted, by name, without gradient.
        """
        loss = self.terms.total(parts, self.current_epoch)
        first = self.trainer.fit_loop.epoch_loop.batch_idx == 0  # one step an epoch says enough of gradients
        noted = term_notes(parts, loss, self.terms, self.current_epoch, parameters if first else None)
        self.averages.add({**noted, **further}, count)
        return loss

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        if not self.hints:  # what maps hints belongs to training; last.ckpt has it
            weights = checkpoint["state_dict"]
            for name in [name for name in weights if name.startswith("hints.")]:
                del weights[name]

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.averages.reset()

    def train_averages(self) -> dict[str, MeanMetric]:
        """The terms of the loss, averaged over an epoch's training, by the name they are logged under."""
        return self.averages.of_epoch()
