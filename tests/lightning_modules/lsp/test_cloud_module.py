"""Training of a student of point clouds: what it learns from, what is left alone, what it reports."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.build import Run, build_callbacks, build_datamodule, build_loggers, build_module
from harness.errors import UserError
from harness.loading import load
from harness.phases import Record, fit_phases
from lightning_modules.lsp.cloud_module import CloudLSP
from lightning_modules.lsp.clouds import CloudNeighbours
from lightning_modules.lsp.structure import RULER, log_structure, structure_loss
from lightning_modules.point_cloud_classification.module import DGCNNClassifier
from tests.lightning_modules.lsp.networks import teacher as graph_teacher
from tests.small_runs import assert_same_weights, configuration

SMALL = (
    "data=mini_modelnet",
    "data.num_points=32",
    "data.train_per_class=4",
    "data.batch_size=16",
    "trainer.log_every_n_steps=1",
)
STUDENT = ("model.widths=[6,7,8]", "model.embedding=12", "model.classifier=[10]", "model.k=4")
MODES = ("full", "kd", "fitnet", "at", "lsp", "lsp+kd")


def teacher(**sizes: Any) -> DGCNNClassifier:
    """A frozen teacher whose statistics are not those of birth."""
    torch.manual_seed(1)
    settings: dict[str, Any] = {"num_points": 32, "num_classes": 8, "widths": [5, 6, 7, 9], "embedding": 16}
    settings |= {"classifier": [12, 8], "k": 6, "dropout": 0.5, "label_smoothing": 0.2, "scheduler": None}
    settings["optimizer"] = {"name": "SGD", "lr": 0.1}
    settings |= sizes
    made = DGCNNClassifier(**settings)
    for _ in range(3):
        made.network(torch.randn(4, settings["num_points"], 3))
    return made.eval().requires_grad_(False)


def student(*words: str) -> CloudLSP:
    module = build_module(configuration("model=lsp_dgcnn", *SMALL, *STUDENT, *words))
    assert isinstance(module, CloudLSP)
    return module


def fitted(folder: Path, source: DGCNNClassifier, *words: str) -> tuple[CloudLSP, Record]:
    """A run of two epochs whose teacher is ``source``."""
    config = configuration("model=lsp_dgcnn", *SMALL, *STUDENT, "trainer.max_epochs=2", *words)
    (folder / "checkpoints").mkdir(parents=True)
    module = build_module(config)
    assert isinstance(module, CloudLSP)
    module.on_prerequisites({"teacher": source})
    data, callbacks = build_datamodule(config), build_callbacks(config["callbacks"])
    loggers = build_loggers(config["logger"], folder)
    return module, fit_phases(Run(config, folder, module, data, callbacks, loggers))


@pytest.mark.parametrize("distill", MODES)
def test_every_mode_trains_leaves_its_teacher_alone_and_reports_the_ruler(
    tmp_path: Path, distill: str
) -> None:
    source = teacher()
    before = copy.deepcopy(source.state_dict())  # with the statistics of its normalisations
    module, record = fitted(tmp_path, source, f"model.distill={distill}", "model.lsp_weight=10")
    assert_same_weights(source.state_dict(), before)
    assert all(parameter.grad is None for parameter in source.parameters())
    assert 0 < record.metrics["lsp_ruler"] < 1e-3  # little, of a teacher that was never trained
    assert not any(name.startswith(("_teacher", "hints")) for name in module.state_dict())
    again = load(tmp_path / "checkpoints" / "best.ckpt")
    assert isinstance(again, CloudLSP)
    assert_same_weights(again.state_dict(), module.state_dict())
    header = (tmp_path / "metrics.csv").read_text(encoding="utf-8").splitlines()[0].split(",")
    assert {"val/lsp_ruler", "val/graph_overlap", "train/task_loss"} <= set(header)
    assert ("train/lsp_loss" in header) == ("train/lsp_gradient_share" in header) == distill.startswith("lsp")
    assert ("train/kd_loss" in header) == distill.endswith("kd")
    assert ("train/hint_loss" in header) == (distill in ("fitnet", "at"))


def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_it() -> None:
    words = ("model.widths=[5,6,7,9]", "model.embedding=16", "model.classifier=[12,8]", "model.k=6")
    module, source = student(*words, "model.layer_pairs=[[4,4],[2,2]]"), teacher()
    module.network.load_state_dict(source.network.state_dict())
    module.on_prerequisites({"teacher": source})
    module.eval()
    pos = torch.randn(3, 32, 3)
    embedded = module.network(pos)
    loss = module.structure_loss(module.ask(pos), embedded)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert max(float(p.grad.abs().max()) for p in module.network.parameters() if p.grad is not None) < 1e-5


@pytest.mark.parametrize("edges", ["union", "teacher", "student"])
def test_the_loss_is_over_the_graphs_of_the_layers_that_are_paired(edges: str) -> None:
    module, source = student(f"model.edges={edges}", "model.layer_pairs=[[4,3],[1,2]]"), teacher()
    module.on_prerequisites({"teacher": source})
    pos = torch.randn(3, 32, 3)
    own, other = module.network(pos), module.ask(pos)
    each = []
    for t, s in ((3, 2), (0, 1)):
        neighbours = CloudNeighbours.of(other.graph(t), own.graph(s), edges)  # type: ignore[arg-type]
        structures = [log_structure(z, neighbours, RULER) for z in (own.features[s], other.features[t])]
        each.append(structure_loss(structures[0], structures[1], neighbours))
    torch.testing.assert_close(module.structure_loss(other, own), torch.stack(each).mean())
    assert other.graph(3).shape == (3, 32, 6)
    assert own.graph(2).shape == (3, 32, 4)


def test_teachers_that_will_not_do_are_refused() -> None:
    module = student("model.layer_pairs=[[5,3]]")
    with pytest.raises(UserError, match="layer 5 of a teacher with 4"):
        module.on_prerequisites({"teacher": teacher()})
    planned = configuration("model=dgcnn", *SMALL, "model.widths=[1,2,3]", "model.k=4")
    with pytest.raises(UserError, match="layer 5 of a teacher with 3"):
        module.on_planned_prerequisites({"teacher": planned})
    module = student()
    module.trained_on = configuration("model=dgcnn", *SMALL, "data.cloud_seed=3", "model.k=4")["data"]
    with pytest.raises(UserError, match=r"data\.cloud_seed=0, this run has data\.cloud_seed=3"):
        module.on_planned_prerequisites({"teacher": configuration("model=dgcnn", *SMALL, "model.k=4")})
    with pytest.raises(UserError, match="num_classes=40"):
        student().on_prerequisites({"teacher": teacher(num_classes=40)})
    with pytest.raises(UserError, match="looks at 40 neighbours"):
        student().on_prerequisites({"teacher": teacher(k=40, num_points=64)})
    with pytest.raises(UserError, match="InductiveGAT has no EdgeConvs"):
        student().on_prerequisites({"teacher": graph_teacher()})
    with pytest.raises(UserError, match="layer 4 of a student with 3"):
        student("model.layer_pairs=[[4,4]]")
