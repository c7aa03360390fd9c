"""Local structure and L_LSP: the worked example, what must not change them, and the slow form."""

import pytest
import torch
from torch import Tensor

from lightning_modules.lsp import pair_values
from lightning_modules.lsp.structure import (
    EdgeNeighbours,
    Kernel,
    log_structure,
    node_divergences,
    structure_loss,
)
from tests.lightning_modules.lsp.examples import (
    STUDENT,
    TEACHER,
    UNDIRECTED,
    both_ways,
    indexed,
    lists_of,
    neighbours_of,
    slow_loss,
)

KERNELS = [
    Kernel("linear"),
    Kernel("l2"),
    Kernel("neg_l2"),
    Kernel("poly"),
    Kernel("poly", degree=3, offset=0.5),
    Kernel("rbf"),
    Kernel("rbf", sigma=1.0),
    Kernel("l1exp"),
]
NAMES = [f"{kernel.name}-{kernel.sigma:g}-{kernel.degree}-{kernel.offset:g}" for kernel in KERNELS]
each_kernel = pytest.mark.parametrize("kernel", KERNELS, ids=NAMES)


@pytest.fixture(params=["loops", "torch"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both ways of computing; that of a GPU in pieces of a few rows."""
    if request.param == "torch":
        monkeypatch.setattr(pair_values, "uses_kernels", lambda x: False)
        monkeypatch.setattr(pair_values, "PIECE", 7)


def loss(
    student: Tensor,
    teacher: Tensor,
    neighbours: EdgeNeighbours,
    kernel: Kernel,
    direction: str = "teacher_student",
) -> Tensor:
    own, other = log_structure(student, neighbours, kernel), log_structure(teacher, neighbours, kernel)
    return structure_loss(own, other, neighbours, direction)  # type: ignore[arg-type]


def random_graph(
    num_nodes: int = 12, *, self_loops: bool = False, seed: int = 0
) -> tuple[EdgeNeighbours, list[list[int]]]:
    """A graph in which the last node has no neighbour but, with ``self_loops``, itself."""
    generator = torch.Generator().manual_seed(seed)
    adjacent = torch.rand(num_nodes, num_nodes, generator=generator) < 0.3
    adjacent[-1] = adjacent[:, -1] = False
    pairs = tuple((int(a), int(b)) for a, b in adjacent.nonzero() if a < b)
    edges = both_ways(pairs, num_nodes, self_loops=self_loops)
    return EdgeNeighbours(indexed(edges, num_nodes)), lists_of(edges, num_nodes)


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(
    ("kernel", "of_teacher", "of_student", "forward", "backward"),
    [
        (
            Kernel("linear"),
            (0.042010, 0.114195, 0.843795),
            (0.721399, 0.013213, 0.265388),
            0.5417335227,
            0.6611972590,
        ),
        (
            Kernel("l2"),
            (0.042010, 0.114195, 0.843795),
            (0.000335, 0.998496, 0.001169),
            2.5385187927,
            1.0268891183,
        ),
        (
            Kernel("poly"),
            (3.0590e-7, 6.1442e-6, 0.9999935),
            (0.487856, 0.487856, 0.024289),
            0.8458688609,
            2.5245313699,
        ),
        (
            Kernel("rbf"),
            (0.335532, 0.333871, 0.330598),
            (0.338346, 0.325399, 0.336255),
            9.89633e-5,
            9.88307e-5,
        ),
        (
            Kernel("rbf", sigma=1.0),
            (0.414603, 0.326579, 0.258818),
            (0.433709, 0.239117, 0.327175),
            0.0268631878,
            0.0263960157,
        ),
        (
            Kernel("l1exp"),
            (0.335526, 0.332237, 0.332237),
            (0.336060, 0.329536, 0.334404),
            1.57351e-5,
            1.57319e-5,
        ),
    ],
    ids=["linear", "l2", "poly", "rbf", "rbf-1", "l1exp"],
)
def test_the_worked_example(
    kernel: Kernel, of_teacher: tuple[float], of_student: tuple[float], forward: float, backward: float
) -> None:
    neighbours = neighbours_of(UNDIRECTED, 5)
    node_3 = slice(int(neighbours.edges.ptr[3]), int(neighbours.edges.ptr[4]))
    assert neighbours.edges.col is not None
    assert neighbours.edges.col[node_3].tolist() == [1, 2, 4]
    teacher, student = (log_structure(z, neighbours, kernel) for z in (TEACHER, STUDENT))
    assert teacher[node_3].exp().tolist() == pytest.approx(of_teacher, rel=2e-5, abs=5e-7)
    assert student[node_3].exp().tolist() == pytest.approx(of_student, rel=2e-5, abs=5e-7)
    assert float(structure_loss(student, teacher, neighbours)) == pytest.approx(forward, rel=3e-6, abs=6e-11)
    assert float(structure_loss(student, teacher, neighbours, "student_teacher")) == pytest.approx(
        backward, rel=3e-6, abs=6e-11
    )


def test_the_worked_example_node_by_node_and_with_self_loops() -> None:
    neighbours, kernel = neighbours_of(UNDIRECTED, 5), Kernel("linear")
    teacher, student = (log_structure(z, neighbours, kernel) for z in (TEACHER, STUDENT))
    assert node_divergences(student, teacher, neighbours).tolist() == pytest.approx(
        [0, 0.08260774, 1.52318831, 1.10287156, 0], abs=5e-9
    )
    looped = neighbours_of(UNDIRECTED, 5, self_loops=True)
    assert float(loss(STUDENT, TEACHER, looped, kernel)) == pytest.approx(0.7699868786, abs=5e-11)
    assert float(loss(STUDENT, TEACHER, looped, Kernel("rbf"))) == pytest.approx(7.48837e-5, abs=5e-11)


def test_without_the_sign_of_the_paper_the_nearer_neighbour_weighs_more() -> None:
    neighbours = neighbours_of(((0, 1), (0, 2)), 3)
    z = torch.tensor([[0.0], [1.0], [2.0]])
    as_published, expected = (log_structure(z, neighbours, Kernel(name))[:2] for name in ("l2", "neg_l2"))  # type: ignore[arg-type]
    assert as_published[0] < as_published[1]
    assert expected[0] > expected[1]


@each_kernel
@pytest.mark.parametrize("direction", ["teacher_student", "student_teacher"])
@pytest.mark.parametrize("self_loops", [False, True])
def test_it_equals_the_slow_form_in_value_and_gradient(
    kernel: Kernel, direction: str, self_loops: bool
) -> None:
    neighbours, lists = random_graph(self_loops=self_loops)
    teacher = 0.5 * normal(12, 5)
    fast, slow = (
        (0.5 * normal(12, 3, seed=2)).requires_grad_(),
        (0.5 * normal(12, 3, seed=2)).requires_grad_(),
    )
    found = loss(fast, teacher, neighbours, kernel, direction)
    expected = slow_loss(slow, teacher, lists, kernel, reverse=direction == "student_teacher")
    assert found.item() == pytest.approx(expected.item(), rel=1e-9, abs=1e-12)
    found.backward()
    expected.backward()
    assert fast.grad is not None
    assert slow.grad is not None
    torch.testing.assert_close(fast.grad, slow.grad, rtol=1e-8, atol=1e-11)


@each_kernel
def test_gradients_are_those_of_finite_differences(kernel: Kernel) -> None:
    neighbours, _ = random_graph(self_loops=True)
    teacher = log_structure(normal(12, 4), neighbours, kernel)
    z = (0.7 * normal(12, 3, seed=3)).requires_grad_()

    def value(z: Tensor) -> Tensor:
        return structure_loss(log_structure(z, neighbours, kernel), teacher, neighbours)

    assert torch.autograd.gradcheck(value, (z,), eps=1e-6, atol=1e-7)


@each_kernel
def test_equal_embeddings_cost_nothing_and_others_something(kernel: Kernel) -> None:
    neighbours, _ = random_graph()
    z = normal(12, 4).requires_grad_()
    same = loss(z, z.detach(), neighbours, kernel)
    same.backward()
    assert same.item() == pytest.approx(0, abs=1e-12)
    assert z.grad is not None
    assert float(z.grad.abs().max()) < 1e-12
    for seed in range(5):
        assert float(loss(normal(12, 4), normal(12, 4, seed=seed + 9), neighbours, kernel)) > 0


@each_kernel
def test_the_order_of_nodes_is_nothing_to_it(kernel: Kernel) -> None:
    edges = both_ways(UNDIRECTED, 5, self_loops=True)
    order = [3, 0, 4, 1, 2]  # new number of each node
    moved = indexed({(order[a], order[b]) for a, b in edges}, 5)
    place = torch.tensor(order).argsort()
    before = loss(STUDENT, TEACHER, EdgeNeighbours(indexed(edges, 5)), kernel)
    after = loss(STUDENT[place], TEACHER[place], EdgeNeighbours(moved), kernel)
    assert float(after) == pytest.approx(float(before), rel=1e-9)


@each_kernel
def test_turning_changes_no_kernel_but_l1exp_and_moving_none_of_distances(kernel: Kernel) -> None:
    neighbours, _ = random_graph()
    z, teacher = normal(12, 4), normal(12, 6, seed=5)
    turn = torch.linalg.qr(normal(4, 4, seed=6)).Q
    before = float(loss(z, teacher, neighbours, kernel))
    turned, moved = (float(loss(new, teacher, neighbours, kernel)) for new in (z @ turn, z + 1.5))
    assert (turned == pytest.approx(before, rel=1e-9)) == (kernel.name != "l1exp")
    assert (moved == pytest.approx(before, rel=1e-9)) == (kernel.name not in ("linear", "poly"))


def test_a_constant_added_to_all_similarities_changes_nothing() -> None:
    neighbours, _ = random_graph()
    offset = Kernel("poly", degree=1, offset=3.0)
    z, teacher = normal(12, 4), normal(12, 6, seed=5)
    plain = loss(z, teacher, neighbours, Kernel("linear"))
    assert float(loss(z, teacher, neighbours, offset)) == pytest.approx(float(plain), rel=1e-9)


def test_two_graphs_in_a_batch_are_the_mean_weighted_by_nodes() -> None:
    kernel = Kernel("rbf", sigma=1.0)
    first, second = both_ways(UNDIRECTED, 5, self_loops=True), both_ways(((0, 1), (1, 2)), 3, self_loops=True)
    both = EdgeNeighbours(indexed(first | {(a + 5, b + 5) for a, b in second}, 8))
    z, teacher = normal(8, 2), normal(8, 3, seed=4)
    one = loss(z[:5], teacher[:5], EdgeNeighbours(indexed(first, 5)), kernel)
    other = loss(z[5:], teacher[5:], EdgeNeighbours(indexed(second, 3)), kernel)
    mean = (5 * float(one) + 3 * float(other)) / 8
    assert float(loss(z, teacher, both, kernel)) == pytest.approx(mean, rel=1e-9)


def test_lonely_nodes_and_single_neighbours_count_with_nothing() -> None:
    neighbours = neighbours_of(((0, 1),), 3)
    teacher, student = (log_structure(normal(3, 2, seed=s), neighbours, Kernel("linear")) for s in (1, 2))
    assert teacher.tolist() == [0.0, 0.0]
    assert node_divergences(student, teacher, neighbours).tolist() == [0.0, 0.0, 0.0]


def test_half_precision_is_computed_in_single() -> None:
    neighbours, _ = random_graph()
    z = normal(12, 4).bfloat16()
    assert log_structure(z, neighbours, Kernel("rbf")).dtype == torch.float32


def test_similarities_of_hundreds_do_not_overflow() -> None:
    neighbours, _ = random_graph()
    z = (30 * normal(12, 40)).float()
    found = loss(z, z.flip(0), neighbours, Kernel("linear"))
    assert torch.isfinite(found)


@each_kernel
def test_structures_that_are_close_are_told_apart_in_single_precision(kernel: Kernel) -> None:
    neighbours, _ = random_graph()
    z, other = 0.1 * normal(12, 4), 0.1 * normal(12, 4, seed=8)
    exact = loss(z, other, neighbours, kernel)
    single = loss(z.float(), other.float(), neighbours, kernel)
    assert single.item() == pytest.approx(exact.item(), rel=0.02)
    own, their = (log_structure(one.float(), neighbours, kernel) for one in (z, other))
    assert float(node_divergences(own, their, neighbours).min()) >= 0
