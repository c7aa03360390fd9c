"""How the labelled images grow, and what cannot be."""

import logging

import pytest
import torch

from datamodules.street_scenes import StreetScenesDataModule
from harness.configuration.compose import compose
from harness.errors import UserError
from lightning_modules.deal.rounds import Plan, Rounds, candidates_of


def scenes(num_train: int = 20, seed: int = 0, masks: int | None = None) -> StreetScenesDataModule:
    settings = compose(["model=deeplab", "data=street_scenes"]).config["data"]
    settings = {key: value for key, value in settings.items() if key != "_target_"}
    data = StreetScenesDataModule(
        **settings | {"num_train": num_train, "num_test": 2, "num_val": 0, "seed": seed}
    )
    data.setup()
    if masks is not None:
        data.splits["train"].has_mask[masks:] = False
    return data


def test_the_first_images_are_those_of_the_seed_and_the_plan_counts_them() -> None:
    labelled = Plan(5, 3, 4).first_labelled(scenes())
    assert (int(labelled.sum()), labelled.max()) == (5, 1)
    assert torch.equal(labelled, Plan(5, 1, 1).first_labelled(scenes()))
    assert not torch.equal(labelled, Plan(5, 3, 4).first_labelled(scenes(seed=1)))
    assert Plan(5, 3, 4).names == ("round_1", "round_2", "round_3", "round_4")


def test_without_a_number_all_that_have_a_mask_are_the_first() -> None:
    assert Plan(None, 3, 1).first_labelled(scenes(masks=7)).tolist() == [1] * 7 + [0] * 13


@pytest.mark.parametrize(
    ("plan", "masks", "message"),
    [
        (
            Plan(21, 1, 1),
            None,
            r"^model\.initial=21: data=street_scenes has 20 .* Set model\.initial to at most 20",
        ),
        (Plan(8, 1, 1), 7, r"^model\.initial=8: .* at most 7"),
        (Plan(5, 3, 7), None, r"^model\.rounds=7: .* Set model\.rounds=6 at most"),
        (Plan(None, 3, 2), None, r"^model\.rounds=2: .* nothing would be added\. Set model\.rounds=1"),
        (Plan(5, 3, 2), 7, r"^model\.rounds=2: .* 13 images without.* Set model\.rounds=1 for a list"),
    ],
)
def test_a_plan_that_the_pool_does_not_allow_is_refused(plan: Plan, masks: int | None, message: str) -> None:
    with pytest.raises(UserError, match=message):
        plan.first_labelled(scenes(masks=masks))


def test_the_last_round_may_add_fewer() -> None:
    assert int(Plan(5, 4, 5).first_labelled(scenes()).sum()) == 5  # 5, 9, 13, 17, 20


def test_a_share_of_candidates_that_is_too_small_is_enlarged_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    data = scenes()
    data.set_labelled(torch.tensor([1] * 16 + [0] * 4))
    assert len(candidates_of(data, 1, 0.5, 2)) == 2
    assert not caplog.records
    with caplog.at_level(logging.WARNING, "tenfold"):
        assert len(candidates_of(data, 1, 0.5, 3)) == 3
        assert candidates_of(data, 1, 0.5, 6).tolist() == [16, 17, 18, 19]
    told = [record.getMessage() for record in caplog.records]
    assert "0.5 of 4 unlabelled images are 2, fewer than the 3 that are added" in told[0]
    assert told[-1] == "round 1: only 4 images of model.step=6 are left to add"
    data.set_labelled(torch.ones(20, dtype=torch.long))
    assert candidates_of(data, 1, 0.5, 3).tolist() == []


def test_a_run_goes_on_with_its_own_pool_alone() -> None:
    rounds = Rounds()
    rounds.begin(Plan(5, 3, 2), scenes())
    again = Rounds.of(rounds.state())
    again.begin(Plan(5, 3, 2), scenes())
    assert torch.equal(again.labelled, rounds.labelled)
    assert again.is_of(scenes())
    with pytest.raises(UserError, match="not those that this run began with"):
        again.begin(Plan(5, 3, 2), scenes(num_train=21))


def test_queries_are_labelled_from_the_next_round_on() -> None:
    rounds = Rounds(labelled=torch.tensor([1, 0, 0, 1, 0]))
    before = rounds.labelled
    rounds.add(1, [4, 1])
    assert rounds.labelled.tolist() == [1, 2, 0, 1, 2]
    assert before.tolist() == [1, 0, 0, 1, 0]


def test_scores_of_a_round_say_which_were_chosen() -> None:
    rounds = Rounds(
        candidates={2: torch.tensor([1, 4, 6]), 1: torch.tensor([0, 2])},
        scores={2: torch.tensor([0.1, 0.3, 0.2]), 1: torch.tensor([1.0, 2.0])},
        queries={1: [2], 2: [4, 6]},
    )
    found = rounds.scored()
    assert list(found) == [1, 2]
    assert [is_query.tolist() for _, is_query in found.values()] == [[False, True], [False, True, True]]
    assert found[1][0].tolist() == [1.0, 2.0]
