"""Local structure: how near a node is to each neighbour, as a distribution, and how far two are apart.

Yang et al., "Distilling Knowledge from Graph Convolutional Networks", CVPR 2020, arXiv 2003.10477:
``LS_ij = exp(SIM(z_i, z_j)) / sum over neighbours k of i of exp(SIM(z_i, z_k))``. It needs no embeddings of
the same width on both sides, only the same edges. Logarithms come from a log-softmax, never from a share.
"""

from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from lightning_modules.lsp.pair_values import (
    edge_l1_distances,
    edge_log_softmax,
    edge_products,
    edge_squared_distances,
)
from lightning_modules.segments import SegmentIndex

KernelName = Literal["rbf", "linear", "poly", "l2", "neg_l2", "l1exp"]
Direction = Literal["teacher_student", "student_teacher"]


class Neighbours(Protocol):
    """Which nodes are compared with which. A *pair* is a node and one of its neighbours.

    Values of pairs have a shape of their own, the same from all methods: ``[m]`` of edges, ``[B, n, K]`` of
    lists of neighbours.
    """

    @property
    def num_nodes(self) -> int:
        """Nodes, those without neighbours among them."""
        ...

    def products(self, z: Tensor) -> Tensor:
        """``<z_i, z_j>`` of each pair."""
        ...

    def squared_distances(self, z: Tensor) -> Tensor:
        """``|z_i - z_j|^2`` of each pair."""
        ...

    def l1_distances(self, z: Tensor) -> Tensor:
        """``|z_i - z_j|_1`` of each pair."""
        ...

    def log_softmax(self, scores: Tensor) -> Tensor:
        """Log-softmax over each node's neighbours; 0 where a list has no entry."""
        ...

    def node_sums(self, values: Tensor) -> Tensor:
        """Sum over each node's neighbours; carries no gradient."""
        ...


@dataclass(frozen=True, eq=False)
class EdgeNeighbours:
    """The edges of static graphs: pairs are edges j -> i, in both directions, and i is the node.

    Attributes:
        edges: of :class:`Graphs`.
    """

    edges: SegmentIndex

    @property
    def num_nodes(self) -> int:
        return self.edges.num_groups

    def products(self, z: Tensor) -> Tensor:
        return edge_products(z, self.edges)

    def squared_distances(self, z: Tensor) -> Tensor:
        return edge_squared_distances(z, self.edges)

    def l1_distances(self, z: Tensor) -> Tensor:
        return edge_l1_distances(z, self.edges)

    def log_softmax(self, scores: Tensor) -> Tensor:
        return edge_log_softmax(scores, self.edges)

    def node_sums(self, values: Tensor) -> Tensor:
        return self.edges.sum(values.detach().unsqueeze(1)).squeeze(1)


@dataclass(frozen=True)
class Kernel:
    """SIM: how near two embeddings are. Larger means more weight, also for ``l2``.

    ======== ================================= ============================================================
    rbf      ``exp(-|a - b|^2 / (2 sigma))``   the paper's; 2 sigma and not 2 sigma^2
    linear   ``<a, b>``
    poly     ``(<a, b> + offset)^degree``
    l2       ``|a - b|^2``                     as published: the farther neighbour weighs more
    neg_l2   ``-|a - b|^2``                    what one would expect it to be
    l1exp    ``exp(-|a - b|_1 / sigma)``       the authors' code, in place of ``rbf``
    ======== ================================= ============================================================

    Attributes:
        name: which of the six.
        sigma: of ``rbf`` and ``l1exp``, > 0.
        degree: of ``poly``, >= 1.
        offset: of ``poly``.
    """

    name: KernelName
    sigma: float = 100.0
    degree: int = 2
    offset: float = 0.0

    def similarity(self, z: Tensor, neighbours: Neighbours) -> Tensor:
        """SIM of each pair but for a constant, in at least float32; differentiable.

        Args:
            z: embeddings of all nodes, as ``neighbours`` takes them.
            neighbours: the pairs.
        """
        if self.name == "linear":
            return neighbours.products(z)
        if self.name == "poly":
            return (neighbours.products(z) + self.offset) ** self.degree
        # minus 1, which the softmax does not see: near 1 most digits of an exponential are lost
        if self.name == "l1exp":
            return neighbours.l1_distances(z).div(-self.sigma).expm1()
        squared = neighbours.squared_distances(z)
        if self.name == "rbf":
            return squared.div(-2 * self.sigma).expm1()
        return squared if self.name == "l2" else -squared


RULER = Kernel("rbf")
"""The kernel that all trainings are compared by, whatever they minimise: rbf with sigma 100."""


def log_structure(z: Tensor, neighbours: Neighbours, kernel: Kernel) -> Tensor:
    """``log LS`` of each pair; differentiable in ``z``."""
    with torch.autocast(z.device.type, enabled=False):
        return neighbours.log_softmax(kernel.similarity(z, neighbours))


def pair_terms(student: Tensor, teacher: Tensor, direction: Direction) -> Tensor:
    """What each pair adds to its node's divergence, >= 0 but for rounding.

    With p the first and q the second distribution that is ``p log(p / q) - p + q``: both sum to 1, so the sum
    is the divergence's, and so is the gradient, but nothing cancels where the two are close.

    Args:
        student: ``log LS`` of the student.
        teacher: ``log LS`` of the teacher, without gradient.
        direction: ``teacher_student`` is KL(teacher || student), as in the authors' code and in others';
            ``student_teacher`` is KL(student || teacher).
    """
    first, second = (teacher, student) if direction == "teacher_student" else (student, teacher)
    away, share = first - second, first.exp()
    near = away.clamp(-1, 1)
    return torch.where(
        away.abs() < 1, share * (near + torch.expm1(-near)), share * away - share + second.exp()
    )


def structure_loss(
    student: Tensor, teacher: Tensor, neighbours: Neighbours, direction: Direction = "teacher_student"
) -> Tensor:
    """L_LSP: mean divergence over all nodes, a scalar; arguments as :func:`pair_terms`.

    A node without neighbours counts with 0, as does one whose only neighbour can have no other share than 1.
    """
    return pair_terms(student, teacher, direction).sum() / max(neighbours.num_nodes, 1)


def node_divergences(
    student: Tensor, teacher: Tensor, neighbours: Neighbours, direction: Direction = "teacher_student"
) -> Tensor:
    """S_i, each node's divergence, without gradient; arguments as :func:`pair_terms`."""
    return neighbours.node_sums(pair_terms(student, teacher, direction))
