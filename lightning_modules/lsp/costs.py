"""What a forward pass costs."""

import functools
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from harness.peak_memory import peak_bytes

FEWEST, MOST, SECONDS = 3, 100, 2.0  # passes, and seconds a network after which no further one begins


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
def pass_costs(networks: Sequence[nn.Module], given: Any, device: torch.device) -> list[Cost]:
    """Parameters of networks, and time and memory of one pass of each.

    Time is the median of at least three passes, after one that is not timed but measured for its memory. The
    networks take turns, so that a machine that slows down does so for all of them.

    Args:
        networks: in evaluation mode.
        given: their input; what they make of it is dropped.
        device: where all tensors lie.
    """
    most = []
    for network in networks:
        network(given)  # compiles what is compiled at its first call
        most.append(peak_bytes(functools.partial(network, given), device))
    times: list[list[float]] = []
    while len(times) < FEWEST or (len(times) < MOST and sum(map(sum, times)) < SECONDS * len(networks)):
        times.append([_seconds(network, given, device) for network in networks])
    return [
        Cost(
            sum(parameter.numel() for parameter in network.parameters()),
            1e3 * statistics.median(own),
            peak / 1e6,
        )
        for network, own, peak in zip(networks, zip(*times, strict=True), most, strict=True)
    ]


def _seconds(network: nn.Module, given: Any, device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    network(given)
    _wait(device)
    return time.perf_counter() - start


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
