"""What a run on point clouds tells of itself, with a real small run."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from datamodules.point_clouds import PointCloudDataModule
from harness.build import (
    Run,
    build_callbacks,
    build_datamodule,
    build_loggers,
    build_module,
    build_trainer,
)
from harness.phases import fit_phases
from lightning_modules.lsp import cloud_report
from lightning_modules.lsp.cloud_module import CloudLSP
from lightning_modules.lsp.structure import RULER, Kernel
from lightning_modules.point_cloud_classification.module import PointCloudClassifier, clouds_of
from tests.figure_text import text_of
from tests.lightning_modules.lsp.examples import slow_structures
from tests.lightning_modules.lsp.test_cloud_module import SMALL, STUDENT, student, teacher
from tests.small_runs import configuration

pytestmark = pytest.mark.usefixtures("as_before")

BASE = ["confusion", "clouds", "distances"]
OF_TEACHER = ["divergences", "divergences_by_class", "local_structures", "costs"]


def fitted(folder: Path, *words: str) -> Run:
    """A run of two epochs that was tested, its pictures in ``folder``."""
    config = configuration("model=lsp_dgcnn", *SMALL, *STUDENT, "trainer.max_epochs=2", *words, pictures=True)
    (folder / "checkpoints").mkdir(parents=True)
    module = build_module(config)
    module.on_prerequisites({"teacher": teacher()})
    callbacks, loggers = build_callbacks(config["callbacks"]), build_loggers(config["logger"], folder)
    run = Run(config, folder, module, build_datamodule(config), callbacks, loggers)
    fit_phases(run)
    build_trainer(run).test(module, datamodule=run.datamodule, verbose=False)
    return run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return fitted(
        tmp_path_factory.mktemp("lsp") / "run",
        "model.kernel=l1exp",
        "model.sigma=5",
        "model.kl=student_teacher",
    )


def module_of(run: Run) -> CloudLSP:
    assert isinstance(run.module, CloudLSP)
    return run.module


def teacher_of(run: Run) -> PointCloudClassifier:
    found = module_of(run).teacher
    assert found is not None
    return found


def test_a_run_draws_all_its_pictures(run: Run):
    names = {path.stem for path in (run.folder / "figures").iterdir()}
    assert names == {"training_curves", *BASE, "scores", *OF_TEACHER}


def test_training_shows_the_overlap_between_its_limits(run: Run):
    rows = [{"epoch": 0, "val/graph_overlap": 0.2, "train/task_loss": 1.0}]
    (*_, axes) = module_of(run).training_figure(rows).axes
    values = {str(line.get_label()): line.get_ydata()[0] for line in axes.lines}
    both = 1 + 5 * 3 / 31  # k is 6 and 4, of 32 points
    assert values == {
        "both graphs": 20.0,
        "at most": pytest.approx(100 * 4 / 6),
        "by chance": pytest.approx(100 * both / (10 - both)),
    }


def test_drawing_leaves_the_global_random_state_and_the_weights_alone(run: Run):
    module = module_of(run)
    own = [*module.parameters(), *teacher_of(run).parameters()]
    before, weights = torch.get_rng_state(), [parameter.clone() for parameter in own]
    drawn = np.random.get_state()[1].copy()
    assert len(list(module.figures(run.datamodule, None))) == 8
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], drawn)
    assert all(torch.equal(one, other) for one, other in zip(own, weights, strict=True))


def test_a_module_that_was_read_to_be_tested_has_no_teacher_and_draws_without_it():
    module, data = student(), build_datamodule(configuration("model=lsp_dgcnn", *SMALL))
    data.setup()
    drawn = dict(module.figures(data, None))
    assert list(drawn) == BASE
    assert "after layer 3" in text_of(drawn["distances"])
    module.on_prerequisites({"teacher": teacher()})
    assert [name for name, _ in module.figures(data, None)] == [*BASE, *OF_TEACHER]  # nothing was trained
    labels = clouds_of(data).splits["test"].labels
    assert [name for name, _ in module.prediction_figures([torch.eye(8)[labels]], data)] == ["predictions"]


def test_distances_are_drawn_in_the_spaces_that_are_compared():
    module, data = student("model.layer_pairs=[[4,3],[1,2]]"), teacher()
    module.on_prerequisites({"teacher": data})
    pos = torch.randn(3, 32, 3)
    spaces = module.spaces(pos)
    assert list(spaces) == ["teacher, layer 4", "student, layer 3", "teacher, layer 1", "student, layer 2"]
    own = module.network(pos).features
    torch.testing.assert_close(spaces["teacher, layer 4"], data.network(pos).features[3])
    torch.testing.assert_close(spaces["teacher, layer 1"], data.network(pos).features[0])
    torch.testing.assert_close(spaces["student, layer 3"], own[2].detach())
    torch.testing.assert_close(spaces["student, layer 2"], own[1].detach())


def test_the_scores_are_those_that_training_and_test_report(run: Run):
    published = {"metric": "test/acc", "value": 0.919, "spread": None, "source": "somebody"}
    text = text_of(dict(run.module.figures(run.datamodule, published))["scores"])
    tested = run.module.trainer.callback_metrics["test/acc"]
    assert f"kept weights, test: {100 * float(tested):.1f}" in text
    assert "published, test: 91.9" in text
    val = clouds_of(run.datamodule).splits["val"]
    with torch.no_grad():
        right = teacher_of(run).network(val.pos).logits.argmax(dim=1) == val.labels
    assert f"teacher, validation: {100 * float(right.double().mean()):.1f}" in text
    published["metric"] = "test/mean_class_acc"
    text = text_of(dict(run.module.figures(run.datamodule, published))["scores"])
    assert "published" not in text


def test_a_data_set_without_validation_has_no_score_of_the_teacher(run: Run):
    config = configuration("model=lsp_dgcnn", *SMALL)
    data = clouds_of_set_up(config)
    del data.splits["val"]
    assert cloud_report.val_accuracy(teacher_of(run), data) is None


def clouds_of_set_up(config: dict[str, Any]) -> PointCloudDataModule:
    data = build_datamodule(config)
    data.setup()
    return clouds_of(data)


def slow_divergences(run: Run, cloud: int, kernel: Kernel, *, reverse: bool) -> list[tuple[float, list[int]]]:
    """S_i of each point of a test cloud by loops over the union of both lists, and that union."""
    pos = clouds_of(run.datamodule).splits["test"].pos[cloud : cloud + 1]
    with torch.no_grad():
        taught, own = teacher_of(run).network(pos), module_of(run).network(pos)
    pairs = zip(taught.graph(3)[0].tolist(), own.graph(2)[0].tolist(), strict=True)
    unions = [sorted({*one, *other}) for one, other in pairs]
    shares: list[list[Tensor]] = [
        slow_structures(z[0].double(), unions, kernel) for z in (taught.features[3], own.features[2])
    ]
    found = []
    for t, s, union in zip(*shares, unions, strict=True):
        first, second = (s, t) if reverse else (t, s)
        found.append((float((first * (first / second).log()).sum()), union))
    return found


def test_divergences_and_structures_are_those_of_slow_loops(run: Run):
    module, data = module_of(run), clouds_of(run.datamodule)
    by_ruler, by_shown = cloud_report.divergences(module, data)
    assert by_ruler.shape == by_shown.shape == (len(data.splits["test"]), 32)
    for cloud in (0, len(by_ruler) - 1):
        ruled = slow_divergences(run, cloud, RULER, reverse=False)
        learnt = slow_divergences(run, cloud, Kernel("l1exp", 5.0), reverse=True)
        assert by_ruler[cloud].tolist() == pytest.approx([value for value, _ in ruled], abs=1e-6)
        assert by_shown[cloud].tolist() == pytest.approx([value for value, _ in learnt], rel=1e-3, abs=1e-6)
    numbers = data.splits["test"].index.tolist()
    ordered = by_shown.flatten().sort().values
    for node, percent in zip(cloud_report.structures(module, data, by_shown), (10, 50, 99), strict=True):
        _, named, at = node.name.split(", ")
        cloud, point = numbers.index(int(named.split()[-1])), int(at.split()[-1])
        value, union = slow_divergences(run, cloud, Kernel("l1exp", 5.0), reverse=True)[point]
        assert node.divergence == pytest.approx(value, rel=1e-3, abs=1e-6)
        assert node.divergence == float(ordered[round(percent / 100 * (len(ordered) - 1))])
        assert {point if word == "self" else int(word) for word in node.neighbours} == set(union)
        assert len(node.neighbours) == len(union)
        for shares in (node.teacher, node.student):
            assert float(shares.sum()) == pytest.approx(1, abs=1e-5)
        gaps = (node.student * np.log(node.student / node.teacher)).sum()
        assert float(gaps) == pytest.approx(value, rel=1e-3, abs=1e-6)


def test_training_without_structure_shows_the_ruler_on_the_union():
    module = student("model.distill=at", "model.kernel=linear", "model.edges=teacher")
    module.on_prerequisites({"teacher": teacher()})
    data = clouds_of_set_up(configuration("model=lsp_dgcnn", *SMALL))
    module.eval()
    by_ruler, by_shown = cloud_report.divergences(module, data)
    torch.testing.assert_close(by_ruler, by_shown)
    learnt = student("model.distill=lsp", "model.kernel=linear", "model.edges=teacher")
    learnt.on_prerequisites({"teacher": teacher()})
    learnt.eval()
    nodes = cloud_report.structures(learnt, data, cloud_report.divergences(learnt, data)[1])
    assert {len(node.neighbours) for node in nodes} == {6}  # the teacher's


def test_the_named_points_are_those_of_the_largest_divergence(run: Run):
    data = clouds_of(run.datamodule)
    found = torch.zeros(len(data.splits["test"]), 32)
    found[3, 7], found[1, 30] = 2.0, 1.0
    test = data.splits["test"]
    assert cloud_report.largest(data, found) == [
        f"{data.class_names[test.labels[cloud]].replace('_', ' ')} {int(test.index[cloud])}, point {point}"
        for cloud, point in ((3, 7), (1, 30))
    ]


def test_costs_count_parameters_and_the_tensors_of_a_pass(run: Run):
    of_teacher, of_student, what = cloud_report.costs(module_of(run), clouds_of(run.datamodule))
    assert of_teacher.parameters == sum(p.numel() for p in teacher_of(run).network.parameters())
    assert of_student.parameters == sum(p.numel() for p in module_of(run).network.parameters())
    assert what.startswith("16 test clouds of 32 points, on ")
    # all features of a pass are kept, in float32
    assert of_teacher.megabytes > 16 * 32 * (5 + 6 + 7 + 9) * 4 / 1e6
    assert of_student.megabytes > 16 * 32 * (6 + 7 + 8) * 4 / 1e6
    assert min(of_teacher.milliseconds, of_student.milliseconds) > 0


def test_what_belongs_to_a_teacher_is_refused_without_one():
    module = student()
    data = clouds_of_set_up(configuration("model=lsp_dgcnn", *SMALL))
    for ask in (
        lambda: cloud_report.divergences(module, data),
        lambda: cloud_report.structures(module, data, torch.zeros(80, 32)),
        lambda: cloud_report.costs(module, data),
        lambda: cloud_report.compared_spaces(module, torch.zeros(1, 32, 3)),
    ):
        with pytest.raises(RuntimeError, match="has no teacher"):
            ask()
