"""How the terms of a student's loss come together."""

from dataclasses import replace

import pytest
import torch

from lightning_modules.lsp.structure import RULER, Kernel
from lightning_modules.lsp.terms import Terms, check_layer_pairs, gradient_share

TERMS = Terms("lsp", RULER, "teacher_student", 10.0, None, 0.25, 3.0, 2.0)
PARTS = {
    "task_loss": torch.tensor(1.0),
    "kd_loss": torch.tensor(3.0),
    "lsp_loss": torch.tensor(0.5),
}


@pytest.mark.parametrize(
    ("distill", "loss"),
    [("full", 1.0), ("kd", 0.75 + 0.75), ("lsp", 1.0 + 5.0), ("lsp+kd", 0.75 + 0.75 + 5.0)],
)
def test_terms_are_weighed_as_stated(distill: str, loss: float) -> None:
    assert float(replace(TERMS, distill=distill).total(PARTS, 0)) == loss  # type: ignore[arg-type]


@pytest.mark.parametrize("distill", ["fitnet", "at"])
def test_hints_and_attention_have_a_weight_of_their_own(distill: str) -> None:
    parts = {"task_loss": torch.tensor(1.0), "hint_loss": torch.tensor(0.5)}
    assert float(replace(TERMS, distill=distill).total(parts, 0)) == 2.0  # type: ignore[arg-type]


def test_structure_ends_with_the_epochs_that_it_is_given() -> None:
    terms = replace(TERMS, lsp_until=30)
    assert [terms.structure_in(epoch) for epoch in (0, 29, 30, 499)] == [True, True, False, False]
    assert float(terms.total(PARTS, 30)) == 1.0
    assert not replace(TERMS, lsp_weight=0.0).structure_in(0)
    assert not replace(TERMS, distill="kd").structure_in(0)


def test_structures_are_not_computed_twice_where_the_kernel_is_the_ruler() -> None:
    assert TERMS.kernels == (RULER,)
    own = Kernel("l1exp")
    assert replace(TERMS, kernel=own).kernels == (own, RULER)


def test_the_share_of_the_gradient_is_that_of_lengths() -> None:
    x, unused = torch.nn.Parameter(torch.tensor([1.0, 1.0])), torch.nn.Parameter(torch.tensor(1.0))
    part, rest = 3 * x[0], 4 * x[1] - 0 * x[0]
    assert float(gradient_share(part, part + rest, [x, unused])) == pytest.approx(3 / 7)
    assert x.grad is None


@pytest.mark.parametrize(
    ("pairs", "says"),
    [([], "must list"), ([[1]], "must list"), ([[1, 1], [2, 5]], "layer 5"), ([[9, 4]], None)],
)
def test_pairs_of_layers_are_looked_at(pairs: list[list[int]], says: str | None) -> None:
    mistake = check_layer_pairs(pairs, 4)
    assert mistake is None if says is None else says in (mistake or "")
