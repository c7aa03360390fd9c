"""The authors' draw of a few images of each class."""

import random

import pytest
import torch

from datamodules.few_shot import few_shot_rows
from harness.errors import UserError

CIFAR10 = torch.arange(10).repeat_interleave(5000)
CIFAR100 = torch.arange(100).repeat(500)  # mixed: image n is of class n % 100, and of rank n // 100 in it


def test_cifar10_gives_the_authors_images() -> None:
    ranks = few_shot_rows(CIFAR10, 5, 6, "cifar10").view(10, 5) - 5000 * torch.arange(10)[:, None]
    assert ranks[:3].tolist() == [
        [360, 1696, 2230, 2161, 4790],
        [2722, 122, 3849, 4141, 1931],
        [338, 2844, 3801, 1185, 1156],
    ]


def test_cifar100_gives_the_authors_images_whatever_the_order_of_its_classes() -> None:
    rows = few_shot_rows(CIFAR100, 5, 10, "cifar100").view(100, 5)
    assert (rows[:2] // 100).tolist() == [[263, 193, 497, 8, 260], [496, 323, 54, 273, 32]]
    assert torch.equal(rows % 100, torch.arange(100)[:, None].expand(100, 5))


def test_each_class_gives_so_many_and_fewer_are_part_of_more() -> None:
    labels = torch.randint(4, (200,), generator=torch.Generator().manual_seed(0))
    most = few_shot_rows(labels, 20, 3, "some")
    assert labels[most].tolist() == [label for label in range(4) for _ in range(20)]
    assert len(most.unique()) == 80
    for shots in (1, 2, 7, 19):
        assert torch.equal(few_shot_rows(labels, shots, 3, "some"), most.view(4, 20)[:, :shots].flatten())


def test_another_seed_gives_other_images_and_no_global_state_is_touched() -> None:
    before = random.getstate(), torch.get_rng_state()
    first, again, other = (few_shot_rows(CIFAR10, 10, seed, "cifar10") for seed in (0, 0, 1))
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("shots", [4, 0, -1])
def test_more_than_the_smallest_class_has_is_refused(shots: int) -> None:
    labels = torch.tensor([0] * 5 + [1] * 3 + [2] * 9)
    with pytest.raises(UserError, match=rf"model\.shots={shots} must be 1 to 3: class 1 of data=toy .*=3\."):
        few_shot_rows(labels, shots, 0, "toy")
    assert len(few_shot_rows(labels, 3, 0, "toy")) == 9


def test_a_class_without_a_training_image_is_named() -> None:
    with pytest.raises(UserError, match=r"data=toy: class 1 has no training image"):
        few_shot_rows(torch.tensor([0, 0, 2]), 1, 0, "toy")
