"""The most memory that tensors take at a time while something runs, on a GPU or on a CPU."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from harness.system import restart_gpu_peak


class LiveBytes(TorchDispatchMode):
    """Adds up what the results of operations take while they are in use: the CPU keeps no count itself.

    Counted is what torch allocates for a result from when this mode is entered; not what an operation takes
    and returns within itself, nor what was there before.

    Attributes:
        held: bytes now.
        peak: most bytes at a time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = self.held = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {_address(value) for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)}
        for value in tree_leaves(result):
            if isinstance(value, Tensor) and _address(value) not in given | self._known:
                storage = value.untyped_storage()
                self._known.add(_address(value))
                self.held += storage.nbytes()
                weakref.finalize(storage, self._forget, _address(value), storage.nbytes())
        self.peak = max(self.peak, self.held)
        return result

    def _forget(self, address: int, size: int) -> None:
        self._known.discard(address)
        self.held -= size


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def peak_bytes(run: Callable[[], Any], device: torch.device) -> int:
    """Most bytes that ``run`` has in use at a time, beyond those in use before it.

    On a GPU what torch's allocator counts, else what :class:`LiveBytes` does.

    Args:
        run: called once; what it returns is in use to its end.
        device: where its tensors lie.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        restart_gpu_peak()
        before = torch.cuda.memory_allocated(device)
        run()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with LiveBytes() as live:
        run()
    return live.peak
