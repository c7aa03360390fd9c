"""What a trained network makes of a batch of the pool, by the strategy that chooses."""

from dataclasses import dataclass

from torch import Tensor

from lightning_modules.deal.acquisition import (
    LevelsRange,
    Uncertainty,
    committee_score,
    deal_de,
    deal_ds,
    level_counts,
    mean_uncertainty,
    uncertainty_map,
)
from lightning_modules.deal.difficulty import DifficultyBranch
from lightning_modules.deal.scoring import Acquisition
from lightning_modules.segmentation.networks import Segmenter, resize


@dataclass(frozen=True)
class Looking:
    """How images are scored; each by itself, so that neither a batch nor a process changes its score.

    Attributes:
        acquisition: the strategy, any but ``random``, which looks at nothing.
        num_classes: C.
        levels: bins of ``deal_de``.
        levels_range: what they span.
        ds_uncertainty: factor of ``deal_ds``, or None.
        passes: dropout passes of ``qbc``.
    """

    acquisition: Acquisition
    num_classes: int
    levels: int
    levels_range: LevelsRange
    ds_uncertainty: Uncertainty | None
    passes: int

    def look(
        self,
        network: Segmenter,
        branch: DifficultyBranch | None,
        x: Tensor,
        ids: Tensor,
        seed: int,
        *,
        as_centres: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """Values of a batch, and what the network sees in it.

        Args:
            network: in evaluation mode.
            branch: of ``deal_ds`` and ``deal_de``; None for the others.
            x: ``[B, 3, H, W]``.
            ids: ``[B]`` long, global numbers of the images, on the CPU.
            seed: of the dropout.
            as_centres: of ``coreset``, of whose labelled images nothing but the features is wanted: the head
                does not run, and no class is counted.

        Returns:
            Scores ``[B]``, of ``coreset`` features ``[B, d]``; pixels of each class ``[C]`` long, ``[0]`` of
            centres.
        """
        if as_centres:
            return _means(network.before_head(x)), ids.new_zeros(0)
        size = (x.shape[-2], x.shape[-1])
        scores, features = network(x)
        logits = resize(scores, size).float()
        seen = level_counts(logits.argmax(dim=1).flatten(1), self.num_classes).sum(dim=0)
        if branch is not None:
            return self._difficulty(branch(scores, features, size).float().sigmoid(), logits), seen
        if self.acquisition == "coreset":
            return _means(features), seen
        if self.acquisition == "qbc":
            return committee_score(network, x, ids, self.passes, seed), seen
        assert self.acquisition in ("entropy", "margin", "least_confidence")
        return mean_uncertainty(logits, self.acquisition), seen

    def _difficulty(self, difficulty: Tensor, logits: Tensor) -> Tensor:
        if self.acquisition == "deal_de":
            return deal_de(difficulty, self.levels, self.levels_range)
        factor = self.ds_uncertainty
        return deal_ds(difficulty, None if factor is None else uncertainty_map(logits, factor))


def _means(features: Tensor) -> Tensor:
    """``[B, d, h, w]`` -> ``[B, d]``, over the image."""
    return features.float().mean(dim=(2, 3))
