"""k-centre greedy with a running minimum against all distances computed anew."""

import pytest
import torch
from torch import Tensor

from lightning_modules.deal.coreset import k_centre_greedy, k_centre_scores


def recomputed(features: Tensor, labelled: Tensor, number: int) -> list[int]:
    """The authors' form: for every pick the distances of all candidates to all centres."""
    picks: list[int] = []
    for _ in range(number):
        centres = torch.cat([labelled, features[picks]])
        distances = 1 - torch.nn.functional.cosine_similarity(features[:, None], centres[None], dim=-1)
        nearest = distances.amin(dim=1)
        nearest[picks] = -1.0
        picks.append(int(nearest.argmax()))
    return picks


@pytest.mark.parametrize("seed", range(4))
def test_picks_are_those_of_recomputing_all_distances(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(60, 7, generator=generator, dtype=torch.float64)
    labelled = torch.randn(5, 7, generator=generator, dtype=torch.float64)
    assert k_centre_greedy(features, labelled, 25).tolist() == recomputed(features, labelled, 25)


@pytest.mark.parametrize("number", [0, 1, 7, 29, 30])
def test_scores_list_the_picks_first_and_then_what_is_farthest(number: int) -> None:
    generator = torch.Generator().manual_seed(number)
    features = torch.randn(30, 5, generator=generator, dtype=torch.float64)
    labelled = torch.randn(4, 5, generator=generator, dtype=torch.float64)
    picks = k_centre_greedy(features, labelled, 30).tolist()[:number]
    scores = k_centre_scores(features, labelled, number)
    order = scores.argsort(descending=True).tolist()
    assert order[:number] == picks
    assert len(scores.unique()) == 30
    centres = torch.cat([labelled, features[picks]])
    cosine = torch.nn.functional.cosine_similarity(features[:, None], centres[None], dim=-1).amax(dim=1)
    assert order[number:] == [row for row in cosine.argsort().tolist() if row not in picks]
    assert 0 <= float(scores.min()) <= float(scores.max()) <= 1


def test_picks_on_a_circle_by_hand() -> None:
    degrees = torch.tensor([10.0, 100.0, 170.0, 95.0]).deg2rad()
    points = torch.stack([degrees.cos(), degrees.sin()], dim=1)
    # 170 is farthest from 0; then 95 is 75 away from 170 and 100 only 70; then 10 is 10 away and 100 is 5
    assert k_centre_greedy(points, torch.tensor([[1.0, 0.0]]), 4).tolist() == [2, 3, 0, 1]


def test_lengths_of_features_do_not_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    features, labelled = torch.randn(30, 4, generator=generator), torch.randn(3, 4, generator=generator)
    scaled = features * torch.logspace(-2, 2, 30)[:, None]
    assert torch.equal(k_centre_greedy(scaled, labelled, 8), k_centre_greedy(features, labelled, 8))


def test_twins_are_picked_once_each_and_the_lower_row_first() -> None:
    features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    assert k_centre_greedy(features, torch.tensor([[1.0, 0.0]]), 4).tolist() == [1, 0, 2, 3]


def test_without_centres_the_first_candidate_is_the_first_pick() -> None:
    features = torch.tensor([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.0]])
    assert k_centre_greedy(features, torch.empty(0, 2), 2).tolist() == [0, 2]


def test_distances_to_many_centres_are_taken_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    features, labelled = torch.randn(20, 4, generator=generator), torch.randn(15, 4, generator=generator)
    whole = k_centre_greedy(features, labelled, 6)
    monkeypatch.setattr("lightning_modules.deal.coreset._BLOCK", 1)
    assert torch.equal(k_centre_greedy(features, labelled, 6), whole)


def test_what_cannot_be_picked_is_refused() -> None:
    with pytest.raises(ValueError, match="3 picks are wanted of 2 candidates"):
        k_centre_greedy(torch.ones(2, 4), torch.ones(1, 4), 3)
    with pytest.raises(ValueError, match="one width"):
        k_centre_greedy(torch.ones(2, 4), torch.ones(1, 3), 1)
