"""Runs that label what another run has labelled."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from callbacks.savepoints import Savepoints
from datamodules.segmentation import SegmentationDataModule
from harness.build import build_datamodule, build_module
from harness.checkpoints import read_checkpoint
from harness.errors import UserError
from harness.run_folder import write_config
from lightning_modules.deal.module import Deal, scenes_of
from lightning_modules.deal.picks import check_same_data, read_picks
from lightning_modules.deal.rounds import Plan, Rounds
from tests.command_lines import Output, command, run_folder
from tests.lightning_modules.deal.deal_runs import FEW, ROUNDS, KeepingSavepoints, deal_of, fitted, rows_of
from tests.small_runs import FittedRun, assert_same_weights, configuration

KIND = "lightning_modules.deal.module.Deal"
ONE_EPOCH = "trainer.max_epochs=1"


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> FittedRun:
    """A run of three rounds by DEAL's difficulty, whose first images are those of seed 5."""
    return fitted(tmp_path_factory.mktemp("picks") / "other", "data.seed=5", ONE_EPOCH)


@pytest.fixture(scope="module")
def pool() -> SegmentationDataModule:
    data = scenes_of_few()
    data.setup()
    return scenes_of(data)


def scenes_of_few(*words: str) -> Any:
    return build_datamodule(configuration("model=deal", *FEW, *words))


def trained_on(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Fills with the images of each epoch of training."""
    seen: list[list[int]] = []
    begin, step = Deal.on_train_epoch_start, Deal.training_step

    def started(self: Deal) -> None:
        seen.append([])
        begin(self)

    def stepped(self: Deal, batch: Any, batch_idx: int) -> Any:
        seen[-1] += batch["id"].tolist()
        return step(self, batch, batch_idx)

    monkeypatch.setattr(Deal, "on_train_epoch_start", started)
    monkeypatch.setattr(Deal, "training_step", stepped)
    return seen


def test_each_round_trains_the_plain_network_on_what_the_other_run_labelled(
    other: FittedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = trained_on(monkeypatch)
    done = fitted(tmp_path / "run", "model.acquisition=random", f"model.picks_from={other.folder}", ONE_EPOCH)
    theirs, module = deal_of(other).rounds, deal_of(done)
    expected = [
        ((theirs.labelled > 0) & (theirs.labelled <= number)).nonzero()[:, 0].tolist() for number in (1, 2, 3)
    ]
    assert [sorted(ids) for ids in seen] == expected
    assert module.branch is None
    assert torch.equal(module.rounds.labelled, theirs.labelled)
    assert [module.rounds.queries[number] for number in (1, 2)] == [theirs.queries[one] for one in (1, 2)]
    assert module.rounds.picked_by == "deal_ds"
    # what is left is listed by its own acquisition, and nothing was scored before
    assert [*module.rounds.scores] == [3]
    unlabelled = (theirs.labelled == 0).nonzero()[:, 0].tolist()
    assert sorted(int(row["id"]) for row in rows_of(done.folder / "next_images.csv")) == unlabelled
    assert [done.record.metrics[f"round_{number}/labelled"] for number in (1, 2, 3)] == [5, 8, 11]
    assert done.record.metrics["round_3/miou"] == pytest.approx(done.test()["test/miou"], abs=1e-6)
    names = {name for name, _ in module.figures(done.datamodule, None)}
    assert {"miou_by_labels", "scores", "next_images"} <= names
    again = fitted(tmp_path / "own", "model.acquisition=random", ONE_EPOCH)
    assert not torch.equal(deal_of(again).rounds.labelled, theirs.labelled), "equal picks would show nothing"


def test_where_the_picks_are_those_it_would_make_itself_they_change_nothing(
    other: FittedRun, tmp_path: Path
) -> None:
    done = fitted(tmp_path / "run", "data.seed=5", f"model.picks_from={other.folder}", ONE_EPOCH)
    assert_same_weights(done.weights, other.weights)
    name = "next_images.csv"
    assert (done.folder / name).read_bytes() == (other.folder / name).read_bytes()
    # a run that follows one that follows another
    third = read_picks(str(done.folder), KIND, Plan(5, 3, 2), scenes_of(done.datamodule))
    assert (third.picked_by, [*third.picks]) == ("deal_ds", [1])


def test_a_run_that_is_killed_goes_on_without_the_other_run_s_folder(
    other: FittedRun, tmp_path: Path
) -> None:
    shutil.copytree(other.folder, tmp_path / "other")
    words = ("model.acquisition=entropy", f"model.picks_from={tmp_path / 'other'}", "model.rounds=2")
    unbroken = fitted(tmp_path / "unbroken", *words, savepoints=KeepingSavepoints(tmp_path / "copies"))
    shutil.rmtree(tmp_path / "other")
    kinds = {path.name.split("_", 1)[1]: path for path in sorted((tmp_path / "copies").iterdir())}
    for name in ("round_1_batch", "round_1_done", "round_2_epoch"):
        again = fitted(kinds[name], *words, savepoints=Savepoints(None))
        assert_same_weights(again.weights, unbroken.weights)
        assert again.record.metrics == unbroken.record.metrics
        assert repr(deal_of(again).rounds.state()) == repr(deal_of(unbroken).rounds.state())
        for file in ("metrics.csv", "next_images.csv"):
            assert (kinds[name] / file).read_bytes() == (unbroken.folder / file).read_bytes()


def test_where_nothing_is_left_to_annotate_pictures_show_no_scores(other: FittedRun, tmp_path: Path) -> None:
    words = ("data.num_train=8", "model.rounds=2", ONE_EPOCH)
    first = fitted(tmp_path / "first", *words)
    done = fitted(tmp_path / "run", *words, "model.acquisition=random", f"model.picks_from={first.folder}")
    assert deal_of(done).rounds.scores == {}
    names = {name for name, _ in deal_of(done).figures(done.datamodule, None)}
    assert "miou_by_labels" in names
    assert {"scores", "next_images"}.isdisjoint(names)


def changed(run: FittedRun, folder: Path, **rounds: Any) -> Path:
    """A copy of a run's checkpoint whose rounds say something else."""
    content = read_checkpoint(run.folder / "checkpoints" / "best.ckpt")
    content["deal"]["rounds"] |= rounds
    path = folder / "changed.ckpt"
    torch.save(content, path)
    return path


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (Plan(6, 3, 3), r" does not fit: model\.initial is 5 there and 6 here\. Write model\.initial=5\.$"),
        (Plan(None, 3, 1), r"model\.initial is 5 there and null here\. Write model\.initial=5\.$"),
        (
            Plan(5, 2, 4),
            r"model\.step is 3 there and 2 here\. Write model\.step=3 model\.rounds=3\.$",
        ),
        (Plan(5, 3, 4), r"model\.rounds is 3 there and 4 here\. Write model\.rounds=3\.$"),
    ],
)
def test_another_plan_is_told_with_the_words_that_mend_it(
    other: FittedRun, pool: SegmentationDataModule, plan: Plan, expected: str
) -> None:
    with pytest.raises(UserError, match=expected) as caught:
        read_picks(str(other.folder), KIND, plan, pool)
    assert str(caught.value).startswith(f"model.picks_from={other.folder} ")


def test_fewer_rounds_than_the_other_run_has_are_enough(
    other: FittedRun, pool: SegmentationDataModule
) -> None:
    for number in (1, 2, 3):
        found = read_picks(str(other.folder), KIND, Plan(5, 3, number), pool)
        assert found.picks == {one: deal_of(other).rounds.queries[one] for one in range(1, number)}


def test_a_run_that_is_not_far_enough_is_told(
    other: FittedRun, pool: SegmentationDataModule, tmp_path: Path
) -> None:
    labelled = deal_of(other).rounds.labelled
    early = changed(other, tmp_path, labelled=torch.where(labelled == 3, 0, labelled))
    assert [*read_picks(str(early), KIND, Plan(5, 3, 2), pool).picks] == [1]
    expected = r"has chosen the images of 2 rounds so far, and .*=3 needs those of 3\. Go on .*\.rounds=2\.$"
    with pytest.raises(UserError, match=expected):
        read_picks(str(early), KIND, Plan(5, 3, 3), pool)


def test_another_pool_is_told(other: FittedRun) -> None:
    data = scenes_of_few("data.num_train=21")
    data.setup()
    with pytest.raises(UserError, match=r"from other training images than those of data=street_scenes here"):
        read_picks(str(other.folder), KIND, Plan(5, 3, 3), data)


def with_configuration(run: FittedRun, *words: str) -> FittedRun:
    """The run, and in its folder the configuration, of other data where words say so."""
    write_config(run.folder, configuration("model=deal", *FEW, *ROUNDS, "data.seed=5", *words))
    return run


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        ((), None),
        (("data.batch_size=2", "data.augment=deal", "data.seed=9"), None),  # of the training alone
        (("data.scene_seed=7",), "data.scene_seed is 7 in the checkpoint and 0 here"),
        (("data.num_test=7",), "data.num_test is 7 in the checkpoint and 6 here"),
        (("data.std=[0.2,0.2,0.2]",), "data.std is [0.2, 0.2, 0.2] in the checkpoint and [0.229, 0.224"),
    ],
)
def test_images_of_the_same_names_and_of_other_settings_are_told(
    other: FittedRun, tmp_path: Path, theirs: tuple[str, ...], message: str | None
) -> None:
    with_configuration(other, *theirs)
    config = configuration("model=deal", *FEW, *ROUNDS, f"model.picks_from={other.folder}")
    data, module = build_datamodule(config), build_module(config)
    assert isinstance(module, Deal)
    module.trained_on = config["data"]  # as a session does
    if message is None:
        module.on_phase_start(data)
        assert module.rounds.picks.keys() == {1, 2}
        return
    with pytest.raises(UserError) as caught:
        module.on_phase_start(data)
    start = f"model.picks_from={other.folder} has chosen from other images: {message}"
    assert str(caught.value).startswith(start)
    assert "\n" not in str(caught.value)
    # a checkpoint that was taken out of its run folder does not say what its data were
    module.picks_from = str(shutil.copy(other.folder / "checkpoints" / "best.ckpt", tmp_path))
    module.on_phase_start(data)
    assert module.rounds.picks.keys() == {1, 2}


def test_where_files_lie_is_no_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    (tmp_path / "run" / "checkpoints" / "best.ckpt").touch()
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    there = {"root": "/theirs", "cache": "/theirs/kept", "folder": "mine", "seed": 3, "height": 90}
    write_config(tmp_path / "run", {"data": there, "paths": {"data": "/theirs", "cache": "/theirs/kept"}})
    here = {"root": "/ours", "cache": "/ours/kept", "folder": str(tmp_path / "mine"), "seed": 4, "height": 90}
    check_same_data("run", SegmentationDataModule, here, ("/ours", "/ours/kept"))
    check_same_data("run", SegmentationDataModule, None, ())
    for key, value in (("folder", "yours"), ("height", 91)):
        with pytest.raises(UserError, match=rf"data\.{key} is .* in the checkpoint and {value} here"):
            check_same_data("run", SegmentationDataModule, here | {key: value}, ("/ours", "/ours/kept"))


@pytest.mark.parametrize(
    "rounds",
    [
        {"queries": {}},
        {"labelled": torch.empty(0, dtype=torch.long)},
        {"labelled": [1, 0]},
        {"picked_by": "whim"},
        {"surplus": 1},
    ],
)
def test_a_state_that_does_not_hold_together_is_told(
    other: FittedRun, pool: SegmentationDataModule, tmp_path: Path, rounds: dict[str, Any]
) -> None:
    path = changed(other, tmp_path, **rounds)
    with pytest.raises(UserError, match=r"^model\.picks_from=.* is damaged: it does not say which images"):
        read_picks(str(path), KIND, Plan(5, 3, 3), pool)


def test_a_state_of_before_there_were_picks_is_read(other: FittedRun) -> None:
    state = deal_of(other).rounds.state()
    del state["picks"], state["picked_by"]
    assert Rounds.of(state).picks == {}


def test_a_trained_module_is_built_without_asking_for_the_other_run(tmp_path: Path) -> None:
    config = configuration("model=deal", *FEW, *ROUNDS, f"model.picks_from={tmp_path / 'gone'}")
    module = build_module(config)
    assert isinstance(module, Deal)
    assert "picks_from" in Deal.training_only


@pytest.mark.usefixtures("as_before")
def test_what_is_no_such_run_is_told_in_one_line_and_leaves_nothing(tmp_path: Path, capsys: Output) -> None:
    few = (*FEW, ONE_EPOCH, "~callbacks.pictures")
    assert command(tmp_path, "model=deeplab", *few) == 0
    plain = run_folder(capsys.readouterr().out)
    kept = {path for path in tmp_path.rglob("*") if path.is_file()}
    runs = f"is a folder of runs. The newest of them: model.picks_from={plain}"
    for given, expected in (
        (plain.parent, runs),
        (tmp_path / "nowhere", "there is no such file. Give a run folder, such as runs/deal_street_scenes/"),
        (tmp_path, "is a folder without checkpoints/best.ckpt"),
        (plain, "is of DeepLab, which chooses no images. Give the folder of a run of model=deal"),
    ):
        assert command(tmp_path, "model=deal", *few, *ROUNDS, f"model.picks_from={given}") == 2
        error = capsys.readouterr().err.splitlines()[-1]
        assert error.startswith(f"error: model.picks_from={given}")
        assert expected in error
        assert {path for path in tmp_path.rglob("*") if path.is_file()} == kept
