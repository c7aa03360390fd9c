"""Bytes of tensors in use, against a count by hand."""

import torch

from harness import system
from harness.peak_memory import LiveBytes, peak_bytes

CPU = torch.device("cpu")


def test_the_peak_is_the_most_that_is_in_use_at_a_time_and_not_the_sum():
    x = torch.ones(100)  # there before: does not count

    def run() -> torch.Tensor:
        a = x + 1  # 400 bytes
        b = a.double()  # 800 more, 1,200 in all
        del a  # 800
        c = b[:50] * 2  # 400 more of a view that takes none, 1,200 in all
        d = c.float()  # 200 more, 1,400 in all
        del b, c  # 200
        return d + 1  # 400 in all

    assert peak_bytes(run, CPU) == 1400


def test_what_is_released_is_no_longer_held():
    with LiveBytes() as live:
        kept = torch.zeros(10)
        lost = torch.zeros(1000)
        assert (live.held, live.peak) == (4040, 4040)
        del lost
        assert (live.held, live.peak) == (40, 4040)
        kept += 1  # in place
        kept.view(2, 5).t()
        assert (live.held, live.peak) == (40, 4040)


def test_it_counts_alike_whether_gradients_are_recorded():
    x = torch.ones(64, 8)
    layer = torch.nn.Linear(8, 16)
    expected = 64 * 16 * 4
    assert peak_bytes(lambda: layer(x), CPU) >= expected
    with torch.no_grad():
        assert peak_bytes(lambda: layer(x), CPU) == expected
    with torch.inference_mode():
        assert peak_bytes(lambda: layer(x), CPU) == expected


def test_nothing_is_counted_after_the_mode_is_left():
    with LiveBytes() as live:
        pass
    torch.zeros(1000)
    assert (live.held, live.peak) == (0, 0)


def test_a_count_begun_anew_does_not_lose_the_peak_of_the_run(monkeypatch):
    peaks = [7_000_000]
    monkeypatch.setattr(system, "_earlier_gpu_peaks", [])
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: peaks[-1])
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: peaks.append(2_000_000))
    assert system.peak_gpu_memory_mb() == 7.0
    system.restart_gpu_peak()
    assert system.peak_gpu_memory_mb() == 7.0
    peaks.append(9_000_000)
    assert system.peak_gpu_memory_mb() == 9.0
