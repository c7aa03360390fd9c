"""Bumps of which everything is known: where they lie, how wide they are, how far apart two sets are."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.bumps16 import (
    CENTRES,
    MODES,
    Bumps16DataModule,
    bump_features,
    draw_bumps,
    hit_modes,
    ideal_bumps,
)


def bumps(**keywords: Any) -> Bumps16DataModule:
    settings: dict[str, Any] = {"in_channels": 1, "image_size": 16, "num_classes": 8}
    settings |= {"num_train": 64, "num_val": 16, "num_test": 40, "split_seed": 0}
    settings |= {"mean": [0.5], "std": [0.5], "batch_size": 16, "seed": 0}
    module = Bumps16DataModule(**{**settings, **keywords})
    module.setup()
    return module


def bump(row: float, column: float, width: float) -> Tensor:
    return ideal_bumps(torch.tensor([[row, column]]), torch.tensor([width]))


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """Between Gaussians of the means and covariances of two sets, ``[N, F]``."""
    apart = (one.mean(dim=0) - other.mean(dim=0)).square().sum()
    first, second = torch.cov(one.T), torch.cov(other.T)
    common = torch.linalg.eigvals(first @ second).real.clamp(min=0).sqrt().sum()
    return float(apart + first.trace() + second.trace() - 2 * common)


def test_features_are_those_worked_out_by_hand() -> None:
    images = torch.zeros(3, 1, 16, 16)
    images[0, 0, 2, 5] = 0.5  # one pixel: no spread
    images[1, 0, 4, 3] = images[1, 0, 4, 7] = 1.0  # columns 3 and 7: variance 4, of rows 0, their mean 2
    expected = [[0.05, 2, 5, 0, 1.5], [0.2, 4, 5, math.sqrt(2), 3], [0, 0, 0, 0, 0]]
    torch.testing.assert_close(bump_features(images), torch.tensor(expected))


def test_a_pixel_falls_off_as_the_exponential_says() -> None:
    image = bump(4, 11, 2.0)[0, 0]
    assert image[4, 11] == 1.0
    assert image[6, 10] == pytest.approx(math.exp(-5 / 8))
    images, labels = draw_bumps(8, 3)
    assert images.dtype == torch.uint8
    assert labels.tolist() == list(range(8))
    assert images.amax(dim=(1, 2, 3)).min() > 200, "a bump's peak is at most half a pixel or so off the grid"


def test_each_class_lies_at_its_place_with_its_width() -> None:
    images, labels = draw_bumps(4000, 0)
    features = bump_features(images / 255)
    for mode, (centre, width) in enumerate(MODES):
        mean = features[labels == mode].mean(dim=0)
        assert mean[1:3].tolist() == pytest.approx(centre, abs=0.25), "the edge cuts wide bumps"
        assert float(mean[3]) == pytest.approx(width, abs=0.2)
        jitter = features[labels == mode][:, 1].std()
        assert 0.4 < jitter < 0.6


def test_real_images_hit_their_own_mode() -> None:
    images, labels = draw_bumps(4000, 0)
    assert (hit_modes(images / 255) == labels).float().mean() > 0.999


@pytest.mark.parametrize(
    ("image", "mode"),
    [
        (bump(4, 4, 1.2), 0),
        (bump(4, 4, 2.4), 1),
        (bump(11, 11, 1.2), 6),
        (bump(4, 5.9, 1.2), 0),
        (bump(4, 6.1, 1.2), -1),  # more than two pixels off
        (bump(4, 4, 1.65), 0),
        (bump(7.5, 7.5, 1.2), -1),
        (bump(4, 4, 1.2) + bump(11, 11, 1.2), -1),
        (bump(4, 4, 0.5), -1),  # too narrow
        (torch.zeros(1, 1, 16, 16), -1),
        (torch.ones(1, 1, 16, 16), -1),
    ],
)
def test_a_mode_is_hit_within_two_pixels_and_half_a_pixel_of_spread(image: Tensor, mode: int) -> None:
    assert hit_modes(image).tolist() == [mode]


def test_modes_and_their_share_are_counted() -> None:
    module = bumps()
    images = torch.cat([bump(4, 4, 1.2), bump(4, 4.5, 1.2), bump(11, 4, 2.4), torch.zeros(1, 1, 16, 16)])
    assert module.sample_metrics(images) == {"modes": 2.0, "on_mode": 0.75}
    assert module.sample_metrics(images[3:]) == {"modes": 0.0, "on_mode": 0.0}
    assert torch.equal(module.sample_features(images), bump_features(images))
    assert module.sample_name == "bumps"


def test_two_sets_of_real_images_are_as_far_apart_as_specified() -> None:
    images, _ = draw_bumps(8000, 0)
    features = bump_features(images / 255).double()
    assert frechet_distance(features[:4000], features[4000:]) < 0.003
    # Modes at random, as a perfect generator draws them: 0.012 was measured once.
    generator = torch.Generator().manual_seed(0)
    draws = [features[torch.randint(8000, (2, 4000), generator=generator)] for _ in range(100)]
    apart = [frechet_distance(one, other) for one, other in draws]
    assert sum(apart) / 100 == pytest.approx(0.0133, abs=0.004)
    one_mode = bump_features(ideal_bumps(torch.tensor([CENTRES[0]] * 8), torch.full((8,), 1.2))).double()
    assert frechet_distance(features, one_mode) > 20, "a generator that knows one mode is far away"


def test_splits_are_the_same_for_every_seed_and_do_not_depend_on_each_other() -> None:
    torch.manual_seed(1)
    first = bumps().splits
    torch.manual_seed(2)
    again, larger, other = bumps(seed=5).splits, bumps(num_train=72).splits, bumps(split_seed=1).splits
    for split in first:
        assert torch.equal(first[split].images, again[split].images)
    assert torch.equal(first["test"].images, larger["test"].images)
    assert not torch.equal(first["test"].images, other["test"].images)
    assert not torch.equal(first["train"].images[:16], first["val"].images)
    numbers = torch.cat([split.index for split in first.values()])
    assert numbers.tolist() == list(range(64 + 16 + 40))


def test_a_batch_lies_in_minus_one_to_one() -> None:
    batch = next(iter(bumps().train_dataloader()))
    assert batch["x"].shape == (16, 1, 16, 16)
    assert batch["x"].min() == -1.0
    assert 0.5 < batch["x"].max() <= 1.0
