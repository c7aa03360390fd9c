"""The small ModelNet: points on their solids, spread evenly, and what is done to a cloud."""

import math
from typing import Any

import numpy as np
import pytest
import torch

from datamodules import mini_modelnet as solids
from datamodules.mini_modelnet import SOLIDS, MiniModelNetDataModule, draw_clouds
from harness.errors import UserError

COUNT = 60_000


def made(**changed: Any) -> MiniModelNetDataModule:
    settings: dict[str, Any] = {"num_points": 256, "num_classes": 8, "train_per_class": 4}
    settings |= {"val_per_class": 2, "test_per_class": 3, "cloud_seed": 0, "batch_size": 8}
    settings |= {"augment": "none", "drop_last": True, "seed": 0}
    data = MiniModelNetDataModule(**{**settings, **changed})
    data.prepare_data()
    data.setup()
    return data


def drawn(name: str) -> np.ndarray:
    return SOLIDS[name](COUNT, np.random.default_rng(0))


def off_surface(name: str, points: np.ndarray) -> np.ndarray:
    """How far each point is from where the solid's equation is zero."""
    x, y, z = points.T
    away = np.hypot(x, y)
    half = math.sqrt(0.5)
    if name == "sphere":
        return np.abs(x * x + y * y + z * z - 1)
    if name == "cube":
        return np.abs(np.abs(points).max(axis=1) - 1 / math.sqrt(3))
    if name == "cylinder":
        return np.abs(np.maximum(away, np.abs(z)) - half)
    if name == "cone":
        return np.minimum(np.abs(away - (1 - z) / 2), np.abs(z + 0.6))
    if name == "torus":
        return np.abs(np.hypot(away - 0.7, z) - 0.3)
    if name == "ellipsoid":
        return np.abs(x * x + 4 * y * y + 4 * z * z - 1)
    if name == "tetrahedron":
        angles = 2 * math.pi * np.arange(3) / 3
        base = np.stack([np.cos(angles), np.sin(angles)], axis=1) * math.sqrt(8) / 3
        corners = np.array([[0, 0, 1], *([x, y, -1 / 3] for x, y in base)])
        return np.abs((points @ -corners.T).max(axis=1) - 1 / 3)  # each face lies opposite a corner
    return np.abs(np.sqrt((np.abs(x) - 0.55) ** 2 + y * y + z * z) - 0.45)


@pytest.mark.parametrize("name", SOLIDS)
def test_points_lie_on_the_solid_and_it_fits_the_unit_sphere(name: str) -> None:
    points = drawn(name)
    assert points.shape == (COUNT, 3)
    assert off_surface(name, points).max() < 1e-9
    farthest = np.sqrt((points**2).sum(axis=1)).max()
    assert 0.97 < farthest < 1 + 1e-9


def share(name: str, where: Any) -> float:
    return float(where(*drawn(name).T).mean())


@pytest.mark.parametrize(
    ("name", "where", "expected"),
    [
        # a slice of a sphere has the area of the cylinder around it
        ("sphere", lambda x, y, z: z > 0.5, 0.25),
        ("cube", lambda x, y, z: z > 0.999 / math.sqrt(3), 1 / 6),
        ("cylinder", lambda x, y, z: np.abs(z) < 0.999 * math.sqrt(0.5), 2 / 3 * 0.999),
        ("cone", lambda x, y, z: z > -0.5999, math.sqrt(5) / (1 + math.sqrt(5))),
        ("cone", lambda x, y, z: z > 0.2, math.sqrt(5) / (1 + math.sqrt(5)) / 4),
        # Pappus: the outer half of the tube is longer around, by its centroid at 2 r / pi
        ("torus", lambda x, y, z: np.hypot(x, y) > 0.7, 0.5 + 0.3 / (math.pi * 0.7)),
        ("tetrahedron", lambda x, y, z: z < -0.3332, 0.25),
        ("two spheres", lambda x, y, z: x > 0, 0.5),
        ("two spheres", lambda x, y, z: x > 0.55, 0.25),
    ],
)
def test_points_are_spread_evenly(name: str, where: Any, expected: float) -> None:
    assert share(name, where) == pytest.approx(expected, abs=0.008)


def test_points_of_the_ellipsoid_are_spread_evenly() -> None:
    # the area of a solid of revolution between two places on its axis, half axes 1 and 1/2
    def area(low: float, high: float) -> float:
        x = np.linspace(low, high, 20_001)
        return float(np.trapezoid(np.sqrt(1 - 0.75 * x**2), x))

    assert share("ellipsoid", lambda x, y, z: np.abs(x) < 0.5) == pytest.approx(
        area(-0.5, 0.5) / area(-1, 1), abs=0.008
    )


def test_splits_have_their_sizes_and_every_class_equally_often() -> None:
    data = made()
    assert {split: len(part) for split, part in data.splits.items()} == {"train": 32, "val": 16, "test": 24}
    for split, per_class in (("train", 4), ("val", 2), ("test", 3)):
        assert data.splits[split].labels.bincount().tolist() == [per_class] * 8  # type: ignore[index]
    assert torch.cat([part.index for part in data.splits.values()]).tolist() == list(range(72))
    assert "val" not in made(val_per_class=0).splits
    assert data.class_names[7] == "two spheres"


def test_clouds_fill_the_unit_sphere() -> None:
    pos = made().splits["train"].pos
    assert pos.shape == (32, 256, 3)
    torch.testing.assert_close(pos.norm(dim=2).amax(dim=1), torch.ones(32))
    torch.testing.assert_close(pos.mean(dim=1), torch.zeros(32, 3), atol=1e-6, rtol=0.0)


def test_no_cloud_is_in_two_splits_and_more_training_changes_no_test() -> None:
    few, many = made(), made(train_per_class=6)
    assert torch.equal(few.splits["test"].pos, many.splits["test"].pos)
    assert torch.equal(few.splits["train"].pos, many.splits["train"].pos[:32])
    everyone = torch.cat([part.pos for part in few.splits.values()]).flatten(1)
    assert len(everyone.unique(dim=0)) == 72


def test_clouds_follow_from_their_own_seed_alone() -> None:
    torch.manual_seed(1)
    first = made()
    torch.manual_seed(2)
    np.random.seed(2)
    again, other = made(seed=9), made(cloud_seed=1)
    assert torch.equal(first.splits["train"].pos, again.splits["train"].pos)
    assert not torch.equal(first.splits["train"].pos, other.splits["train"].pos)


def test_a_cloud_is_turned_stretched_and_jittered(monkeypatch: pytest.MonkeyPatch) -> None:
    marks = np.array([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, 0.0, -1.0]])
    monkeypatch.setattr(solids, "SOLIDS", {"marks": lambda count, generator: marks.copy()})
    monkeypatch.setattr(solids, "in_unit_sphere", lambda pos: pos)
    pos, labels = draw_clouds(4000, 4, 0)
    assert labels.tolist() == [0] * 4000
    heights = (pos[:, 2, 2] - pos[:, 3, 2]).numpy() / 2
    assert 0.75 < heights.min() < 0.81
    assert 1.24 < heights.max() < 1.3
    noise = (pos[:, 0] + pos[:, 1]).numpy() / math.sqrt(2)  # what is opposite cancels
    assert noise.std() == pytest.approx(0.01, rel=0.03)
    angles = np.arctan2(pos[:, 0, 1].numpy(), pos[:, 0, 0].numpy())
    assert np.histogram(angles, bins=4, range=(-math.pi, math.pi))[0].min() > 850, "any turn around z"


def test_facts_that_the_data_contradict_are_refused() -> None:
    with pytest.raises(UserError, match=r"data\.num_classes=7 .* num_classes=8"):
        made(num_classes=7)
