"""What a grafting run tells of itself: accuracies of the phases, agreement with the teacher, costs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from lightning_modules.image_classification.module import Batch
from lightning_modules.netgraft.few_shot import count_matches
from lightning_modules.netgraft.grafting import Grafting

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Report:
    """Values and tensors that belong to a checkpoint, so that a run that continues tells the whole story.

    Attributes:
        teacher: its accuracy on the test set.
        epochs: trained in each phase that is over.
        bars: label, accuracy and kind of every network measured after a phase.
        costs: rows of the table of parameters and MACs.
        cosines: of the student's logits with the teacher's, ``[N]``, one for each test image.
        agreement: share of the test images that both take for the same class.
        fold_error: largest difference that folding makes to a logit, as a share of the largest logit.
        confusions: ``[2, C, C]`` counts of the student and of the teacher; empty before the end.
    """

    teacher: float = 0.0
    epochs: dict[str, int] = field(default_factory=dict)
    bars: list[tuple[str, float, str]] = field(default_factory=list)
    costs: list[dict[str, Any]] = field(default_factory=list)
    cosines: Tensor = field(default_factory=lambda: torch.empty(0))
    agreement: float = 0.0
    fold_error: float = 0.0
    confusions: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))

    def state(self) -> dict[str, Any]:
        """As plain values and tensors."""
        return asdict(self)

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Self:
        """What :meth:`state` gave.

        Raises:
            TypeError: it has other keys.
        """
        report = cls(**state)
        report.bars = [(str(label), float(accuracy), str(kind)) for label, accuracy, kind in report.bars]
        return report

    @torch.no_grad()
    def compare(
        self, batches: Iterable[Batch], grafting: Grafting, plain: nn.Module, num_classes: int
    ) -> tuple[float, dict[str, float]]:
        """Compares teacher, student and plain student on labelled images.

        Args:
            batches: of the test set.
            grafting: of the first two.
            plain: the student with its adaptions folded in.
            num_classes: of the data.

        Returns:
            Accuracy of the student before folding, and ``graft/agreement``, the share of images that student
            and teacher take for the same class; ``graft/cosine``, the mean cosine of their logits;
            ``graft/fold_error``, the largest difference that folding makes to a logit, as a share of the
            largest logit.
        """
        student = grafting.student
        like = next(student.parameters())
        cosines, matches, right, differences, sizes = [], [], [], [], []
        confusions = torch.zeros(2, num_classes, num_classes, dtype=torch.long, device=like.device)
        for batch in batches:
            x, y = batch["x"].to(like), batch["y"].to(like.device)
            cuts = grafting.cuts(x)
            # the copied blocks before the first graft are the teacher's, bit for bit
            unfolded = grafting.logits(cuts, student.grafted) * student.logit_scale
            of_teacher, of_student = cuts[-1], plain(x)
            cosines.append(F.cosine_similarity(of_teacher, of_student).float())
            answers = [one.argmax(dim=1) for one in (of_student, of_teacher)]
            matches.append(answers[0] == answers[1])
            right.append(unfolded.argmax(dim=1) == y)
            confusions += torch.stack([count_matches(y, one, num_classes) for one in answers])
            differences.append((unfolded - of_student).abs().max())
            sizes.append(unfolded.abs().max())
        self.cosines = torch.cat(cosines).cpu()
        self.agreement = float(torch.cat(matches).float().mean())
        self.confusions = confusions.cpu()
        self.teacher = float(confusions[1].trace() / confusions[1].sum())
        error, largest = float(torch.stack(differences).max()), float(torch.stack(sizes).max())
        self.fold_error = error / largest if largest else error
        return float(torch.cat(right).float().mean()), {
            "graft/agreement": self.agreement,
            "graft/cosine": float(self.cosines.mean()),
            "graft/fold_error": self.fold_error,
        }

    def figures(
        self, class_names: Sequence[str], few: Tensor | None, shots: int
    ) -> Iterator[tuple[str, "Figure"]]:
        """Pictures of a run that came to its end.

        Args:
            class_names: of the data.
            few: the images that the student was taught with, ``[num_classes * shots, C, H, W]`` in [0, 1];
                None where they are not at hand.
            shots: how many of each class.
        """
        from lightning_modules.netgraft.difference_picture import draw_confusion_difference
        from lightning_modules.netgraft.pictures import draw_agreement, draw_grafted_accuracies
        from lightning_modules.netgraft.setting_pictures import draw_costs, draw_few_shots

        if self.bars:
            yield "accuracies", draw_grafted_accuracies(self.bars, self.teacher)
        if len(self.cosines):
            note = f"Folding the adaptions changed no logit by more than {self.fold_error:.0e} of the largest"
            yield "agreement", draw_agreement(self.cosines.numpy(), self.agreement, note)
        if len(self.confusions):
            student, teacher = self.confusions.numpy()
            yield "confusion_difference", draw_confusion_difference(student, teacher, class_names)
        if self.costs:
            yield "costs", draw_costs(self.costs)
        if few is not None:
            yield "few_shots", draw_few_shots(few.numpy(), class_names, shots)


@torch.no_grad()
def cost_rows(
    teacher: Sequence[nn.Module], student: Sequence[nn.Module], grafted: Iterable[int], image: Sequence[int]
) -> list[dict[str, Any]]:
    """Parameters and multiply-accumulate operations of each block, for one image.

    Args:
        teacher: its blocks.
        student: those of the plain student, as many.
        grafted: numbers of the blocks that were trained.
        image: ``(C, H, W)``.

    Returns:
        A row for each block: ``block``, ``side`` of the maps that it gives (None for logits), parameters and
        MACs of both networks, ``grafted``.
    """
    like = next(teacher[0].parameters())
    rows: list[dict[str, Any]] = []
    entering = [like.new_zeros(1, *image)] * 2
    for number, pair in enumerate(zip(teacher, student, strict=True)):
        row: dict[str, Any] = {"block": number, "grafted": number in set(grafted)}
        for place, (name, block) in enumerate(zip(("teacher", "student"), pair, strict=True)):
            with FlopCounterMode(display=False) as counter:
                entering[place] = block.eval()(entering[place])
            row[f"{name}_parameters"] = sum(
                value.numel() for value in [*block.parameters(), *_maps_of_biases(block)]
            )
            row[f"{name}_macs"] = counter.get_total_flops() // 2  # a multiplication and an addition each
        shape = entering[0].shape
        rows.append({**row, "side": shape[-1] if len(shape) == 4 else None})
    return rows


def _maps_of_biases(block: nn.Module) -> list[Tensor]:
    return [value for name, value in block.named_buffers() if name.endswith("bias_map")]
