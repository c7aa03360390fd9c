"""That each key of the scoring reaches the score, and nothing else does."""

from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from lightning_modules.deal.acquisition import (
    LevelsRange,
    Uncertainty,
    committee_score,
    deal_de,
    deal_ds,
    mean_uncertainty,
    uncertainty_map,
)
from lightning_modules.deal.difficulty import DifficultyBranch
from lightning_modules.deal.looks import Looking
from lightning_modules.segmentation.build import build_segmenter
from lightning_modules.segmentation.networks import resize

with torch.random.fork_rng(devices=[]):
    torch.manual_seed(0)
    NETWORK = build_segmenter("small_unet", 5).eval()
    BRANCH = DifficultyBranch(num_classes=5, att_stride=2).eval()
    X = torch.randn(3, 3, 16, 24)
torch.nn.init.constant_(BRANCH.gamma, 0.5)
IDS = torch.tensor([4, 7, 9])
SIZE = (16, 24)


@torch.no_grad()
def scores_of(acquisition: Any, **changed: Any) -> Tensor:
    settings: dict[str, Any] = {"levels": 8, "levels_range": "image", "ds_uncertainty": None, "passes": 3}
    looking = Looking(acquisition=acquisition, num_classes=5, **settings | changed)
    branch = BRANCH if acquisition.startswith("deal_") else None
    values, seen = looking.look(NETWORK, branch, X, IDS, seed=1)
    assert int(seen.sum()) == X[:, 0].numel()
    return values


@torch.no_grad()
def maps() -> tuple[Tensor, Tensor]:
    scores, features = NETWORK(X)
    return BRANCH(scores, features, SIZE).sigmoid(), resize(scores, SIZE)


def assert_all_differ(found: list[Tensor]) -> None:
    for place, one in enumerate(found):
        assert not any(torch.allclose(one, other) for other in found[:place]), "equal scores show nothing"


def test_the_factor_of_the_difficulty_score_is_the_one_that_is_named() -> None:
    difficulty, logits = maps()
    found = [scores_of("deal_ds")]
    torch.testing.assert_close(found[0], deal_ds(difficulty))
    for kind in get_args(Uncertainty):
        found.append(scores_of("deal_ds", ds_uncertainty=kind))
        torch.testing.assert_close(found[-1], deal_ds(difficulty, uncertainty_map(logits, kind)))
    assert_all_differ(found)


def test_the_difficulty_entropy_has_the_bins_and_the_range_that_are_named() -> None:
    difficulty, _ = maps()
    found = []
    # the narrow map of a new branch lies in few of the unit interval's bins
    for levels in (8, 60):
        for kind in get_args(LevelsRange):
            found.append(scores_of("deal_de", levels=levels, levels_range=kind))
            torch.testing.assert_close(found[-1], deal_de(difficulty, levels, kind))
    assert_all_differ(found)


def test_the_committee_has_as_many_members_as_are_named() -> None:
    found = [scores_of("qbc", passes=passes) for passes in (2, 5)]
    for passes, one in zip((2, 5), found, strict=True):
        torch.testing.assert_close(one, committee_score(NETWORK, X, IDS, passes, seed=1))
    assert_all_differ(found)


def test_centres_have_the_features_of_candidates_to_the_bit_and_count_nothing() -> None:
    looking = Looking("coreset", 5, 8, "image", None, 3)
    with torch.no_grad():
        candidates, seen = looking.look(NETWORK, None, X, IDS, seed=1)
        centres, nothing = looking.look(NETWORK, None, X, IDS, seed=1, as_centres=True)
    assert torch.equal(candidates, centres)
    assert (int(seen.sum()), len(nothing)) == (X[:, 0].numel(), 0)


@pytest.mark.parametrize("kind", get_args(Uncertainty))
def test_the_baselines_look_at_the_uncertainty_of_their_name(kind: Uncertainty) -> None:
    torch.testing.assert_close(scores_of(kind), mean_uncertainty(maps()[1], kind))
