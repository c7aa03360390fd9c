"""Noise of training and of samples: what it follows from, and what it does not."""

import pytest
import torch

from lightning_modules.osgan.noise import sample_noise, training_noise


@pytest.mark.parametrize("world", [1, 2, 4])
def test_processes_share_the_noise_of_one(world: int) -> None:
    whole, classes = training_noise(3, 5, 0, 8, 4, num_classes=10)
    parts = [training_noise(3, 5, 0, 8 // world, 4, 10, rank, world) for rank in range(world)]
    assert torch.equal(torch.cat([z for z, _ in parts]), whole)
    assert classes is not None
    assert torch.equal(torch.cat([y for _, y in parts if y is not None]), classes)


def test_every_step_stage_and_seed_has_noise_of_its_own() -> None:
    drawn = [training_noise(*key, 4, 4)[0] for key in ((0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0))]
    drawn.append(sample_noise(0, 0, 4, 4)[0])
    assert all(not torch.equal(one, other) for i, one in enumerate(drawn) for other in drawn[:i])


def test_nothing_is_drawn_from_the_global_state() -> None:
    before = torch.get_rng_state()
    training_noise(0, 0, 0, 4, 4, 10)
    sample_noise(0, 0, 4, 4, 10)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("first", "number"), [(0, 1), (60, 10), (64, 64), (130, 3)])
def test_a_sample_s_noise_does_not_depend_on_the_stretch(first: int, number: int) -> None:
    whole, classes = sample_noise(1, 0, 200, 3, num_classes=7)
    part, its_classes = sample_noise(1, first, number, 3, num_classes=7)
    assert torch.equal(part, whole[first : first + number])
    assert classes is not None
    assert its_classes is not None
    assert torch.equal(its_classes, classes[first : first + number])


def test_samples_go_through_the_classes_in_turn() -> None:
    _, classes = sample_noise(0, 5, 4, 3, num_classes=3)
    assert classes is not None
    assert classes.tolist() == [2, 0, 1, 2]
    assert sample_noise(0, 0, 2, 3)[1] is None
