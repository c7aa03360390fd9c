"""A block with fewer channels: which are kept, and that what is kept is the teacher's."""

import pytest
import torch
from torch import nn

from harness.errors import UserError
from lightning_modules.image_classification.build import build_block_network
from lightning_modules.netgraft.folding import Pointwise
from lightning_modules.netgraft.pruning import copy_pruned, largest_filters, layers_of, with_bias_map
from tests.lightning_modules.netgraft.few_shot_runs import plain_cnn, teacher


def blocks(spec: dict) -> list[nn.Module]:
    return [block.eval() for block in build_block_network(spec, 1, 8, 10).blocks()]


def test_the_largest_filters_are_kept_in_their_order() -> None:
    weight = torch.tensor([1.0, -3.0, 2.0, 0.5, 3.0])[:, None, None, None]
    assert largest_filters(weight, 3).tolist() == [1, 2, 4]
    assert largest_filters(torch.ones(4, 1, 1, 1), 2).tolist() == [0, 1], "the first of equal ones"
    assert largest_filters(weight, 5).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_channels_that_do_nothing_are_pruned_without_loss(norm: str) -> None:
    source = teacher(plain_cnn(4, norm)).double().network.blocks()[0]
    inner, outer = source[0], source[1]
    silent, kept = [1, 2], [0, 3]
    for layer in inner:
        if not isinstance(layer, nn.ReLU):
            for name, value in layer.state_dict().items():
                if value.dim() and name != "running_var":
                    value[silent] = 0.0
    outer[0].weight[[0, 2]] *= 1e-3  # the small ones, which leave
    own, x = blocks(plain_cnn(2, norm))[0].double(), torch.randn(3, 1, 8, 8).double()
    left = copy_pruned(own, source, 0, None, 8, 8)
    assert left.tolist() == [1, 3]
    assert torch.equal(own[0][0].weight, inner[0].weight[kept])
    torch.testing.assert_close(own(x), source(x)[:, left])


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_a_map_before_the_block_is_folded_in_exactly_at_every_place(norm: str) -> None:
    source = teacher(plain_cnn(4, norm)).double().network.blocks()[1]
    own = blocks(plain_cnn(4, norm))[1].double()
    first = Pointwise(torch.randn(4, 4).double(), torch.randn(4).double())
    with_bias_map(own, 4, 4)
    copy_pruned(own, source, 1, first, 4, 4)
    x = torch.randn(3, 4, 4, 4).double()
    mapped = torch.einsum("ts,bshw->bthw", first.weight, x) + first.bias[:, None, None]
    torch.testing.assert_close(own(x), source(mapped), rtol=1e-12, atol=1e-12)


def test_a_map_without_bias_leaves_the_same_bias_everywhere() -> None:
    source = teacher(plain_cnn(4, "none")).network.blocks()[1]
    own = blocks(plain_cnn(4, "none"))[1]
    with_bias_map(own, 4, 4)
    copy_pruned(own, source, 1, Pointwise(torch.eye(4).double(), torch.zeros(4).double()), 4, 4)
    assert torch.equal(own[0][0].bias_map, source[0][0].bias[:, None, None].expand(8, 4, 4))


def test_blocks_that_are_not_narrower_forms_of_the_teacher_s_are_refused() -> None:
    source = teacher(plain_cnn(4)).network.blocks()
    for spec in (plain_cnn(5), plain_cnn(4, "none")):
        with pytest.raises(UserError, match="block 0 is not the teacher's with as many or fewer channels"):
            copy_pruned(blocks(spec)[0], source[0], 0, None, 8, 8)
    residual = {"name": "resnet", "layers": [1], "widths": [4], "stem": "cifar"}
    with pytest.raises(UserError, match=r"block 1 has a BasicBlock.*model\.grafted"):
        layers_of(blocks(residual)[1], 1)
