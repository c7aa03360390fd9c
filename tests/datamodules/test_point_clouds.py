"""Sets of labelled point clouds: splits, batches, augmentation, resumed and shared epochs."""

import inspect
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from datamodules.point_clouds import (
    SCALE,
    SHIFT,
    PointCloudDataModule,
    PointClouds,
    Split,
    augmented,
    hold_out_clouds,
    in_unit_sphere,
    num_draws,
)
from harness.configuration.targets import KINDS, resolve_class
from harness.errors import UserError

CONF = Path(__file__).parents[2] / "conf" / "data"
POINTS = 16


def clouds(count: int, seed: int = 0, first: int = 0) -> PointClouds:
    generator = torch.Generator().manual_seed(seed)
    pos = torch.randn(count, POINTS, 3, generator=generator)
    return PointClouds(pos, torch.arange(count) % 3, torch.arange(first, first + count))


class Toy(PointCloudDataModule):
    """Ten clouds to train, four each to validate and test."""

    def __init__(self, **keywords: Any) -> None:
        settings: dict[str, Any] = {"num_points": POINTS, "num_classes": 3, "batch_size": 4}
        settings |= {"augment": "scale_shift_shuffle", "drop_last": False, "seed": 0, "class_names": "abc"}
        super().__init__("toy", **{**settings, **keywords})

    def build(self) -> dict[Split, PointClouds]:
        return {"train": clouds(10), "val": clouds(4, 1, 10), "test": clouds(4, 2, 14)}


def ready(**keywords: Any) -> Toy:
    module = Toy(**keywords)
    module.prepare_data()
    module.setup()
    return module


def test_a_batch_has_points_class_and_number() -> None:
    data = ready()
    batch = next(iter(data.test_dataloader()))
    assert set(batch) == {"pos", "y", "index"}
    assert batch["pos"].shape == (4, POINTS, 3)
    assert torch.equal(batch["pos"], data.splits["test"].pos)
    assert torch.equal(batch["y"], data.splits["test"].labels)
    assert batch["index"].tolist() == [14, 15, 16, 17]


def in_order(pos: torch.Tensor) -> torch.Tensor:
    """Points of each cloud by their first coordinate."""
    order = pos[:, :, 0].argsort(dim=1)
    return pos.gather(1, order.unsqueeze(2).expand_as(pos))


def test_training_scales_and_shifts_each_axis_within_its_range_and_shuffles_the_points() -> None:
    plain = clouds(2000)
    draws = torch.rand(2000, num_draws("scale_shift_shuffle", POINTS), generator=torch.Generator())
    changed = augmented(plain.pos, draws, "scale_shift_shuffle")
    kept = augmented(plain.pos, draws[:, :6], "scale_shift")
    torch.testing.assert_close(in_order(changed), in_order(kept))
    assert not torch.equal(changed, kept)
    # a straight line through each axis of a cloud
    one, other = plain.pos[:, 0], plain.pos[:, 1]
    scale = (kept[:, 1] - kept[:, 0]) / (other - one)
    shift = kept[:, 0] - scale * one
    torch.testing.assert_close(kept, plain.pos * scale[:, None] + shift[:, None], rtol=1e-3, atol=1e-3)
    far = (other - one).abs() > 0.1  # elsewhere the slope is not known well
    for found, (low, high) in ((scale[far], SCALE), (shift[far], SHIFT)):
        assert low - 1e-3 <= float(found.min()) < low + 0.05
        assert high - 0.05 < float(found.max()) <= high + 1e-3
        assert float(found.mean()) == pytest.approx((low + high) / 2, abs=0.02)
    assert SCALE == (2 / 3, 3 / 2)
    assert SHIFT == (-0.2, 0.2)


def test_evaluation_and_training_without_augmentation_see_the_clouds_as_they_are() -> None:
    for data in (ready(), ready(augment="none")):
        for split in ("val", "test"):
            (batch,) = data.loader(split)  # type: ignore[arg-type]
            assert torch.equal(batch["pos"], data.splits[split].pos)  # type: ignore[index]
    for batch in ready(augment="none").train_dataloader():
        assert torch.equal(batch["pos"], clouds(10).pos[batch["index"]])


def epoch(data: Toy, number: int, start: int = 0) -> list[dict[str, torch.Tensor]]:
    loader = data.train_dataloader()
    loader.load_state_dict({"batch": start})
    loader.sampler.set_epoch(number)
    return list(loader)


def test_what_is_drawn_for_a_cloud_follows_from_seed_epoch_and_cloud_alone() -> None:
    whole = epoch(ready(), 3)
    torch.manual_seed(5)
    by_cloud = {int(i): pos for batch in whole for i, pos in zip(batch["index"], batch["pos"], strict=True)}
    for batch in epoch(ready(batch_size=3), 3):
        for number, pos in zip(batch["index"], batch["pos"], strict=True):
            assert torch.equal(pos, by_cloud[int(number)])
    other = epoch(ready(), 4)
    assert not torch.equal(in_order(other[0]["pos"]), in_order(by_cloud[int(other[0]["index"][0])][None]))
    assert not torch.equal(epoch(ready(seed=1), 3)[0]["pos"], whole[0]["pos"])


def test_an_epoch_goes_on_where_it_was() -> None:
    whole, rest = epoch(ready(), 2), epoch(ready(), 2, start=1)
    assert len(rest) == len(whole) - 1
    for one, other in zip(whole[1:], rest, strict=True):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_smaller_last_batch_of_training_can_be_left_out() -> None:
    assert [len(batch["y"]) for batch in ready(drop_last=True).train_dataloader()] == [4, 4]
    assert [len(batch["y"]) for batch in ready().train_dataloader()] == [4, 4, 2]
    assert [len(batch["y"]) for batch in ready(drop_last=True, batch_size=3).test_dataloader()] == [3, 1]
    with pytest.raises(UserError, match=r"data\.drop_last=true leaves no batch"):
        ready(drop_last=True, batch_size=16).train_dataloader()


def test_a_fact_that_the_data_contradict_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.num_classes=4 .* toy has num_classes=3"):
        Toy(num_classes=4).setup()


def test_a_loader_before_setup_is_our_own_mistake() -> None:
    with pytest.raises(RuntimeError, match="setup"):
        Toy().train_dataloader()


def test_clouds_are_moved_and_scaled_into_the_unit_sphere() -> None:
    pos = np.random.default_rng(0).normal(3.0, (1.0, 5.0, 0.1), (7, 50, 3))
    made = in_unit_sphere(pos)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made.mean(axis=1), 0.0, atol=1e-6)
    np.testing.assert_allclose(np.sqrt((made**2).sum(axis=2)).max(axis=1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(in_unit_sphere(pos[0]), made[0])


def test_validation_clouds_are_those_of_the_training_set_each_class_with_its_share() -> None:
    train, test = clouds(30), clouds(3, 1, 30)
    splits = hold_out_clouds("toy", train, test, 6, 0)
    assert splits["val"].labels.bincount().tolist() == [2, 2, 2]
    assert splits["train"].labels.bincount().tolist() == [8, 8, 8]
    assert sorted(torch.cat([splits["train"].index, splits["val"].index]).tolist()) == list(range(30))
    assert torch.equal(splits["val"].pos, train.pos[splits["val"].index])
    assert splits["test"] is test
    again, other = (hold_out_clouds("toy", train, test, 6, seed)["val"] for seed in (0, 1))
    assert torch.equal(again.index, splits["val"].index)
    assert not torch.equal(other.index, splits["val"].index)
    assert set(hold_out_clouds("toy", train, test, 0, 0)) == {"train", "test"}
    with pytest.raises(UserError, match=r"data\.num_val=30 leaves no cloud.*Try data\.num_val=3"):
        hold_out_clouds("toy", train, test, 30, 0)


@pytest.mark.parametrize("name", ["mini_modelnet", "modelnet40", "modelnet10"])
def test_the_keys_of_a_set_s_file_are_its_constructor_s_arguments(name: str) -> None:
    settings = yaml.safe_load((CONF / f"{name}.yaml").read_text(encoding="utf-8"))
    kind = resolve_class(settings.pop("_target_"), KINDS["data"], "data")
    assert list(settings) == [key for key in inspect.signature(kind).parameters if key != "self"]
    made = kind(**settings | {"seed": 0})
    assert made.tasks == ("point_cloud_classification",)
    assert len(made.class_names) == made.num_classes
