"""A run that is killed in the midst of its rounds."""

from pathlib import Path

from callbacks.savepoints import Savepoints
from tests.lightning_modules.deal.deal_runs import KeepingSavepoints, deal_of, fitted
from tests.small_runs import assert_same_weights


def test_a_run_that_is_killed_in_any_round_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    words = ("model.rounds=2", "model.acquisition=deal_de", "data.num_train=12")
    unbroken = fitted(tmp_path / "unbroken", *words, savepoints=KeepingSavepoints(tmp_path / "copies"))
    tested = unbroken.test()
    copies = sorted((tmp_path / "copies").iterdir())
    kinds = {copy.name.split("_", 1)[1]: copy for copy in reversed(copies)}
    assert set(kinds) == {
        *(f"round_{number}_{stage}" for number in (1, 2) for stage in ("batch", "epoch", "trained")),
        "round_1_done",
    }
    for copy in kinds.values():
        again = fitted(copy, *words, savepoints=Savepoints(None))
        assert_same_weights(again.weights, unbroken.weights)
        assert again.record.metrics == unbroken.record.metrics
        mine, other = deal_of(again).rounds.state(), deal_of(unbroken).rounds.state()
        assert repr(mine) == repr(other), "the same queries, scores and labels"
        for name in ("metrics.csv", "next_images.csv"):
            assert (copy / name).read_bytes() == (unbroken.folder / name).read_bytes()
        assert again.test() == tested
