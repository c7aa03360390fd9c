import pytest
import torch

from lightning_modules.spagan.edge_costs import edge_costs, unit_costs


def test_most_attended_edge_costs_exactly_zero_and_the_rest_lies_in_the_unit_interval():
    attention = torch.rand(500, 8, generator=torch.Generator().manual_seed(0))
    cost = edge_costs(attention)
    assert cost.min() == 0
    assert cost.max() <= 1
    assert cost.argmin() == attention.mean(1).argmax()


def test_cost_is_one_minus_the_head_mean_over_its_maximum():
    attention = torch.tensor([[0.2, 0.4], [0.6, 0.6], [0.0, 0.3]])
    torch.testing.assert_close(edge_costs(attention), torch.tensor([0.5, 0.0, 0.75]))


def test_costs_carry_no_gradient():
    assert not edge_costs(torch.rand(4, 2, requires_grad=True)).requires_grad


def test_graph_without_edges_has_no_costs():
    assert edge_costs(torch.empty(0, 8)).shape == (0,)


def test_attention_that_underflowed_everywhere_gives_unit_costs_not_nan():
    assert torch.equal(edge_costs(torch.zeros(3, 2)), torch.ones(3))


@pytest.mark.parametrize(
    ("attention", "words"),
    [
        (torch.rand(5), r"\[E, H\]"),
        (torch.empty(5, 0), "at least one head"),
        (torch.tensor([[0.5], [float("nan")]]), "finite"),
        (torch.tensor([[0.5], [-0.1]]), "not negative"),
    ],
)
def test_wrong_attention_is_refused(attention, words):
    with pytest.raises(ValueError, match=words):
        edge_costs(attention)


def test_unit_costs_are_one_per_edge():
    assert torch.equal(unit_costs(torch.zeros(2, 3, dtype=torch.long)), torch.ones(3))
