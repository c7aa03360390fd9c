"""What a forward pass costs."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from harness.peak_memory import peak_bytes

FEWEST, MOST, SECONDS = 3, 100, 2.0  # passes, and seconds after which no further one begins


@dataclass(frozen=True)
class Cost:
    """Of one network.

    Attributes:
        parameters: how many.
        milliseconds: of a forward pass.
        megabytes: most in use at a time in that pass, in 10^6 bytes, beyond its weights and its input.
    """

    parameters: int
    milliseconds: float
    megabytes: float


@torch.no_grad()
def pass_cost(network: nn.Module, forward: Callable[[], Any], device: torch.device) -> Cost:
    """Parameters of a network, and time and memory of one of its passes.

    Time is the median of at least three passes, after one that is not timed but measured for its memory.

    Args:
        network: whose parameters count.
        forward: a pass, whose result is dropped.
        device: where its tensors lie.
    """
    forward()  # compiles what is compiled at its first call
    most = peak_bytes(forward, device)
    times: list[float] = []
    while len(times) < FEWEST or (len(times) < MOST and sum(times) < SECONDS):
        _wait(device)
        start = time.perf_counter()
        forward()
        _wait(device)
        times.append(time.perf_counter() - start)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return Cost(parameters, 1e3 * statistics.median(times), most / 1e6)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
