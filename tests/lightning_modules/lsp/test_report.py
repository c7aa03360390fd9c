"""What a student's run tells of itself, with real small runs."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from harness.build import (
    Run,
    build_callbacks,
    build_datamodule,
    build_loggers,
    build_module,
    build_trainer,
)
from harness.phases import fit_phases
from lightning_modules.graph_prediction.module import graph_sets_of
from lightning_modules.lsp import report
from lightning_modules.lsp.inductive_gat import InductiveGAT
from lightning_modules.lsp.module import LSP
from lightning_modules.lsp.shared_report import shown_kernel
from lightning_modules.lsp.structure import RULER, EdgeNeighbours, Kernel
from tests.figure_text import text_of
from tests.lightning_modules.lsp import networks
from tests.lightning_modules.lsp.examples import slow_similarity
from tests.small_runs import configuration

pytestmark = pytest.mark.usefixtures("as_before")

SMALL = ("model=lsp", "data=mini_ppi", "trainer.max_epochs=3")
ALL = {"training_curves", "scores", "divergences", "local_structures", "costs"}


def teacher() -> InductiveGAT:
    return networks.teacher(heads=4, channels=32, out_heads=4)


def fitted(folder: Path, *words: str) -> Run:
    """A run that was trained and tested, its pictures in ``folder``."""
    config = configuration(*SMALL, *words, pictures=True)
    (folder / "checkpoints").mkdir(parents=True)
    module = build_module(config)
    assert isinstance(module, LSP)
    module.on_prerequisites({"teacher": teacher()})
    callbacks, loggers = build_callbacks(config["callbacks"]), build_loggers(config["logger"], folder)
    run = Run(config, folder, module, build_datamodule(config), callbacks, loggers)
    fit_phases(run)
    build_trainer(run).test(module, datamodule=run.datamodule, verbose=False)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fitted(tmp_path_factory.mktemp("lsp") / "run", "model.kernel=l1exp", "model.lsp_until=2")


def student(run: Run) -> LSP:
    assert isinstance(run.module, LSP)
    return run.module


def published(metric: str) -> dict[str, Any]:
    return {"metric": metric, "value": 0.961, "spread": None, "source": "somebody"}


def test_a_run_draws_all_its_pictures(run: Run):
    assert {path.stem for path in (run.folder / "figures").iterdir()} == ALL


@pytest.mark.parametrize("distill", ["full", "at"])
def test_every_training_has_them_by_the_common_ruler(distill: str, tmp_path: Path):
    run = fitted(tmp_path / "run", f"model.distill={distill}", "model.kernel=l1exp")
    assert {path.stem for path in (run.folder / "figures").iterdir()} == ALL
    assert shown_kernel(student(run).terms) == (RULER, "teacher_student")


def test_the_kernel_of_the_loss_is_shown_where_there_is_one(run: Run):
    assert shown_kernel(student(run).terms) == (Kernel("l1exp"), "teacher_student")


def test_drawing_leaves_the_global_random_state_and_the_weights_alone(run: Run):
    before, weights = torch.get_rng_state(), [p.clone() for p in run.module.parameters()]
    drawn = np.random.get_state()[1].copy()
    names = [name for name, _ in run.module.figures(run.datamodule, None)]
    assert len(names) == len(ALL) - 1
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], drawn)
    assert all(torch.equal(one, other) for one, other in zip(run.module.parameters(), weights, strict=True))


def test_the_published_value_is_drawn_if_it_is_of_the_score(run: Run):
    drawn = dict(run.module.figures(run.datamodule, published("test/f1")))
    assert "published, test: 96.1" in text_of(drawn["scores"])
    drawn = dict(run.module.figures(run.datamodule, published("test/acc")))
    assert "published" not in text_of(drawn["scores"])


def test_a_module_that_was_read_to_be_tested_has_no_teacher_and_draws_without_it():
    module, data = build_module(configuration(*SMALL)), build_datamodule(configuration(*SMALL))
    data.setup()
    assert list(module.figures(data, None)) == []
    module.on_prerequisites({"teacher": teacher()})
    names = [name for name, _ in module.figures(data, None)]
    assert names == ["divergences", "local_structures", "costs"]  # nothing was trained


def test_the_students_score_is_the_one_that_its_test_reports(run: Run):
    found = report.score(student(run), student(run).network, graph_sets_of(run.datamodule), "test")
    tested = run.module.trainer.callback_metrics["test/f1"]
    assert found == pytest.approx(float(tested), abs=1e-6)
    drawn = text_of(dict(run.module.figures(run.datamodule, None))["scores"])
    assert f"kept weights, test: {100 * found:.1f}" in drawn
    teachers = student(run).teacher
    assert teachers is not None
    reached = report.score(student(run), teachers.network, graph_sets_of(run.datamodule), "val")
    assert f"teacher, validation: {100 * reached:.1f}" in drawn


def test_the_threshold_of_the_score_is_the_modules(run: Run):
    module, data = student(run), graph_sets_of(run.datamodule)
    before = module.logit_threshold
    try:
        module.logit_threshold = 1e6
        assert report.score(module, module.network, data, "val") == 0.0  # no label is predicted
    finally:
        module.logit_threshold = before


def test_structures_are_those_of_slow_loops_at_the_stated_places(run: Run):
    module, data = student(run), graph_sets_of(run.datamodule)
    kernel = Kernel("l1exp")
    nodes = report.structures(module, data, kernel, "teacher_student")
    batch = next(iter(data.loader("test", shared=False)))  # of both test graphs
    graphs = module.graphs(batch)
    assert module.teacher is not None
    with torch.no_grad():
        of_student = module.network(graphs)[1][1].out.double()
        of_teacher = module.teacher.network(graphs)[1][1].out.double()
    source, target = batch["edge_index"]
    numbers = report._numbers(batch)
    divergences = {}
    for node in range(len(graphs.x)):
        own = source[target == node].tolist()
        shares = [
            torch.stack([slow_similarity(kernel, z[node], z[j]) for j in own]).softmax(0)
            for z in (of_teacher, of_student)
        ]
        gap = float((shares[0] * (shares[0] / shares[1]).log()).sum())
        name = f"graph {int(numbers[0, node])}, node {int(numbers[1, node])}"
        divergences[name] = (gap, own, shares, node)
    ordered = sorted(entry[0] for entry in divergences.values())
    for found, percent in zip(nodes, (10, 50, 99), strict=True):
        gap, own, shares, node = divergences[found.name.partition(", ")[2]]
        assert found.divergence == pytest.approx(gap, abs=1e-6)
        assert gap == pytest.approx(ordered[round(percent / 100 * 239)], abs=1e-6)
        assert found.teacher == pytest.approx(shares[0].numpy(), abs=1e-5)
        assert found.student == pytest.approx(shares[1].numpy(), abs=1e-5)
        words = ["self" if j == node else str(int(numbers[1, j])) for j in own]
        assert list(found.neighbours) == words
    assert [node.name.partition(",")[0] for node in nodes] == [
        "10th percentile",
        "Median",
        "99th percentile",
    ]


def test_the_named_nodes_are_those_of_the_largest_divergence(run: Run):
    module, data = student(run), graph_sets_of(run.datamodule)
    divergences = module.divergences(data, "test").numpy()
    names = report._largest(data, divergences)
    place = int(divergences.argmax())
    assert names[0] == f"graph {10 + place // 120}, node {place % 120}"  # the last two of twelve graphs
    assert len(names) == 3
    drawn = dict(module.figures(data, None))["divergences"]
    assert f"Largest: {names[0]} (" in text_of(drawn)


def test_costs_count_parameters_and_the_tensors_of_a_pass(run: Run):
    module = student(run)
    of_teacher, of_student, what = report.costs(module, graph_sets_of(run.datamodule))
    assert module.teacher is not None
    assert of_teacher.parameters == sum(p.numel() for p in module.teacher.network.parameters())
    assert of_student.parameters == 1512
    assert what.startswith("2 test graphs, 240 nodes, on ")
    # the widest layer's input and output, in float32
    assert of_teacher.megabytes > 2 * 240 * 128 * 4 / 1e6
    assert of_teacher.megabytes > of_student.megabytes > 2 * 240 * 16 * 4 / 1e6
    assert min(of_teacher.milliseconds, of_student.milliseconds) > 0


def test_what_belongs_to_a_teacher_is_refused_without_one():
    module, data = build_module(configuration(*SMALL)), build_datamodule(configuration(*SMALL))
    data.setup()
    assert isinstance(module, LSP)
    sets = graph_sets_of(data)
    with pytest.raises(RuntimeError, match="has no teacher"):
        report.structures(module, sets, RULER, "teacher_student")
    with pytest.raises(RuntimeError, match="has no teacher"):
        report.costs(module, sets)


def test_the_last_pair_of_layers_and_the_kernel_find_their_column():
    words = ("model.layer_pairs=[[1,1],[2,2]]", "model.kernel=linear", "model.hidden_layers=2")
    module, data = build_module(configuration(*SMALL, *words)), build_datamodule(configuration(*SMALL))
    data.setup()
    assert isinstance(module, LSP)
    module.on_prerequisites({"teacher": teacher()})
    sets = graph_sets_of(data)
    assert module.teacher is not None
    graphs = module.graphs(next(iter(sets.loader("test", shared=False))))
    z = module.teacher.network(graphs)[1][1].out
    for kernel in (Kernel("linear"), RULER):
        (found, *_) = report.structures(module, sets, kernel, "student_teacher")
        neighbours = EdgeNeighbours(graphs.edges)
        shares = neighbours.log_softmax(kernel.similarity(z, neighbours)).exp()
        graph, node = (int(word) for word in found.name.replace(",", "").split() if word.isdigit())
        row = 120 * (graph - 10) + node
        start, end = graphs.edges.ptr[row : row + 2].tolist()
        assert found.teacher == pytest.approx(shares[start:end].detach().numpy(), abs=1e-6)
