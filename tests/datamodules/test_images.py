"""Sets of labelled images: splits, facts, normalisation, batches."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from datamodules import images, loaders
from datamodules.digits import DigitsDataModule
from datamodules.few_shot import few_shot_rows
from datamodules.images import ImageDataModule, stratified_split
from harness.errors import UserError

DIGITS: dict[str, Any] = {
    "in_channels": 1,
    "image_size": 8,
    "num_classes": 10,
    "num_train": 1024,
    "num_val": 256,
    "split_seed": 0,
    "mean": [0.305],
    "std": [0.376],
    "batch_size": 64,
    "augment": "none",
    "seed": 0,
}


def digits(**keywords: Any) -> DigitsDataModule:
    return DigitsDataModule(**{**DIGITS, **keywords})


def ready(**keywords: Any) -> ImageDataModule:
    module = digits(**keywords)
    module.prepare_data()
    module.setup()
    return module


def test_splits_are_disjoint_whole_and_hold_each_digit_in_proportion() -> None:
    module = ready()
    sizes = {name: len(split) for name, split in module.splits.items()}
    assert sizes == {"train": 1024, "val": 256, "test": 517}
    numbers = torch.cat([split.index for split in module.splits.values()])
    assert sorted(numbers.tolist()) == list(range(1797))
    everyone = torch.cat([split.labels for split in module.splits.values()]).bincount() / 1797
    for split in module.splits.values():
        assert (split.labels.bincount() - len(split) * everyone).abs().max() <= 2


def test_the_split_follows_from_its_seed_alone() -> None:
    torch.manual_seed(1)
    first = ready()
    torch.manual_seed(2)
    np.random.seed(2)
    again, other = ready(seed=7), ready(split_seed=1)
    assert torch.equal(again.splits["train"].index, first.splits["train"].index)
    assert not torch.equal(other.splits["train"].index, first.splits["train"].index)


def test_images_are_those_of_the_numbers_they_carry() -> None:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    split = ready().splits["test"]
    assert np.array_equal(split.images[:, 0].numpy(), bunch.images[split.index])
    assert np.array_equal(split.labels.numpy(), bunch.target[split.index])


def test_a_batch_is_normalised_and_comes_with_class_and_number() -> None:
    module = ready()
    batch = next(iter(module.test_dataloader()))
    assert batch["x"].shape == (64, 1, 8, 8)
    assert batch["x"].dtype == torch.float32
    split = module.splits["test"]
    assert torch.equal(batch["y"], split.labels[:64])
    assert torch.equal(batch["index"], split.index[:64])
    pixels = module.denormalise(batch["x"])
    torch.testing.assert_close(pixels, split.images[:64] / 16, atol=1e-6, rtol=0.0)
    everything = torch.cat([batch["x"] for batch in module.train_dataloader()])
    assert everything.mean().abs() < 0.02
    assert abs(everything.std() - 1) < 0.02


def test_augmentation_changes_training_images_alone() -> None:
    plain, shifted = ready(), ready(augment="shift")
    for name in ("val_dataloader", "test_dataloader", "predict_dataloader"):
        pairs = zip(getattr(plain, name)(), getattr(shifted, name)(), strict=True)
        assert all(torch.equal(one["x"], other["x"]) for one, other in pairs)
    one, other = next(iter(plain.train_dataloader())), next(iter(shifted.train_dataloader()))
    assert torch.equal(one["index"], other["index"])
    assert not torch.equal(one["x"], other["x"])


def test_digits_can_be_larger_and_keep_their_shades() -> None:
    small, large = ready(), digits(image_size=16)
    large.setup()
    assert large.splits["train"].images.shape[1:] == (1, 16, 16)
    assert torch.equal(large.splits["train"].index, small.splits["train"].index)
    again = F.avg_pool2d(large.splits["train"].images.float() / large.max_pixel, 2)
    pixels = small.splits["train"].images.float() / small.max_pixel
    assert float((again - pixels).abs().mean()) < 0.1
    assert len(large.splits["train"].images.unique()) > 100, "not the seventeen shades of the small ones"


def test_prediction_keeps_the_order_of_the_test_set() -> None:
    module = ready()
    numbers = torch.cat([batch["index"] for batch in module.predict_dataloader()])
    assert torch.equal(numbers, module.splits["test"].index)


@pytest.mark.parametrize(
    ("key", "true", "others"),
    [
        ("in_channels", 1, {"mean": [0.3, 0.3], "std": [0.4, 0.4]}),
        ("num_classes", 10, {}),
    ],
)
def test_a_fact_that_the_data_contradicts_is_refused(key: str, true: int, others: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=rf"data\.{key}={true + 1} .* digits has {key}={true}"):
        digits(**{key: true + 1}, **others).setup()


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"mean": [0.5, 0.5, 0.5]}, r"data\.mean=\[0.5, 0.5, 0.5\] .* one number per colour, 1"),
        ({"std": []}, r"data\.std=\[\] .* one number per colour, 1"),
        ({"std": [0.0]}, r"data\.std=\[0.0\] must be above 0"),
    ],
)
def test_a_wrong_normalisation_is_refused(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        digits(**keywords)


def test_a_split_that_leaves_nothing_for_testing_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.num_train=1600 and data\.num_val=197 leave no image"):
        digits(num_train=1600, num_val=197).setup()


def test_a_loader_before_setup_is_our_own_mistake() -> None:
    with pytest.raises(RuntimeError, match="setup"):
        digits().train_dataloader()


@pytest.mark.parametrize("seed", range(5))
def test_stratified_sets_hold_every_class_within_two_of_its_share(seed: int) -> None:
    labels = np.repeat([0, 1, 2, 3], [700, 200, 90, 10])
    parts = stratified_split(labels, (100, 300, 500), seed)
    assert [len(part) for part in parts] == [100, 300, 500]
    assert len(set(np.concatenate(parts).tolist())) == 900
    for part in parts:
        shares = np.bincount(labels, minlength=4) * len(part) / len(labels)
        assert np.abs(np.bincount(labels[part], minlength=4) - shares).max() <= 2


def trainer_on(device: str) -> Any:
    """What a data module asks of a trainer; "meta" is a device of every machine, with shapes alone."""
    return SimpleNamespace(lightning_module=None, strategy=SimpleNamespace(root_device=torch.device(device)))


def test_in_a_run_each_split_is_put_on_the_device_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ready(augment="crop_flip")
    assert module.train_dataloader().arrays["x"].device.type == "cpu"
    module.trainer = trainer_on("meta")
    first = module.train_dataloader()
    assert {array.device.type for array in first.arrays.values()} == {"meta"}
    assert {value.device.type for value in next(iter(first)).values()} == {"meta"}
    assert module.loader("train").arrays["x"] is first.arrays["x"]
    assert module.splits["train"].images.device.type == "cpu", "pictures are drawn from these"
    monkeypatch.setattr(images, "DEVICE_BYTES", 1000)
    large = module.test_dataloader()
    assert large.arrays["x"].device.type == "cpu"
    assert {value.device.type for value in next(iter(large)).values()} == {"meta"}


def test_normalisation_made_in_evaluation_serves_in_training_too() -> None:
    module = ready()
    with torch.inference_mode():
        module.normalise(torch.zeros(1, 1, 8, 8))
    x = torch.rand(2, 1, 8, 8, requires_grad=True)
    module.normalise(x).sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 1 / 0.376))


def test_a_set_without_features_of_its_own_says_so() -> None:
    module = ready()
    assert module.sample_features(torch.zeros(2, 1, 8, 8)) is None
    assert module.sample_metrics(torch.zeros(2, 1, 8, 8)) == {}
    assert module.sample_name == ""
    assert "image_generation" in module.tasks


def training_batches(module: ImageDataModule, epoch: int = 0) -> list[dict[str, torch.Tensor]]:
    loader = module.train_dataloader()
    loader.sampler.set_epoch(epoch)
    return list(loader)


def assert_equal_batches(some: list[dict[str, torch.Tensor]], others: list[dict[str, torch.Tensor]]) -> None:
    for one, other in zip(some, others, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_few_images_are_those_of_the_draw_in_its_order() -> None:
    module = ready()
    train = module.splits["train"]
    rows = few_shot_rows(train.labels, 3, 6, "digits")
    kept = module.keep_few(3, 6, batch_size=7)
    assert torch.equal(kept, train.index[rows])
    assert torch.equal(module.splits["train"].index, kept)
    assert torch.equal(module.splits["train"].images, train.images[rows])
    assert module.splits["train"].labels.tolist() == [label for label in range(10) for _ in range(3)]


def test_few_images_come_in_batches_of_their_own_size_without_labels() -> None:
    module = ready(augment="crop_flip")
    kept = module.keep_few(3, 6, batch_size=7)
    batches = training_batches(module)
    assert [len(batch["x"]) for batch in batches] == [7, 7, 7, 7, 2]
    assert all(batch.keys() == {"x", "index"} for batch in batches)
    numbers = torch.cat([batch["index"] for batch in batches])
    assert sorted(numbers.tolist()) == sorted(kept.tolist())
    assert not torch.equal(numbers, kept), "an order is drawn"
    again = torch.cat([batch["x"] for batch in training_batches(module, epoch=1)])
    assert not torch.equal(torch.cat([batch["x"] for batch in batches])[numbers.argsort()], again)


def test_few_images_are_there_unaugmented_and_in_order_too() -> None:
    module = ready(augment="crop_flip")
    kept = module.keep_few(8, 6, batch_size=7)
    batches = list(module.loader("train"))
    assert [len(batch["index"]) for batch in batches] == [64, 16], "evaluation keeps data.batch_size"
    assert all(batch.keys() == {"x", "index"} for batch in batches)
    assert torch.equal(torch.cat([batch["index"] for batch in batches]), kept)
    pixels = module.denormalise(torch.cat([batch["x"] for batch in batches]))
    torch.testing.assert_close(pixels, module.splits["train"].images / 16, atol=1e-6, rtol=0.0)
    assert "y" in next(iter(module.val_dataloader()))
    assert len(next(iter(module.test_dataloader()))["y"]) == 64


def test_no_label_is_read_after_the_draw() -> None:
    blind, seeing = ready(augment="shift"), ready(augment="shift")
    for module in (blind, seeing):
        whole = module.splits["train"]
        module.keep_few(5, 1, batch_size=10)
        if module is blind:
            whole.labels.fill_(0)
            module.splits["train"].labels.fill_(0)
    for epoch in (0, 1):
        assert_equal_batches(training_batches(blind, epoch), training_batches(seeing, epoch))
    assert_equal_batches(list(blind.loader("train")), list(seeing.loader("train")))
    assert torch.equal(blind.keep_few(5, 1, batch_size=10), seeing.keep_few(5, 1, batch_size=10))


def test_keeping_the_same_few_again_changes_nothing_and_others_are_drawn_from_all() -> None:
    module, fresh = ready(), ready()
    first = module.keep_few(2, 6, batch_size=4)
    split, batches = module.splits["train"], training_batches(module)
    module.setup("fit")  # as the next phase's Trainer does
    assert torch.equal(module.keep_few(2, 6, batch_size=4), first)
    assert module.splits["train"] is split
    assert_equal_batches(training_batches(module), batches)
    more = module.keep_few(9, 3, batch_size=5)
    assert torch.equal(more, fresh.keep_few(9, 3, batch_size=5))
    assert_equal_batches(training_batches(module), training_batches(fresh))
    module.keep_few(9, 3, batch_size=6)
    assert len(training_batches(module)[0]["x"]) == 6


def test_no_copy_of_all_images_stays_on_the_device() -> None:
    module = ready()
    module.trainer = trainer_on("meta")
    before = module.train_dataloader().arrays["x"], module.test_dataloader().arrays["x"]
    module.keep_few(1, 0, batch_size=5)
    few = module.train_dataloader().arrays["x"]
    assert few.device.type == "meta"
    assert (len(before[0]), len(few)) == (1024, 10)
    assert module.test_dataloader().arrays["x"] is before[1]
    assert not any(array is before[0] for arrays in module._resident.values() for array in arrays.values())
    module.keep_few(1, 0, batch_size=5)
    assert module.train_dataloader().arrays["x"] is few


def test_processes_share_the_batches_of_few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ready(augment="shift")
    module.keep_few(2, 0, batch_size=8)
    alone = training_batches(module)
    monkeypatch.setattr(loaders, "_world", lambda: 2)
    shares = []
    for rank in (0, 1):
        monkeypatch.setattr(loaders, "_rank", lambda rank=rank: rank)
        shares.append(training_batches(module))
        assert_equal_batches(list(module.loader("train", training=True, shared=False)), alone)
    for whole, first, second in zip(alone, *shares, strict=True):
        assert len(first["x"]) == len(second["x"])
        for name in whole:
            assert torch.equal(torch.cat([first[name], second[name]]), whole[name])
    module.keep_few(2, 0, batch_size=7)
    with pytest.raises(UserError, match=r"^model\.batch_size=7 is shared by 2 .* Try model\.batch_size=6"):
        module.train_dataloader()


def test_more_shots_than_a_class_has_change_nothing() -> None:
    module = ready()
    train = module.splits["train"]
    with pytest.raises(UserError, match=r"model\.shots=200 must be 1 to 9\d: class \d of data=digits"):
        module.keep_few(200, 0, batch_size=8)
    assert module.splits["train"] is train
    assert "y" in training_batches(module)[0]


def test_keeping_few_before_setup_is_our_own_mistake() -> None:
    with pytest.raises(RuntimeError, match="setup"):
        digits().keep_few(1, 0, batch_size=2)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device here")
def test_a_gpu_gets_the_cpu_s_batches() -> None:
    here, there = ready(augment="crop_flip"), ready(augment="crop_flip")
    there.trainer = trainer_on("cuda:0")
    for epoch in (0, 1):
        loaders = here.train_dataloader(), there.train_dataloader()
        for loader in loaders:
            loader.sampler.set_epoch(epoch)
        for one, other in zip(*loaders, strict=True):
            assert torch.equal(one["index"], other["index"].cpu())
            torch.testing.assert_close(one["x"], other["x"].cpu())
    assert there.train_dataloader().arrays["x"].is_cuda
