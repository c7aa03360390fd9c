"""Every method of node classification, found by itself: trains, learns, saves, predicts."""

from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import yaml

from harness.build import Run, build_datamodule, build_module, build_trainer
from harness.checkpoints import load_checkpoint, read_checkpoint
from lightning_modules.node_classification.module import NodeClassifier
from tests.small_runs import FittedRun, assert_same_weights, configuration, fit

CONF = Path(__file__).parents[3] / "conf"


def methods() -> list[str]:
    """Choices of ``model=`` that classify nodes; a new one is swept in by its YAML alone."""
    found = []
    for path in sorted((CONF / "model").glob("*.yaml")):
        node = yaml.safe_load(path.read_text(encoding="utf-8"))
        module, _, name = node["_target_"].rpartition(".")
        if getattr(__import__(module, fromlist=[name]), name).task == "node_classification":
            found.append(path.stem)
    return found


METHODS = methods()
DATA = ["mini_citation", "relay_graph", "digits_graph"]


@pytest.fixture(scope="module", params=METHODS)
def one_epoch(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> FittedRun:
    """One epoch of every phase on the mini-citation graph."""
    folder = tmp_path_factory.mktemp(request.param)
    return fit(folder, f"model={request.param}", "data=mini_citation", "trainer.max_epochs=1")


def test_the_methods_of_the_specification_are_among_those_swept() -> None:
    assert {"mlp", "gcn", "gat", "spagan"} <= set(METHODS)


def test_one_epoch_gives_finite_losses(one_epoch: FittedRun) -> None:
    metrics = (one_epoch.folder / "metrics.csv").read_text().splitlines()
    header = metrics[0].split(",")
    assert len(metrics) == 1 + len(one_epoch.module.phases)
    for line in metrics[1:]:
        row = dict(zip(header, line.split(","), strict=True))
        for name in ("train/loss", "val/loss", "train/acc", "val/acc"):
            assert torch.isfinite(torch.tensor(float(row[name])))


@pytest.mark.parametrize("data", DATA)
@pytest.mark.parametrize("method", METHODS)
def test_every_parameter_in_play_gets_a_finite_gradient(method: str, data: str) -> None:
    config = configuration(f"model={method}", f"data={data}")
    datamodule, module = build_datamodule(config), build_module(config)
    trained: set[str] = set()
    for index in range(len(module.phases)):
        module.phase_index = index
        module.on_phase_start(datamodule)
        module.train()
        module.zero_grad()
        loss, logged = module.training_loss(datamodule.graph)
        assert torch.isfinite(loss)
        assert 0 <= logged["train/acc"] <= 1
        loss.backward()
        for name, parameter in module.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad is not None, f"{name} in phase {module.phase}"
                assert torch.isfinite(parameter.grad).all(), f"{name} in phase {module.phase}"
                trained.add(name)
            else:
                assert parameter.grad is None, f"{name} in phase {module.phase}"
        module.on_phase_end(None, datamodule)
    if module.hparams.get("edge_cost") != "unit":  # then the attention network has no phase
        assert trained == {name for name, _ in module.named_parameters()}


def test_a_reloaded_checkpoint_gives_the_same_output(one_epoch: FittedRun) -> None:
    path = one_epoch.folder / "checkpoints" / "best.ckpt"
    torch.load(path, weights_only=True)
    module = build_module(one_epoch.config | {"seed": 99})
    load_checkpoint(module, path)
    graph = one_epoch.datamodule.graph
    one_epoch.module.eval()
    module.eval()
    with torch.no_grad():
        assert torch.equal(module(graph), one_epoch.module(graph))


def test_a_checkpoint_alone_tells_how_to_build_its_module(one_epoch: FittedRun) -> None:
    arguments = read_checkpoint(one_epoch.folder / "checkpoints" / "best.ckpt")["hyper_parameters"]
    again = type(one_epoch.module)(**arguments)
    assert {n: p.shape for n, p in again.named_parameters()} == {
        n: p.shape for n, p in one_epoch.module.named_parameters()
    }


def test_output_is_log_probabilities_of_every_node(one_epoch: FittedRun) -> None:
    graph = one_epoch.datamodule.graph
    with torch.no_grad():
        output = one_epoch.module(graph)
    assert output.shape == (600, 4)
    torch.testing.assert_close(output.exp().sum(1), torch.ones(600))


def test_the_test_is_the_accuracy_of_the_test_nodes_without_dropout(one_epoch: FittedRun) -> None:
    metrics, graph, module = one_epoch.test(), one_epoch.datamodule.graph, one_epoch.module.eval()
    with torch.no_grad():
        output = module(graph)[graph.test_mask]
    y = graph.y[graph.test_mask]
    predicted = output.argmax(1)
    assert metrics["test/acc"] == pytest.approx(float((predicted == y).float().mean()))
    assert metrics["test/loss"] == pytest.approx(float(F.nll_loss(output, y)))
    scores = []
    for label in range(4):
        hits = int(((predicted == label) & (y == label)).sum())
        scores.append(2 * hits / max(1, int((predicted == label).sum() + (y == label).sum())))
    assert metrics["test/f1_macro"] == pytest.approx(mean(scores), abs=1e-6)


def test_the_loss_reads_training_nodes_only(one_epoch: FittedRun) -> None:
    module, graph = one_epoch.module.eval(), one_epoch.datamodule.graph
    loss, logged = module.training_loss(graph)
    other = graph.clone()
    other.y = torch.where(graph.train_mask, graph.y, (graph.y + 1) % 4)
    unseen, unseen_logged = module.training_loss(other)
    assert torch.equal(unseen, loss)
    assert torch.equal(unseen_logged["train/acc"], logged["train/acc"])


def test_predictions_have_a_row_for_every_node(one_epoch: FittedRun) -> None:
    trainer = build_trainer(Run(one_epoch.config, one_epoch.folder, one_epoch.module, one_epoch.datamodule))
    outputs = trainer.predict(one_epoch.module, datamodule=one_epoch.datamodule)
    rows = list(one_epoch.module.prediction_rows(outputs, one_epoch.datamodule))
    graph = one_epoch.datamodule.graph
    assert [row["node"] for row in rows] == list(range(600))
    for split in ("train", "val", "test"):
        nodes = [row["node"] for row in rows if row["split"] == split]
        assert nodes == graph[f"{split}_mask"].nonzero().ravel().tolist()
    with torch.no_grad():
        probabilities = one_epoch.module.eval()(graph).exp()
    names = [key[2:-1] for key in rows[0] if key.startswith("p(")]
    assert len(names) == 4
    for row, expected, label in zip(rows, probabilities.tolist(), graph.y.tolist(), strict=True):
        assert [float(row[f"p({name})"]) for name in names] == pytest.approx(expected, abs=1e-6)
        assert row["true"] == names[label]
        assert row["predicted"] == names[max(range(4), key=expected.__getitem__)]


def test_a_graph_without_validation_nodes_has_no_validation_metrics() -> None:
    config = configuration("model=gcn", "data=relay_graph")
    datamodule, module = build_datamodule(config), build_module(config)
    assert module.validation_metrics(datamodule.graph) == {}


def test_structures_are_made_once_a_graph_and_anew_for_another() -> None:
    config = configuration("model=gcn", "data=mini_citation")
    datamodule, module = build_datamodule(config), build_module(config)
    graph = datamodule.graph
    first = module.prepare(graph)
    assert module.prepare(graph) is first
    other = graph.clone()
    assert module.prepare(other) is not first


def test_a_classifier_that_sees_no_edges_is_blind_to_them() -> None:
    config = configuration("model=mlp", "data=mini_citation")
    datamodule, module = build_datamodule(config), build_module(config).eval()
    graph = datamodule.graph
    cut = graph.clone()
    cut.edge_index = graph.edge_index[:, :2]
    assert torch.equal(module(graph), module(cut))


@pytest.mark.parametrize("method", ["mlp", "gcn"])
def test_decay_falls_on_the_first_layer_alone_where_the_paper_says_so(method: str) -> None:
    module: Any = build_module(configuration(f"model={method}", "data=mini_citation"))
    optimizer = module.configure_optimizers()
    decayed = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in module.named_parameters():
        assert decayed[id(parameter)] == (5e-4 if "hidden" in name else 0.0), name


def test_every_parameter_is_decayed_where_the_authors_do_so() -> None:
    module: Any = build_module(configuration("model=gat", "data=mini_citation"))
    (group,) = module.configure_optimizers().param_groups
    assert group["weight_decay"] == 5e-4
    assert len(group["params"]) == len(list(module.parameters()))


def test_neighbours_help_on_the_mini_citation_graph(tmp_path: Path) -> None:
    accuracies: dict[str, list[float]] = {"mlp": [], "gat": []}
    for method, found in accuracies.items():
        for seed in range(3):
            overrides = (f"model={method}", "data=mini_citation", f"seed={seed}", "trainer.max_epochs=100")
            found.append(fit(tmp_path / f"{method}_{seed}", *overrides).test()["test/acc"])
    assert mean(accuracies["gat"]) > mean(accuracies["mlp"]) + 0.05


def test_modules_of_node_classification_share_one_training() -> None:
    for method in METHODS:
        assert isinstance(
            build_module(configuration(f"model={method}", "data=mini_citation")), NodeClassifier
        )


def test_the_same_seed_draws_the_same_weights_whatever_was_drawn_before() -> None:
    for method in METHODS:
        config = configuration(f"model={method}", "data=mini_citation", "seed=4")
        first = build_module(config).state_dict()
        torch.rand(17)
        assert_same_weights(build_module(config).state_dict(), first)
