"""Segment reductions against plain loops over the groups."""

import pytest
import torch

from lightning_modules.segments import SegmentIndex, propagate, segment_softmax

ROW = torch.tensor([0, 0, 0, 1, 2, 2])
COL = torch.tensor([1, 3, 1, 0, 2, 3])


def index(identity: bool = False) -> SegmentIndex:
    return SegmentIndex.build(ROW, None if identity else COL, 3, 6 if identity else 4)


def test_reductions_equal_a_loop_over_the_groups() -> None:
    values = torch.randn(6, 2)
    groups = [values[i == ROW] for i in range(3)]
    torch.testing.assert_close(index().sum(values), torch.stack([g.sum(0) for g in groups]))
    torch.testing.assert_close(index().max(values), torch.stack([g.amax(0) for g in groups]))
    torch.testing.assert_close(segment_softmax(values, index()), torch.cat([g.softmax(0) for g in groups]))
    by_item = torch.zeros(4, 2).index_add(0, COL, values)
    torch.testing.assert_close(index().sum_by_item(values), by_item)


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize("identity", [False, True])
def test_weighted_sum_and_its_transpose_equal_a_dense_product(heads: int, identity: bool) -> None:
    segments = index(identity)
    col = torch.arange(6) if identity else COL
    weights, items = torch.randn(6, heads), torch.randn(segments.num_items, heads, 5)
    dense = torch.zeros(3, segments.num_items, heads).index_put((ROW, col), weights, accumulate=True)
    torch.testing.assert_close(
        segments.weighted_sum(weights, items), torch.einsum("nmh,mhd->nhd", dense, items)
    )
    centres = torch.randn(3, heads, 5)
    torch.testing.assert_close(
        segments.weighted_sum_by_item(weights, centres), torch.einsum("nmh,nhd->mhd", dense, centres)
    )


def test_softmax_survives_groups_whose_scores_are_far_apart() -> None:
    scores = torch.tensor([0.0, 1.0, 2.0, -500.0, 300.0, 300.0]).unsqueeze(1)
    alpha = segment_softmax(scores, index())
    torch.testing.assert_close(alpha[3:, 0], torch.tensor([1.0, 0.5, 0.5]))


def test_propagate_passes_gradcheck() -> None:
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.rand(6, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: propagate(weights, x, index()), x)


def test_rows_out_of_order_are_refused() -> None:
    with pytest.raises(ValueError, match="sorted by centre"):
        SegmentIndex.build(torch.tensor([1, 0]), None, 2, 2)


def test_a_centre_without_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="add self-loops or self paths"):
        SegmentIndex.build(torch.tensor([0, 2]), None, 3, 2)


def test_items_of_another_number_than_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="must be equal"):
        SegmentIndex.build(ROW, COL[:3], 3, 4)
