"""Local structure of point clouds, whose graph each network makes of its own features.

Teacher and student see different neighbours, so both are compared on the union of their edges (Yang et al.,
arXiv 2003.10477). Neighbours come as lists of equal length, ``[B, n, k]``, of points within their own cloud.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from lightning_modules.lsp.list_values import list_values

EdgesOf = Literal["union", "teacher", "student"]


@dataclass(frozen=True, eq=False)
class CloudNeighbours:
    """Lists of neighbours, padded: a pair is a point and an entry of its list.

    Attributes:
        index: ``[B, n, K]`` long, the neighbours.
        valid: ``[B, n, K]`` bool, which entries count; False for what is in the list already.
    """

    index: Tensor
    valid: Tensor

    @classmethod
    def joined(cls, teacher: Tensor, student: Tensor) -> "CloudNeighbours":
        """The union of two graphs: the teacher's lists, then what only the student's have. Nothing is sorted.

        Args:
            teacher: ``[B, n, k_t]`` long, each list without repetition.
            student: ``[B, n, k_s]`` long, likewise.
        """
        known = (student.unsqueeze(3) == teacher.unsqueeze(2)).any(dim=3)  # [B, n, k_s]
        valid = torch.cat([torch.ones_like(teacher, dtype=torch.bool), ~known], dim=2)
        return cls(torch.cat([teacher, student], dim=2), valid)

    @classmethod
    def of(cls, teacher: Tensor, student: Tensor, edges: EdgesOf) -> "CloudNeighbours":
        """The union of two graphs, or one of them alone; arguments as :meth:`joined`."""
        if edges == "union":
            return cls.joined(teacher, student)
        index = teacher if edges == "teacher" else student
        return cls(index, torch.ones_like(index, dtype=torch.bool))

    @property
    def num_nodes(self) -> int:
        """Points of all clouds."""
        return self.index.size(0) * self.index.size(1)

    def products(self, z: Tensor) -> Tensor:
        """``<z_i, z_j>`` of each pair, ``[B, n, D] -> [B, n, K]``."""
        return list_values("products", z, self.index)

    def squared_distances(self, z: Tensor) -> Tensor:
        """``|z_i - z_j|^2`` of each pair, ``[B, n, D] -> [B, n, K]``."""
        return list_values("squared_distances", z, self.index)

    def l1_distances(self, z: Tensor) -> Tensor:
        """``|z_i - z_j|_1`` of each pair, ``[B, n, D] -> [B, n, K]``."""
        return list_values("l1_distances", z, self.index)

    def log_softmax(self, scores: Tensor) -> Tensor:
        """Over the entries of each list that count; 0 at the others, so that they add nothing anywhere."""
        found = scores.masked_fill(~self.valid, -torch.inf).log_softmax(dim=2)
        return found.masked_fill(~self.valid, 0.0)

    def node_sums(self, values: Tensor) -> Tensor:
        """Sum over each point's list, ``[B, n, K] -> [B, n]``."""
        return values.detach().sum(dim=2)


def overlap(teacher: Tensor, student: Tensor) -> Tensor:
    """Edges that both graphs have, as a share of those that either has, in [0, 1]; a scalar.

    Args:
        teacher: ``[B, n, k_t]`` long, each list without repetition.
        student: ``[B, n, k_s]`` long, likewise.
    """
    both = (student.unsqueeze(3) == teacher.unsqueeze(2)).any(dim=3).sum()
    return both / (teacher.numel() + student.numel() - both)


def overlap_limits(teacher: int, student: int, points: int) -> tuple[float, float]:
    """What :func:`overlap` is of neighbours that are drawn at random, about, and at most.

    A point is always its own neighbour. The smaller graph can at most lie within the larger one.

    Args:
        teacher: neighbours of a point, itself included, at most ``points``.
        student: likewise.
        points: of a cloud.
    """
    both = 1 + (teacher - 1) * (student - 1) / max(points - 1, 1)
    few, many = sorted((teacher, student))
    return both / (teacher + student - both), few / many
