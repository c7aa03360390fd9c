"""Changes of images and masks together: the same pixels stay together."""

import pytest
import torch
from torch import Tensor

from datamodules.paired_augmentation import (
    PAIRED_AUGMENTATIONS,
    VOID,
    colour_jitter,
    deal,
    flip_both,
    scale_crop,
)

HALF = 0.5


def pair(count: int = 3, height: int = 12, width: int = 20) -> tuple[Tensor, Tensor]:
    """Masks of random classes below 5, and images whose first colour is the class / 10."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(5, (count, height, width), generator=generator)
    images = torch.rand(count, 3, height, width, generator=generator)
    images[:, 0] = masks / 10
    return images, masks


def test_a_scale_of_one_changes_nothing() -> None:
    images, masks = pair()
    for place in (0.0, 0.9):
        draws = torch.tensor([[HALF, place, place]]).expand(3, 3)
        found = scale_crop(images, masks, draws)
        torch.testing.assert_close(found[0], images)
        assert torch.equal(found[1], masks)


@pytest.mark.parametrize("place", [0.0, HALF, 1.0])
def test_a_smaller_image_is_filled_up_with_black_and_void(place: float) -> None:
    images, masks = pair(1, 10, 20)
    draws = torch.tensor([[0.0, place, place]])  # times 0.8: 8 x 16 pixels
    x, y = scale_crop(images + 0.1, masks, draws)
    inside = torch.zeros(10, 20, dtype=torch.bool)
    top, left = round(2 * place), round(4 * place)
    inside[top : top + 8, left : left + 16] = True
    assert torch.equal(y[0] != VOID, inside)
    assert torch.equal((x[0] > 0).all(dim=0), inside)
    assert not x[0][:, ~inside].any()


def test_a_larger_image_is_cut_and_has_no_void() -> None:
    images, masks = pair(1, 10, 20)
    _, first = scale_crop(images, masks, torch.tensor([[1.0, 0.0, 0.0]]))
    _, last = scale_crop(images, masks, torch.tensor([[1.0, 1.0, 1.0]]))
    assert int(first.max()) < 5
    # pixel i comes from (i + 1/2) / 1.2, worked out by hand for the first six columns
    assert torch.equal(first[0, 0, :6], masks[0, 0, [0, 1, 2, 2, 3, 4]])
    assert torch.equal(last[0, -1, -6:], masks[0, -1, [-5, -4, -3, -3, -2, -1]])


def test_image_and_mask_move_together() -> None:
    generator = torch.Generator().manual_seed(1)
    masks = torch.zeros(64, 24, 36, dtype=torch.long)
    masks[:, 8:16, 9:27] = 4
    images = (masks / 4.0)[:, None].repeat(1, 3, 1, 1)
    x, y = flip_both(
        *scale_crop(images, masks, torch.rand(64, 3, generator=generator)),
        torch.rand(64, 1, generator=generator),
    )
    for value, label in ((0.0, 0), (1.0, 4)):  # in between lie the pixels of an edge
        of_class = y[(x[:, 0] - value).abs() < 1e-6]
        assert len(of_class) > 1000
        assert set(of_class.tolist()) <= {label, VOID}
    assert len({int(one.sum()) for one in (y == 4)}) > 10, "scales differ"


def test_flipping_mirrors_both_or_neither() -> None:
    images, masks = pair(2)
    x, y = flip_both(images, masks, torch.tensor([[0.49], [0.5]]))
    assert torch.equal(x[0], images[0].flip(-1))
    assert torch.equal(y[0], masks[0].flip(-1))
    assert torch.equal(x[1], images[1])
    assert torch.equal(y[1], masks[1])


def test_colours_change_as_torchvision_s_do() -> None:
    from torchvision.transforms import functional

    images, _ = pair(4)
    draws = torch.rand(4, 3, generator=torch.Generator().manual_seed(2))
    found = colour_jitter(images, draws)
    for image, changed, factors in zip(images, found, (0.5 + draws).tolist(), strict=True):
        expected = functional.adjust_brightness(image, factors[0])
        expected = functional.adjust_saturation(functional.adjust_contrast(expected, factors[1]), factors[2])
        torch.testing.assert_close(changed, expected, atol=1e-5, rtol=0.0)
    torch.testing.assert_close(colour_jitter(images, torch.full((4, 3), HALF)), images)


def test_an_image_is_changed_alike_whatever_batch_it_is_in() -> None:
    images, masks = pair(6)
    draws = torch.rand(6, 7, generator=torch.Generator().manual_seed(3))
    whole, part = deal(images, masks, draws), deal(images[2:4], masks[2:4], draws[2:4])
    assert torch.equal(whole[0][2:4], part[0])
    assert torch.equal(whole[1][2:4], part[1])


@pytest.mark.parametrize("name", PAIRED_AUGMENTATIONS)
def test_shapes_types_and_ranges_stay(name: str) -> None:
    images, masks = pair()
    augmentation = PAIRED_AUGMENTATIONS[name]
    draws = torch.rand(3, augmentation.draws, generator=torch.Generator().manual_seed(4))
    x, y = augmentation.apply(images, masks, draws)
    assert (x.shape, x.dtype, y.shape, y.dtype) == (images.shape, images.dtype, masks.shape, masks.dtype)
    assert 0 <= float(x.min()) <= float(x.max()) <= 1
    assert set(y.unique().tolist()) <= {0, 1, 2, 3, 4, VOID}
