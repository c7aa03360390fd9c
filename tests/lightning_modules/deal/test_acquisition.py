"""Scores of images, and which are chosen."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.errors import UserError
from lightning_modules.deal.acquisition import (
    _DROPOUT,
    _counts_by_row,
    _counts_in_passes,
    committee_score,
    deal_de,
    deal_ds,
    mean_uncertainty,
    random_scores,
    select,
    uncertainty_map,
    vote_entropy,
)
from lightning_modules.deal.seeds import mixed
from lightning_modules.segmentation.build import build_segmenter
from lightning_modules.segmentation.networks import Segmenter, resize


def row(*values: float) -> Tensor:
    return torch.tensor(values).view(1, 1, 1, -1)


def random_maps(number: int = 6, size: tuple[int, int] = (20, 30)) -> Tensor:
    return torch.rand(number, 1, *size, generator=torch.Generator().manual_seed(0))


def slow_entropy(difficulty: Tensor, levels: int, low: float, high: float) -> float:
    counts = Counter(
        min(int((value - low) / (high - low) * levels), levels - 1) for value in difficulty.flatten().tolist()
    )
    total = sum(counts.values())
    return -sum(count / total * math.log(count / total) for count in counts.values())


@pytest.mark.parametrize(
    ("values", "levels_range", "expected"),
    [
        ((0.0, 0.0, 0.4, 1.0), "image", 1.03972),
        ((0.2, 0.2, 0.33, 0.4), "image", 1.03972),
        ((0.2, 0.2, 0.33, 0.4), "unit", 0.693147),
        ((0.3, 0.3, 0.3), "image", 0.0),
        ((0.3, 0.3, 0.3), "unit", 0.0),
    ],
)
def test_difficulty_entropy_by_hand(values, levels_range, expected):
    assert float(deal_de(row(*values), 4, levels_range)) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("levels", [1, 4, 8, 10])
def test_difficulty_entropy_is_that_of_a_slow_histogram(levels):
    maps = random_maps() ** 3
    spans = [(float(one.min()), float(one.max())) for one in maps]
    expected = [slow_entropy(one, levels, *span) for one, span in zip(maps, spans, strict=True)]
    assert deal_de(maps, levels).tolist() == pytest.approx(expected, abs=0.02)
    expected = [slow_entropy(one, levels, 0.0, 1.0) for one in maps]
    assert deal_de(maps, levels, "unit").tolist() == pytest.approx(expected, abs=1e-5)


def test_difficulty_entropy_is_the_same_for_a_scaled_and_shifted_map_and_at_most_ln_of_the_levels():
    maps = random_maps()
    for levels in (4, 8):
        scores = deal_de(maps, levels)
        # by powers of two, so that no value is rounded across the bound of a bin
        torch.testing.assert_close(deal_de(maps / 4, levels), scores)
        torch.testing.assert_close(deal_de(0.5 * maps + 0.25, levels), scores, atol=0.01, rtol=0)
        assert float(scores.max()) <= math.log(levels) + 1e-6
    assert not torch.allclose(deal_de(maps / 4, 8, "unit"), deal_de(maps, 8, "unit"))


def test_both_ways_to_count_levels_agree():
    bins = torch.randint(6, (3, 50), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert torch.equal(_counts_in_passes(bins, 8), _counts_by_row(bins, 8))


def test_even_bins_reach_ln_of_the_levels():
    assert float(deal_de(row(*(k / 7 for k in range(8))), 8)) == pytest.approx(math.log(8), abs=1e-6)


@pytest.mark.parametrize("levels", [0, 256])
def test_a_wrong_number_of_levels_is_told_in_one_line(levels):
    with pytest.raises(UserError, match=rf"^model\.levels={levels} must be an integer in \[1, 255\]\."):
        deal_de(row(0.1, 0.2), levels)


def test_the_difficulty_score_is_a_mean_over_pixels_weighed_if_wanted():
    assert deal_ds(row(0.1, 0.2, 0.6)).tolist() == pytest.approx([0.3])
    factor = torch.tensor([[[1.0, 0.5, 0.0]]])
    assert deal_ds(row(0.1, 0.2, 0.6), factor).tolist() == pytest.approx([0.2 / 3])


def test_uncertainties_of_one_pixel_by_hand():
    logits = torch.tensor([0.7, 0.2, 0.1]).log().view(1, 3, 1, 1)
    entropy = -sum(p * math.log(p) for p in (0.7, 0.2, 0.1))
    assert float(uncertainty_map(logits, "entropy")) == pytest.approx(entropy)
    assert float(uncertainty_map(logits, "margin")) == pytest.approx(0.5)
    assert float(uncertainty_map(logits, "least_confidence")) == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("kind", "highest"), [("entropy", math.log(5)), ("margin", 1.0), ("least_confidence", 0.8)]
)
def test_uncertainty_lies_between_a_sure_and_an_even_pixel(kind, highest):
    even, sure = torch.zeros(1, 5, 2, 2), torch.zeros(1, 5, 2, 2)
    sure[:, 3] = 100.0
    assert float(mean_uncertainty(even, kind)) == pytest.approx(highest, abs=1e-6)
    assert float(mean_uncertainty(sure, kind)) == pytest.approx(0.0, abs=1e-6)


def test_the_mean_is_over_each_image_alone():
    logits = torch.randn(3, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    for kind in ("entropy", "margin", "least_confidence"):
        together = mean_uncertainty(logits, kind)
        alone = torch.cat([mean_uncertainty(one[None], kind) for one in logits])
        torch.testing.assert_close(together, alone)
        assert together.shape == (3,)


def test_votes_by_hand():
    votes = torch.tensor([[5.0, 10.0], [5.0, 0.0]]).view(1, 2, 1, 2)
    assert float(vote_entropy(votes)) == pytest.approx(math.log(2) / 2)


def scorer() -> tuple[Segmenter, Tensor, Tensor]:
    torch.manual_seed(0)
    network = build_segmenter("small_unet", 5)
    return network, torch.randn(4, 3, 16, 24), torch.tensor([7, 3, 11, 5])


def test_a_committee_is_the_votes_of_single_passes():
    network, x, ids = scorer()
    network.eval()
    found = committee_score(network, x, ids, passes=3, seed=1)
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.train()
    expected = []
    for image, number in zip(x, ids.tolist(), strict=True):
        torch.manual_seed(mixed(_DROPOUT, 1, number) >> 1)
        with torch.no_grad():  # each pass from the pixels on, and of one image
            members = [resize(network(image[None])[0], (16, 24)).argmax(dim=1)[0] for _ in range(3)]
        assert not torch.equal(members[0], members[1]), "equal members would show nothing"
        entropies = []
        for votes in torch.stack(members).flatten(1).T.tolist():
            shares = [votes.count(one) / 3 for one in set(votes)]
            entropies.append(-sum(share * math.log(share) for share in shares))
        expected.append(sum(entropies) / len(entropies))
    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    assert min(expected) > 0
    # without dropout all members agree
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    assert not committee_score(network, x, ids, passes=3, seed=1).any()


def test_a_committee_s_score_depends_on_neither_batch_nor_global_state():
    network, x, ids = scorer()
    before, together = torch.get_rng_state(), committee_score(network, x, ids, passes=4, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    alone = [committee_score(network, x[k : k + 1], ids[k : k + 1], passes=4, seed=1) for k in (2, 0, 3, 1)]
    torch.testing.assert_close(torch.cat(alone), together[[2, 0, 3, 1]])
    assert not torch.equal(committee_score(network, x, ids, passes=4, seed=2), together)


def test_a_committee_changes_no_statistics_and_no_mode_even_if_it_fails():
    network, x, ids = scorer()
    network.train()
    network.head[1].eval()  # type: ignore[operator, union-attr]
    modes = [module.training for module in network.modules()]
    state = {name: value.clone() for name, value in network.state_dict().items()}
    committee_score(network, x, ids, passes=2, seed=0)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    with pytest.raises(RuntimeError):
        committee_score(network, x[:, :2], ids, passes=2, seed=0)
    assert [module.training for module in network.modules()] == modes


def test_a_committee_of_none_is_told_in_one_line():
    network, x, ids = scorer()
    with pytest.raises(UserError, match=r"^model\.passes=0 must be an integer > 0\."):
        committee_score(network, x, ids, passes=0, seed=0)


def test_random_scores_follow_from_seed_and_id():
    scores = random_scores([4, 9, 1], seed=3)
    assert scores.tolist() == [random_scores([number], seed=3)[0] for number in (4, 9, 1)]
    assert not np.array_equal(scores, random_scores([4, 9, 1], seed=4))
    many = random_scores(range(400), seed=0)
    assert len(set(many)) == 400
    assert 0.45 < many.mean() < 0.55


def test_higher_scores_go_first_and_lower_ids_among_equals():
    assert select([0.5, 0.9, 0.5, 0.1], [8, 3, 2, 1], 3) == [3, 2, 8]
    assert select([1.0] * 4, [9, 4, 7, 1], 4) == [1, 4, 7, 9]
    assert select([1.0], [1], 0) == []


def test_the_choice_does_not_depend_on_the_order_of_the_candidates():
    generator = np.random.default_rng(0)
    scores, ids = generator.integers(0, 5, 50) / 5, generator.permutation(100)[:50]
    order = generator.permutation(50)
    assert select(scores[order], ids[order], 20) == select(scores, ids, 20)


@pytest.mark.parametrize(
    ("scores", "ids", "number", "message"),
    [
        ([0.1, float("nan")], [4, 7], 1, "image 7 has no score"),
        ([0.1, 0.2], [4, 4], 1, "scored twice"),
        ([0.1, 0.2], [4, 5], 3, "3 images are wanted of 2"),
        ([0.1, 0.2], [4], 1, "two lists of one length"),
    ],
)
def test_scores_that_cannot_be_are_refused(scores, ids, number, message):
    with pytest.raises(ValueError, match=message):
        select(scores, ids, number)
