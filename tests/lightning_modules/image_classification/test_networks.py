from typing import Any

import pytest
import torch
from torch import nn

from harness.errors import UserError
from lightning_modules.image_classification.block_network import embed
from lightning_modules.image_classification.networks import PlainCNN


def network(**keywords: Any) -> PlainCNN:
    torch.manual_seed(0)
    plain = {"in_channels": 1, "image_size": 8, "num_classes": 10, "width": 4, "depth": 2}
    return PlainCNN(**{**plain, "norm": "batch", "dropout": 0.0, **keywords})


@pytest.mark.parametrize("norm", ["batch", "none"])
@pytest.mark.parametrize(("image_size", "channels", "depth"), [(8, 1, 1), (8, 1, 3), (28, 1, 3), (32, 3, 4)])
def test_images_of_any_size_become_one_logit_a_class(norm, image_size, channels, depth):
    made = network(in_channels=channels, image_size=image_size, depth=depth, norm=norm)
    x = torch.randn(3, channels, image_size, image_size)
    assert made(x).shape == (3, 10)
    assert embed(made, x).shape == (3, 4 * 2 ** (depth - 1))


def test_stages_double_in_width():
    widths = [module.out_channels for module in network(depth=3).modules() if isinstance(module, nn.Conv2d)]
    assert widths == [4, 4, 8, 8, 16, 16]


def test_parameters_are_as_many_as_the_shapes_say():
    # 1 -> 4 -> 4 -> 8 -> 8 channels by 3x3 kernels, then 8 -> 10
    kernels = 9 * (1 * 4 + 4 * 4 + 4 * 8 + 8 * 8)
    for norm, others in (("batch", 2 * (4 + 4 + 8 + 8)), ("none", 4 + 4 + 8 + 8)):
        counted = sum(parameter.numel() for parameter in network(norm=norm).parameters())
        assert counted == kernels + others + 8 * 10 + 10


def test_batch_norm_alone_looks_at_other_images():
    x = torch.randn(4, 1, 8, 8)
    for norm, is_alone in (("none", True), ("batch", False)):
        made = network(norm=norm).train()
        assert torch.allclose(made(x)[:2], made(x[:2]), atol=1e-5) == is_alone
    assert torch.allclose(made.eval()(x)[:2], made(x[:2]), atol=1e-5)


def test_doubled_input_doubles_the_features_of_a_network_without_normalisation():
    made, x = network(norm="none"), torch.randn(2, 1, 8, 8)  # biases start at zero
    torch.testing.assert_close(embed(made, 2 * x), 2 * embed(made, x))


def test_images_too_small_for_the_depth_are_refused():
    with pytest.raises(UserError, match=r"network\.depth=4 .* images of 8 pixels .* at most 3"):
        network(depth=4)
    with pytest.raises(UserError, match="at most 4"):
        network(image_size=28, depth=5)
