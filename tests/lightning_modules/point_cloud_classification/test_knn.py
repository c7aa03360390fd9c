"""Nearest neighbours: against sorted distances in float64, with and without compiled loops."""

import pytest
import torch
from torch import Tensor

from lightning_modules.point_cloud_classification import knn
from lightning_modules.point_cloud_classification.knn import knn_graph


@pytest.fixture(params=["compiled", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "torch":
        monkeypatch.setattr(knn, "numba_fault", lambda: "not wanted here")
    return str(request.param)


def sorted_distances(x: Tensor, k: int) -> Tensor:
    """All squared distances in float64, sorted with ties to the lower index, a point itself before all."""
    distances = (x[:, :, None].double() - x[:, None].double()).square().sum(dim=3)
    own = torch.arange(x.size(1))
    distances[:, own, own] = -1
    return distances.argsort(dim=2, stable=True)[:, :, :k]


def lattice(width: int) -> Tensor:
    """Whole coordinates, so that sums are exact and ties abound."""
    generator = torch.Generator().manual_seed(width)
    return torch.randint(-2, 3, (2, 40, width), generator=generator).float()


def test_five_points_on_a_line_worked_out_by_hand(way: str) -> None:
    x = torch.tensor([[[0.0], [1.0], [3.0], [2.0], [10.0]]])
    assert knn_graph(x, 3)[0].tolist() == [[0, 1, 3], [1, 0, 3], [2, 3, 1], [3, 1, 2], [4, 2, 3]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("k", [1, 2, 7, 40])
@pytest.mark.parametrize("width", [3, 8, 9, 32])
def test_ties_go_to_the_lower_index(way: str, width: int, k: int, dtype: torch.dtype) -> None:
    x = lattice(width)
    assert torch.equal(knn_graph(x.to(dtype), k), sorted_distances(x, k))


@pytest.mark.parametrize("width", [3, 24])
def test_chunks_change_nothing(way: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = lattice(width)
    whole = knn_graph(x, 5)
    for most in (1, 40, 7 * 40, 1600):
        monkeypatch.setitem(knn._CHUNK, "cpu", most)
        assert torch.equal(knn_graph(x, 5), whole)


def test_no_tensor_of_all_distances_is_made(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    real = torch.baddbmm

    def watched(*args: Tensor, **keywords: float) -> Tensor:
        out = real(*args, **keywords)
        sizes.append(out.numel())
        return out

    monkeypatch.setattr(torch, "baddbmm", watched)
    monkeypatch.setitem(knn._CHUNK, "cpu", 1000)
    knn_graph(torch.randn(3, 100, 16), 4)
    assert sizes
    assert max(sizes) <= 1000


def test_a_point_is_its_own_neighbour_whatever_rounding_says(way: str) -> None:
    generator = torch.Generator().manual_seed(0)
    # far from the origin products of float32 cannot tell these points apart
    x = 1000 + 1e-3 * torch.randn(1, 60, 32, generator=generator)
    found = knn_graph(x, 3)
    assert torch.equal(found[0, :, 0], torch.arange(60))
    assert all(len(set(row)) == 3 for row in found[0].tolist())


def test_a_point_is_its_own_neighbour_among_many_copies_of_it(way: str) -> None:
    assert knn_graph(torch.ones(1, 5, 3), 2)[0].tolist() == [[0, 1], [1, 0], [2, 0], [3, 0], [4, 0]]
    assert knn_graph(torch.ones(1, 5, 12), 2)[0].tolist() == [[0, 1], [1, 0], [2, 0], [3, 0], [4, 0]]


@pytest.mark.parametrize("width", [3, 16])
def test_autocast_and_gradients_change_nothing(way: str, width: int) -> None:
    x = torch.randn(2, 50, width, generator=torch.Generator().manual_seed(1))
    plain = knn_graph(x, 6)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(knn_graph(x.requires_grad_(), 6), plain)
    half = x.detach().bfloat16()
    assert torch.equal(knn_graph(half, 6), knn_graph(half.float(), 6))


@pytest.mark.parametrize("width", [3, 16])
def test_features_that_are_not_finite_give_valid_numbers(way: str, width: int) -> None:
    x = torch.full((1, 6, width), torch.nan)
    x[0, 0] = 1.0
    found = knn_graph(x, 4)
    assert int(found.min()) >= 0
    assert int(found.max()) < 6


def test_points_in_another_order_have_the_same_neighbours(way: str) -> None:
    x = torch.randn(1, 30, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    order = torch.randperm(30, generator=torch.Generator().manual_seed(3))
    assert torch.equal(order[knn_graph(x[:, order], 5)], knn_graph(x, 5)[:, order])


@pytest.mark.parametrize("k", [0, 6])
def test_more_neighbours_than_points_are_refused(k: int) -> None:
    with pytest.raises(ValueError, match=f"k must be from 1 to the 5 points of a cloud, got {k}"):
        knn_graph(torch.zeros(1, 5, 3), k)
