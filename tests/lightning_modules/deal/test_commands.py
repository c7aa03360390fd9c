"""Commands: which images of a folder to annotate next, all rounds and their pictures, what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.command_lines import Output, child, command, refusal, run_folder
from tests.lightning_modules.deal.deal_runs import FEW, ROUNDS, rows_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Fourteen images of 24 x 16 pixels, nine of them with a mask: a bright square on a dark ground."""
    generator = np.random.default_rng(0)
    made = tmp_path / "mine"
    for kind in ("images", "masks"):
        (made / kind).mkdir(parents=True)
    for number in range(14):
        mask = np.zeros((16, 24), np.uint8)
        top, left = generator.integers(0, 9), generator.integers(0, 16)
        mask[top : top + 6, left : left + 6] = 1
        pixels = 60 + 120 * mask[..., None] + generator.integers(0, 40, (16, 24, 3))
        Image.fromarray(pixels.astype(np.uint8)).save(made / "images" / f"shot {number:02d}.png")
        if number < 9:
            Image.fromarray(mask).save(made / "masks" / f"shot {number:02d}.png")
    return made


SMALL = ("model.network=small_unet", "model.weights=null", "data.height=16", "data.width=24")


@pytest.mark.usefixtures("as_before")
def test_one_command_lists_which_images_of_a_folder_to_annotate_next(
    folder: Path, tmp_path: Path, capsys: Output
) -> None:
    words = ("model=deal", "data=image_mask_folder", f"data.folder={folder}", *SMALL)
    assert command(tmp_path, *words, "trainer.max_epochs=2", "model.step=2") == 0
    out, err = capsys.readouterr()
    made = run_folder(out)
    assert f"5 unlabelled images, those to annotate next first: {made / 'next_images.csv'}" in err
    rows = rows_of(made / "next_images.csv")
    assert [row["rank"] for row in rows] == ["1", "2", "3", "4", "5"]
    assert {row["file"] for row in rows} == {f"images/shot {number:02d}.png" for number in range(9, 14)}
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert all(Path(row["path"]).is_file() and row["path"].endswith(row["file"]) for row in rows)
    assert (made / "figures" / "next_images.png").is_file()
    found = json.loads((made / "results.json").read_text(encoding="utf-8"))["metrics"]
    assert found["round_1/labelled"] == 6  # two masks are for validation, one for the test

    assert command(tmp_path, *words, "mode=predict", f"ckpt={made}", "~callbacks.pictures") == 0
    out, err = capsys.readouterr()
    assert rows_of(run_folder(out) / "next_images.csv") == rows
    predicted = rows_of(run_folder(out) / "predictions.csv")
    assert predicted
    assert all((folder / row["image"]).is_file() for row in predicted)
    # once the first is annotated, it stands in no list any more
    first = rows[0]["file"].replace("images/", "masks/")
    Image.fromarray(np.ones((16, 24), np.uint8)).save(folder / first)
    assert command(tmp_path, *words, "mode=predict", f"ckpt={made}", "~callbacks.pictures") == 0
    out, err = capsys.readouterr()
    assert rows[0]["file"] not in {row["file"] for row in rows_of(run_folder(out) / "next_images.csv")}


@pytest.mark.usefixtures("as_before")
def test_where_everything_is_annotated_that_is_told_and_the_run_ends_well(
    folder: Path, tmp_path: Path, capsys: Output
) -> None:
    for number in range(9, 14):
        Image.fromarray(np.ones((16, 24), np.uint8)).save(folder / "masks" / f"shot {number:02d}.png")
    words = ("model=deal", "data=image_mask_folder", f"data.folder={folder}", *SMALL)
    assert command(tmp_path, *words, "trainer.max_epochs=1", "~callbacks.pictures") == 0
    out, err = capsys.readouterr()
    assert "all training images are labelled: there is nothing to annotate next" in err
    assert not (run_folder(out) / "next_images.csv").exists()


@pytest.mark.slow
def test_a_command_runs_two_rounds_and_draws_them(tmp_path: Path) -> None:
    done = child("model=deal", *FEW, *ROUNDS, "model.rounds=2", "hardware=cpu", "logger=csv", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    made = run_folder(done.stdout)
    drawn = {path.stem for path in (made / "figures").iterdir()}
    assert {"miou_by_labels", "iou_by_round", "class_difficulty", "class_shares", "scores"} <= drawn
    assert {"difficulty", "next_images", "class_iou", "training_curves"} <= drawn
    assert "could not be drawn" not in done.stderr
    found = json.loads((made / "results.json").read_text(encoding="utf-8"))["metrics"]
    assert found["round_2/miou"] == pytest.approx(found["test/miou"], abs=1e-6)


@pytest.mark.usefixtures("as_before")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("model.step=0",), "model.step"),
        (("model.candidates=1.5",), "model.candidates=1.5 must be above 0 and at most 1"),
        (("model.candidates=0",), "model.candidates"),
        (("model.levels=256",), "model.levels=256 must be at most 255"),
        (("model.acquisition=deal_dss",), "Did you mean 'deal_ds'?"),
        (("data=digits",), "semantic_segmentation"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_any_work(
    tmp_path: Path, capsys: Output, words: tuple[str, ...], expected: str
) -> None:
    few = () if words[0].startswith("data=") else (*FEW, *ROUNDS)
    assert expected in refusal(tmp_path, capsys, "model=deal", *few, *words)


@pytest.mark.usefixtures("as_before")
@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("model.initial=21", "Set model.initial to at most 20"),
        ("model.rounds=9", "Set model.rounds=6 at most"),
    ],
)
def test_a_plan_for_a_larger_pool_is_refused_before_training_and_leaves_nothing(
    tmp_path: Path, capsys: Output, word: str, expected: str
) -> None:
    assert command(tmp_path, "model=deal", *FEW, *ROUNDS, word) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith(f"error: {word}: data=street_scenes has 20 training images with a mask")
    assert expected in error
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.slow
def test_two_processes_go_through_the_rounds_together(tmp_path: Path) -> None:
    words = ("model=deal", *FEW, *ROUNDS, "model.acquisition=coreset", "logger=csv", "~callbacks.pictures")
    done = child(*words, "hardware=ddp_cpu", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads((run_folder(done.stdout) / "results.json").read_text(encoding="utf-8"))["metrics"]
    assert [found[f"round_{number}/labelled"] for number in (1, 2, 3)] == [5, 8, 11]
    assert len(rows_of(run_folder(done.stdout) / "next_images.csv")) == 9
