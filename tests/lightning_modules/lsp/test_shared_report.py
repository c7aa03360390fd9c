"""What both reports say alike."""

import pytest
import torch

from harness.curves import PublishedValue
from lightning_modules.lsp.shared_report import (
    kernel_in_words,
    place_in_words,
    published_value,
    shown_kernel,
)
from lightning_modules.lsp.structure import RULER, Kernel
from lightning_modules.lsp.terms import Distill, Terms


@pytest.mark.parametrize(
    ("kernel", "words"),
    [
        (RULER, "rbf, σ = 100"),
        (Kernel("l1exp", sigma=0.5), "l1exp, σ = 0.5"),
        (Kernel("poly", degree=3, offset=1.5), "poly, degree 3, offset 1.5"),
        (Kernel("neg_l2"), "neg_l2"),
    ],
)
def test_a_kernel_is_named_with_the_numbers_it_depends_on(kernel: Kernel, words: str):
    assert kernel_in_words(kernel) == words


@pytest.mark.parametrize("distill", ["full", "kd", "fitnet", "at", "lsp", "lsp+kd"])
def test_the_kernel_of_the_loss_is_shown_where_it_is_part_of_it(distill: Distill):
    own = Kernel("linear")
    terms = Terms(distill, own, "student_teacher", 1.0, None, 0.1, 3.0, 1.0)
    is_part = distill in ("lsp", "lsp+kd")
    assert terms.copies_structure == is_part
    assert shown_kernel(terms) == ((own, "student_teacher") if is_part else (RULER, "teacher_student"))


def test_a_published_value_of_another_score_is_none():
    published = {"metric": "test/acc", "value": 0.9, "spread": 0.01, "source": "somebody"}
    assert published_value(published, "acc") == PublishedValue(0.9, 0.01)
    assert published_value(published, "f1") is None
    assert published_value(None, "acc") is None


def test_the_place_of_a_pass_names_the_threads(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    assert place_in_words(torch.device("cpu")) == "on 1 CPU thread"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert place_in_words(torch.device("cpu")) == "on 2 CPU threads"
    assert place_in_words(torch.device("cuda")) == "on the GPU"
