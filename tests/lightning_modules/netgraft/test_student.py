"""A student's blocks inside its teacher."""

import copy

import pytest
import torch

from harness.errors import UserError
from lightning_modules.image_classification.block_network import cut_shapes
from lightning_modules.netgraft.student import GraftedStudent
from tests.lightning_modules.netgraft.networks import PAIRS, SIZE, TEACHER, VGG, grafted, images, network


@pytest.mark.parametrize("kind", PAIRS)
def test_the_teacher_s_own_block_changes_nothing(kind: str) -> None:
    teacher = network(PAIRS[kind][0], 0)
    blocks = teacher.blocks()
    student = GraftedStudent(copy.deepcopy(teacher), range(len(blocks)), 3, SIZE, adaption_bias=True)
    student.fit_into(cut_shapes(blocks, 3, SIZE))
    student.eval()
    x = images()
    assert student.adaptions() == [], "equally wide networks need none"
    assert torch.equal(student(x), teacher(x))
    for number, block in enumerate(blocks):
        assert torch.equal(student.grafted_block(number, x), block(x))
        x = block(x)


def test_adaptions_stand_where_the_widths_differ_and_nowhere_else() -> None:
    _, student = grafted("vgg", (1, 2, 3))
    # teacher 4, 6, 8 channels; student 4, 5, 4
    assert {name: (c.in_channels, c.out_channels) for name, c in student.s2t.items()} == {
        "1": (5, 6),
        "2": (4, 8),
    }
    assert {name: (c.in_channels, c.out_channels) for name, c in student.t2s.items()} == {
        "2": (6, 5),
        "3": (8, 4),
    }


def test_the_published_student_wears_four_adaptions_of_half_a_million_parameters() -> None:
    from lightning_modules.image_classification.build import build_block_network

    teacher, own = (build_block_network(name, 3, 32, 10) for name in ("vgg16", "vgg16_half"))
    student = GraftedStudent(own, (3, 4, 5), 3, 32, adaption_bias=True)
    student.fit_into(cut_shapes(teacher.blocks(), 3, 32))
    assert (sorted(student.t2s), sorted(student.s2t)) == (["4", "5"], ["3", "4"])
    assert sum(p.numel() for one in student.adaptions() for p in one.parameters()) == 525_824


def test_copied_blocks_are_the_teacher_s_frozen_and_never_in_training_mode() -> None:
    teacher, student = grafted("plain_cnn", (0, 1, 2, 3))
    assert student.copied == ()
    teacher, student = grafted("vgg", (1, 2, 3))
    assert student.copied == (0,)
    student.train()
    source, copied = teacher.blocks()[0].state_dict(), student.block(0).state_dict()
    assert all(torch.equal(source[name], copied[name]) for name in source)
    assert not any(parameter.requires_grad for parameter in student.block(0).parameters())
    assert not any(module.training for module in student.block(0).modules() if not list(module.children()))
    assert all(module.training for module in student.block(1).modules() if not list(module.children()))


def test_adaptions_are_drawn_fan_out_with_zero_biases() -> None:
    student = GraftedStudent(
        network(VGG | {"widths": [[64], [64], [64]], "head_norm": False}, 0), (1,), 3, SIZE, True
    )
    torch.manual_seed(0)
    student.fit_into([(3, 16, 16), (64, 8, 8), (512, 4, 4), (64, 2, 2), (4,)])
    (adaption,) = student.adaptions()
    assert adaption.weight.std().item() == pytest.approx(
        (2 / 512) ** 0.5, rel=0.02
    )  # gain of a ReLU, 512 outputs
    assert adaption.bias is not None
    assert adaption.bias.count_nonzero() == 0


@pytest.mark.parametrize(
    ("student", "blocks", "message"),
    [
        ({"widths": [[4], [8]]}, (1, 2), "model.student has 3 blocks and the teacher has 4"),
        ({"widths": [[4], [6, 6], [8]]}, (1, 4), r"model.grafted=\[1, 4\] must name blocks of 0 to 3"),
        ({"widths": [[4], [6, 6], [8]]}, (2, 1), "ascending order"),
        ({"widths": [[4], [6, 6], [8]]}, (1, 1), "ascending order"),
        ({"widths": [[4], [6, 6], [8]]}, (), "null for all"),
        ({"widths": [[5], [6, 6], [8]]}, (1, 2, 3), "block 0 is not the same in student and teacher"),
        ({"widths": [[4], [6, 6, 6], [8]]}, (2, 3), "block 1 is not the same"),
    ],
)
def test_networks_that_do_not_fit_are_refused(student: dict, blocks: tuple[int, ...], message: str) -> None:
    teacher = network(TEACHER, 0)
    own = network(VGG | {"head_norm": True} | student, 1)

    def graft() -> None:
        made = GraftedStudent(own, blocks, 3, SIZE, True)
        made.fit_into(cut_shapes(teacher.blocks(), 3, SIZE))
        made.copy_blocks(teacher.blocks())

    with pytest.raises(UserError, match=message):
        graft()


def test_maps_of_other_sizes_at_a_cut_are_refused() -> None:
    teacher = network({"name": "resnet", "layers": [1, 1], "widths": [4, 8], "stem": "imagenet"}, 0)
    own = GraftedStudent(
        network({"name": "resnet", "layers": [1, 1], "widths": [4, 8], "stem": "cifar"}, 1),
        (1, 2),
        3,
        SIZE,
        True,
    )
    with pytest.raises(UserError, match="block 0 gives maps of 16x16 and the teacher's maps of 4x4"):
        own.fit_into(cut_shapes(teacher.blocks(), 3, SIZE))
