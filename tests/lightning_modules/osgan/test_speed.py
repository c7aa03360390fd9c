"""The time of steps, with a clock that the test turns."""

import pytest
import torch

from lightning_modules.osgan import speed
from lightning_modules.osgan.speed import StepClock


def test_the_first_step_and_what_lies_between_epochs_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(speed.time, "perf_counter", lambda: now)
    clock, device = StepClock(), torch.device("cpu")
    for took in (50.0, 2.0, 4.0):  # three epochs, of which the first has one step that takes long
        for step in range(3):
            clock.begin()
            now += took if step == 0 or took < 50 else 3.0
            clock.end(8, step == 2, device)
        now += 1000.0  # judged
    # after the first step: two of 3 s, three of 2 s, three of 4 s
    assert clock.timings["step"] == pytest.approx((2 * 3 + 3 * 2 + 3 * 4) / 8)
    assert clock.timings["images_per_second"] == pytest.approx(8 / clock.timings["step"])


def test_before_the_second_step_there_is_nothing_to_tell() -> None:
    clock = StepClock()
    assert clock.timings == {}
    clock.begin()
    clock.end(8, True, torch.device("cpu"))
    assert clock.timings == {}
