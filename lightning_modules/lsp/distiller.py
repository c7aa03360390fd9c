"""What students have in common that copy a trained network, whatever kind of graph they see."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from torch import Tensor, nn
from torchmetrics import MeanMetric

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
    """What a hidden layer of the teacher is called."""

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

    def planned_layers(self, model: Mapping[str, Any]) -> int | None:
        """How many hidden layers a teacher of that configuration has; None where that is not said."""
        raise NotImplementedError

    def on_planned_prerequisites(self, configs: Mapping[str, Mapping[str, Any]]) -> None:
        """Looks whether the teacher will have the layers that are compared.

        Raises:
            UserError: it will not.
        """
        layers = self.planned_layers(configs.get("teacher", {}).get("model", {}))
        if layers is not None:
            self.check_teacher_layers(layers)

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

    def check_facts(self, teacher: ExperimentModule, facts: Sequence[str]) -> None:
        """Refuses a teacher that was trained for something else.

        Raises:
            UserError: one of the constructor arguments ``facts`` differs.
        """
        for key in facts:
            own, other = self.hparams[key], teacher.hparams[key]
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

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self.averages.reset()

    def train_averages(self) -> dict[str, MeanMetric]:
        """The terms of the loss, averaged over an epoch's training, by the name they are logged under."""
        return self.averages.of_epoch()
