"""Which images are labelled in which round, and what a run that continues has to know of it."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from torch import Tensor

from harness.errors import UserError
from harness.words import counted
from lightning_modules.deal.scoring import Acquisition

if TYPE_CHECKING:
    from datamodules.segmentation import SegmentationDataModule

log = logging.getLogger("tenfold")


@dataclass(frozen=True)
class Plan:
    """How the labelled images grow.

    Attributes:
        initial: images that are labelled in round 1; None for all that have a mask.
        step: images that every further round adds, >= 1.
        rounds: trainings, >= 1; between two of them images are added.
    """

    initial: int | None
    step: int
    rounds: int

    @property
    def names(self) -> tuple[str, ...]:
        """Of the phases, ``round_1``, ..."""
        return tuple(f"round_{number}" for number in range(1, self.rounds + 1))

    def first_labelled(self, data: "SegmentationDataModule") -> Tensor:
        """``[N]`` long, the labelled images of round 1 as :attr:`SegmentationDataModule.labelled` has them.

        Args:
            data: set up; as it comes, all its images with a mask are labelled.

        Raises:
            UserError: the pool has too few images with a mask for this plan.
        """
        has_mask = data.splits["train"].has_mask
        size, masks = len(has_mask), int(has_mask.sum())
        initial = masks if self.initial is None else self.initial
        pool = f"data={data.choice} has {counted(masks, 'training image')} with a mask"
        if initial > masks:
            raise UserError(
                f"model.initial={self.initial}: {pool}. Set model.initial to at most {masks}, or"
                " model.initial=null for all of them."
            )
        if self.rounds > 1 and masks < size:
            raise UserError(
                f"model.rounds={self.rounds}: {pool} and {counted(size - masks, 'image')} without, which no"
                " further round could train on. Set model.rounds=1 for a list of those to annotate next."
            )
        most = 1 + -(-(size - initial) // self.step)
        if self.rounds > most:
            whole = "nothing would be added" if most == 1 else "the last rounds would add nothing"
            raise UserError(
                f"model.rounds={self.rounds}: {pool}, of which model.initial={self.initial} takes {initial}"
                f" and every round model.step={self.step} more, so that {whole}. Set model.rounds={most} at"
                " most, or fewer images a round."
            )
        labelled = torch.zeros(size, dtype=torch.long)
        # not drawn where all are taken, so that a pool of more images without a mask changes nothing
        labelled[has_mask if self.initial is None else data.initial_ids(initial)] = 1
        return labelled


@dataclass
class Rounds:
    """What is labelled, and how it came to be; part of every checkpoint.

    Attributes:
        labelled: ``[N]`` long, 0 for an unlabelled image, else the round from which on it is trained with;
            empty before the first round.
        pool: what tells this pool from others, see :func:`pool_digest`.
        candidates: by round the numbers of the images that were scored then.
        scores: by round their scores, float64; higher was queried first.
        queries: by round the images that it chose, best first; those of the last round are to be annotated.
        picks: by round what it takes over from another run in place of choosing, best first.
        picked_by: the acquisition of that run; empty without one.
    """

    labelled: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.long))
    pool: str = ""
    candidates: dict[int, Tensor] = field(default_factory=dict)
    scores: dict[int, Tensor] = field(default_factory=dict)
    queries: dict[int, list[int]] = field(default_factory=dict)
    picks: dict[int, list[int]] = field(default_factory=dict)
    picked_by: Acquisition | Literal[""] = ""

    def state(self) -> dict[str, Any]:
        """As plain values and tensors."""
        return {
            "labelled": self.labelled,
            "pool": self.pool,
            "candidates": dict(self.candidates),
            "scores": dict(self.scores),
            "queries": {number: list(ids) for number, ids in self.queries.items()},
            "picks": {number: list(ids) for number, ids in self.picks.items()},
            "picked_by": self.picked_by,
        }

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> Self:
        """What :meth:`state` gave; picks may be left out.

        Raises:
            TypeError: it has other keys.
        """
        return cls(**state)

    @property
    def has_begun(self) -> bool:
        """Whether it is known what the first round trains on."""
        return bool(len(self.labelled))

    def begin(self, plan: Plan, data: "SegmentationDataModule") -> None:
        """Labels the first images, or makes sure that they are still those of this pool.

        Raises:
            UserError: the plan does not fit, or a run goes on with other images than it began with.
        """
        digest = pool_digest(data)
        if not self.has_begun:
            self.labelled, self.pool = plan.first_labelled(data), digest
        elif self.pool != digest:
            raise UserError(
                f"data={data.choice}: the training images are not those that this run began with, so that it"
                " cannot go on. Put them back as they were, or start a new run without resume."
            )

    def is_of(self, data: "SegmentationDataModule") -> bool:
        """Whether the numbers of images are those of this pool."""
        return self.has_begun and self.pool == pool_digest(data)

    def scored(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """By round, in order, the scores ``[m]``, and whether the image was chosen, ``[m]`` bool."""
        return {
            number: (
                self.scores[number].numpy(),
                torch.isin(self.candidates[number], torch.tensor(self.queries[number])).numpy(),
            )
            for number in sorted(self.scores)
        }

    def take(self, number: int) -> None:
        """Labels what another run has chosen in round ``number``, for the round after it."""
        self.queries[number] = list(self.picks[number])
        self.add(number, self.queries[number])

    def add(self, number: int, queries: list[int]) -> None:
        """Labels what round ``number`` has chosen, for the round after it."""
        self.labelled = self.labelled.clone()
        self.labelled[queries] = number + 1


def pool_digest(data: "SegmentationDataModule") -> str:
    """A short word that follows from the names of the training images, in order."""
    names = "\n".join(data.splits["train"].names)
    return hashlib.sha256(names.encode()).hexdigest()[:16]


def candidates_of(data: "SegmentationDataModule", number: int, share: float, step: int) -> Tensor:
    """The unlabelled images that are scored in a round, ``[m]`` long, rising; empty where all are labelled.

    A share of them that holds fewer than are wanted is enlarged, and that is told.

    Args:
        data: its labelled images set.
        number: the round.
        share: of the unlabelled images, in (0, 1].
        step: how many will be chosen.
    """
    unlabelled = len(data.unlabelled_ids)
    if not unlabelled:
        return torch.empty(0, dtype=torch.long)
    wanted = min(step, unlabelled)
    ids = data.candidate_ids(number, share)
    if len(ids) < wanted:
        log.warning(
            f"round {number}: {share:g} of {counted(unlabelled, 'unlabelled image')} are {len(ids)}, fewer"
            f" than the {wanted} that are added: {wanted} are looked at"
        )
        ids = data.candidate_ids(number, min(wanted / unlabelled, 1.0))
    if wanted < step:
        log.warning(f"round {number}: only {counted(wanted, 'image')} of model.step={step} are left to add")
    return ids
