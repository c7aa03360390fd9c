"""What DEAL's benchmark compares: that both forms of each pair give the same, in sizes of a moment."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import deal
from benchmarks.deal import (
    explicit_attention,
    peak_mebibytes,
    recomputed_picks,
    reduced_scores,
    shipped_scores,
)
from lightning_modules.deal.coreset import k_centre_greedy
from lightning_modules.deal.difficulty import class_attention

CPU = torch.device("cpu")


def test_scores_on_the_device_are_those_of_what_is_shipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deal, "SIZE", (18, 24))
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 1, 18, 24, generator=generator)
    shipped = shipped_scores(torch.randn(3, deal.CLASSES, 5, 6, generator=generator), logits)
    np.testing.assert_allclose(reduced_scores(logits), shipped, atol=1e-5)


def test_the_authors_attention_and_selection_are_ours() -> None:
    p = torch.randn(2, 20, 5, generator=torch.Generator().manual_seed(0)).softmax(dim=-1)
    gamma = torch.tensor(0.3)
    torch.testing.assert_close(class_attention(p, gamma), explicit_attention(p, gamma))
    features = torch.randn(30, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = k_centre_greedy(features[:25], features[25:], 9).tolist()
    assert found == recomputed_picks(features[:25], features[25:], 9)


def test_the_peak_of_memory_is_that_of_the_job() -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the kernel does not count the peak")
    torch.ones(1)
    found = peak_mebibytes(lambda: float(torch.ones(16 << 20).sum()), CPU)  # 64 MiB
    if math.isnan(found):
        pytest.skip("the peak may not be reset here")
    assert 48 < found < 120


@pytest.mark.slow
def test_all_tables_are_made_in_small_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "SIZE": (36, 48),
        "CANDIDATES": 60,
        "LABELLED": 8,
        "PICKS": 5,
        "WIDTH": 6,
    }.items():
        monkeypatch.setattr(deal, name, value)
    tables = [
        deal.scoring_table(CPU, batch=2, rounds=2),
        deal.coreset_table(CPU, rounds=2),
        deal.attention_table(CPU, rounds=2),
        deal.training_table(CPU, batch=2),
    ]
    assert [len(table.rows) for table in tables] == [3, 1, 1, 3]
    lean, fused, full = (row["loss of the step"] for row in tables[-1].rows)
    assert lean == fused == pytest.approx(full, rel=1e-5)
