"""What the rounds of a run have measured, and the pictures of it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch

from lightning_modules.deal.class_difficulty import spearman

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from datamodules.segmentation import SegmentationDataModule
    from lightning_modules.deal.rounds import Rounds


@dataclass
class Measured:
    """What one round has found; plain values, so that a checkpoint may hold it.

    Attributes:
        labelled: images that it trained on.
        epochs: that it trained.
        miou: on the test set.
        acc: share of the test pixels that are right.
        iou: of each class on the test set, NaN where it is nowhere.
        difficulty: mean of the map over the pixels of each class, see :class:`ClassDifficulty`; empty
            without the branch.
        gamma: of the attention; None without it.
        labelled_share: of each class in the annotated pixels of the labelled images.
        pool_share: of each class in the candidates, as the network sees them; empty where it did not look.
    """

    labelled: int
    epochs: int
    miou: float
    acc: float
    iou: list[float]
    difficulty: list[float]
    gamma: float | None
    labelled_share: list[float]
    pool_share: list[float] = field(default_factory=list)

    @property
    def correlation(self) -> float:
        """Spearman's, of 1 - IoU and mean difficulty over the classes; NaN without the branch."""
        if not self.difficulty:
            return float("nan")
        return spearman(1 - np.array(self.iou), np.array(self.difficulty))

    def metrics(self, names: Sequence[str]) -> dict[str, float]:
        """Numbers by name.

        Args:
            names: of the classes, without spaces.
        """
        found = {"labelled": float(self.labelled), "miou": self.miou, "acc": self.acc}
        found["label_entropy"] = entropy(self.labelled_share)
        if self.gamma is not None:
            found["gamma"] = self.gamma
        found["spearman"] = self.correlation
        found |= {f"iou_{name}": value for name, value in zip(names, self.iou, strict=True)}
        return {name: value for name, value in found.items() if not np.isnan(value)}


@dataclass
class Report:
    """Belongs to a checkpoint, so that a run that continues tells the whole story.

    Attributes:
        rounds: by number what each round has found.
    """

    rounds: dict[int, Measured] = field(default_factory=dict)

    def state(self) -> dict[str, Any]:
        """As plain values."""
        return {"rounds": {number: asdict(one) for number, one in self.rounds.items()}}

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Self:
        """What :meth:`state` gave.

        Raises:
            TypeError: it has other keys.
        """
        return cls({int(number): Measured(**one) for number, one in state["rounds"].items()})

    def figures(
        self,
        names: Sequence[str],
        palette: np.ndarray,
        published: Mapping[str, Sequence[float]],
        acquisition: str,
        *,
        is_calibrated: bool,
    ) -> Iterator[tuple[str, "Figure"]]:
        """Pictures of the rounds that are over, for which no image is needed.

        Args:
            names: of the classes.
            palette: ``[256, 3]`` in [0, 1].
            published: mIoU in percent by acquisition, at the images in its entry ``labelled``; may be empty.
            acquisition: by what the images were chosen.
            is_calibrated: see :func:`lightning_modules.deal.pictures.draw_class_difficulty`.
        """
        from lightning_modules.deal.pictures import (
            draw_class_difficulty,
            draw_class_shares,
            draw_iou_by_round,
            draw_miou_by_labels,
        )

        if not self.rounds:
            return
        rounds = list(self.rounds.values())
        yield (
            "miou_by_labels",
            draw_miou_by_labels(
                [one.labelled for one in rounds], [one.miou for one in rounds], acquisition, published
            ),
        )
        if len(rounds) > 1:
            table = np.array([one.iou for one in rounds])
            yield "iou_by_round", draw_iou_by_round(table, [one.labelled for one in rounds], names)
        last = rounds[-1]
        if last.difficulty:
            yield (
                "class_difficulty",
                draw_class_difficulty(
                    1 - np.array(last.iou),
                    np.array(last.difficulty),
                    last.correlation,
                    names,
                    palette,
                    is_calibrated=is_calibrated,
                ),
            )
        yield (
            "class_shares",
            draw_class_shares(np.array(last.labelled_share), np.array(last.pool_share), names, palette),
        )


def entropy(shares: Sequence[float]) -> float:
    """In nats, of shares that sum to 1."""
    return float(torch.special.entr(torch.tensor(shares, dtype=torch.float64)).sum())


def annotated_shares(data: "SegmentationDataModule", num_classes: int) -> list[float]:
    """Share of each class in the annotated pixels of the labelled images, and of no other; sums to 1.

    Args:
        data: its labelled images set.
        num_classes: C.
    """
    masks, counts = data.splits["train"].masks, torch.zeros(256, dtype=torch.long)
    for ids in data.labelled_ids.split(64):
        counts += masks[ids.to(masks.device)].flatten().long().bincount(minlength=256).cpu()
    counts = counts[:num_classes]
    shares: list[float] = (counts.double() / counts.sum().clamp(min=1)).tolist()
    return shares


def hard_shares(rounds: "Rounds", data: "SegmentationDataModule") -> dict[str, float]:
    """How many of the acquired images, and of the whole pool, are hard, where the data say which are.

    Args:
        rounds: of a run; what is to be annotated next does not count.
        data: that may have ``hard``, by split ``[N]`` bool.
    """
    hard: torch.Tensor | None = getattr(data, "hard", {}).get("train")
    if hard is None:
        return {}
    found = {"queries/hard_share_of_pool": float(hard.float().mean())}
    acquired = rounds.labelled > 1
    if bool(acquired.any()):
        found["queries/hard_share"] = float(hard[acquired].float().mean())
    return found
