"""Adaptions multiplied into the layers behind them change no logit (specification, sections 3 and 10)."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.resnet import BasicBlock

from lightning_modules.image_classification.block_network import cut_shapes
from lightning_modules.netgraft.folding import (
    BiasMapConv2d,
    Pointwise,
    fold_into_convolution,
    fold_into_linear,
    fold_student,
)
from lightning_modules.netgraft.student import GraftedStudent
from tests.lightning_modules.netgraft.networks import CLASSES, SIZE, grafted, images, network


def random_conv(into: int, out: int, size: int, **keywords: Any) -> nn.Conv2d:
    torch.manual_seed(into + 10 * out)
    return nn.Conv2d(into, out, size, **keywords).double()


def test_zeros_are_padded_behind_the_bias_of_an_adaption() -> None:
    first = Pointwise(torch.tensor([[2.0]]).double(), torch.tensor([1.0]).double())
    ones = nn.Conv2d(1, 1, 3, padding=1, bias=False).double()
    nn.init.ones_(ones.weight)
    x = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]]).double()
    folded = fold_into_convolution(ones, first, 2, 2)
    assert folded(x).tolist() == [[[[24.0, 24.0], [24.0, 24.0]]]]
    single = ones.weight.sum() * 1.0  # the sum over the whole kernel, right in the interior alone
    assert (nn.functional.conv2d(x, 2 * ones.weight, single[None], padding=1) == 29.0).all()


@pytest.mark.parametrize(
    "keywords",
    [
        {"padding": 1},
        {"padding": 1, "stride": 2},
        {},
        {"padding": 2, "dilation": 2},
        {"padding": 1, "bias": False},
    ],
)
def test_two_adaptions_before_a_convolution_are_one_convolution(keywords: dict[str, Any]) -> None:
    s2t, t2s, conv = random_conv(3, 7, 1), random_conv(7, 4, 1), random_conv(4, 5, 3, **keywords)
    x = torch.randn(2, 3, 6, 5, dtype=torch.float64)
    folded = fold_into_convolution(conv, Pointwise.of(t2s).after(Pointwise.of(s2t)), 6, 5)
    assert (folded(x) - conv(t2s(s2t(x)))).abs().max() < 1e-12


@pytest.mark.parametrize("side", [1, 3])
def test_adaptions_before_a_linear_layer_are_part_of_it(side: int) -> None:
    s2t, linear = random_conv(3, 4, 1), nn.Linear(4 * side**2, 5).double()
    x = torch.randn(2, 3, side, side, dtype=torch.float64)
    folded = fold_into_linear(linear, Pointwise.of(s2t))
    assert (folded(x.flatten(1)) - linear(s2t(x).flatten(1))).abs().max() < 1e-12


def test_a_convolution_stays_plain_without_a_bias_in_front_of_it() -> None:
    conv = random_conv(4, 5, 3, padding=1)
    plain = fold_into_convolution(conv, Pointwise.of(random_conv(3, 4, 1, bias=False)), 6, 6)
    assert isinstance(plain, nn.Conv2d)
    mapped = fold_into_convolution(conv, Pointwise.of(random_conv(3, 4, 1)), 6, 6)
    assert isinstance(mapped, BiasMapConv2d)
    assert mapped.bias_map.shape == (5, 6, 6)


GRAFTS = [("vgg", (1, 2, 3)), ("plain_cnn", (0, 1, 2, 3)), ("resnet", (0, 1, 2, 3, 4))]


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kind", "blocks"), GRAFTS)
def test_the_plain_student_gives_the_student_s_logits(kind: str, blocks: tuple[int, ...], bias: bool) -> None:
    _, student = grafted(kind, blocks, bias)
    student.logit_scale.fill_(3.0)
    x = images()
    expected: Tensor = student(x)
    plain = fold_student(student, 3, SIZE)
    assert (plain(x) - expected).abs().max() < 1e-12 * expected.abs().max()
    assert expected.shape == (5, CLASSES)
    assert not plain.training
    assert not any(parameter.requires_grad for parameter in plain.parameters())
    widths = {module.kernel_size for module in plain.modules() if isinstance(module, nn.Conv2d)}
    assert (1, 1) not in widths or kind == "resnet", "no adaption is left"
    if not bias and kind != "resnet":
        assert not any(isinstance(module, BiasMapConv2d) for module in plain.modules())


def test_the_plain_student_shares_nothing_with_the_student() -> None:
    _, student = grafted("vgg", (1, 2, 3))
    before = {name: value.clone() for name, value in student.state_dict().items()}
    plain = fold_student(student, 3, SIZE)
    for parameter in plain.parameters():
        parameter.data.fill_(0.0)
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_an_adaption_before_an_identity_shortcut_stays_as_one_convolution() -> None:
    # layer1 of a resnet keeps the width of its stem, so that its first block hands on what enters
    teacher = network({"name": "resnet", "layers": [1, 1], "widths": [6, 8], "stem": "cifar"}, 0)
    own = network({"name": "resnet", "layers": [1, 1], "widths": [4, 8], "stem": "cifar"}, 1)
    student = GraftedStudent(own, (0, 1, 2), 3, SIZE, True)
    student.fit_into(cut_shapes(teacher.blocks(), 3, SIZE))
    student.copy_blocks(teacher.blocks())
    student.eval()
    plain = fold_student(student, 3, SIZE)
    x = images()
    assert (plain(x) - student(x)).abs().max() < 1e-12 * student(x).abs().max()
    first = plain[1][0]
    assert isinstance(first, nn.Conv2d)
    assert (first.in_channels, first.out_channels, first.kernel_size) == (4, 4, (1, 1))
    assert isinstance(plain[2][0], BasicBlock), "the next stage takes its adaption up"
