"""Some rows of images and masks: what is looked up is what a copy would hold, and nothing is copied."""

import pytest
import torch
from torch import Tensor

from datamodules.scenes import Masks, Rows, Scenes

IDS = torch.tensor([4, 0, 3])


@pytest.fixture
def images() -> Tensor:
    return torch.randint(256, (6, 3, 2, 4), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def some_masks() -> tuple[Masks, Tensor]:
    """Masks of images 1, 3 and 4 out of six, and all six as they are to be seen."""
    values = torch.arange(3, dtype=torch.uint8)[:, None, None].expand(3, 2, 4).contiguous()
    of_image = torch.tensor([-1, 0, -1, 1, 2, -1])
    seen = torch.full((6, 2, 4), 255, dtype=torch.uint8)
    seen[[1, 3, 4]] = values
    return Masks(values, of_image), seen


def test_rows_are_those_of_a_copy_and_share_its_memory(images: Tensor) -> None:
    rows, copy = Rows(images, IDS), images[IDS]
    assert (rows.shape, len(rows), rows.nbytes, rows.device) == (copy.shape, 3, copy.nbytes, copy.device)
    wanted = torch.tensor([2, 0])
    assert torch.equal(rows[wanted], copy[wanted])
    assert torch.equal(Rows(rows, wanted)[torch.tensor([1])], copy[[0]]), "rows of rows"
    assert torch.equal(rows.to(torch.device("cpu")), copy)
    images[4] = 7
    assert bool((rows[torch.tensor([0])] == 7).all()), "the same memory"


def test_an_image_without_a_mask_is_void_and_takes_no_room() -> None:
    masks, seen = some_masks()
    everything = torch.arange(6)
    assert (len(masks), masks.nbytes, masks.shape) == (6, 3 * 8, seen.shape)
    assert torch.equal(masks[everything], seen)
    assert torch.equal(masks[torch.tensor([5, 3])], seen[[5, 3]])
    part = masks.take(IDS)
    assert (len(part), part.nbytes) == (3, 2 * 8)
    assert torch.equal(part[torch.arange(3)], seen[IDS])
    assert torch.equal(part.take(torch.tensor([2, 1]))[torch.arange(2)], seen[[3, 0]])
    assert torch.equal(masks[everything], seen), "no look-up wrote into them"


@pytest.mark.parametrize("kind", ["some", "all"])
def test_on_a_device_lie_the_masks_of_a_part_alone(kind: str) -> None:
    masks, seen = some_masks()
    whole = masks if kind == "some" else Masks(seen)
    moved = whole.take(IDS).to(torch.device("cpu"))
    assert torch.equal(moved[torch.arange(3)], seen[IDS])
    assert moved._values.nbytes == (2 if kind == "some" else 3) * 8
    assert torch.equal(whole.to(torch.device("cpu"))[torch.arange(6)], seen)


def test_where_nothing_is_annotated_everything_is_void() -> None:
    masks = Masks(torch.empty(0, 2, 4, dtype=torch.uint8), torch.full((3,), -1))
    for some in (masks, masks.to(torch.device("cpu"))):
        assert some[torch.tensor([2, 1])].tolist() == [[[255] * 4] * 2] * 2
    assert masks.nbytes == 0


def test_a_part_of_a_split_has_its_own_images_masks_and_names(images: Tensor) -> None:
    masks, seen = some_masks()
    has_mask = torch.tensor([False, True, False, True, True, False])
    part = Scenes(images, masks, has_mask, tuple("abcdef")).take(IDS)
    assert (len(part), part.names, part.has_mask.tolist()) == (3, ("e", "a", "d"), [True, False, True])
    assert torch.equal(part.images[torch.arange(3)], images[IDS])
    assert torch.equal(part.masks[torch.arange(3)], seen[IDS])
