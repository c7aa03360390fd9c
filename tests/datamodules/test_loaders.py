"""Orders that depend on (seed, epoch) alone, whoever asks and wherever the iteration begins."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_lightning import LightningModule, Trainer

from datamodules.loaders import (
    ArrayLoader,
    Batch,
    EpochBatchSampler,
    ItemLoader,
    ResumableLoader,
    derived_generator,
)
from harness.errors import UserError


def sampler(num_samples: int = 10, batch_size: int = 4, **keywords: Any) -> EpochBatchSampler:
    return EpochBatchSampler(num_samples, batch_size, **{"training": True, "seed": 0, **keywords})


def order(made: EpochBatchSampler, epoch: int = 0) -> list[list[int]]:
    made.set_epoch(epoch)
    return [batch.tolist() for batch in made]


def flat(batches: list[list[int]]) -> list[int]:
    return [index for batch in batches for index in batch]


class Noisy:
    """Items that come with a number drawn from their own generator."""

    def __len__(self) -> int:
        return 10

    def item(self, index: int, generator: torch.Generator | None) -> Batch:
        noise = 0.0 if generator is None else float(torch.rand((), generator=generator))
        return {"index": index, "noise": noise}


def with_noise(batch: Batch, draws: torch.Tensor) -> Batch:
    return batch | {"noise": draws[:, 0]}


def array_loader(**keywords: Any) -> ResumableLoader:
    return ArrayLoader({"index": torch.arange(10)}, sampler(**keywords), with_noise, draws=1)


def item_loader(**keywords: Any) -> ResumableLoader:
    return ItemLoader(Noisy(), sampler(**keywords))


LOADERS = {"arrays": array_loader, "items": item_loader}
Make = Callable[..., ResumableLoader]


@pytest.fixture(params=LOADERS)
def make(request: pytest.FixtureRequest) -> Make:
    return LOADERS[request.param]


def contents(loader: ResumableLoader) -> list[tuple[list[int], list[float]]]:
    return [(batch["index"].tolist(), batch["noise"].tolist()) for batch in loader]


def test_an_epoch_holds_each_sample_once_and_the_next_epoch_another_order() -> None:
    made = sampler()
    first, second = order(made, 0), order(made, 1)
    assert [len(batch) for batch in first] == [4, 4, 2]
    assert sorted(flat(first)) == sorted(flat(second)) == list(range(10))
    assert first != second
    assert order(made, 0) == first


def test_the_order_follows_from_seed_and_epoch_whatever_the_global_state() -> None:
    torch.manual_seed(1)
    first = order(sampler(), 3)
    torch.manual_seed(2)
    np.random.seed(2)
    assert order(sampler(), 3) == first
    assert order(sampler(seed=1), 3) != first


def test_epochs_of_earlier_phases_are_counted() -> None:
    assert order(sampler(first_epoch=5), 2) == order(sampler(), 7)


def test_evaluation_keeps_the_order_of_the_data() -> None:
    assert flat(order(sampler(training=False), 3)) == list(range(10))


def test_trailing_zeros_make_another_generator() -> None:
    draws = [
        float(torch.rand((), generator=derived_generator(*n))) for n in [(7,), (7, 0), (7, 0, 0), (7, 1)]
    ]
    assert len(set(draws)) == 4


@settings(deadline=None)
@given(
    num_samples=st.integers(4, 70),
    share=st.integers(1, 9),
    world=st.integers(1, 4),
    epoch=st.integers(0, 3),
)
def test_processes_together_train_on_the_batches_of_one(
    num_samples: int, share: int, world: int, epoch: int
) -> None:
    batch_size = share * world
    alone = order(sampler(num_samples, batch_size), epoch)
    ranks = [order(sampler(num_samples, batch_size, rank=r, world=world), epoch) for r in range(world)]
    steps = len(ranks[0])
    left_out = num_samples - sum(len(flat(rank)) for rank in ranks)
    assert left_out == num_samples % batch_size % world < world
    for step in range(steps):
        shares = [rank[step] for rank in ranks]
        assert len({len(share) for share in shares}) == 1, (
            "equal shares, so that the mean of means is the mean"
        )
        assert flat(shares) == alone[step][: len(flat(shares))]
    assert sum(len(batch) for batch in alone[steps:]) < world


@settings(deadline=None)
@given(num_samples=st.integers(4, 70), batch_size=st.integers(1, 20), world=st.integers(1, 4))
def test_processes_evaluate_equally_many_batches_and_no_sample_twice(
    num_samples: int, batch_size: int, world: int
) -> None:
    keywords = {"training": False, "world": world}
    ranks = [order(sampler(num_samples, batch_size, rank=r, **keywords)) for r in range(world)]
    assert {len(rank) for rank in ranks} == {len(sampler(num_samples, batch_size, rank=0, **keywords))}
    assert sorted(index for rank in ranks for index in flat(rank)) == list(range(num_samples))
    if batch_size >= world:
        assert min(len(batch) for rank in ranks for batch in rank) >= 1


def test_a_batch_that_the_processes_cannot_share_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.batch_size=5 .*3 processes.* Try data\.batch_size=3"):
        sampler(batch_size=5, rank=0, world=3)
    with pytest.raises(UserError, match=r"Try data\.batch_size=3"):
        sampler(batch_size=2, rank=0, world=3)
    with pytest.raises(UserError, match=r"2 processes.* 1 samples.*hardware\.devices to at most 1"):
        sampler(num_samples=1, rank=0, world=2)


def test_a_last_batch_that_is_smaller_can_be_left_out() -> None:
    whole, dropped = sampler(), sampler(drop_last=True)
    assert len(dropped) == 2
    assert order(dropped, 3) == order(whole, 3)[:2]
    assert order(sampler(8, drop_last=True)) == order(sampler(8)), "it is not smaller"
    evaluated = {"training": False, "drop_last": True}
    assert flat(order(sampler(**evaluated))) == list(range(10)), "all are tested"
    ranks = [order(sampler(drop_last=True, rank=rank, world=2), 3) for rank in (0, 1)]
    assert [flat(shares) for shares in zip(*ranks, strict=True)] == order(dropped, 3)


def test_leaving_out_the_only_batch_is_refused() -> None:
    with pytest.raises(UserError, match=r"data\.drop_last=true leaves no batch.*to at most 3, or data"):
        sampler(3, drop_last=True)


@pytest.mark.parametrize("epoch", [0, 3])
@pytest.mark.parametrize("batch", [0, 1, 2])
def test_a_loader_begins_where_its_state_says(make: Make, epoch: int, batch: int) -> None:
    whole = make()
    whole.sampler.set_epoch(epoch)
    resumed = make()
    resumed.load_state_dict({"batch": batch})
    assert resumed.state_dict() == {"batch": batch}
    resumed.sampler.set_epoch(epoch)
    assert contents(resumed) == contents(whole)[batch:]
    resumed.sampler.set_epoch(epoch + 1)
    whole.sampler.set_epoch(epoch + 1)
    assert contents(resumed) == contents(whole), "only the first iteration begins late"


def test_a_state_counts_the_batches_that_came_out(make: Make) -> None:
    loader = make()
    assert loader.state_dict() == {"batch": 0}
    iterator = iter(loader)
    assert loader.state_dict() == {"batch": 0}
    for expected in (1, 2, 0):
        next(iterator)
        assert loader.state_dict() == {"batch": expected}


def test_an_epoch_left_early_says_nothing_about_the_next(make: Make) -> None:
    loader = make()
    next(iter(loader))
    loader.sampler.set_epoch(1)
    assert loader.state_dict() == {"batch": 0}


def test_an_iterator_does_nothing_before_its_first_batch(make: Make) -> None:
    loader, reference = make(), make()
    reference.sampler.set_epoch(4)
    iterator = iter(loader)  # as Lightning does on resume, before it tells the epoch
    loader.load_state_dict({"batch": 1})
    loader.sampler.set_epoch(4)
    assert next(iterator)["index"].tolist() == contents(reference)[1][0]


def test_a_repeated_epoch_begins_where_the_repetition_is(make: Make) -> None:
    loader = make()  # 3 batches; a longer loader beside it has come to its own batch 4
    loader.load_state_dict({"batch": 4})
    assert contents(loader) == contents(make())[1:]


def test_what_is_random_about_a_sample_does_not_depend_on_its_batch(make: Make) -> None:
    def noise(**keywords: Any) -> dict[int, float]:
        loader = make(**keywords)
        loader.sampler.set_epoch(2)
        return {index: value for batch in contents(loader) for index, value in zip(*batch, strict=True)}

    alone = noise()
    assert len(set(alone.values())) == 10
    assert noise(batch_size=3) == alone
    halves = noise(rank=0, world=2) | noise(rank=1, world=2)
    assert halves == alone
    assert noise(seed=1) != alone
    assert noise(first_epoch=1) != alone


def test_no_loader_draws_from_the_global_state(make: Make) -> None:
    before = torch.get_rng_state(), np.random.get_state()[1].tolist()
    contents(make())
    contents(make(training=False))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]


def test_evaluation_leaves_the_randomness_out_of_items() -> None:
    assert {value for _, noise in contents(item_loader(training=False)) for value in noise} == {0.0}


def test_workers_give_what_this_process_would() -> None:
    loader, reference = ItemLoader(Noisy(), sampler(), num_workers=2), item_loader()
    for epoch in (0, 1):
        loader.sampler.set_epoch(epoch)
        reference.sampler.set_epoch(epoch)
        assert contents(loader) == contents(reference)
    iterator = iter(loader)
    next(iterator)  # left early: the workers have read ahead
    loader.load_state_dict({"batch": 2})
    reference.load_state_dict({"batch": 2})
    assert contents(loader) == contents(reference)


class Watcher(LightningModule):
    """Keeps what it was fed."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: list[list[int]] = []
        self.validated: list[int] = []

    def training_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        self.seen.append(batch["index"].tolist())
        return self.weight * 1.0

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        self.validated += batch["index"].tolist()

    def predict_step(self, batch: Batch, batch_idx: int) -> torch.Tensor:
        return batch["index"]

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def quiet_trainer(max_epochs: int = 3, **settings: Any) -> Trainer:
    return Trainer(
        max_epochs=max_epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        **settings,
    )


def test_a_trainer_tells_the_loader_each_epoch(make: Make) -> None:
    module, reference = Watcher(), sampler()
    quiet_trainer().fit(module, make(), make(training=False))
    assert module.seen == [batch for epoch in range(3) for batch in order(reference, epoch)]
    assert module.validated == 3 * list(range(10)), "in the order of the data"


def test_a_trainer_goes_on_from_a_checkpoint_within_an_epoch(make: Make, tmp_path: Any) -> None:
    class Saver(Watcher):
        def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
            if (self.trainer.current_epoch, batch_idx) == (1, 0):
                self.trainer.save_checkpoint(tmp_path / "middle.ckpt")

    unbroken, resumed = Saver(), Watcher()
    quiet_trainer().fit(unbroken, make(), make(training=False))
    quiet_trainer().fit(resumed, make(), make(training=False), ckpt_path=tmp_path / "middle.ckpt")
    assert resumed.seen == unbroken.seen[4:]


def test_a_trainer_predicts_with_it(make: Make) -> None:
    outputs = quiet_trainer().predict(Watcher(), make(training=False))
    assert torch.cat(outputs).tolist() == list(range(10))  # type: ignore[arg-type]


@pytest.mark.parametrize("training", [True, False])
def test_batches_are_moved_to_a_device_whether_the_data_lie_there_or_not(training: bool) -> None:
    """On "meta", which every machine has: shapes alone, and a mixture of devices is an error."""
    arrays = {"x": torch.rand(10, 3), "y": torch.arange(10)}
    made = sampler(training=training)
    here = [{name: array.shape for name, array in batch.items()} for batch in ArrayLoader(arrays, made)]
    for moved in (arrays, {name: array.to("meta") for name, array in arrays.items()}):
        loader = ArrayLoader(moved, made, lambda batch, draws: batch | {"z": batch["x"] * draws}, 3, "meta")
        there = list(loader)
        assert {array.device.type for batch in there for array in batch.values()} == {"meta"}
        assert [{name: batch[name].shape for name in arrays} for batch in there] == here
