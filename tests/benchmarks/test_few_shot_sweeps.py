"""The runs, the table and the pictures of students that are taught with few images."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks import few_shot_sweeps
from benchmarks.few_shot_page import few_shot_section, few_shot_table, spreads
from benchmarks.few_shot_sweeps import METHODS, STUDENT_OF_JPEG, Method, lines_of
from benchmarks.report import ROOT
from benchmarks.sweeps import collect, jobs_of
from harness.configuration.check import check
from harness.configuration.compose import compose


def row(method: str, title: str, shots: int | None, draw: int, seed: int, acc: float) -> dict[str, Any]:
    words = [f"model.shots={shots}", f"model.sample_seed={draw}"] if shots else ["model.network={name: vgg}"]
    return {
        "method": method,
        "title": title,
        "shots": shots,
        "sample_seed": draw,
        "command": ["python", "run.py", "model=x", "data=shapes", *words, f"seed={seed}"],
        "data": "shapes",
        "seed": seed,
        "metrics": {"test/acc": acc}
        | ({"test/acc_teacher": 0.99, "test/acc_naive_join": 0.3} if shots else {}),
        "seconds": {"setup": 600.0, "stage1": 50.0, "test": 10.0},
        "hardware": {"cpu": "a processor"},
        "commit": "0123456789abcdef",
        "dirty": False,
        "date": "2026-01-02",
    }


ROWS = [
    *(
        row("a", "NetGraft", 5, draw, seed, 0.9 + 0.02 * draw + 0.01 * seed)
        for draw in (0, 1)
        for seed in (0, 1)
    ),
    row("b", "KD from scratch", 5, 0, 0, 0.2),
    row("c", "student, all labelled images", None, 0, 0, 0.98),
]


def test_training_noise_and_the_draw_of_the_images_are_told_apart() -> None:
    # within a draw 90, 91 and 92, 93: both sd 0.7071; means 90.5 and 92.5: sd 1.4142
    assert spreads(ROWS[:4]) == pytest.approx((0.5**0.5, 2**0.5))
    assert spreads(ROWS[:2])[1] is None
    assert spreads(ROWS[4:5]) == (None, None)


def test_a_line_stands_for_all_runs_of_a_method_and_number_of_images() -> None:
    lines = few_shot_table(ROWS).splitlines()
    assert len(lines) == 5
    assert lines[2] == (
        "| shapes | NetGraft | 5 | 91.5 | 0.7 | 1.4 | 2 x 2 | 99.0 | 1.0 | `python run.py model=x data=shapes"
        " model.shots=5 model.sample_seed=0..1 seed=0..1` |"
    )
    assert "| KD from scratch | 5 | 20.0 | – | – | 1 x 1 |" in lines[3]
    assert "| all | 98.0 | – | – | – x 1 | – |" in lines[4]
    assert "'model.network={name: vgg}'" in lines[4]


def test_the_section_says_what_was_asked_for_and_shows_the_pictures(tmp_path: Path) -> None:
    (tmp_path / "few_shot.json").write_text(json.dumps(ROWS), encoding="utf-8")
    assert [path.name for path in few_shot_sweeps.draw_pictures(ROWS, tmp_path)] == ["netgraft_shots.png"]
    section = " ".join(few_shot_section(tmp_path).split())
    assert "measured: 91.5 %, 70.0 (over the runs with the same images and seeds) and 61.5." in section
    assert "2026-01-02, a processor, source 0123456789ab" in section
    assert "(benchmarks/results/netgraft_shots.png)" in section


def test_nothing_is_claimed_of_what_was_not_run(tmp_path: Path) -> None:
    assert few_shot_section(tmp_path) == few_shot_table([]) == "Not run."


def test_runs_are_made_once_resumed_and_recorded_with_their_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    network = "{name: vgg, widths: [[4], [4]], head: 8, head_norm: false, linear_std: 0.3}"
    small = ("data.num_train=40", "data.num_val=0", "data.num_test=20", "trainer.max_epochs=1")
    words = (
        f"model.student={network}",
        f'model.requires.teacher=["model=classifier","data=shapes","model.network={network}",'
        '"data.num_train=40","trainer.max_epochs=1"]',
        "model.grafted=[1, 2]",
        *small,
    )
    methods = [
        Method("tiny", "NetGraft", "netgraft", "shapes", words, 2, 2, (1,)),
        Method("full", "student", "classifier", "shapes", (f"model.network={network}", *small), 1, shots=()),
    ]
    monkeypatch.setattr(few_shot_sweeps, "METHODS", methods)
    runs, output = tmp_path / "runs", tmp_path / "results"
    given = ["--runs", str(runs), "--output", str(output), "--seeds", "1"]
    monkeypatch.setattr(sys, "argv", ["few_shot_sweeps", *given, "--only", "tiny", "full"])
    few_shot_sweeps.main()
    told = capsys.readouterr().out
    assert "[3/3]" in told
    rows = json.loads((output / "few_shot.json").read_text(encoding="utf-8"))
    assert [(one["method"], one["shots"], one["sample_seed"]) for one in rows] == [
        ("tiny", 1, 0),
        ("tiny", 1, 1),
        ("full", None, 0),
    ]
    assert rows[0]["command"] == [
        *("python", "run.py", "model=netgraft", "data=shapes", *words),
        *("model.shots=1", "model.sample_seed=0", "seed=0"),
    ]
    assert (output / "netgraft_shots.png").is_file()
    assert len(list((runs / "prerequisites").glob("classifier_shapes_*/results.json"))) == 1
    few_shot_sweeps.main()
    assert "seed 0" not in capsys.readouterr().out.partition("|")[0]
    # what is recorded stays where its runs are gone
    assert collect(lines_of(methods, 2), tmp_path / "elsewhere", rows) == rows


def test_five_seeds_and_three_draws_of_every_number_of_images(tmp_path: Path) -> None:
    jobs = jobs_of(lines_of(METHODS[:1], 3), 5, tmp_path)
    assert len({place for _, _, place in jobs}) == len(jobs) == 5 * 3 * 3
    assert len({one.key for one in METHODS}) == len(METHODS)


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.key)
def test_every_command_is_a_good_one(method: Method) -> None:
    for _, _, experiment in method.experiments(1):
        composed = compose(experiment.command(0))
        check(composed.config, composed.choices)


def test_the_student_on_all_of_cifar_is_trained_as_the_teacher_is() -> None:
    preset = ROOT / "conf" / "experiment" / "netgraft_cifar10_jpeg.yaml"
    teacher = yaml.safe_load(preset.read_text(encoding="utf-8"))["model"]["requires"]["teacher"]
    words = ["model=classifier", "data=cifar10_jpeg", *STUDENT_OF_JPEG]
    assert [word.replace("vgg_small_half", "vgg_small") for word in words] == teacher
