"""How fast training goes, without what comes between its epochs."""

import time

import torch


class StepClock:
    """Time of the training steps of a session, loading of their data included, judgements left out.

    The first step is not counted: it compiles, allocates and warms up.

    Call :meth:`begin` before each batch and :meth:`end` after it.
    """

    def __init__(self) -> None:
        self._started: float | None = None  # of the stretch that is being measured
        self._is_warm = False
        self._seconds = 0.0
        self._steps = self._images = 0  # of finished stretches
        self._new_steps = self._new_images = 0

    def begin(self) -> None:
        """A batch begins."""
        if self._started is None:
            self._started = time.perf_counter()

    def end(self, images: int, is_last: bool, device: torch.device) -> None:
        """A batch has ended.

        Args:
            images: how many it holds.
            is_last: no other follows at once, so that a GPU may be waited for.
            device: that trains.
        """
        assert self._started is not None
        self._new_steps += self._is_warm
        self._new_images += images * self._is_warm
        if is_last or not self._is_warm:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            now = time.perf_counter()
            if self._is_warm:
                self._seconds += now - self._started
                self._steps += self._new_steps
                self._images += self._new_images
            self._new_steps = self._new_images = 0
            self._started = None if is_last else now
            self._is_warm = True

    @property
    def timings(self) -> dict[str, float]:
        """Seconds of a ``step``, and ``images_per_second``; empty before the second step."""
        if not self._steps:
            return {}
        return {
            "step": self._seconds / self._steps,
            "images_per_second": self._images / self._seconds,
        }
