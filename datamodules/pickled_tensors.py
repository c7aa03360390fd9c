"""Tensors inside ordinary pickles, taken out without the power to run code.

A tensor in a pickle is a call of torch with a storage, which itself is a call of torch with the bytes of a
file in torch's old format. Neither call is made while the pickle is read: both leave what they were given,
and the few tensors that are needed are made from it later, with ``weights_only=True`` and within their
storage.
"""

import io
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from datamodules.restricted_pickle import load_restricted


@dataclass(frozen=True)
class _PickledStorage:
    content: Any


class PickledTensor:
    """What a pickle tells of a tensor, in the order of torch's own call; flags and hooks are left out."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *others: Any) -> None:
        self.storage = storage
        self.offset = offset
        self.size = size
        self.stride = stride

    def tensor(self) -> Tensor:
        """The tensor, on the CPU.

        Raises:
            ValueError: the storage cannot be read without running code, or is smaller than the tensor.
        """
        if not isinstance(self.storage, _PickledStorage) or not isinstance(self.storage.content, bytes):
            raise ValueError("a tensor has no storage")
        try:
            storage = torch.load(io.BytesIO(self.storage.content), map_location="cpu", weights_only=True)
        except Exception as error:  # broken bytes can raise nearly anything
            raise ValueError(f"a tensor's storage was refused ({type(error).__name__}: {error})") from error
        if not isinstance(storage, torch.TypedStorage):
            raise ValueError(f"a tensor's storage is a {type(storage).__name__}")
        # as torch's own call does: the public ways to it warn that the class is to go
        held, dtype = storage._untyped_storage, storage.dtype
        length = held.nbytes() // dtype.itemsize
        numbers = (self.offset, *_numbers(self.size), *_numbers(self.stride))
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("a tensor has no proper shape")
        if len(self.size) != len(self.stride):
            raise ValueError("a tensor's shape and strides differ in length")
        last = self.offset + sum((n - 1) * step for n, step in zip(self.size, self.stride, strict=True))
        if 0 not in self.size and last >= length:
            # torch would enlarge the storage, with whatever lies in memory there
            raise ValueError(f"a tensor ends at {last}, beyond its storage of {length}")
        return torch.empty(0, dtype=dtype).set_(held, self.offset, tuple(self.size), tuple(self.stride))


def _numbers(value: Any) -> Sequence[Any]:
    return value if isinstance(value, (tuple, list)) else (None,)


_ADMITTED: dict[tuple[str, str], Any] = {
    ("torch._utils", "_rebuild_tensor_v2"): PickledTensor,
    ("torch.storage", "_load_from_bytes"): _PickledStorage,
    ("collections", "OrderedDict"): OrderedDict,  # of hooks, always empty
}


def load_with_tensors(content: bytes, label: str) -> Any:
    """The object in a pickle of numbers, text, lists, dictionaries and tensors.

    Args:
        content: the pickle.
        label: which file, for the message.

    Returns:
        The object, with a :class:`PickledTensor` in the place of each tensor.

    Raises:
        UserError: the pickle asks for any other class or function, or is broken.
    """
    return load_restricted(content, label, _ADMITTED, "numbers, lists and tensors")
