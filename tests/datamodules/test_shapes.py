"""Shapes of which place, size, angle and colours are known."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules import shapes as shapes_module
from datamodules.shapes import CLASSES, ShapesDataModule, covers, draw_shapes

FULL = [
    math.pi,  # areas of shapes of radius 1
    2.0,
    3 * math.sqrt(3) / 4,
    4 * 2 / 3 - 4 / 9,  # two arms of 2 x 2/3 that share their middle
    math.pi * (1 - 0.55**2),
]


def shapes(**keywords: Any) -> ShapesDataModule:
    settings: dict[str, Any] = {"in_channels": 3, "image_size": 32, "num_classes": 10}
    settings |= {"num_train": 60, "num_val": 20, "num_test": 40, "split_seed": 0}
    settings |= {"mean": [0.5] * 3, "std": [0.3] * 3, "batch_size": 20, "augment": "none", "seed": 0}
    module = ShapesDataModule(**{**settings, **keywords})
    module.setup()
    return module


def cover(label: int, radius: float = 8.0, angle: float = 0.0, centre: tuple[int, int] = (16, 16)) -> Tensor:
    made = covers(
        torch.tensor([label]), torch.tensor([centre]), torch.tensor([radius]), torch.tensor([angle])
    )
    return made[0]


@pytest.mark.parametrize("label", range(5))
@pytest.mark.parametrize("angle", [0.0, 0.3, -0.3])
def test_a_shape_covers_its_area_whatever_its_angle(label: int, angle: float) -> None:
    assert float(cover(label, 9.0, angle).sum()) == pytest.approx(81 * FULL[label], rel=0.03)


def test_a_shape_lies_where_it_is_told_and_is_as_large() -> None:
    disk = cover(0, 6.0, centre=(20, 12))  # columns 14 to 25, rows 6 to 17
    lit = disk > 0.5
    assert lit.any(dim=0).nonzero().flatten().tolist() == list(range(14, 26))
    assert lit.any(dim=1).nonzero().flatten().tolist() == list(range(6, 18))
    square = cover(1, 6 * math.sqrt(2))
    expected = torch.zeros(32, 32)
    expected[10:22, 10:22] = 1
    assert torch.equal((square > 0.5).float(), expected)


def test_each_outline_is_the_one_of_its_name() -> None:
    middle, up, down, right, corner = (16, 16), (9, 16), (22, 16), (16, 22), (20, 20)
    points = {
        "disk": (True, True, True, True, True),
        "square": (True, False, False, False, True),
        "triangle": (True, True, False, False, False),
        "cross": (True, True, True, True, False),
        "ring": (False, True, True, True, True),
    }
    for label, name in enumerate(CLASSES[:5]):
        lit = cover(label) > 0.5
        found = tuple(bool(lit[point]) for point in (middle, up, down, right, corner))
        assert found == points[name], name


def test_a_shape_turns_clockwise_by_its_angle() -> None:
    square = cover(1, 12.0, math.pi / 4)  # on its corner
    assert square[5, 16] > 0.5
    assert square[8, 8] == 0
    assert cover(2, 9.0, 0.3)[8, 18] > cover(2, 9.0, -0.3)[8, 18], "the corner on top goes to the right"


def test_stripes_are_four_pixels_apart_on_the_diagonal() -> None:
    for label in range(5):
        full, striped = cover(label, 9.0), cover(label + 5, 9.0)
        for row in range(32):
            for column in range(32):
                expected = full[row, column] if (row + column) % 4 < 2 else 0
                assert striped[row, column] == expected
        assert float(striped.sum() / full.sum()) == pytest.approx(0.5, abs=0.05)


def test_classes_come_in_turn() -> None:
    images, labels = draw_shapes(200, 3)
    assert images.dtype == torch.uint8
    assert images.shape == (200, 3, 32, 32)
    assert labels.tolist() == list(range(10)) * 20


def test_foreground_and_background_differ_and_may_be_of_any_colour() -> None:
    colours = shapes_module._colours(5000, np.random.default_rng(0))
    assert float((colours[:, 0] - colours[:, 1]).abs().sum(dim=1).min()) >= 0.9
    assert colours.amin() < 0.01
    assert colours.amax() > 0.99
    assert colours.mean(dim=0).flatten().tolist() == pytest.approx([0.5] * 6, abs=0.02)


def test_every_pixel_has_noise_of_its_own() -> None:
    frame = draw_shapes(2000, 3)[0][:, :, 0].float() / 255  # no shape reaches the first row
    inside = (frame.mean(dim=2) > 0.3) & (frame.mean(dim=2) < 0.7)  # where noise is not cut off
    assert float(frame[inside].std(dim=1).mean()) == pytest.approx(0.06, rel=0.05)
    apart = frame[inside[:, 0], 0].diff(dim=1)
    assert float(apart.std()) == pytest.approx(0.06 * 2**0.5, rel=0.1), "neighbours have nothing in common"


def test_pixels_are_scaled_by_about_their_own_mean_and_deviation() -> None:
    images, _ = draw_shapes(2000, 0)
    assert (images / 255).mean(dim=(0, 2, 3)).tolist() == pytest.approx([0.5] * 3, abs=0.02)
    assert (images / 255).std(dim=(0, 2, 3)).tolist() == pytest.approx([0.3] * 3, abs=0.02)


def test_splits_are_the_same_for_every_seed_and_do_not_depend_on_each_other() -> None:
    torch.manual_seed(1)
    first = shapes().splits
    torch.manual_seed(2)
    again, larger, other = shapes(seed=5).splits, shapes(num_train=72).splits, shapes(split_seed=1).splits
    for split in first:
        assert torch.equal(first[split].images, again[split].images)
    assert torch.equal(first["test"].images, larger["test"].images)
    assert torch.equal(first["val"].images, larger["val"].images)
    assert not torch.equal(first["test"].images, other["test"].images)
    assert not torch.equal(first["train"].images[:20], first["val"].images)
    assert torch.cat([split.index for split in first.values()]).tolist() == list(range(60 + 20 + 40))
    assert set(shapes(num_val=0).splits) == {"train", "test"}


def test_images_do_not_depend_on_how_many_are_painted_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    images, _ = draw_shapes(30, 0)
    monkeypatch.setattr("datamodules.shapes._CHUNK", 7)
    assert torch.equal(draw_shapes(30, 0)[0], images)


def test_a_batch_is_scaled_and_augmented() -> None:
    module = shapes(augment="replicate_crop_flip")
    batch = next(iter(module.train_dataloader()))
    assert batch["x"].shape == (20, 3, 32, 32)
    assert batch["x"].abs().max() <= 0.5 / 0.3 + 1e-6
    place = batch["index"].tolist()
    assert batch["y"].tolist() == [number % 10 for number in place]
    assert module.class_names[7] == "striped triangle"
