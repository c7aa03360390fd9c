"""What a map of difficulty can say where there are two classes, and so one probability."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.deal.difficulty import DifficultyBranch

P = torch.linspace(0.02, 0.98, 49).repeat(1, 1, 8, 1)  # rows alike, p rising from the left to the right
SCORES = torch.cat([P.log(), (1 - P).log()], dim=1)
FEATURES = torch.cat([torch.logit(P), torch.ones_like(P)], dim=1)
SIZE = (8, 49)
UNDECIDED = ((P - 0.5).abs() < 0.15).float()  # the pixels that are likely to be wrong


def branch(**settings: Any) -> DifficultyBranch:
    torch.manual_seed(0)
    return DifficultyBranch(num_classes=2, att_stride=1, **settings)


def taught(made: DifficultyBranch, steps: int = 150) -> Tensor:
    """The map, ``[49]`` in (0, 1), after it was taught which pixels are undecided."""
    optimizer = torch.optim.Adam(made.parameters(), lr=0.03)
    for _ in range(steps):
        loss = F.binary_cross_entropy_with_logits(made(SCORES, FEATURES, SIZE), UNDECIDED)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        return made(SCORES, FEATURES, SIZE).sigmoid()[0, 0, 4]


@pytest.mark.parametrize("gamma", [-1.5, -0.5, 0.0, 0.7, 3.0])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_from_the_scores_the_map_rises_or_falls_with_p_whatever_the_weights(gamma: float, seed: int) -> None:
    made = branch()
    torch.manual_seed(seed)
    torch.nn.init.normal_(made.reduce.weight, std=5.0)
    torch.nn.init.constant_(made.gamma, gamma)
    with torch.no_grad():
        steps = made(SCORES, FEATURES, SIZE)[0, 0, 4].diff()
    assert bool((steps > 0).all()) or bool((steps < 0).all())


def test_taught_what_is_undecided_the_scores_cannot_tell_it_and_the_features_can() -> None:
    low, middle, high = (0, 24, 48)  # p is .02, .5 and .98
    by_scores = taught(branch())
    assert float(by_scores[middle]) <= max(float(by_scores[low]), float(by_scores[high]))
    by_features = taught(branch(feature_channels=2))
    assert float(by_features[middle]) > 0.8
    assert max(float(by_features[low]), float(by_features[high])) < 0.2
