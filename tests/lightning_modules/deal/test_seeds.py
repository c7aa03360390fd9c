"""Numbers that follow from a seed: those of the runs that were recorded."""

import numpy as np
import pytest

from lightning_modules.deal.acquisition import random_scores
from lightning_modules.deal.scoring import _round_seed
from lightning_modules.deal.seeds import mixed


def test_rounds_and_random_scores_are_those_of_recorded_runs() -> None:
    assert [_round_seed(7, number) for number in (1, 2, 9)] == [1273275536, 1064953972, 527015166]
    expected = [float.fromhex("0x1.315facfdce63ep-2"), float.fromhex("0x1.750a9b66bcc91p-1")]
    assert random_scores([0, 4], seed=3).tolist() == expected


@pytest.mark.parametrize("numbers", [(0,), (3, 5), (12, 1, 999)])
def test_the_words_are_numpy_s_lower_ones_first(numbers: tuple[int, ...]) -> None:
    sequence = np.random.SeedSequence([len(numbers), *numbers])
    assert mixed(*numbers) & 0xFFFFFFFF == int(sequence.generate_state(1)[0])
    assert mixed(*numbers) >> 1 == int(sequence.generate_state(1, np.uint64)[0] >> 1)


def test_a_zero_more_is_another_number() -> None:
    assert len({mixed(7), mixed(7, 0), mixed(0, 7)}) == 3
