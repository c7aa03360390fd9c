"""Training on many graphs: one split, folds, checkpoints, predictions, and a killed cross-validation."""

import csv
import random
import statistics
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.kill_resume import kill_and_resume, unbroken
from datamodules.graph_sets import make_graph_set
from harness.build import build_datamodule, build_module
from harness.loading import load_run
from lightning_modules.factorgcn.module import FactorGCN
from lightning_modules.graph_prediction.baselines import GraphBaseline
from lightning_modules.graph_prediction.module import GraphPredictor
from tests.command_lines import command, metrics_rows, refusal, run_folder
from tests.datamodules.graph_files import write_mutag
from tests.small_runs import assert_same_weights, configuration, fit

pytestmark = pytest.mark.usefixtures("as_before")

SMALL = ("data=mini_factor_graphs", "data.num_graphs=120", "data.batch_size=30")
BASELINES = ("graph_mlp", "graph_gcn", "graph_gat", "gin", "disengcn")
FOLDS = ("data=mutag", "data.folds=3", "trainer.max_epochs=4")


@pytest.fixture(scope="module")
def mutag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data sets with generated graphs in the place of MUTAG."""
    root = tmp_path_factory.mktemp("sets")
    write_mutag(root)
    return root


def places(mutag: Path, folder: Path) -> tuple[str, ...]:
    return (f"paths.data={mutag}", f"paths.cache={folder / 'cache'}")


def test_the_networks_have_as_many_parameters_as_the_specification_says() -> None:
    synthetic = build_module(configuration("model=factorgcn", "data=factor_graphs"))
    zinc = build_module(configuration("model=factorgcn", "data=zinc"))
    pattern = build_module(configuration("model=factorgcn", "data=pattern"))
    counts = [sum(p.numel() for p in module.parameters()) for module in (synthetic, zinc, pattern)]
    # the published counts of the last two hold a batch normalisation of 288 that nothing uses
    assert counts == [1354, 41035 - 288, 54404 - 288]


@pytest.mark.parametrize("model", ["factorgcn", *BASELINES])
def test_a_training_step_gives_every_parameter_a_finite_gradient(model: str) -> None:
    config = configuration(f"model={model}", *SMALL)
    module, data = build_module(config), build_datamodule(config)
    assert isinstance(module, GraphPredictor)
    loss = module.training_step(next(iter(data.train_dataloader())), 0)
    assert loss.isfinite()
    loss.backward()
    without = [name for name, p in module.network.named_parameters() if p.grad is None]
    assert without == []
    assert all(p.grad.isfinite().all() for p in module.network.parameters() if p.grad is not None)


@pytest.mark.parametrize("model", ["factorgcn", *BASELINES])
def test_labels_of_nodes_are_trained_tested_and_predicted(model: str, tmp_path: Path) -> None:
    words = (f"model={model}", "data=mini_ppi", "model.readout=mlp", "trainer.max_epochs=1")
    trained = fit(tmp_path, *words)
    assert 0 <= trained.test()["test/f1"] <= 1
    module, data = trained.module, trained.datamodule
    assert isinstance(module, GraphPredictor)
    outputs = [module.predict_step(batch, 0) for batch in data.predict_dataloader()]
    rows = list(module.prediction_rows(outputs, data))
    assert [(row["graph"], row["node"]) for row in rows] == [(g, n) for g in (10, 11) for n in range(120)]
    y = data.splits["test"].y  # type: ignore[attr-defined]
    assert rows[7]["true"] == "+".join(str(label) for label in range(10) if y[7, label])
    present = [label for label in range(10) if float(rows[7][f"p({label})"]) > 0.5]
    assert rows[7]["predicted"] == "+".join(map(str, present))


def test_whole_graphs_are_not_read_out_where_nodes_are_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refusal(tmp_path, capsys, "model=graph_gcn", "data=mini_ppi")
    assert "model.readout=mean predicts whole graphs" in error
    assert "each node's labels. Use model.readout=mlp" in error


@pytest.mark.parametrize("words", [("model.factors=[4,1]",), ("model.discriminator_weight=0",)])
def test_what_is_trained_gets_a_gradient_in_every_step_as_ddp_demands(words: tuple[str, ...]) -> None:
    config = configuration("model=factorgcn", *SMALL, *words)
    module, data = build_module(config), build_datamodule(config)
    module.training_step(next(iter(data.train_dataloader())), 0).backward()
    trained = [p for p in module.parameters() if p.requires_grad]
    assert all(p.grad is not None for p in trained)


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
@pytest.mark.parametrize("model", ["factorgcn", *BASELINES])
def test_every_precision_trains_and_tests(model: str, precision: str, tmp_path: Path) -> None:
    words = (f"model={model}", *SMALL, "trainer.max_epochs=1", f"hardware.precision={precision}")
    assert 0 <= fit(tmp_path, *words).test()["test/f1"] <= 1


def test_features_are_not_embedded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(tmp_path, "model=gin", *SMALL, "model.embedding_channels=8") == 2
    assert "Set model.embedding_channels=null." in capsys.readouterr().err.splitlines()[-1]


def test_a_graph_s_prediction_does_not_depend_on_the_order_of_its_nodes() -> None:
    config = configuration("model=gin", *SMALL)
    module, data = build_module(config).eval().double(), build_datamodule(config)
    assert isinstance(module, GraphPredictor)
    part = data.splits["test"].take(torch.tensor([0]))  # type: ignore[attr-defined]
    order = torch.randperm(15, generator=torch.Generator().manual_seed(0))  # new place of each node
    source, target = (order[end.long()].numpy() for end in part.edge_index)
    features = torch.empty_like(part.x)
    features[order] = part.x  # the columns stay
    other = source != target
    moved = make_graph_set(features, np.array([15]), source[other], target[other], part.y, self_loops=True)
    both = [module(graphs.batch(torch.tensor([0]))) for graphs in (part, moved)]
    torch.testing.assert_close(*both, rtol=0, atol=1e-12)


def test_without_weight_the_discriminator_is_not_computed_and_gets_no_gradient() -> None:
    config = configuration("model=factorgcn", *SMALL, "model.discriminator_weight=0")
    module, data = build_module(config), build_datamodule(config)
    assert isinstance(module, FactorGCN)
    module.training_step(next(iter(data.train_dataloader())), 0).backward()
    assert all(p.grad is None for p in module.network.discriminators.parameters())
    assert list(module.train_averages()) == ["train/task_loss"]


def test_the_loss_is_that_of_the_task_plus_lambda_times_each_layer_s() -> None:
    config = configuration("model=factorgcn", *SMALL, "model.discriminator_weight=0.3")
    module, data = build_module(config), build_datamodule(config)
    assert isinstance(module, FactorGCN)
    loss = module.training_step(next(iter(data.train_dataloader())), 0)
    parts = {name: average.compute() for name, average in module.train_averages().items()}
    added = parts["train/dis_loss_1"] + parts["train/dis_loss_2"]
    assert loss.item() == pytest.approx((parts["train/task_loss"] + 0.3 * added).item(), rel=1e-6)


def test_a_graph_s_prediction_does_not_depend_on_its_batch() -> None:
    config = configuration("model=factorgcn", *SMALL)
    module, data = build_module(config).eval(), build_datamodule(config)
    loader = data.loader("test", shared=False)  # type: ignore[attr-defined]
    together = module(loader.batch(torch.arange(24)))
    alone = torch.cat([module(loader.batch(torch.tensor([number]))) for number in range(24)])
    torch.testing.assert_close(together, alone)


def test_a_run_reports_the_task_first_and_each_measure_with_its_null_predictors(tmp_path: Path) -> None:
    fitted = fit(tmp_path, "model=factorgcn", *SMALL, "trainer.max_epochs=2")
    names = list(fitted.test())
    assert names[0] == "test/f1"
    for measure in ("ged", "c_score", "c_score_index"):
        assert {f"test/{measure}{suffix}" for suffix in ("", "_random", "_equal")} <= set(names)


def test_methods_without_factors_are_not_measured_for_them(tmp_path: Path) -> None:
    fitted = fit(tmp_path, "model=gin", *SMALL, "trainer.max_epochs=1")
    assert set(fitted.test()) == {"test/f1", "test/acc", "test/loss"}


def test_a_schedule_that_waits_for_the_validation_loss_ends_training(tmp_path: Path) -> None:
    schedule = "model.scheduler={name: ReduceLROnPlateau, factor: 0.1, patience: 0, threshold: 1.0}"
    words = (*SMALL, schedule, "model.stop_below_lr=1e-4", "trainer.max_epochs=20")
    fitted = fit(tmp_path, "model=gin", *words)
    # 0.005, 0.0005 after the first epoch, 0.00005 after the second, which the third sees
    assert fitted.record.epochs == {"fit": 3}


def test_a_cross_validation_trains_each_fold_anew_and_reports_the_best_epoch_of_their_mean(
    mutag: Path, tmp_path: Path
) -> None:
    fitted = fit(tmp_path / "run", "model=gin", *FOLDS, *places(mutag, tmp_path))
    module = fitted.module
    assert isinstance(module, GraphPredictor)
    assert list(fitted.record.epochs) == ["fold_1", "fold_2", "fold_3"]
    state = module._kept.state()
    assert [len(curve) for curve in state["curves"]] == [4, 4, 4]
    means = [statistics.fmean(values) for values in zip(*state["curves"], strict=True)]
    found = fitted.test()
    best = means.index(max(means))
    assert found["test/acc"] == pytest.approx(max(means))
    values = [curve[best] for curve in state["curves"]]
    assert found["test/acc_std"] == pytest.approx(statistics.stdev(values))
    # the last epoch's accuracy of each fold is that of the weights kept for it
    assert found["test/acc_last"] == pytest.approx(means[-1])
    first = [weights["readout.linears.0.weight"] for weights in state["weights"]]
    assert not torch.equal(first[0], first[1])


def test_a_fold_does_not_depend_on_the_folds_before_it(mutag: Path, tmp_path: Path) -> None:
    words = ("model=gin", *FOLDS, *places(mutag, tmp_path))
    one = fit(tmp_path / "one", *words).module
    other = fit(tmp_path / "other", *words, "model.dropout=0.2").module
    assert isinstance(one, GraphPredictor)
    assert isinstance(other, GraphPredictor)
    again = fit(tmp_path / "again", *words).module
    assert isinstance(again, GraphPredictor)
    assert one._kept.curves == again._kept.curves
    for mine, same in zip(one._kept.weights, again._kept.weights, strict=True):
        assert_same_weights(mine, same)
    assert one._kept.weights[0].keys() == other._kept.weights[0].keys()


def test_holdout_tests_each_fold_with_the_weights_that_its_validation_chose(
    mutag: Path, tmp_path: Path
) -> None:
    words = ("data.protocol=holdout", "callbacks.best_weights.monitor=val/acc", *places(mutag, tmp_path))
    fitted = fit(tmp_path / "run", "model=gin", *FOLDS, *words)
    found = fitted.test()
    assert set(found) == {"test/acc", "test/acc_std", "test/loss"}
    module, data = fitted.module, fitted.datamodule
    assert isinstance(module, GraphPredictor)
    module.eval()
    each = []
    for fold, weights in enumerate(module._kept.weights):
        module.network.load_state_dict(weights)
        graphs = data.splits["test"]  # type: ignore[attr-defined]
        mine = (graphs.fold == fold).nonzero().squeeze(1)
        batch = data.loader("test", shared=False).batch(mine)  # type: ignore[attr-defined]
        each.append((module(batch).argmax(1) == batch["y"]).double().mean().item())
    assert found["test/acc"] == pytest.approx(statistics.fmean(each))
    assert found["test/acc_std"] == pytest.approx(statistics.stdev(each))


def test_a_tested_checkpoint_of_folds_gives_the_run_s_metrics_and_predictions_of_every_graph(
    mutag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("model=gin", *FOLDS)
    where = (f"paths.data={mutag}", "~callbacks.pictures")
    assert command(tmp_path, *words, *where) == 0
    folder = run_folder(capsys.readouterr().out)
    module, _ = load_run(folder)
    assert isinstance(module, GraphBaseline)
    assert command(tmp_path, *words, *where, "mode=test", f"ckpt={folder}") == 0
    told = capsys.readouterr().out
    assert f"{100 * module._kept.best_epoch()[1]:.1f} %" in told
    assert command(tmp_path, *words, *where, "mode=predict", f"ckpt={folder}") == 0
    predicted = run_folder(capsys.readouterr().out)
    with (predicted / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 188
    assert {row["fold"] for row in rows} == {"1", "2", "3"}
    last = statistics.fmean(
        statistics.fmean(row["true"] == row["predicted"] for row in rows if row["fold"] == fold)
        for fold in ("1", "2", "3")
    )
    assert last == pytest.approx(statistics.fmean(curve[-1] for curve in module._kept.curves))


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("callbacks.best_weights.patience=5", "Set callbacks.best_weights.patience=null"),
        ("data.protocol=holdout", "Set callbacks.best_weights.monitor=val/acc"),
    ],
)
def test_a_protocol_that_the_choice_of_weights_would_spoil_is_refused(
    word: str, told: str, mutag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = command(tmp_path, "model=gin", *FOLDS, f"paths.data={mutag}", word)
    err = capsys.readouterr().err
    assert status == 2
    assert told in err
    assert [line.startswith("error: ") for line in err.splitlines()][-2:] == [False, True]
    assert not list((tmp_path / "runs").rglob("run.json"))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("model=factorgcn", "model.factors=[5,2]"), "must divide model.hidden_channels=32, and 5"),
        (("model=factorgcn", "model.factors=[]"), "leaves no layer"),
        (("model=factorgcn", "model.measured_layer=3"), "at most 2"),
        (("model=graph_gat", "model.heads=5"), "model.heads must divide"),
        (("model=disengcn", "model.routing_steps=null"), "model.routing_steps=null"),
        (("model=gcn",), "graph_prediction"),
        (("model=gin", "data.protocol=holdout"), "data.protocol must be gin"),
        (("model=factorgcn", "data.num_classes=7"), "data.num_classes"),
    ],
)
def test_settings_that_do_not_go_together_are_refused_in_one_line(
    words: tuple[str, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in refusal(tmp_path, capsys, *SMALL, *words)


def test_the_rows_of_a_run_have_what_its_discriminators_reached(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(tmp_path, "model=factorgcn", *SMALL, "trainer.max_epochs=2") == 0
    rows = metrics_rows(run_folder(capsys.readouterr().out))
    last = [row for row in rows if row.get("val/f1")][-1]
    assert {"train/dis_loss_1", "train/dis_acc_1", "train/dis_loss_2", "train/task_loss"} <= set(last)


@pytest.mark.slow
def test_a_killed_cross_validation_ends_as_the_unbroken_one(mutag: Path, tmp_path: Path) -> None:
    words = ("model=factorgcn", "data=mutag", "data.folds=3", "trainer.max_epochs=8")
    words += places(mutag, tmp_path)
    folder, seconds = unbroken(words, tmp_path / "unbroken")
    trial = kill_and_resume(words, tmp_path / "killed", folder, seconds, random.Random(1))
    assert trial.kills
    assert trial.differences == []
