"""Point clouds of eight generated solids: a stand-in for ModelNet40.

Source: the stand-in of the LSP specification, which leaves the solids' proportions open. Each of ours fits
the unit sphere: a cylinder as high as wide, a cone likewise, a torus of radii 0.7 and 0.3, two spheres that
do not touch. Long axes lie along x where there is one, so that turning the solid around z shows.
"""

import math
from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from datamodules.meshes import sample_surface
from datamodules.point_clouds import PointCloudDataModule, PointClouds, Split, in_unit_sphere
from harness.annotations import NonNegativeInt, PositiveInt

Points = NDArray[np.float64]

STRETCH = (0.8, 1.25)  # of each axis
JITTER = 0.01  # standard deviation of each coordinate, the solid having the radius 1
_CYLINDER = math.sqrt(0.5)  # radius, and half of the height
_CONE = 0.8  # radius of the base, and half of the height
_TORUS = (0.7, 0.3)  # radius of the ring, and of the tube
_ELLIPSOID = (1.0, 0.5, 0.5)  # half axes
_SPHERES = (0.55, 0.45)  # distance of either centre from the origin, and radius


class MiniModelNetDataModule(PointCloudDataModule):
    """Clouds of points that are uniform on the surface of a solid; turned, stretched, jittered, normalised.

    In this order: a random turn around z, each axis stretched by a number in :data:`STRETCH` (after which
    points are no longer quite uniform), normal noise, moved and scaled into the unit sphere.

    Args:
        num_points: points n of a cloud.
        num_classes: solids, 8.
        train_per_class: training clouds of each class.
        val_per_class: clouds of each class for validation, drawn apart from the others; 0 for none.
        test_per_class: clouds of each class for testing.
        cloud_seed: seed of all that is random about a cloud, and of nothing else.
        batch_size: clouds of one optimiser step, over all processes.
        augment: see :class:`datamodules.point_clouds.PointCloudDataModule`.
        drop_last: leaves out a last batch of training that is smaller than the others.
        seed: of the order and the augmentation.
    """

    def __init__(
        self,
        num_points: PositiveInt,
        num_classes: PositiveInt,
        train_per_class: PositiveInt,
        val_per_class: NonNegativeInt,
        test_per_class: PositiveInt,
        cloud_seed: NonNegativeInt,
        batch_size: PositiveInt,
        augment: Literal["none", "scale_shift", "scale_shift_shuffle"],
        drop_last: bool,
        seed: NonNegativeInt,
    ) -> None:
        names = tuple(SOLIDS)
        super().__init__(
            "mini_modelnet", num_points, num_classes, names, batch_size, augment, drop_last, seed
        )
        self.sizes: dict[Split, int] = {
            "train": train_per_class,
            "val": val_per_class,
            "test": test_per_class,
        }
        self.cloud_seed = cloud_seed

    def build(self) -> dict[Split, PointClouds]:
        splits: dict[Split, PointClouds] = {}
        first = 0
        for number, (split, per_class) in enumerate(self.sizes.items()):
            size = per_class * len(SOLIDS)
            if size:
                # each split has draws of its own: another train_per_class changes no test cloud
                pos, labels = draw_clouds(per_class, self.num_points, self.cloud_seed, number)
                splits[split] = PointClouds(pos, labels, torch.arange(first, first + size))
            first += size
        return splits


def draw_clouds(per_class: int, num_points: int, *seeds: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clouds of the eight solids in turn.

    Args:
        per_class: clouds K of each solid.
        num_points: points n of each.
        seeds: what all that is random follows from, each >= 0.

    Returns:
        ``[8 K, n, 3]`` float32 in the unit sphere, and ``[8 K]`` long, the class.
    """
    generator = np.random.default_rng(seeds)
    clouds = []
    for _ in range(per_class):
        for solid in SOLIDS.values():
            points = solid(num_points, generator) @ _turn(generator.uniform(0, 2 * math.pi))
            points *= generator.uniform(*STRETCH, 3)
            clouds.append(points + JITTER * generator.standard_normal(points.shape))
    labels = torch.arange(len(clouds)) % len(SOLIDS)
    return torch.from_numpy(in_unit_sphere(np.stack(clouds))), labels


def _turn(angle: float) -> Points:
    """The matrix that turns rows around z."""
    cosine, sine = math.cos(angle), math.sin(angle)
    return np.array([[cosine, sine, 0.0], [-sine, cosine, 0.0], [0.0, 0.0, 1.0]])


# Each solid gives points that are uniform on its surface, ``[n, 3]``.


def sphere(count: int, generator: Generator) -> Points:
    """Radius 1."""
    directions = generator.standard_normal((count, 3))
    return directions / np.sqrt((directions**2).sum(axis=1, keepdims=True))


def cube(count: int, generator: Generator) -> Points:
    """Corners on the unit sphere."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / math.sqrt(3)
    squares = [(0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5)]
    triangles = np.array([half for a, b, c, d in squares for half in ((a, b, c), (a, c, d))])
    return sample_surface(corners, triangles, count, generator)


def cylinder(count: int, generator: Generator) -> Points:
    """Upright and closed, as high as wide."""
    radius, half = _CYLINDER, _CYLINDER
    # the areas of the side and of both caps, over 2 pi r
    on_side = generator.random(count) < 2 * half / (2 * half + radius)
    away = np.where(on_side, radius, radius * np.sqrt(generator.random(count)))
    height = half * np.where(on_side, generator.uniform(-1, 1, count), generator.choice((-1, 1), count))
    return _around_z(away, height, generator)


def cone(count: int, generator: Generator) -> Points:
    """Upright and closed, as high as wide, its tip at the top of the unit sphere."""
    radius, height = _CONE, 2 * _CONE
    # the areas of the side and of the base, over pi r
    slant = math.hypot(radius, height)
    on_side = generator.random(count) < slant / (slant + radius)
    share = np.sqrt(generator.random(count))  # of the way from the middle, or the tip, outwards
    return _around_z(radius * share, 1 - height * np.where(on_side, share, 1.0), generator)


def torus(count: int, generator: Generator) -> Points:
    """Lying flat."""
    ring, tube = _TORUS

    def draw(size: int) -> tuple[Points, Points]:
        around = generator.uniform(0, 2 * math.pi, size)
        # as much surface as the circle there is long
        return around[:, None], (ring + tube * np.cos(around)) / (ring + tube)

    around = _accepted(count, draw, generator)[:, 0]
    return _around_z(ring + tube * np.cos(around), tube * np.sin(around), generator)


def ellipsoid(count: int, generator: Generator) -> Points:
    """Half axes of 1 : 2, long along x."""
    axes = np.array(_ELLIPSOID)

    def draw(size: int) -> tuple[Points, Points]:
        directions = sphere(size, generator)
        # as much surface as the sphere is stretched there
        stretched = np.sqrt(((directions / axes) ** 2).sum(axis=1))
        return directions, stretched * axes.min()

    return _accepted(count, draw, generator) * axes


def tetrahedron(count: int, generator: Generator) -> Points:
    """Corners on the unit sphere, one of them on top."""
    low, wide = -1 / 3, math.sqrt(8) / 3
    angles = 2 * math.pi * np.arange(3) / 3
    base = np.stack([wide * np.cos(angles), wide * np.sin(angles), np.full(3, low)], axis=1)
    corners = np.concatenate([[[0.0, 0.0, 1.0]], base])
    triangles = np.array([(0, 1, 2), (0, 2, 3), (0, 3, 1), (1, 2, 3)])
    return sample_surface(corners, triangles, count, generator)


def two_spheres(count: int, generator: Generator) -> Points:
    """Side by side along x, not touching."""
    away, radius = _SPHERES
    points = radius * sphere(count, generator)
    points[:, 0] += away * generator.choice((-1, 1), count)
    return points


SOLIDS: dict[str, Callable[[int, Generator], Points]] = {
    "sphere": sphere,
    "cube": cube,
    "cylinder": cylinder,
    "cone": cone,
    "torus": torus,
    "ellipsoid": ellipsoid,
    "tetrahedron": tetrahedron,
    "two spheres": two_spheres,
}
"""In the order of the classes."""


def _around_z(away: Points, height: Points, generator: Generator) -> Points:
    """Points at these distances from the z axis and at these heights, anywhere around it; ``[n, 3]``."""
    angle = generator.uniform(0, 2 * math.pi, len(away))
    return np.stack([away * np.cos(angle), away * np.sin(angle), height], axis=1)


def _accepted(count: int, draw: Callable[[int], tuple[Points, Points]], generator: Generator) -> Points:
    """``count`` rows of those that ``draw`` proposes, each kept with the probability it names."""
    kept: list[Points] = []
    while sum(map(len, kept)) < count:
        rows, chance = draw(2 * count)
        kept.append(rows[generator.random(len(rows)) < chance])
    return np.concatenate(kept)[:count]
