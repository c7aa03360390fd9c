"""Training of an LSP student: what it learns from, what is left alone, what it reports."""

import copy
from pathlib import Path

import pytest
import torch

from harness.build import build_module
from harness.errors import UserError
from harness.loading import load
from lightning_modules.graph_prediction.batch import Graphs
from lightning_modules.image_classification.classifier import ImageClassifier
from lightning_modules.lsp.module import LSP
from lightning_modules.lsp.structure import RULER, EdgeNeighbours, log_structure, structure_loss
from tests.lightning_modules.lsp.networks import fitted, labelled_graphs, of, student, teacher
from tests.small_runs import assert_same_weights, configuration

MODES = ("full", "kd", "fitnet", "at", "lsp", "lsp+kd")


@pytest.mark.parametrize("distill", MODES)
def test_every_mode_trains_leaves_its_teacher_alone_and_reports_the_ruler(
    tmp_path: Path, distill: str
) -> None:
    source = teacher()
    before = copy.deepcopy(source.state_dict())
    module, record = fitted(tmp_path, source, f"model.distill={distill}")
    assert_same_weights(source.state_dict(), before)
    assert all(parameter.grad is None for parameter in source.parameters())
    assert record.metrics["lsp_ruler"] > 0
    # neither the teacher nor what maps hints belongs to the student
    assert all(name.startswith(("network.", "train_", "val_", "test_")) for name in module.state_dict())
    again = load(tmp_path / "checkpoints" / "best.ckpt")
    assert isinstance(again, LSP)
    assert_same_weights(again.state_dict(), module.state_dict())
    header = (tmp_path / "metrics.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    assert {"train/lsp_ruler", "val/lsp_ruler", "train/task_loss"} <= set(header)
    assert ("train/lsp_loss" in header) == distill.startswith("lsp")
    assert ("train/kd_loss" in header) == distill.endswith("kd")


@pytest.mark.parametrize("distill", ["fitnet", "at", "lsp+kd"])
def test_asking_in_every_step_comes_to_the_same(tmp_path: Path, distill: str) -> None:
    words = (f"model.distill={distill}", "model.kernel=l1exp")
    kept, _ = fitted(tmp_path / "kept", teacher(), *words)
    live, _ = fitted(tmp_path / "live", teacher(), *words, "model.cache_teacher=false")
    for name, value in kept.state_dict().items():
        torch.testing.assert_close(value, live.state_dict()[name], rtol=1e-3, atol=1e-4)


def test_the_term_ends_when_it_is_told_to(tmp_path: Path) -> None:
    rows = [
        line.split(",")
        for line in _csv(tmp_path, "model.lsp_until=1", "model.kernel=l1exp", "model.lsp_weight=3")
    ]
    at = rows[0].index("train/lsp_term")
    epochs = [row for row in rows[1:] if row[rows[0].index("train/task_loss")]]
    first, second = epochs
    loss = float(first[rows[0].index("train/lsp_loss")])
    assert float(first[at]) == pytest.approx(3 * loss)
    total = float(first[rows[0].index("train/loss")])
    assert total == pytest.approx(float(first[rows[0].index("train/task_loss")]) + 3 * loss, rel=1e-5)
    assert 0 < float(first[rows[0].index("train/lsp_gradient_share")]) < 1
    assert second[at] == ""
    assert float(second[rows[0].index("train/lsp_ruler")]) > 0
    task = float(second[rows[0].index("train/task_loss")])
    assert float(second[rows[0].index("train/loss")]) == pytest.approx(task)


def _csv(folder: Path, *words: str) -> list[str]:
    fitted(folder, teacher(), *words)
    return (folder / "metrics.csv").read_text(encoding="utf-8").splitlines()


def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_it() -> None:
    module = student("model.heads=2", "model.channels=6")
    module.network.load_state_dict(teacher().network.state_dict())
    module.on_prerequisites({"teacher": teacher()})
    batch = of(labelled_graphs(), 0, 2)
    graphs = module.graphs(batch)
    _, found = module.network(graphs)
    loss = module._structure_loss(module.answers("train", batch, graphs), graphs, found, RULER)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-7)
    assert max(float(p.grad.abs().max()) for p in module.network.parameters() if p.grad is not None) < 1e-6


def test_losses_are_averaged_over_pairs_of_layers() -> None:
    module = student("model.layer_pairs=[[2,1],[1,2]]", "model.kernel=linear")
    source = teacher()
    module.on_prerequisites({"teacher": source})
    batch = of(labelled_graphs(), 1, 3)
    graphs = module.graphs(batch)
    _, own = module.network(graphs)
    _, other = source.network(graphs)
    neighbours, kernel = EdgeNeighbours(graphs.edges), module.terms.kernel
    expected = [
        structure_loss(
            log_structure(own[s].out, neighbours, kernel),
            log_structure(other[t].out, neighbours, kernel),
            neighbours,
        )
        for t, s in ((1, 0), (0, 1))
    ]
    found = module._structure_loss(module.answers("train", batch, graphs), graphs, own, kernel)
    torch.testing.assert_close(found, torch.stack(expected).mean())


def test_labels_can_be_counted_as_the_authors_do() -> None:
    batch = of(labelled_graphs(), 0, 1, 2)
    ours, theirs = (student(f"model.logit_threshold={value}") for value in (0, 0.5))
    theirs.load_state_dict(ours.state_dict())
    counted = []
    for module in (ours, theirs):
        module.test_step(batch, 0)
        counted.append(module.test_metrics.compute()["test/f1"])
    logits = ours.network(Graphs.of(batch))[0]
    for found, threshold in zip(counted, (0.0, 0.5), strict=True):
        right = ((logits > threshold) & (batch["y"] > 0)).sum()
        f1 = 2 * right / ((logits > threshold).sum() + batch["y"].sum())
        assert float(found) == pytest.approx(f1.item(), rel=1e-6)
    assert counted[0] != counted[1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("model.layer_pairs=[[1,3]]",), "layer 3 of a student with 2"),
        (("model.layer_pairs=[]",), "must list"),
        (("model.layer_pairs=[[1]]",), "must list"),
    ],
)
def test_layers_that_the_student_lacks_are_refused(words: tuple[str, ...], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build_module(configuration("model=lsp", "data=mini_ppi", *words))


def test_teachers_that_will_not_do_are_refused() -> None:
    module = student("model.layer_pairs=[[3,2]]")
    with pytest.raises(UserError, match="layer 3 of a teacher with 2"):
        module.on_prerequisites({"teacher": teacher()})
    planned = configuration("model=inductive_gat", "data=mini_ppi")
    with pytest.raises(UserError, match="layer 3 of a teacher with 2"):
        module.on_planned_prerequisites({"teacher": planned})
    module = student()
    module.trained_on = configuration("model=lsp", "data=mini_ppi", "data.self_loops=false")["data"]
    with pytest.raises(UserError, match=r'data.self_loops=True, this run .*"data.self_loops=false"'):
        module.on_planned_prerequisites({"teacher": planned})
    with pytest.raises(UserError, match="ImageClassifier has no hidden layers"):
        student().on_planned_prerequisites({"teacher": configuration("model=classifier", "data=digits")})
    with pytest.raises(UserError, match="num_classes=7"):
        student().on_prerequisites({"teacher": teacher(num_classes=7)})
    other = build_module(configuration("model=classifier", "data=digits"))
    assert isinstance(other, ImageClassifier)
    with pytest.raises(UserError, match="ImageClassifier has no hidden layers"):
        student().on_prerequisites({"teacher": other})


def test_what_maps_hints_is_left_behind_with_the_training(tmp_path: Path) -> None:
    module, _ = fitted(tmp_path, teacher(), "model.distill=fitnet", "callbacks.best_weights.monitor=null")
    last = torch.load(tmp_path / "checkpoints" / "last.ckpt", weights_only=True)
    assert any(name.startswith("hints.") for name in last["state_dict"])
    fresh = student("model.distill=fitnet")
    fresh.on_load_checkpoint(last)
    fresh.load_state_dict(last["state_dict"])
    assert_same_weights(fresh.state_dict(), module.state_dict())
