"""What LSP is timed against computes the same."""

import functools

import pytest
import torch

from benchmarks import lsp
from benchmarks.lsp import (
    check,
    materialised_structure,
    part_rows,
    random_ppi,
    sorted_union,
    union_rows,
    whole_step,
)
from lightning_modules.graph_prediction.batch import Graphs
from lightning_modules.lsp.structure import RULER, EdgeNeighbours, Kernel, log_structure

COLUMNS = ["what", "ours ms", "authors' form ms", "ratio", "25 %", "75 %"]
both_kernels = pytest.mark.parametrize("kernel", [Kernel("l1exp"), RULER], ids=["l1exp", "rbf"])


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"NODES": (20, 30), "EDGES": 200, "CLOUDS": 2, "POINTS": 40, "NEIGHBOURS": (8, 4)}
    for name, value in sizes.items():
        monkeypatch.setattr(lsp, name, value)


def test_the_random_graphs_have_the_sizes_asked_for() -> None:
    graphs = random_ppi()
    assert graphs.ptr.tolist() == [0, 20, 50]
    assert graphs.batch(torch.arange(2))["edge_index"].size(1) == 200


@both_kernels
def test_both_forms_of_a_structure_are_one(kernel: Kernel) -> None:
    batch = random_ppi().batch(torch.arange(2))
    z = 3 * torch.randn(50, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = log_structure(z, EdgeNeighbours(Graphs.of(batch).edges), kernel)
    found = materialised_structure(z, *batch["edge_index"], kernel)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@both_kernels
def test_both_forms_of_the_whole_step_are_one(kernel: Kernel) -> None:
    check(whole_step(kernel))


def test_another_form_is_noticed() -> None:
    ours, _ = whole_step(Kernel("l1exp"))
    _, theirs = whole_step(RULER)
    with pytest.raises(AssertionError):
        check((ours, theirs))


def test_the_parts_have_times_and_a_ratio_with_its_quartiles() -> None:
    for found in part_rows(2):
        assert list(found) == COLUMNS
        assert found["25 %"] <= found["ratio"] <= found["75 %"]


def test_both_sorts_of_a_union_find_the_same_edges() -> None:
    # two clouds of three points
    teacher = torch.tensor([[[0, 1], [1, 2], [2, 0]], [[0, 2], [1, 0], [2, 1]]])
    student = torch.tensor([[[1], [0], [0]], [[1], [1], [2]]])
    of = [{0, 1}, {0, 1, 2}, {0, 2}], [{0, 1, 2}, {0, 1}, {1, 2}]
    expected = {
        (3 * c + j, 3 * c + i) for c, cloud in enumerate(of) for i, own in enumerate(cloud) for j in own
    }
    pairs = sorted_union(teacher, student, pairs=True)
    assert set(map(tuple, pairs.T.tolist())) == expected
    assert pairs.size(1) == len(expected)
    numbers = sorted_union(teacher, student, pairs=False)
    assert numbers.tolist() == sorted(6 * target + source for source, target in expected)


def test_the_union_is_timed_against_both_sorts() -> None:
    found = union_rows(2)
    assert [list(line) for line in found] == [COLUMNS, COLUMNS]
    assert "pairs sorted" in found[0]["what"]
    assert "single numbers sorted" in found[1]["what"]


def test_either_form_is_the_first_by_turns() -> None:
    order: list[str] = []
    lsp.row("order", functools.partial(order.append, "ours"), functools.partial(order.append, "theirs"), 3)
    assert order[2:] == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
