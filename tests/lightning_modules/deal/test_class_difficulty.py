"""Difficulty of each class beside its error, and the rank correlation of the two."""

import math

import numpy as np
import pytest
import torch

from datamodules.paired_augmentation import VOID
from lightning_modules.deal.class_difficulty import ClassDifficulty, spearman
from lightning_modules.segmentation.metrics import class_iou, confusion_counts


def test_by_hand_over_the_pixels_of_either_kind() -> None:
    metric = ClassDifficulty(3)
    predicted = torch.tensor([[[0, 0, 1, 1, 1, 1]]])
    y = torch.tensor([[[0, 1, 1, 1, 0, VOID]]])
    metric.update(torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5, 0.9]).view(1, 1, 1, 6), predicted, y)
    found = metric.compute()
    assert found[:2].tolist() == pytest.approx([(0.1 + 0.2 + 0.5) / 3, (0.2 + 0.3 + 0.4 + 0.5) / 4])
    assert math.isnan(found[2])


def test_of_the_error_mask_it_is_exactly_one_minus_iou() -> None:
    generator = torch.Generator().manual_seed(0)
    metric, counts = ClassDifficulty(4), torch.zeros(4, 4, dtype=torch.long)
    for _ in range(3):
        predicted = torch.randint(4, (2, 7, 9), generator=generator)
        y = torch.randint(4, (2, 7, 9), generator=generator)
        y[torch.rand(y.shape, generator=generator) < 0.2] = VOID
        errors = ((predicted != y) & (y != VOID)).float().unsqueeze(1)
        metric.update(errors, predicted, y)
        counts += confusion_counts(predicted, y, 4)
    torch.testing.assert_close(metric.compute(), 1 - class_iou(counts).double())


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1.0),
        ([1, 2, 3, 4], [4, 3, 2, 1], -1.0),
        ([1, 2, 3], [1, 3, 2], 0.5),
        # ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4
        ([1, 2, 2, 3], [1, 2, 3, 4], 4.5 / math.sqrt(4.5 * 5)),
        ([1, math.nan, 2, 3], [1, 9, 2, math.nan], 1.0),
    ],
)
def test_rank_correlation_by_hand(first: list[float], second: list[float], expected: float) -> None:
    assert spearman(np.array(first), np.array(second)) == pytest.approx(expected)


def test_it_is_not_defined_where_one_list_is_constant_or_too_short() -> None:
    assert math.isnan(spearman(np.ones(4), np.arange(4.0)))
    assert math.isnan(spearman(np.array([1.0, math.nan]), np.array([2.0, 3.0])))
