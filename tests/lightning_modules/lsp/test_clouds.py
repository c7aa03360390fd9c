"""Local structure on the union of two graphs of nearest neighbours: the worked example and the slow form."""

from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_modules.lsp import list_values
from lightning_modules.lsp.clouds import CloudNeighbours, overlap, overlap_limits
from lightning_modules.lsp.structure import (
    EdgeNeighbours,
    Kernel,
    Neighbours,
    log_structure,
    node_divergences,
    structure_loss,
)
from tests.lightning_modules.lsp.examples import STUDENT, TEACHER, indexed, slow_loss
from tests.lightning_modules.lsp.test_structure import each_kernel, normal


@pytest.fixture(params=["loops", "torch"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of computing."""
    if request.param == "torch":
        monkeypatch.setattr(list_values, "uses_kernels", lambda x: False)


OF_TEACHER = [[1, 3], [0, 3], [0, 3], [0, 1], [1, 3]]
OF_STUDENT = [[4], [4], [0], [1], [0]]
UNION = [[1, 3, 4], [0, 3, 4], [0, 3], [0, 1], [0, 1, 3]]


def nearest(z: Tensor, k: int) -> Tensor:
    """Without the point itself, ties to the lower index; ``[1, n, k]``."""
    away = (z[:, None] - z).square().sum(dim=2).fill_diagonal_(torch.inf)
    return away.argsort(dim=1, stable=True)[:, :k].unsqueeze(0)


def lists(neighbours: CloudNeighbours, cloud: int = 0) -> list[list[int]]:
    pairs = zip(neighbours.index[cloud], neighbours.valid[cloud], strict=True)
    return [sorted(index[valid].tolist()) for index, valid in pairs]


def loss(student: Tensor, teacher: Tensor, neighbours: Neighbours, kernel: Kernel, **how: Any) -> Tensor:
    own, other = (log_structure(z, neighbours, kernel) for z in (student, teacher))
    return structure_loss(own, other, neighbours, **how)


def test_the_worked_example() -> None:
    teacher, student = nearest(TEACHER, 2), nearest(STUDENT, 1)
    assert [sorted(row) for row in teacher[0].tolist()] == OF_TEACHER
    assert student[0].tolist() == OF_STUDENT
    union = CloudNeighbours.joined(teacher, student)
    assert lists(union) == UNION
    linear = Kernel("linear")
    z_t, z_s = TEACHER.unsqueeze(0), STUDENT.unsqueeze(0)
    assert float(loss(z_s, z_t, union, linear)) == pytest.approx(0.5837943581, abs=5e-11)
    backward = loss(z_s, z_t, union, linear, direction="student_teacher")
    assert float(backward) == pytest.approx(0.6276334224, abs=5e-11)
    assert float(loss(z_s, z_t, union, Kernel("rbf", sigma=1.0))) == pytest.approx(0.0607111604, abs=5e-11)


def random_lists(batch: int, points: int, k: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, points, points, generator=generator).argsort(dim=2)[:, :, :k]


def test_the_union_has_each_neighbour_once_and_no_side() -> None:
    one, other = random_lists(3, 9, 5, 0), random_lists(3, 9, 3, 1)
    joined, swapped = CloudNeighbours.joined(one, other), CloudNeighbours.joined(other, one)
    for cloud in range(3):
        expected = [
            sorted(set(a) | set(b)) for a, b in zip(one[cloud].tolist(), other[cloud].tolist(), strict=True)
        ]
        assert lists(joined, cloud) == lists(swapped, cloud) == expected
    shared = sum(
        len(set(a) & set(b))
        for a, b in zip(one.flatten(0, 1).tolist(), other.flatten(0, 1).tolist(), strict=True)
    )
    assert float(overlap(one, other)) == pytest.approx(shared / int(joined.valid.sum()))
    assert float(overlap(one, one.flip(2))) == 1.0


def test_a_graph_within_the_other_adds_nothing() -> None:
    teacher = random_lists(2, 9, 5, 0)
    student = teacher[:, :, [3, 1]]
    z_s, z_t = normal(2, 9, 3), normal(2, 9, 4, seed=2)
    kernel = Kernel("rbf", sigma=1.0)
    joined = loss(z_s, z_t, CloudNeighbours.of(teacher, student, "union"), kernel)
    alone = loss(z_s, z_t, CloudNeighbours.of(teacher, student, "teacher"), kernel)
    assert float(joined) == pytest.approx(float(alone), rel=1e-12)
    own = CloudNeighbours.of(teacher, student, "student")
    assert own.index is student
    assert bool(own.valid.all())


@each_kernel
@pytest.mark.parametrize("direction", ["teacher_student", "student_teacher"])
def test_it_equals_the_slow_form_in_value_and_gradient(kernel: Kernel, direction: str) -> None:
    neighbours = CloudNeighbours.joined(random_lists(2, 8, 4, 0), random_lists(2, 8, 3, 1))
    teacher = 0.5 * normal(2, 8, 5)
    fast, slow = ((0.5 * normal(2, 8, 3, seed=2)).requires_grad_() for _ in range(2))
    found = loss(fast, teacher, neighbours, kernel, direction=direction)
    each = [
        slow_loss(
            slow[b],
            teacher[b],
            lists(neighbours, b),
            kernel,
            reverse=direction == "student_teacher",
        )
        for b in range(2)
    ]
    expected = torch.stack(each).mean()
    assert found.item() == pytest.approx(expected.item(), rel=1e-8, abs=1e-12)
    found.backward()
    expected.backward()
    assert fast.grad is not None
    assert slow.grad is not None
    torch.testing.assert_close(fast.grad, slow.grad, rtol=1e-7, atol=1e-10)


@each_kernel
def test_lists_that_are_symmetric_are_a_static_graph(kernel: Kernel) -> None:
    """Each of eight points has those one and three steps around a circle, and itself."""
    clouds, points = 2, 8
    steps = torch.tensor([0, 1, -1, 3, -3])
    index = ((torch.arange(points).unsqueeze(1) + steps) % points).expand(clouds, -1, -1)
    edges = {
        (b * points + j, b * points + i)
        for b in range(clouds)
        for i, own in enumerate(index[b].tolist())
        for j in own
    }
    dynamic = CloudNeighbours.joined(index[:, :, :3], index[:, :, 2:])  # one step is in both
    assert int(dynamic.valid.sum()) == len(edges)
    static = EdgeNeighbours(indexed(edges, clouds * points))
    teacher = 0.5 * normal(clouds, points, 5)
    z, flat = ((0.5 * normal(clouds, points, 3, seed=2)).requires_grad_() for _ in range(2))
    found = loss(z, teacher, dynamic, kernel)
    expected = loss(flat.flatten(0, 1), teacher.flatten(0, 1), static, kernel)
    assert found.item() == pytest.approx(expected.item(), rel=1e-8, abs=1e-13)
    found.backward()
    expected.backward()
    assert z.grad is not None
    assert flat.grad is not None
    torch.testing.assert_close(z.grad, flat.grad, rtol=1e-7, atol=1e-11)


@each_kernel
def test_it_is_the_same_whichever_graph_is_whose(kernel: Kernel) -> None:
    one, other = random_lists(2, 8, 4, 0), random_lists(2, 8, 3, 1)
    teacher, student = 0.5 * normal(2, 8, 5), 0.5 * normal(2, 8, 3, seed=2)
    found = loss(student, teacher, CloudNeighbours.joined(one, other), kernel)
    swapped = loss(student, teacher, CloudNeighbours.joined(other, one), kernel)
    alone = loss(student, teacher, CloudNeighbours.of(one, other, "teacher"), kernel)
    assert float(swapped) == pytest.approx(float(found), rel=1e-12)
    assert float(swapped) != pytest.approx(float(alone), rel=1e-3)


@each_kernel
def test_gradients_are_those_of_finite_differences(kernel: Kernel) -> None:
    neighbours = CloudNeighbours.joined(random_lists(1, 6, 3, 0), random_lists(1, 6, 2, 1))
    teacher = log_structure(normal(1, 6, 4), neighbours, kernel)

    def value(z: Tensor) -> Tensor:
        return structure_loss(log_structure(z, neighbours, kernel), teacher, neighbours)

    assert torch.autograd.gradcheck(value, ((0.7 * normal(1, 6, 3, seed=3)).requires_grad_(),), atol=1e-7)


@each_kernel
def test_equal_embeddings_cost_nothing(kernel: Kernel) -> None:
    neighbours = CloudNeighbours.joined(random_lists(2, 8, 4, 0), random_lists(2, 8, 3, 1))
    z = normal(2, 8, 4).requires_grad_()
    same = loss(z, z.detach(), neighbours, kernel)
    same.backward()
    assert same.item() == pytest.approx(0, abs=1e-12)
    assert z.grad is not None
    assert float(z.grad.abs().max()) < 1e-12
    other = node_divergences(
        log_structure(normal(2, 8, 4), neighbours, kernel),
        log_structure(normal(2, 8, 4, seed=7), neighbours, kernel),
        neighbours,
    )
    assert other.shape == (2, 8)
    assert float(other.min()) > -1e-12
    assert float(other.mean()) > 1e-9


def test_points_that_are_close_keep_their_distance_in_single_precision() -> None:
    neighbours = CloudNeighbours.of(random_lists(1, 8, 8, 0), random_lists(1, 8, 1, 1), "teacher")
    z = 100 + 0.01 * normal(1, 8, 64)
    exact, single = (neighbours.squared_distances(one) for one in (z, z.float()))
    assert float((exact - single).abs().max()) < 1e-5


def test_overlap_lies_within_its_limits() -> None:
    assert overlap_limits(3, 3, 3) == (1.0, 1.0)
    assert overlap_limits(20, 10, 1024) == (pytest.approx((1 + 171 / 1023) / (29 - 171 / 1023)), 0.5)
    assert overlap_limits(10, 20, 1024) == overlap_limits(20, 10, 1024)
    generator = torch.Generator().manual_seed(0)
    itself = torch.arange(40).view(1, 40, 1).expand(30, -1, -1)
    scores = torch.rand(2, 30, 40, 40, generator=generator)
    scores.diagonal(dim1=2, dim2=3).fill_(2.0)  # a point is its own neighbour
    large, small = (
        one.argsort(dim=2, descending=True)[..., :k] for one, k in zip(scores, (9, 4), strict=True)
    )
    assert torch.equal(large[..., :1], itself)
    chance, most = overlap_limits(9, 4, 40)
    assert float(overlap(large, small)) == pytest.approx(chance, abs=0.01)
    assert float(overlap(large, large[..., :4])) == pytest.approx(most)
