"""A pool whose labels grow: numbers are global, and no label is read before it is acquired."""

from typing import Any

import pytest
import torch
from torch import Tensor

from datamodules.loaders import EpochBatchSampler
from datamodules.scenes import Masks, Scenes
from datamodules.segmentation import SegmentationDataModule
from datamodules.street_scenes import StreetScenesDataModule
from harness.errors import UserError

SETTINGS: dict[str, Any] = {"in_channels": 3, "height": 32, "width": 48, "num_classes": 6}
SETTINGS |= {"num_train": 23, "num_val": 5, "num_test": 7, "scene_seed": 0, "batch_size": 4}
SETTINGS |= {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "augment": "none", "seed": 0}


def streets(**changed: Any) -> StreetScenesDataModule:
    made = StreetScenesDataModule(**{**SETTINGS, **changed})
    made.prepare_data()
    made.setup()
    return made


class Guarded(Masks):
    """Raises where a mask is read that is not labelled in ``data``."""

    def __init__(self, values: Tensor, data: SegmentationDataModule) -> None:
        super().__init__(values)
        self.data = data
        self.reads = 0

    def __getitem__(self, ids: Tensor) -> Tensor:
        hidden = ids[self.data.labelled[ids] == 0].tolist()
        if hidden:
            raise AssertionError(f"the labels of {hidden} were read")
        self.reads += len(ids)
        return super().__getitem__(ids)


def guarded(**changed: Any) -> tuple[StreetScenesDataModule, Guarded]:
    data = streets(**changed)
    train = data.splits["train"]
    masks = Guarded(train.masks[torch.arange(len(train))], data)
    data.splits["train"] = Scenes(train.images, masks, train.has_mask, train.names)
    return data, masks


def marked(ids: list[int], size: int = 23) -> Tensor:
    labelled = torch.zeros(size, dtype=torch.long)
    labelled[ids] = 1
    return labelled


def ids_of(loader: Any) -> list[int]:
    return torch.cat([batch["id"] for batch in loader]).tolist()


def test_a_batch_has_normalised_images_and_the_classes_of_their_pixels() -> None:
    data = streets()
    (first, *_) = data.test_dataloader()
    scenes = data.splits["test"]
    assert (first["x"].shape, first["x"].dtype) == ((4, 3, 32, 48), torch.float32)
    assert (first["y"].shape, first["y"].dtype) == ((4, 32, 48), torch.long)
    assert first["id"].tolist() == [0, 1, 2, 3]
    pixels = scenes.images[:4].float() / 255
    torch.testing.assert_close(first["x"][:, 2], (pixels[:, 2] - 0.406) / 0.225)
    torch.testing.assert_close(data.denormalise(first["x"]), pixels)
    assert torch.equal(first["y"], scenes.masks[torch.arange(4)].long())


def test_some_images_come_as_they_do_among_all() -> None:
    data, ids = streets(), torch.tensor([1, 4, 6])
    every = [torch.cat([batch[name] for batch in data.test_dataloader()]) for name in ("x", "y")]
    some = list(data.loader("test", ids=ids, shared=False))
    assert ids_of(some) == [1, 4, 6]
    for name, whole in zip(("x", "y"), every, strict=True):
        assert torch.equal(torch.cat([batch[name] for batch in some]), whole[ids])


def test_all_images_with_a_mask_are_labelled_at_first() -> None:
    data = streets()
    assert data.labelled.tolist() == [1] * 23
    assert sorted(ids_of(data.train_dataloader())) == list(range(23))


def test_training_sees_labelled_images_alone_under_their_global_numbers() -> None:
    data = streets()
    data.set_labelled(marked([20, 3, 11, 7, 9, 22]))
    for batch in data.train_dataloader():
        expected = data.splits["train"].images[batch["id"]].float() / 255
        torch.testing.assert_close(data.denormalise(batch["x"]), expected)
        assert torch.equal(batch["y"], data.splits["train"].masks[batch["id"]].long())
    assert sorted(ids_of(data.train_dataloader())) == [3, 7, 9, 11, 20, 22]


def test_labels_grow_by_what_is_acquired_and_the_rest_is_the_pool() -> None:
    data = streets()
    data.set_labelled(marked([0, 1, 2]))
    for acquired, some in ((2, [5, 4]), (3, [22])):
        labelled = data.labelled
        labelled[some] = acquired
        data.set_labelled(labelled)
        both = torch.cat([data.labelled_ids, data.unlabelled_ids])
        assert sorted(both.tolist()) == list(range(23)), "all of them, each once"
    assert data.labelled.tolist() == [1, 1, 1, 0, 2, 2] + [0] * 16 + [3]
    saved = data.labelled
    again = streets()
    again.set_labelled(saved)
    saved[0] = 0
    assert again.labelled_ids.tolist() == [0, 1, 2, 4, 5, 22], "a copy"


def test_no_label_of_an_unlabelled_image_is_ever_read() -> None:
    data, masks = guarded(augment="deal")
    data.set_labelled(marked(data.initial_ids(5).tolist()))
    for acquiring in (2, 3):
        list(data.train_dataloader())
        candidates = data.candidate_ids(acquiring, 0.5)
        before = masks.reads
        for batch in data.pool_loader(candidates):
            assert set(batch) == {"x", "id"}
        assert masks.reads == before, "scoring reads none at all"
        data.set_labelled(data.labelled.index_fill(0, candidates[:3], acquiring))
    assert masks.reads == 5 + 8
    list(data.train_dataloader())
    data.set_labelled(marked([0]))
    with pytest.raises(AssertionError, match="were read"):  # the guard does guard
        masks[torch.tensor([1])]


def test_the_pool_s_loader_reaches_no_mask() -> None:
    data, masks = guarded()
    found: list[Any] = [data.pool_loader(torch.tensor([4, 2]))]
    seen: set[int] = set()
    while found:
        one = found.pop()
        if id(one) in seen or isinstance(one, (int, float, str, Tensor, type)):
            continue
        seen.add(id(one))
        assert one is not masks
        assert one is not data
        found += [cell.cell_contents for cell in getattr(one, "__closure__", None) or ()]
        found += one.values() if isinstance(one, dict) else one if isinstance(one, (list, tuple)) else ()
        found += list(getattr(one, "__dict__", {}).values())
        if hasattr(one, "__self__"):
            found.append(one.__self__)
    assert len(seen) > 5


def test_the_pool_is_evaluated_in_the_order_asked_for_without_augmentation() -> None:
    data = streets(augment="deal")
    ids = torch.tensor([20, 3, 11, 7, 9])
    for size in (None, 2):
        loader = data.pool_loader(ids, size)
        assert ids_of(loader) == ids.tolist()
        x = torch.cat([batch["x"] for batch in loader])
        torch.testing.assert_close(data.denormalise(x), data.splits["train"].images[ids].float() / 255)


@pytest.mark.parametrize("world", [2, 3])
def test_processes_share_the_pool_without_repeats(world: int, monkeypatch: pytest.MonkeyPatch) -> None:
    import datamodules.loaders as loaders

    ids = torch.tensor([20, 3, 11, 7, 9, 1, 2])
    shares = []
    monkeypatch.setattr(loaders, "_world", lambda: world)
    for rank in range(world):
        monkeypatch.setattr(loaders, "_rank", lambda rank=rank: rank)
        shares.append(list(streets().pool_loader(ids)))
    assert len({len(share) for share in shares}) == 1, "equally many batches"
    everything = [int(number) for share in shares for batch in share for number in batch["id"]]
    assert sorted(everything) == sorted(ids.tolist())


def test_processes_share_each_training_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    import datamodules.loaders as loaders

    whole = list(streets(augment="deal", num_train=24).train_dataloader())
    monkeypatch.setattr(loaders, "_world", lambda: 2)
    parts = []
    for rank in range(2):
        monkeypatch.setattr(loaders, "_rank", lambda rank=rank: rank)
        parts.append(list(streets(augment="deal", num_train=24).train_dataloader()))
    for batch, first, second in zip(whole, *parts, strict=True):
        for name in ("x", "y", "id"):
            assert torch.equal(batch[name], torch.cat([first[name], second[name]]))


def test_a_resumed_epoch_goes_on_with_equal_batches() -> None:
    def loader() -> Any:
        data = streets(augment="deal")
        data.set_labelled(marked(list(range(0, 23, 2))))
        made = data.train_dataloader()
        made.sampler.set_epoch(3)
        return made

    whole = list(loader())
    resumed = loader()
    resumed.load_state_dict({"batch": 1})
    torch.manual_seed(5)
    for batch, again in zip(whole[1:], resumed, strict=True):
        assert all(torch.equal(batch[name], again[name]) for name in ("x", "y", "id"))
    other = loader()
    other.sampler.set_epoch(4)
    assert ids_of(other) != ids_of(loader())


def test_first_images_and_candidates_follow_from_seed_and_round_alone() -> None:
    first, again, other = streets(), streets(batch_size=2, augment="deal"), streets(seed=1)
    torch.manual_seed(3)
    assert torch.equal(first.initial_ids(8), again.initial_ids(8))
    assert not torch.equal(first.initial_ids(8), other.initial_ids(8))
    for data in (first, again):
        data.set_labelled(marked(first.initial_ids(5).tolist()))
    assert torch.equal(first.candidate_ids(1, 0.5), again.candidate_ids(1, 0.5))
    assert not torch.equal(first.candidate_ids(1, 0.5), first.candidate_ids(2, 0.5))
    some = first.candidate_ids(2, 0.5)
    assert len(some) == 9
    assert torch.equal(some, some.unique())
    assert not bool(first.labelled[some].any())
    assert torch.equal(first.candidate_ids(2), first.unlabelled_ids)
    first.set_labelled(torch.ones(23, dtype=torch.long))
    assert len(first.candidate_ids(1, 0.5)) == 0


def test_an_image_without_a_mask_is_no_training_image_until_it_has_one() -> None:
    data = streets()
    train = data.splits["train"]
    train.has_mask[[2, 5]] = False
    assert {2, 5}.isdisjoint(data.initial_ids(21).tolist())
    data.set_labelled(marked([0]))
    with pytest.raises(UserError, match=r"train scene 2, train scene 5 cannot be trained on without a mask"):
        data.set_labelled(marked([2, 4, 5]))
    assert data.labelled_ids.tolist() == [0], "nothing of it was done"


@pytest.mark.parametrize(
    ("ids", "message"),
    [([3, 3], "each image once"), ([23], "0 to 22"), ([-1], "0 to 22"), ([], "0 to 22")],
)
def test_numbers_that_make_no_sense_are_refused(ids: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        streets().pool_loader(torch.tensor(ids, dtype=torch.long))


@pytest.mark.parametrize("labelled", [torch.zeros(23), torch.ones(22), -torch.ones(23)])
def test_states_that_make_no_sense_are_refused(labelled: Tensor) -> None:
    with pytest.raises(ValueError, match="labelled must"):
        streets().set_labelled(labelled.long())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"height": 30}, r"data\.height=30 does not agree .* height=32"),
        ({"width": 40}, r"data\.width=40 .* width=48"),
        ({"num_classes": 5}, r"data\.num_classes=5 .* num_classes=6"),
        ({"num_classes": 255}, r"data\.num_classes=255 must be at most 254"),
        ({"mean": [0.5]}, r"data\.mean=\[0\.5\] must be three numbers"),
        ({"std": [0.5, 0.5, 0.0]}, r"data\.std=.* above 0"),
    ],
)
def test_keys_that_contradict_the_data_are_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        streets(**changed)


def test_a_first_set_larger_than_the_pool_is_refused() -> None:
    with pytest.raises(UserError, match="Choose 1 to 23"):
        streets().initial_ids(24)


def test_every_split_has_an_order_of_its_own() -> None:
    data = streets()
    assert isinstance(data.train_dataloader().sampler, EpochBatchSampler)
    assert ids_of(data.predict_dataloader()) == list(range(7))
    assert ids_of(data.val_dataloader()) == list(range(5))
    assert streets(num_val=0).val_dataloader() == []
