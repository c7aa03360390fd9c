"""Trained runs tested again and asked for predictions, and checkpoints that cannot be."""

import csv
import json
from pathlib import Path

import pytest

from tests.command_lines import MINI, Output, command, refusal, run_folder

pytestmark = pytest.mark.usefixtures("as_before")


def test_a_trained_run_can_be_tested_again_and_asked_for_predictions(tmp_path: Path, capsys: Output) -> None:
    fitted = ("model=spagan", "data=digits_graph", "trainer.max_epochs=2", "~callbacks.pictures")
    assert command(tmp_path, *fitted) == 0
    first = run_folder(capsys.readouterr().out)
    metrics = json.loads((first / "results.json").read_text())["metrics"]
    checkpoint = f"ckpt={first / 'checkpoints' / 'best.ckpt'}"

    assert command(tmp_path, *fitted, "mode=test", checkpoint, "seed=9") == 0
    second = run_folder(capsys.readouterr().out)
    assert second != first
    again = json.loads((second / "results.json").read_text())
    assert again["mode"] == "test"
    assert {name: again["metrics"][name] for name in ("test/acc", "test/loss", "test/f1_macro")} == {
        name: metrics[name] for name in ("test/acc", "test/loss", "test/f1_macro")
    }
    assert list((second / "checkpoints").iterdir()) == []
    assert again["best_checkpoint"] == str(first / "checkpoints" / "best.ckpt")

    assert command(tmp_path, *fitted, "mode=predict", checkpoint) == 0
    third = run_folder(capsys.readouterr().out)
    with (third / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 1797
    classes = [name[2:-1] for name in rows[0] if name.startswith("p(")]
    assert len(classes) == 10
    for row in rows[::100]:
        probabilities = [float(row[f"p({name})"]) for name in classes]
        assert sum(probabilities) == pytest.approx(1, abs=1e-4)
        assert row["predicted"] == classes[probabilities.index(max(probabilities))]
        assert row["true"] in classes
    tested = [row for row in rows if row["split"] == "test"]
    share = sum(row["true"] == row["predicted"] for row in tested) / len(tested)
    assert share == pytest.approx(metrics["test/acc"])


def test_a_checkpoint_that_is_none_is_a_user_s_mistake(tmp_path: Path, capsys: Output) -> None:
    missing = f"ckpt={tmp_path / 'nowhere' / 'best.ckpt'}"
    for mode in ("test", "predict"):
        err = refusal(tmp_path, capsys, *MINI, f"mode={mode}", missing)
        assert "there is no such file" in err
    (tmp_path / "notes.txt").write_text("not a checkpoint")
    err = refusal(tmp_path, capsys, *MINI, "mode=test", f"ckpt={tmp_path / 'notes.txt'}")
    assert "damaged or no checkpoint" in err


def test_a_checkpoint_of_other_settings_or_another_graph_is_a_user_s_mistake(
    tmp_path: Path, capsys: Output
) -> None:
    fitted = ("model=spagan", "data=digits_graph", "trainer.max_epochs=1", "~callbacks.pictures")
    assert command(tmp_path, *fitted) == 0
    checkpoint = f"ckpt={run_folder(capsys.readouterr().out) / 'checkpoints' / 'best.ckpt'}"
    err = refusal(tmp_path, capsys, *fitted, "mode=test", checkpoint, "model.heads=4")
    assert "does not fit: model.heads is 8 in the checkpoint and 4 here" in err
    assert command(tmp_path, *fitted, "mode=test", checkpoint, "data.num_neighbors=7") == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "paths were found on another graph, of 1797 nodes" in err.splitlines()[-1]
    assert len(list((tmp_path / "runs" / "spagan_digits_graph").iterdir())) == 1
