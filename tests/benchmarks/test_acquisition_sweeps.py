"""The runs, the table and the picture of which images to label next."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import acquisition_sweeps
from benchmarks.acquisition_page import (
    FULL,
    PICTURE,
    TITLES,
    acceptance,
    acquisition_section,
    acquisition_table,
    draw_curves,
    last_on_shared_seeds,
    on_shared_seeds,
    published_table,
    ranking,
    rounds_of,
)
from benchmarks.acquisition_sweeps import ON_SCENES, STRATEGIES, Strategy
from harness.configuration.check import check
from harness.configuration.compose import compose


def row(
    name: str, seed: int, curve: tuple[float, ...], hard: float = 0.3, spearman: float | None = None
) -> dict[str, Any]:
    strategy = next(one for one in ON_SCENES if one.acquisition == name)
    metrics = {"test/miou": curve[-1]}
    if name != FULL:
        metrics |= {"queries/hard_share": hard, "queries/hard_share_of_pool": 0.3}
        for number, value in enumerate(curve, 1):
            metrics |= {f"round_{number}/labelled": 5.0 + 10 * number, f"round_{number}/miou": value}
            if spearman is not None:
                metrics[f"round_{number}/spearman"] = spearman + 0.01 * number
    return {
        "acquisition": name,
        "command": ["python", "run.py", *strategy.experiment().command(seed)],
        "data": "street_scenes",
        "seed": seed,
        "metrics": metrics,
        "seconds": {"setup": 600.0, "round_1": 50.0, "test": 10.0},
        "hardware": {"cpu": "a processor"},
        "commit": "0123456789abcdef",
        "dirty": False,
        "date": "2026-01-02",
    }


ROWS = [
    row("deal_ds", 0, (0.50, 0.70), 0.45, 0.8),
    row("deal_ds", 1, (0.52, 0.72), 0.43, 0.91),
    row("random", 0, (0.50, 0.66)),
    row(FULL, 0, (0.80,)),
]


def test_a_line_stands_for_all_seeds_of_a_strategy() -> None:
    lines = acquisition_table(ROWS).splitlines()
    assert lines[0].startswith("| labels chosen by | 15 | 25 | all | hard | Spearman | seeds |")
    assert len({line.count("|") for line in lines}) == 1
    assert lines[2].startswith(
        "| DEAL, difficulty score | 51.0 ± 1.4 | 71.0 ± 1.4 | – | 0.44 ± 0.01 | 0.87 ± 0.08 | 2 | 60 |"
    )
    assert lines[2].endswith("model.acquisition=deal_ds seed=N` N = 0, 1 |")
    assert lines[3].startswith("| random images | 50.0 | 66.0 | – | 0.30 | – | 1 |")
    assert lines[4].startswith("| all images labelled | – | – | 80.0 | – | – | 1 |")
    assert acquisition_table([]) == "Not run."


def test_a_curve_is_read_round_by_round() -> None:
    assert rounds_of(ROWS[0]) == pytest.approx({15: 50.0, 25: 70.0})
    assert rounds_of(ROWS[3]) == {}


def test_strategies_are_compared_over_the_seeds_that_both_have() -> None:
    ours, theirs = last_on_shared_seeds(ROWS, "deal_ds", "random")
    assert (ours, theirs) == (pytest.approx([70.0]), pytest.approx([66.0]))
    assert last_on_shared_seeds(ROWS, "deal_ds", "qbc") == ([], [])


def test_what_was_asked_is_compared_with_what_came_out() -> None:
    text = acceptance(ROWS)
    assert "(0.44, the pool 0.30, 2 seeds: reached)" in text
    assert "(70.0 against 66.0 %, +4.0 over 1 seed: reached)" in text
    assert "(0.87, lowest round 0.81: reached)" in text
    assert "there are fewer" in text
    poor = acceptance([row("deal_ds", 0, (0.5, 0.6), 0.39, 0.4), ROWS[2]])
    assert poor.count("not reached") == 3
    three = [row(name, seed, (0.5, 0.6), 0.4, 0.5) for name in ("deal_ds", "random") for seed in range(3)]
    assert "not reached" not in acceptance(three)
    assert "there are fewer" not in acceptance(three)
    assert acceptance(ROWS[:2]) == ""


def test_strategies_are_ranked_over_the_seeds_that_all_have() -> None:
    better = row("qbc", 0, (0.50, 0.75))
    text = ranking([*ROWS, better])
    assert "over the 1 seed that" in text
    assert text.endswith("committee of dropout passes 75.0; DEAL, difficulty score 70.0; random images 66.0.")
    assert ranking([*ROWS, row("qbc", 2, (0.5, 0.6))]) == ""
    assert ranking(ROWS[3:]) == ""


def test_the_chart_is_over_the_seeds_that_all_its_strategies_have_and_says_how_many() -> None:
    groups, seeds = on_shared_seeds(ROWS)
    assert (list(groups), seeds) == (["deal_ds", "random", FULL], [0])
    figure = draw_curves(ROWS)
    (axes,) = figure.axes
    found = {line.get_label(): list(line.get_ydata()) for line in axes.lines}
    assert found == {
        "DEAL, difficulty score": pytest.approx([50, 70]),
        "random images": pytest.approx([50, 66]),
        "all images labelled": pytest.approx([80, 80]),
    }
    assert not axes.collections, "one seed has no deviation"
    assert "+4.0 points" in figure.get_suptitle()
    (legend,) = figure.legends
    assert legend.get_title().get_text() == "Labels chosen by; means over the 1 seed that all share"
    two = [*ROWS, row("random", 1, (0.52, 0.68)), row(FULL, 1, (0.8,))]
    (axes,) = draw_curves(two).axes
    assert len(axes.collections) == 2


def test_a_strategy_without_a_shared_seed_is_not_in_the_chart() -> None:
    groups, seeds = on_shared_seeds([*ROWS, row("qbc", 2, (0.5, 0.6))])
    assert (list(groups), seeds) == (["deal_ds", "random", FULL], [0])


def test_the_section_says_what_was_published_whether_or_not_anything_was_run(tmp_path: Path) -> None:
    text = acquisition_section(tmp_path)
    assert "Not run." in text
    assert "reduced preset, not run" in text
    (tmp_path / "acquisition.json").write_text(json.dumps(ROWS), encoding="utf-8")
    text = acquisition_section(tmp_path)
    assert "a processor, source 0123456789ab." in text
    assert "tuned on seeds 0 to 2" in text
    lossy = ROWS[0] | {"data": "camvid_jpeg"}
    (tmp_path / "acquisition.json").write_text(json.dumps([*ROWS, lossy]), encoding="utf-8")
    text = acquisition_section(tmp_path)
    assert "a lossy copy, in a reduced preset" in text
    assert "not run" not in text


def test_published_curves_stand_unmeasured_beside_their_command() -> None:
    lines = published_table("deal_camvid").splitlines()
    assert lines[2] == (
        "| DEAL, difficulty score | – | 51.9 | 55.5 | 57.9 | 59.0 | 60.4 | 60.9 | 61.4"
        " | `python run.py model=deal data=camvid model.acquisition=deal_ds` |"
    )
    assert lines[-1] == "| VAAL | – | 51.7 | 55.0 | 57.1 | 58.2 | 59.7 | 60.7 | 61.2 | – |"
    assert "| 1200 | command |" in published_table("deal_cityscapes")


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.key)
def test_every_run_is_a_good_command(strategy: Strategy) -> None:
    composed = compose(strategy.experiment().command(3))
    check(composed.config, composed.choices)
    assert composed.config["model"].get("acquisition", FULL) == strategy.acquisition


def test_every_strategy_has_a_line() -> None:
    assert {strategy.acquisition for strategy in ON_SCENES} == set(TITLES)


def test_a_run_ends_up_in_table_and_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "acquisition.json").write_text(json.dumps(ROWS), encoding="utf-8")
    words = ["x", "--seeds", "0", "--runs", str(tmp_path / "runs"), "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    acquisition_sweeps.main()
    assert "71.0 ± 1.4" in capsys.readouterr().out
    assert (tmp_path / PICTURE).stat().st_size > 10_000
