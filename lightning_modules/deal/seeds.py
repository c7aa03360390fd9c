"""From numbers such as a seed, a round and an image to one number that follows from them alone."""

import numpy as np


def mixed(*numbers: int) -> int:
    """An integer in ``[0, 2**64)`` that follows from ``numbers``; unequal ones give unrelated integers.

    Args:
        numbers: each >= 0.
    """
    # the length goes first, since SeedSequence takes [7] and [7, 0] for the same
    low, high = np.random.SeedSequence([len(numbers), *numbers]).generate_state(2, np.uint32)
    return int(high) << 32 | int(low)
