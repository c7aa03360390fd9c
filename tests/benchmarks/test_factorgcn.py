"""The loop that FactorGCN is timed against, and the tables of its results."""

from typing import Any

import pytest
import torch

from benchmarks.factor_loop import looped_step
from benchmarks.factor_page import factor_table, fold_table, short_table
from benchmarks.factor_sweeps import COMMON, SWEEPS
from benchmarks.reproduce import FACTORS, FOLDS, Experiment
from datamodules.factor_graphs import generate
from harness.configuration.check import check
from harness.configuration.compose import compose
from harness.sweeps.plan import combinations, read_plan
from lightning_modules.factorgcn.layers import FactorDiscriminator, FactorGraphConv
from lightning_modules.graph_prediction.batch import Graphs


def test_the_loop_computes_what_the_layer_computes() -> None:
    torch.manual_seed(0)
    batch = generate(20, 4, 0, self_loops=True).batch(torch.arange(20))
    batch["x"] = batch["x"].double()
    layer = FactorGraphConv(15, 8, 4, 6.0, "source").double()
    discriminator = FactorDiscriminator(2, 4).double()
    graphs = Graphs.of(batch, torch.float64)
    found = layer(batch["x"], graphs)
    out, logits = looped_step(layer, discriminator, batch)
    torch.testing.assert_close(out, found.out, rtol=0, atol=1e-12)
    torch.testing.assert_close(logits, discriminator(found, graphs), rtol=0, atol=1e-12)


def row(key: str, seed: int, published: float | None = None, **metrics: float) -> dict[str, Any]:
    stated = {"metric": "test/f1", "value": published, "spread": None, "source": "a paper"}
    return {
        "experiment": key,
        "seed": seed,
        "metrics": {f"test/{name}": value for name, value in metrics.items()},
        "published": stated if published else None,
        "seconds": {"setup": 1.0, "fit": 59.0, "test": 60.0},
    }


def test_a_line_has_means_over_seeds_the_published_values_and_the_null_predictors() -> None:
    experiment = Experiment("factorgcn_factor_graphs", "FactorGCN", "factorgcn", "factor_graphs")
    scores = {"ged": 10.0, "c_score": 0.5, "c_score_index": 0.6}
    nulls = {f"{name}{suffix}": 1.0 for name in scores for suffix in ("_random", "_equal")}
    rows = [row(experiment.key, seed, 0.995, f1=0.98 + seed / 100, **scores, **nulls) for seed in (0, 1)]
    lines = factor_table([experiment], rows).splitlines()
    assert len(lines) == 5
    assert "| 98.5 ± 0.7 | 10.00 ± 0.00 | 0.500 ± 0.000 |" in lines[2]
    assert "99.5, 10.59, 0.532" in lines[2]
    assert "`python run.py model=factorgcn data=factor_graphs seed=0..1`" in lines[2]
    assert [line.split("|")[2].strip() for line in lines[3:]] == [
        "random weights (null)",
        "all weights equal (null)",
    ]
    assert "| 98.5 ± 0.7 % micro-F1 | 2 | 99.5 % |" in short_table([experiment], rows)


def test_changed_settings_stand_beside_no_published_value() -> None:
    experiment = Experiment("x", "λ=0", "factorgcn", "factor_graphs", ("model.discriminator_weight=0",))
    line = factor_table([experiment], [row("x", 0, 0.995, f1=0.9)]).splitlines()[2]
    assert line.split("|")[8].strip() == "–"
    assert short_table([experiment], [row("x", 0, 0.995, f1=0.9)]) == ""


def test_a_cross_validation_is_one_line_with_its_deviation_over_folds() -> None:
    experiment = Experiment("m", "FactorGCN", "factorgcn", "mutag")
    made = row("m", 0, acc=0.894, acc_std=0.055, acc_last=0.868)
    line = fold_table([experiment], [made]).splitlines()[2]
    assert "| gin | 89.4 ± 5.5 | 86.8 | – | 0 | 2 |" in line


def test_nothing_is_claimed_of_what_was_not_run() -> None:
    assert factor_table(FACTORS, []) == fold_table(FOLDS, []) == "Not run."


@pytest.mark.parametrize("experiment", [*FACTORS, *FOLDS], ids=lambda experiment: experiment.key)
def test_every_command_of_the_page_is_a_good_one(experiment: Experiment) -> None:
    composed = compose(experiment.command(0))
    check(composed.config, composed.choices)


@pytest.mark.parametrize("name", SWEEPS)
def test_every_sweep_of_the_page_has_four_settings_over_three_seeds(name: str) -> None:
    assert len(list(combinations(read_plan([*COMMON, SWEEPS[name][1]])))) == 12
