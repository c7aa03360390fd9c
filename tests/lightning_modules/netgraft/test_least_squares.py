"""The best map of channels: recovered where there is one, nearest to the start where there are many."""

import torch

from lightning_modules.netgraft.folding import Pointwise
from lightning_modules.netgraft.least_squares import fit_pointwise, unexplained


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def nothing(out: int, into: int) -> Pointwise:
    return Pointwise(torch.zeros(out, into).double(), torch.zeros(out).double())


def maps(values: list[float]) -> torch.Tensor:
    return torch.tensor(values)[:, None, None, None]


def test_the_line_through_three_points_worked_out_by_hand() -> None:
    # x = 0, 1, 2 and y = 1, 2, 6: slope 5/2, height 1/2; residuals 1/2, -1, 1/2 of a variance of 14
    pairs = [(maps([0.0, 1.0]), maps([1.0, 2.0])), (maps([2.0]), maps([6.0]))]
    found = fit_pointwise(pairs, nothing(1, 1))
    torch.testing.assert_close(found.weight, torch.tensor([[2.5]]).double())
    torch.testing.assert_close(found.bias, torch.tensor([0.5]).double())
    assert abs(unexplained(pairs, found) - 1.5 / 14) < 1e-12


def test_a_map_that_is_there_is_found_wherever_the_search_begins() -> None:
    planted = Pointwise(random(5, 3, seed=1), random(5, seed=2))
    x = random(4, 3, 2, 2)
    y = torch.einsum("ts,bshw->bthw", planted.weight, x) + planted.bias[:, None, None]
    for start in (nothing(5, 3), Pointwise(random(5, 3, seed=3), random(5, seed=4))):
        found = fit_pointwise([(x, y)], start)
        torch.testing.assert_close(found.weight, planted.weight)
        torch.testing.assert_close(found.bias, planted.bias)
        assert unexplained([(x, y)], found) < 1e-20


def test_what_the_images_do_not_tell_stays_as_it_was() -> None:
    x = random(6, 3, 1, 1)
    x[:, 1] = 0.0  # a channel that never responds
    start = Pointwise(random(2, 3, seed=3), random(2, seed=4))
    found = fit_pointwise([(x, random(6, 2, 1, 1, seed=5))], start)
    torch.testing.assert_close(found.weight[:, 1], start.weight[:, 1])
    exact = torch.einsum("ts,bshw->bthw", start.weight, x) + start.bias[:, None, None]
    again = fit_pointwise([(x[:2], exact[:2])], start)  # two places for four unknowns
    torch.testing.assert_close(again.weight, start.weight)
    torch.testing.assert_close(again.bias, start.bias)
