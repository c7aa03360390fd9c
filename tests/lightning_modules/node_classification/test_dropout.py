"""Dropout masks."""

import torch

from lightning_modules.node_classification.dropout import dropout, dropout_mask


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


def test_probability_zero_changes_nothing() -> None:
    x = torch.randn(3, 4)
    assert dropout(x, 0.0) is x
