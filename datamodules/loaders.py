"""Loaders in mini-batches whose order can be resumed and does not depend on the number of processes.

- A loader draws nothing from the global random state. The order of an epoch follows from (seed, epoch) alone,
  what is random about one sample from (seed, epoch, number of the sample) alone.
- ``batch_size`` is that of one optimiser step: DDP processes share each batch, so that they average the same
  gradients that one process would compute. A Trainer must not shard a second time
  (``use_distributed_sampler=False``).
- ``load_state_dict({"batch": b})`` makes the next iteration begin at batch b of its epoch, equal to what an
  iteration from the start would reach.
- An iterator does nothing before its first ``next``: on resume Lightning takes it before it tells the epoch.
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np
import torch
import torch.distributed
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from harness.errors import UserError

Batch = dict[str, Any]
"""What a loader yields: tensors by name, the first dimension being that of the batch."""

# What a generator is for, so that the order and the augmentation of an epoch do not share their draws.
_ORDER, _ROWS, _ITEM = 1, 2, 3
POOL = 4
"""Of a draw among images that have no label yet, by ``derived_generator(seed, round, POOL)``."""


def derived_generator(*numbers: int) -> torch.Generator:
    """A generator whose draws follow from ``numbers`` alone; unequal numbers give unrelated draws.

    Args:
        numbers: such as seed, epoch, sample; each >= 0.
    """
    # the length goes first, since SeedSequence takes [7] and [7, 0] for the same
    seed = np.random.SeedSequence([len(numbers), *numbers]).generate_state(2, np.uint32)
    return torch.Generator().manual_seed(int(seed[0]) << 32 | int(seed[1]))


class EpochBatchSampler:
    """Numbers of the samples of each batch, of this process's share of it.

    In training the order is drawn anew each epoch, and every process gets equally many samples of a batch;
    the at most ``world - 1`` samples of the last batch that cannot be shared are left out. In evaluation the
    order is that of the data, no sample is left out or seen twice, and every process gets equally many
    batches: with unequal numbers DDP would wait for ever.

    Args:
        num_samples: samples N in the set.
        batch_size: samples of one batch, over all processes; >= 1.
        training: True draws an order, False keeps that of the data.
        seed: of the orders, >= 0.
        first_epoch: epochs done before those that :meth:`set_epoch` counts, >= 0.
        rank: number of this process; None asks torch.distributed.
        world: number of processes; None asks torch.distributed.
        batch_key: the key that sets ``batch_size``, for messages.
        drop_last: in training, leaves out the last batch of an epoch where it is smaller than the others.

    Raises:
        UserError: the processes cannot share the batches: ``batch_size`` is no multiple of ``world`` in
            training, or there are fewer samples than processes; or ``drop_last`` leaves no batch.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        *,
        training: bool,
        seed: int,
        first_epoch: int = 0,
        rank: int | None = None,
        world: int | None = None,
        batch_key: str = "data.batch_size",
        drop_last: bool = False,
    ) -> None:
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.training = training
        self.seed = seed
        self.epoch = self.first_epoch = first_epoch
        self.rank = _rank() if rank is None else rank
        self.world = _world() if world is None else world
        self.drop_last = drop_last and training
        if training and batch_size % self.world:
            below = batch_size - batch_size % self.world
            raise UserError(
                f"{batch_key}={batch_size} is shared by {self.world} processes and must be a multiple of"
                f" {self.world}. Try {batch_key}={below or self.world}."
            )
        if num_samples < self.world:
            raise UserError(
                f"hardware: {self.world} processes cannot share a set of {num_samples} samples."
                f" Set hardware.devices to at most {max(num_samples, 1)}."
            )
        if self.drop_last and num_samples < batch_size:
            raise UserError(
                f"data.drop_last=true leaves no batch: {batch_key}={batch_size}, and there are {num_samples}"
                f" samples. Set {batch_key} to at most {num_samples}, or data.drop_last=false."
            )
        self._starts = self._batch_starts()

    def _batch_starts(self) -> list[int]:
        """Where each batch begins in the order."""
        starts = list(range(0, self.num_samples, self.batch_size))
        if self.num_samples - starts[-1] < (self.batch_size if self.drop_last else self.world):
            # Too few for a share each, or for a batch that has to be whole. In training they are the samples
            # left out; in evaluation they go to the batch before, which becomes that little longer.
            starts.pop()
        return starts

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch whose order comes next; Lightning calls it."""
        self.epoch = self.first_epoch + epoch

    def __len__(self) -> int:
        return len(self._starts)

    def __iter__(self) -> Iterator[Tensor]:
        return self.batches_from(0)

    def batches_from(self, start: int) -> Iterator[Tensor]:
        """This epoch's batches, beginning with batch number ``start``; each ``[b]`` long."""
        if self.training:
            generator = derived_generator(self.seed, self.epoch, _ORDER)
            order = torch.randperm(self.num_samples, generator=generator)
        else:
            order = torch.arange(self.num_samples)
        for number in range(start, len(self)):
            yield self._share(order[self._starts[number] : self._end(number)])

    def _end(self, number: int) -> int:
        last = number + 1 == len(self)
        if last and not self.training:
            return self.num_samples
        return min(self._starts[number] + self.batch_size, self.num_samples)

    def _share(self, batch: Tensor) -> Tensor:
        if self.training:
            share = len(batch) // self.world
            return batch[self.rank * share : (self.rank + 1) * share]
        return batch.tensor_split(self.world)[self.rank]


class ResumableLoader:
    """What the loaders have in common; a subclass says how one batch is made.

    ``sampler`` is the name under which Lightning looks for ``set_epoch``. No subclass of torch's DataLoader:
    Lightning would take those apart and build them anew.

    Args:
        sampler: which samples make up each batch.
    """

    def __init__(self, sampler: EpochBatchSampler) -> None:
        self.sampler = sampler
        self.batch_sampler = sampler  # Lightning reads both
        self._start = 0  # batch at which the next iteration begins
        self._handed_out = 0  # batches that came out of the epoch
        self._counted_epoch = sampler.epoch

    @abstractmethod
    def _batches_from(self, start: int) -> Iterator[Batch]:
        """The batches of the sampler's epoch, beginning with number ``start``."""

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        start, self._start = self._start, 0
        self._handed_out, self._counted_epoch = start, self.sampler.epoch
        for batch in self._batches_from(start):
            self._handed_out += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """``{"batch": number of the next batch in its epoch}``."""
        # an epoch that was left early (limit_train_batches) says nothing about the next one
        done = self._handed_out if self._counted_epoch == self.sampler.epoch else 0
        return {"batch": self._start or done % len(self)}

    def load_state_dict(self, state_dict: Mapping[str, int]) -> None:
        """Makes the next iteration begin at ``state_dict["batch"]``, counted on into a repeated epoch."""
        self._start = self._handed_out = state_dict["batch"] % len(self)
        self._counted_epoch = self.sampler.epoch


class ArrayLoader(ResumableLoader):
    """Batches of tensors that are in memory, or mapped from a file, indexed a whole batch at a time.

    Order and random numbers are drawn on the CPU, so that every device gets the same ones.

    Args:
        arrays: tensors by name, ``[N, ...]`` each; each is indexed where it lies.
        sampler: over the same N samples.
        transform: makes the batch from the rows ``{name: [b, ...]}`` and random numbers ``[b, draws]``,
            uniform in [0, 1). A sample's numbers are the same whatever batch of the epoch it is in. None
            takes the rows as they are.
        draws: random numbers that ``transform`` needs for one sample, >= 0.
        device: where the rows are moved, unless they are there, and transformed.
    """

    def __init__(
        self,
        arrays: Mapping[str, Tensor],
        sampler: EpochBatchSampler,
        transform: Callable[[Batch, Tensor], Batch] | None = None,
        draws: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(sampler)
        self.arrays = dict(arrays)
        self.transform = transform
        self.draws = draws
        self.device = torch.device(device)

    def _batches_from(self, start: int) -> Iterator[Batch]:
        sampler = self.sampler
        generator = derived_generator(sampler.seed, sampler.epoch, _ROWS)
        draws = torch.rand(sampler.num_samples, self.draws, generator=generator).to(self.device)
        shares = list(sampler.batches_from(start))
        # One transfer for the epoch's whole order: one for each batch would make the GPU wait for the CPU.
        order = torch.cat(shares)
        orders = {device: order.to(device) for device in {self.device, *self._homes()}}
        end = 0
        for share in shares:
            begin, end = end, end + len(share)
            batch = {
                name: array[orders[array.device][begin:end]].to(self.device, non_blocking=True)
                for name, array in self.arrays.items()
            }
            if self.transform is not None:
                batch = self.transform(batch, draws[orders[self.device][begin:end]])
            yield batch

    def _homes(self) -> set[torch.device]:
        return {array.device for array in self.arrays.values()}


class Items(Protocol):
    """Samples that are read one by one, such as image files."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def item(self, index: int, generator: torch.Generator | None) -> Batch:
        """Sample ``index``; what is random about it is drawn from ``generator``, None in evaluation."""
        ...


class ItemLoader(ResumableLoader):
    """Batches of samples that are read one by one, by torch's DataLoader.

    Args:
        items: the samples.
        sampler: over as many samples.
        num_workers: processes that read ahead; 0 reads in this one, which is faster unless reading is slow.
        pin_memory: page-locked batches, for GPUs.
    """

    def __init__(
        self, items: Items, sampler: EpochBatchSampler, num_workers: int = 0, pin_memory: bool = False
    ) -> None:
        super().__init__(sampler)
        self._keys = _Keys(sampler)
        self._generator = torch.Generator()  # for the base seed that a DataLoader draws for its workers
        self._loader = DataLoader(
            _SeededItems(items, sampler.seed, sampler.training),
            batch_sampler=self._keys,  # any iterable with a length serves
            num_workers=num_workers,
            persistent_workers=num_workers > 0,
            pin_memory=pin_memory,
            generator=self._generator,
        )

    def _batches_from(self, start: int) -> Iterator[Batch]:
        self._keys.start = start
        self._generator.manual_seed(self.sampler.seed)
        yield from self._loader


class _Keys:
    """Batches of (epoch, number of the sample): workers outlive an epoch, so each key has to name its own."""

    def __init__(self, sampler: EpochBatchSampler) -> None:
        self.sampler = sampler
        self.start = 0

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch = self.sampler.epoch
        for indices in self.sampler.batches_from(self.start):
            yield [(epoch, index) for index in indices.tolist()]


class _SeededItems(Dataset[Batch]):
    def __init__(self, items: Items, seed: int, training: bool) -> None:
        self.items = items
        self.seed = seed
        self.training = training

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, key: tuple[int, int]) -> Batch:
        epoch, index = key
        generator = derived_generator(self.seed, epoch, _ITEM, index) if self.training else None
        return self.items.item(index, generator)


def _initialised() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def _rank() -> int:
    return torch.distributed.get_rank() if _initialised() else 0


def _world() -> int:
    return torch.distributed.get_world_size() if _initialised() else 1
