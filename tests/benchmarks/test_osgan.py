"""What the benchmark of one-stage training measures, at a size that takes seconds."""

import pytest
import torch

from benchmarks.osgan import (
    NO_DETACH,
    PLAIN,
    Framework,
    Peak,
    Plain,
    Setting,
    bars,
    check,
    measure,
    modelled,
    peak_megabytes,
)
from lightning_modules.osgan.scheme_pictures import draw_costs
from lightning_modules.osgan.schemes import SCHEMES

SMALL = Setting(size=16, width=8, batch=4, device="cpu", precision="32-true")


def test_the_plain_loop_trains_the_weights_of_the_framework() -> None:
    check(SMALL)


def test_the_model_is_that_of_the_specification() -> None:
    equal = modelled(1.0, 1.0)
    shares = [
        equal[name] / equal["one_stage"]
        for name in ("two_stage", NO_DETACH, "two_stage_lean", "two_stage_reuse")
    ]
    assert shares == pytest.approx([13 / 9, 15 / 9, 12 / 9, 11 / 9])


def test_every_scheme_is_measured_beside_one_stage() -> None:
    rows, g, d = measure(SMALL, 2)
    assert g > 0 < d
    assert {row["scheme"] for row in rows if row["loss"] == "non_saturating"} == {*SCHEMES, NO_DETACH, PLAIN}
    assert all(row["ratio to one_stage"] == 1.0 for row in rows if row["scheme"] == "one_stage")
    assert all(row["ms a step"] > 0 < row["peak MB"] for row in rows)
    assert len(draw_costs(bars(rows)).axes[0].get_yticklabels()) == len(SCHEMES) + 1


def test_memory_counts_while_it_is_in_use() -> None:
    peak = Peak("cpu")
    before = torch.ones(10_000)
    peak.begin()
    first = before[:1000] + 1  # 4,000 bytes; a view has none of its own
    del first
    second = torch.ones(500)
    second.add_(1)
    third = second.view(5, 100).double()  # 2,000 and 4,000 bytes
    peak.end()
    assert peak.megabytes == pytest.approx(0.006)
    assert len(third) == 5


def test_a_lean_step_needs_less_memory_than_one_stage() -> None:
    lean, one = (
        peak_megabytes(SMALL, Framework(SMALL, scheme, "minimax"))
        for scheme in ("two_stage_lean", "one_stage")
    )
    assert 0 < lean < one
    plain = Plain(SMALL, "minimax", detach=True)
    assert peak_megabytes(SMALL, plain) == peak_megabytes(SMALL, plain) > 0
