import torch
import torch.nn.functional as F

from datamodules.augmentation import AUGMENTATIONS, crop_flip, flip, replicate_crop_flip, shift


def shifted_by_hand(image: torch.Tensor, down: int, right: int) -> torch.Tensor:
    moved = torch.zeros_like(image)
    size = image.size(-1)
    for row in range(size):
        for column in range(size):
            if 0 <= row - down < size and 0 <= column - right < size:
                moved[:, row, column] = image[:, row - down, column - right]
    return moved


def test_shift_moves_each_image_by_its_own_draw():
    torch.manual_seed(0)
    images = torch.rand(9, 3, 8, 8)
    moves = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)]  # an eighth of 8 is 1
    draws = torch.tensor([[(down + 1.5) / 3, (right + 1.5) / 3] for down, right in moves])
    expected = [shifted_by_hand(image, *move) for image, move in zip(images, moves, strict=True)]
    assert torch.equal(shift(images, draws), torch.stack(expected))


def test_draws_reach_every_move_and_no_more():
    image = torch.zeros(1, 1, 32, 32)
    image[0, 0, 16, 16] = 1.0
    draws = torch.linspace(0, 1 - 1e-6, 100)[:, None].expand(-1, 2)
    rows = {int(moved.squeeze().argmax()) // 32 - 16 for moved in shift(image.expand(100, -1, -1, -1), draws)}
    assert rows == set(range(-4, 5))


def test_every_augmentation_keeps_shape_and_range():
    torch.manual_seed(0)
    images = torch.rand(5, 3, 16, 16)
    for augmentation in AUGMENTATIONS.values():
        changed = augmentation.apply(images, torch.rand(5, augmentation.draws))
        assert changed.shape == images.shape
        assert changed.min() >= 0
        assert changed.max() <= 1


def test_flip_mirrors_the_images_whose_draw_says_so():
    torch.manual_seed(0)
    images = torch.rand(3, 2, 4, 4)
    changed = flip(images, torch.tensor([[0.49], [0.5], [0.0]]))
    assert torch.equal(changed[0], images[0, :, :, [3, 2, 1, 0]])
    assert torch.equal(changed[1], images[1])
    assert torch.equal(changed[2].flip(-1), images[2])


def test_crop_flip_moves_then_mirrors():
    torch.manual_seed(0)
    images = torch.rand(2, 3, 32, 32)
    draws = torch.tensor([[0.0, 0.5, 0.9], [0.5, 0.999, 0.1]])  # up by 4; right by 4, then mirrored
    changed = crop_flip(images, draws)
    assert torch.equal(changed[0], shifted_by_hand(images[0], -4, 0))
    assert torch.equal(changed[1], shifted_by_hand(images[1], 0, 4).flip(-1))


def test_a_replicated_border_moves_in_instead_of_zeros():
    rows = torch.arange(8.0)[:, None]  # a tenth of 8 pixels is one
    image = (10 * rows + torch.arange(8.0))[None, None]  # pixel (row, column) holds 10 row + column
    draws = torch.tensor([[0.0, 0.5, 0.9], [0.5, 0.99, 0.9], [0.99, 0.5, 0.9], [0.5, 0.5, 0.1]])
    up, right, down, mirrored = replicate_crop_flip(image.expand(4, 1, 8, 8), draws)[:, 0]
    assert up[:, 0].tolist() == [10, 20, 30, 40, 50, 60, 70, 70]
    assert right[0].tolist() == [0, 0, 1, 2, 3, 4, 5, 6]
    assert down[:, 3].tolist() == [3, 3, 13, 23, 33, 43, 53, 63]
    assert mirrored[0].tolist() == [7, 6, 5, 4, 3, 2, 1, 0]


def test_a_replicating_crop_moves_32_pixels_by_up_to_three():
    image = torch.zeros(1, 1, 32, 32)
    image[0, 0, 16, 16] = 1.0
    draws = torch.linspace(0, 1 - 1e-6, 100)[:, None].expand(-1, 3).clone()
    draws[:, 2] = 0.9  # not mirrored
    moved = replicate_crop_flip(image.expand(100, -1, -1, -1), draws)
    assert {int(one.squeeze().argmax()) // 32 - 16 for one in moved} == set(range(-3, 4))


def test_what_lies_inside_is_moved_alike_by_both_crops():
    torch.manual_seed(0)
    images = F.pad(torch.rand(7, 3, 8, 8), (12,) * 4)  # black margins: zeros are copies of the border
    draws = torch.rand(7, 3)
    moves = (draws[:, :2] * 7).long() - 3
    expected = [shifted_by_hand(image, *move) for image, move in zip(images, moves.tolist(), strict=True)]
    assert torch.equal(replicate_crop_flip(images, draws), flip(torch.stack(expected), draws[:, 2:]))
