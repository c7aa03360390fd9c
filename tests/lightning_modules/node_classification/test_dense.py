"""Dense operations against torch's own."""

import pytest
import torch
import torch.nn.functional as F

from lightning_modules.node_classification.dense import (
    class_log_probabilities,
    dropout,
    dropout_mask,
    elu,
    narrow_matmul,
)


def test_mask_keeps_the_stated_share_and_scales_it() -> None:
    torch.manual_seed(0)
    mask = dropout_mask((200, 500), 0.6, torch.empty(0))
    assert set(mask.unique().tolist()) == {0.0, 2.5}
    assert abs((mask > 0).float().mean().item() - 0.4) < 0.01


def test_bfloat16_masks_keep_the_same_entries_as_float32() -> None:
    masks = []
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        masks.append(dropout_mask((50, 50), 0.6, torch.empty(0, dtype=dtype)) > 0)
    assert torch.equal(*masks)


def test_dropout_with_probability_zero_changes_nothing() -> None:
    x = torch.randn(3, 4)
    assert dropout(x, 0.0) is x


def test_elu_equals_torch_and_passes_gradcheck() -> None:
    x = torch.cat(
        [torch.linspace(-90, 90, 61), torch.tensor([-1e-6, 0, 1e-6, -torch.inf, torch.inf, torch.nan])]
    )
    torch.testing.assert_close(elu(x), F.elu(x), rtol=1e-6, atol=1e-7, equal_nan=True)
    assert torch.autograd.gradcheck(elu, torch.linspace(-3, 3, 10, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("columns", [1, 7, 16, 20])
def test_narrow_product_equals_the_plain_one(columns: int) -> None:
    x, weight = torch.randn(5, 9), torch.randn(9, columns)
    torch.testing.assert_close(narrow_matmul(x, weight), x @ weight)


def test_log_probabilities_equal_log_softmax_and_end_half_precision() -> None:
    logits = torch.randn(5, 3) * 50
    torch.testing.assert_close(class_log_probabilities(logits), logits.log_softmax(-1))
    assert class_log_probabilities(logits.bfloat16()).dtype == torch.float32
    assert class_log_probabilities(logits.double()).dtype == torch.float64
