"""Sets of labelled images: splits, facts, normalisation, batches."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from datamodules import images
from datamodules.digits import DigitsDataModule
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
