"""SPAGAN's training: its phases, its paths between them, and what it reaches."""

from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch

from datamodules.planetoid import planetoid_files
from harness.build import build_datamodule, build_module
from harness.checkpoints import load_checkpoint
from harness.errors import UserError
from lightning_modules.spagan.edge_costs import edge_costs
from lightning_modules.spagan.module import SPAGAN
from lightning_modules.spagan.path_search import find_paths
from tests.small_runs import FittedRun, assert_same_weights, configuration, fit

MINI = ("data=mini_citation", "trainer.max_epochs=12")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> FittedRun:
    return fit(tmp_path_factory.mktemp("spagan"), "model=spagan", *MINI)


@pytest.fixture(scope="module")
def iterated(tmp_path_factory: pytest.TempPathFactory) -> FittedRun:
    return fit(tmp_path_factory.mktemp("iterated"), "model=spagan", *MINI, "model.iterations=3")


def spagan(*overrides: str) -> SPAGAN:
    module = build_module(configuration("model=spagan", *overrides))
    assert isinstance(module, SPAGAN)
    return module


@pytest.mark.parametrize(
    ("overrides", "phases"),
    [
        ((), ("attention", "paths")),
        (("model.iterations=3",), ("attention", "paths", "paths_2", "paths_3")),
        (("model.edge_cost=unit",), ("paths",)),
    ],
)
def test_phases_follow_from_costs_and_iterations(overrides: tuple[str, ...], phases: tuple[str, ...]) -> None:
    assert spagan("data=mini_citation", *overrides).phases == phases


@pytest.mark.parametrize("seed", [0, 7])
def test_the_attention_phase_is_the_run_of_gat_with_the_same_seed(tmp_path: Path, seed: int) -> None:
    ours = fit(tmp_path / "spagan", "model=spagan", *MINI, f"seed={seed}")
    gat = fit(tmp_path / "gat", "model=gat", *MINI, f"seed={seed}")
    inside = {
        name.replace("network.gat.", "network."): tensor
        for name, tensor in ours.weights.items()
        if name.startswith("network.gat.")
    }
    assert_same_weights(inside, gat.weights)
    assert ours.record.metrics["test/acc_gat"] == gat.test()["test/acc"]
    assert ours.record.best_epochs["attention"] == gat.record.best_epochs["fit"]
    phase = (tmp_path / "spagan" / "metrics.csv").read_text().splitlines()[:13]
    assert phase == (tmp_path / "gat" / "metrics.csv").read_text().splitlines()


def test_paths_are_those_of_the_best_attention(run: FittedRun) -> None:
    module, graph = run.module, run.datamodule.graph
    costs = edge_costs(module.network.gat.edge_attention(module.prepare(graph)[0])[0])
    assert torch.equal(costs, module.costs)
    paths = find_paths(graph.edge_index, costs, graph.num_nodes, max_path_nodes=3, path_ratio=0.5)
    assert paths.equal(module.paths)


def test_the_path_network_starts_from_new_weights_and_leaves_the_attention_alone(tmp_path: Path) -> None:
    config = configuration("model=spagan", *MINI)
    module, datamodule = build_module(config), build_datamodule(config)
    path_weights = {name: tensor.clone() for name, tensor in module.network.hidden.state_dict().items()}
    module.phase_index = 0
    module.on_phase_start(datamodule)
    assert all(not parameter.requires_grad for parameter in module.network.path_parameters())
    module.on_phase_end(None, datamodule)
    module.phase_index = 1
    module.on_phase_start(datamodule)
    assert all(not parameter.requires_grad for parameter in module.network.gat.parameters())
    assert all(parameter.requires_grad for parameter in module.network.path_parameters())
    assert_same_weights(module.network.hidden.state_dict(), path_weights)


def test_the_path_phase_changes_no_weight_of_the_attention(run: FittedRun, tmp_path: Path) -> None:
    gat = fit(tmp_path, "model=gat", *MINI)
    assert torch.equal(run.weights["network.gat.hidden.weight"], gat.weights["network.hidden.weight"])


def test_a_phase_without_paths_says_what_is_missing() -> None:
    module, datamodule = spagan("data=mini_citation"), build_datamodule(configuration(*MINI))
    module.phase_index = 1
    with pytest.raises(RuntimeError, match="no paths yet"):
        module(datamodule.graph)


def test_unit_costs_need_no_attention_phase(tmp_path: Path) -> None:
    run = fit(tmp_path, "model=spagan", *MINI, "model.edge_cost=unit")
    assert list(run.record.epochs) == ["paths"]
    assert "test/acc_gat" not in run.record.metrics
    assert set(run.module.costs.tolist()) == {1.0}


def test_unit_costs_cannot_be_iterated(tmp_path: Path) -> None:
    with pytest.raises(
        UserError,
        match=r"model\.iterations must be 1 with model\.edge_cost=unit, got 2: .*Set model\.iterations=1",
    ):
        fit(tmp_path, "model=spagan", *MINI, "model.edge_cost=unit", "model.iterations=2")


def test_every_iteration_finds_its_paths_anew_and_starts_its_best_anew(iterated: FittedRun) -> None:
    assert iterated.record.epochs == dict.fromkeys(("attention", "paths", "paths_2", "paths_3"), 12)
    assert list(iterated.record.best_epochs) == ["attention", "paths", "paths_2", "paths_3"]
    reported = iterated.record.metrics
    assert {"test/acc_gat", "test/acc_paths", "test/acc_paths_2"} <= set(reported)
    # twice the paths of an earlier iteration were replaced, by some that were there and some that were not
    assert len(iterated.module.unchanged) == 2
    assert all(set(shares) == {2, 3} for shares in iterated.module.unchanged)
    assert all(0 <= share <= 1 for shares in iterated.module.unchanged for share in shares.values())
    assert any(shares[3] < 1 for shares in iterated.module.unchanged)


def test_the_first_iterations_are_those_of_a_run_that_ends_after_them(
    run: FittedRun, iterated: FittedRun
) -> None:
    assert iterated.record.metrics["test/acc_paths"] == run.test()["test/acc"]


def test_patience_counts_from_the_start_of_each_iteration(tmp_path: Path) -> None:
    run = fit(
        tmp_path,
        "model=spagan",
        "data=mini_citation",
        "trainer.max_epochs=60",
        "model.iterations=2",
        "model.optimizer.lr=0.1",
        "callbacks.best_weights.patience=5",
    )
    for name, epochs in run.record.epochs.items():
        assert epochs == min(60, run.record.best_epochs[name] + 6), name


def test_an_iteration_keeps_the_weights_that_the_one_before_has_trained(tmp_path: Path) -> None:
    one = fit(tmp_path, "model=spagan", *MINI)
    config = configuration("model=spagan", *MINI, "model.iterations=2")
    module, datamodule = build_module(config), build_datamodule(config)
    module.load_state_dict(one.weights)
    module.paths, module.costs = one.module.paths, one.module.costs
    module.phase_index = 1
    module.on_phase_end(None, datamodule)
    module.phase_index = 2
    module.on_phase_start(datamodule)
    assert_same_weights(module.state_dict(), one.weights)


def test_paths_survive_the_checkpoint(iterated: FittedRun) -> None:
    module = spagan(*MINI, "model.iterations=3", "seed=8")
    load_checkpoint(module, iterated.folder / "checkpoints" / "best.ckpt")
    assert module.paths.equal(iterated.module.paths)
    assert torch.equal(module.costs, iterated.module.costs)
    assert module.unchanged == iterated.module.unchanged
    assert module.test_accuracies == iterated.module.test_accuracies
    graph = iterated.datamodule.graph
    iterated.module.eval()
    module.eval()
    with torch.no_grad():
        assert torch.equal(module(graph), iterated.module(graph))


@pytest.mark.parametrize(
    "override",
    [
        "model.max_path_nodes=2",
        "model.max_path_nodes=4",
        "model.path_ratio=null",
        "model.path_ratio=0",
        "model.path_pool=mean",
        "model.length_attention=false",
        "model.path_choice=random",
        "model.path_search=scipy",
        "model.path_search=hop_limited",
        "model.init=authors",
        "model.elu_before_softmax=false",
        "model.output_layer=linear",
        "model.out_heads=3",
        "model.scheduler={name: CosineAnnealingLR, T_max: 10}",
        "model.optimizer={name: SGD, lr: 0.1}",
    ],
)
def test_every_switch_trains(tmp_path: Path, override: str) -> None:
    run = fit(tmp_path, "model=spagan", "data=mini_citation", "trainer.max_epochs=2", override)
    assert all(torch.isfinite(weight).all() for weight in run.weights.values())
    assert run.record.epochs == {"attention": 2, "paths": 2}


def test_exact_searches_train_to_the_same_weights(tmp_path: Path) -> None:
    one = fit(tmp_path / "exact", "model=spagan", *MINI)
    other = fit(tmp_path / "scipy", "model=spagan", *MINI, "model.path_search=scipy")
    assert_same_weights(other.weights, one.weights)


def relay_graph(folder: Path, max_path_nodes: int) -> list[float]:
    """Test accuracies of three seeds with the settings of the preset, as a user's command composes them."""
    accuracies = []
    for seed in range(3):
        run = fit(
            folder / str(seed),
            "model=spagan",
            "data=relay_graph",
            f"seed={seed}",
            f"model.max_path_nodes={max_path_nodes}",
        )
        assert run.record.epochs == {"paths": 200}
        accuracies.append(run.test()["test/acc"])
    return accuracies


def test_paths_of_three_nodes_solve_the_relay_graph(tmp_path: Path) -> None:
    accuracies = relay_graph(tmp_path, 3)
    assert min(accuracies) >= 0.9, accuracies


def test_paths_of_two_nodes_cannot_solve_the_relay_graph(tmp_path: Path) -> None:
    accuracies = relay_graph(tmp_path, 2)
    assert mean(accuracies) <= 0.4, accuracies


@pytest.mark.slow
def test_spagan_is_not_more_than_two_points_under_gat_on_the_mini_citation_graph(tmp_path: Path) -> None:
    ours, gat = [], []
    for seed in range(3):
        run = fit(
            tmp_path / str(seed),
            "model=spagan",
            "data=mini_citation",
            f"seed={seed}",
            "callbacks.best_weights.patience=50",
        )
        ours.append(run.test()["test/acc"])
        gat.append(run.record.metrics["test/acc_gat"])
    assert mean(ours) >= mean(gat) - 0.02, (ours, gat)


@pytest.mark.slow
def test_cora_is_learnt_as_well_as_the_specification_measured(shared_data: Path, tmp_path: Path) -> None:
    if not all((shared_data / file.path).is_file() for file in planetoid_files("Cora").values()):
        pytest.skip(f"Cora is not in {shared_data}")
    ours, gat = [], []
    for seed in range(5):
        run = fit(
            tmp_path / str(seed),
            "model=spagan",
            "data=cora",
            f"paths.data={shared_data}",
            f"paths.cache={tmp_path / 'cache'}",
            f"seed={seed}",
        )
        ours.append(100 * run.test()["test/acc"])
        gat.append(100 * run.record.metrics["test/acc_gat"])
    assert mean(gat) >= 81.5, gat
    assert mean(ours) >= 82.0, ours


def test_its_pictures_are_drawn_for_iterations_and_unit_costs_too(tmp_path: Path) -> None:
    names: dict[str, set[str]] = {}
    cases: dict[str, Any] = {"iterated": "model.iterations=2", "unit": "model.edge_cost=unit"}
    for name, override in cases.items():
        run = fit(tmp_path / name, "model=spagan", "data=mini_citation", "trainer.max_epochs=1", override)
        names[name] = {title for title, _ in run.module.figures(run.datamodule, None)}
    assert "unchanged_paths" in names["iterated"]
    assert "method_comparison" in names["iterated"]
    assert "method_comparison" not in names["unit"]
    assert {"edge_costs", "path_counts", "length_attention", "neighbourhood"} <= names["unit"]
