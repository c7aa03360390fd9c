"""Generated streets: what is in them, how often, and that they follow from their own seed alone."""

import numpy as np
import torch

from datamodules.street_scenes import CLASSES, draw_scenes
from tests.datamodules.test_segmentation import streets

SKY, BUILDING, ROAD, CAR, POLE, SIGN = range(6)


def test_splits_have_their_sizes_and_shares_of_hard_images() -> None:
    data = streets(num_train=120, num_val=60, num_test=60)
    assert {split: len(part) for split, part in data.splits.items()} == {"train": 120, "val": 60, "test": 60}
    assert {split: int(hard.sum()) for split, hard in data.hard.items()} == {
        "train": 36,
        "val": 30,
        "test": 30,
    }
    for split, part in data.splits.items():
        masks = part.masks[torch.arange(len(part))]
        assert torch.equal((masks == POLE).flatten(1).any(dim=1), data.hard[split])
    assert data.class_names == CLASSES
    assert "hard" not in next(iter(data.train_dataloader()))


def test_every_scene_is_a_street() -> None:
    images, masks, hard = draw_scenes(300, 0.5, 0)
    assert (images.shape, images.dtype, masks.dtype) == ((300, 3, 32, 48), torch.uint8, torch.uint8)
    has = torch.stack([(masks == label).flatten(1).any(dim=1) for label in range(6)])
    assert bool(has[[SKY, BUILDING, ROAD]].all())
    assert 0.6 < float(has[CAR].float().mean()) < 0.9
    assert 0.7 < float(has[SIGN][hard].float().mean()) < 1.0
    assert not has[SIGN][~hard].any()
    assert bool((masks[:, -1] == 255).all()), "one void row"
    assert int(masks[:, :-1].max()) == SIGN


def test_a_pole_is_two_pixels_wide() -> None:
    _, masks, hard = draw_scenes(200, 1.0, 1)
    assert bool(hard.all())
    widths = []
    for row in (masks == POLE).flatten(0, 1).numpy():
        edges = np.flatnonzero(np.diff(np.concatenate([[0], row.astype(int), [0]])))
        widths += list(edges[1::2] - edges[::2])
    assert np.mean(np.array(widths) == 2) > 0.9, "but where two meet or a sign hides one"


def test_scenes_follow_from_their_own_seed_alone() -> None:
    first = streets()
    torch.manual_seed(2)
    np.random.seed(2)
    again, other, more = streets(seed=9), streets(scene_seed=1), streets(num_train=30)
    assert torch.equal(first.splits["train"].images, again.splits["train"].images)
    assert not torch.equal(first.splits["train"].images, other.splits["train"].images)
    assert torch.equal(first.splits["test"].images, more.splits["test"].images)


def test_a_pixel_s_colour_does_not_tell_its_class() -> None:
    images, masks, _ = draw_scenes(200, 0.5, 2)
    pixels = images.permute(0, 2, 3, 1)[masks < 255].float()
    labels = masks[masks < 255].long()
    means = torch.stack([pixels[labels == label].mean(dim=0) for label in range(6)])
    guessed = torch.cdist(pixels, means).argmin(dim=1)
    both = torch.bincount(labels * 6 + guessed, minlength=36).view(6, 6).double()
    iou = both.diag() / (both.sum(0) + both.sum(1) - both.diag())
    assert float(iou.mean()) < 0.4
    assert float(iou[[CAR, POLE, SIGN]].max()) < 0.25
