"""A head taken over by another: the same logits behind any map of channels."""

import pytest
import torch
from torch import nn

from harness.errors import UserError
from lightning_modules.image_classification.build import build_block_network
from lightning_modules.netgraft.affine_head import affine_map, check_heads, copy_head, head_layers
from lightning_modules.netgraft.folding import Pointwise
from tests.lightning_modules.netgraft.few_shot_runs import plain_cnn, teacher, vgg


def head(spec: dict) -> nn.Module:
    return build_block_network(spec, 1, 8, 10).blocks()[-1].double().eval()


def test_two_linear_layers_and_a_normalisation_are_one_map() -> None:
    source = teacher(vgg(4, 6, head_norm=True)).double().network.blocks()[-1]
    pooled, layers = head_layers(source, "model.student")
    x = torch.randn(5, 6, 2, 2).double()
    assert not pooled
    torch.testing.assert_close(affine_map(layers)(x.flatten(1)), source(x))


@pytest.mark.parametrize(
    ("student", "of_teacher"),
    [
        (vgg(4, 3), vgg(4, 6, head_norm=True)),
        (vgg(4, 3, head=10, head_norm=True), vgg(4, 6)),
        (plain_cnn(2), plain_cnn(4)),
    ],
)
def test_the_student_s_head_is_the_teacher_s_behind_the_map(student: dict, of_teacher: dict) -> None:
    source, own = teacher(of_teacher).double().network.blocks()[-1], head(student)
    channels = 3 if student["name"] == "vgg" else 4
    into = 6 if student["name"] == "vgg" else 8
    first = Pointwise(torch.randn(into, channels).double(), torch.randn(into).double())
    check_heads(own, source)
    copy_head(own, source, first)
    x = torch.randn(5, channels, 2, 2).double()
    mapped = torch.einsum("ts,bshw->bthw", first.weight, x) + first.bias[:, None, None]
    torch.testing.assert_close(own(x), source(mapped), rtol=1e-10, atol=1e-10)


def test_heads_that_cannot_be_the_teacher_s_are_refused() -> None:
    with pytest.raises(UserError, match=r"student\.head=9 is too narrow .* at least 10"):
        check_heads(head(vgg(4, 3, head=9)), head(vgg(4, 6)))
    with pytest.raises(UserError, match="both take a mean over the last map, or neither"):
        check_heads(head(plain_cnn(2)), head(vgg(4, 6)))
    with pytest.raises(UserError, match="the head has a ReLU"):
        head_layers(nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2)), "model.student")
