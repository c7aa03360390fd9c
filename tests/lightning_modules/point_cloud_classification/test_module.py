"""Training of the classifier of point clouds: gradients, metrics, rows, pictures, checkpoints."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MeanMetric

from harness.build import build_datamodule, build_module, build_trainer
from harness.errors import UserError
from lightning_modules.point_cloud_classification.module import (
    Batch,
    DGCNNClassifier,
    PointCloudClassifier,
    clouds_of,
    one_of_each_class,
)
from lightning_modules.point_cloud_classification.networks import EmbeddedClouds
from tests.figure_text import text_of
from tests.small_runs import configuration, fit

SMALL = (
    "model=dgcnn",
    "data=mini_modelnet",
    "model.widths=[8,16]",
    "model.embedding=32",
    "model.classifier=[16]",
    "model.k=6",
    "data.num_points=48",
    "data.train_per_class=8",
    "data.val_per_class=4",
    "data.test_per_class=5",
)


def classifier(*overrides: str) -> PointCloudClassifier:
    torch.manual_seed(0)
    module = build_module(configuration(*SMALL, *overrides))
    assert isinstance(module, DGCNNClassifier)
    return module


def random_batch(size: int = 6) -> Batch:
    pos = torch.randn(size, 48, 3, generator=torch.Generator().manual_seed(0))
    return {"pos": pos, "y": torch.arange(size) % 8, "index": torch.arange(size)}


def test_one_step_gives_every_parameter_a_gradient() -> None:
    module = classifier().train()
    loss = module.training_step(random_batch(), 0)
    found = torch.autograd.grad(loss, list(module.parameters()))
    assert all(gradient.isfinite().all() and gradient.abs().sum() > 0 for gradient in found)


def test_label_smoothing_is_part_of_training_alone() -> None:
    module, batch = classifier("model.label_smoothing=0.2").eval(), random_batch()
    log_probabilities = module(batch["pos"]).log_softmax(dim=1)
    of_label = log_probabilities.gather(1, batch["y"][:, None]).mean()
    expected = -(0.8 * of_label + 0.2 * log_probabilities.mean())
    torch.testing.assert_close(module.training_step(batch, 0), expected)
    module.validation_step(batch, 0)
    torch.testing.assert_close(module.val_metrics.compute()["val/loss"], -of_label.detach())


def test_classes_count_alike_in_the_mean_over_classes() -> None:
    module = classifier().eval()
    batch = random_batch(8)
    predicted = module(batch["pos"]).argmax(dim=1)
    # six clouds of one class, all right; two of another, one of them right
    first = int(predicted[0])
    other = (first + 1) % 8
    logits = F.one_hot(torch.tensor([first] * 6 + [other, first]), 8).float()
    y = torch.tensor([first] * 6 + [other] * 2)
    module.network.forward = lambda pos: EmbeddedClouds(logits, (), 1, [])  # type: ignore[method-assign]
    module.test_step({**batch, "y": y}, 0)
    found = module.test_metrics.compute()
    assert float(found["test/acc"]) == pytest.approx(7 / 8)
    assert float(found["test/mean_class_acc"]) == pytest.approx((1 + 1 / 2) / 2)


def test_metrics_are_means_over_clouds_and_not_over_batches() -> None:
    module, batch = classifier().eval(), random_batch(7)
    for part in (slice(0, 5), slice(5, 7)):
        module.test_step({name: value[part] for name, value in batch.items()}, 0)
    logits, y = module(batch["pos"]).detach(), batch["y"]
    found = module.test_metrics.compute()
    torch.testing.assert_close(found["test/loss"], F.cross_entropy(logits, y))
    torch.testing.assert_close(found["test/acc"], (logits.argmax(dim=1) == y).float().mean())


class Ruled(DGCNNClassifier):
    """Asks for features that are small as well, and keeps an average of how large they are."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.size = MeanMetric()

    def training_loss(self, batch: Batch, embedded: EmbeddedClouds) -> Tensor:
        size = embedded.features[-1].square().mean()
        self.size.update(size.detach())
        return super().training_loss(batch, embedded) + size

    def train_averages(self) -> dict[str, MeanMetric]:
        return {"train/size": self.size}


def test_a_subclass_may_ask_for_more_and_keep_averages_of_its_own() -> None:
    plain = classifier("model.dropout=0.0").train()
    ruled = Ruled(**dict(plain.hparams))
    ruled.load_state_dict(plain.state_dict(), strict=False)
    batch = random_batch()
    embedded = plain.network(batch["pos"])
    expected = plain.training_loss(batch, embedded) + embedded.features[-1].square().mean()
    torch.testing.assert_close(ruled.train().training_step(batch, 0), expected)
    assert float(ruled.size.compute()) > 0
    ruled.on_train_epoch_start()
    assert float(ruled.size.weight) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("model.k=49",), r"model\.k=49 must be at most data\.num_points=48.* Try model\.k=3\."),
        (("model.widths=[]",), r"model\.widths must have one width or more.* Try model\.widths=\[64\]"),
        (("model.classifier=[]",), r"model\.classifier must have one width or more"),
    ],
)
def test_a_network_that_cannot_be_made_is_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError, match=message):
        classifier(*words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("data.batch_size=1",), r"data\.batch_size=1: batch normalisation needs two"),
        (
            ("data.batch_size=63", "data.drop_last=false"),
            r"data\.batch_size=63 leaves a last batch of one cloud.*or data\.batch_size=64",
        ),
    ],
)
def test_a_batch_of_one_cloud_is_refused_before_training(words: tuple[str, ...], message: str) -> None:
    config = configuration(*SMALL, *words)
    data, module = build_datamodule(config), build_module(config)
    with pytest.raises(UserError, match=message):
        module.on_phase_start(data)


def test_one_of_each_class_is_the_first() -> None:
    assert one_of_each_class(torch.tensor([2, 0, 0, 2, 1])).tolist() == [1, 4, 0]


def test_data_without_clouds_is_our_own_mistake() -> None:
    config = configuration("model=gcn", "data=mini_citation")
    with pytest.raises(TypeError, match="MiniCitationDataModule has no point clouds"):
        clouds_of(build_datamodule(config))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Any:
    words: tuple[str, ...] = (
        "trainer.max_epochs=16",
        "model.optimizer.lr=0.02",
        "model.dropout=0.0",
        "data.batch_size=16",
    )
    words += ("data.augment=none", "trainer.log_every_n_steps=4")
    return fit(tmp_path_factory.mktemp("dgcnn"), *SMALL, *words)


def test_a_short_training_is_better_than_chance(fitted: Any) -> None:
    tested = fitted.test()
    assert set(tested) == {"test/loss", "test/acc", "test/mean_class_acc"}
    assert tested["test/acc"] > 0.3, "one of eight is chance"
    assert tested["test/mean_class_acc"] == pytest.approx(tested["test/acc"]), "classes are of one size"


def test_the_rate_falls_along_a_cosine_to_its_end(fitted: Any) -> None:
    state = torch.load(fitted.folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["lr_schedulers"][0]["_last_lr"] == [pytest.approx(0.001)]
    assert state["lr_schedulers"][0]["T_max"] == 16


def test_best_weights_are_those_of_the_best_validation_accuracy(fitted: Any) -> None:
    lines = [line.split(",") for line in (fitted.folder / "metrics.csv").read_text().splitlines()]
    epoch, value = lines[0].index("epoch"), lines[0].index("val/acc")
    found = {int(cells[epoch]): float(cells[value]) for cells in lines[1:] if cells[value]}
    assert len(found) == 16
    assert fitted.best.best_epoch == max(found, key=found.__getitem__)


def test_a_prediction_names_cloud_class_and_probabilities(fitted: Any) -> None:
    outputs = build_trainer(fitted.built).predict(fitted.module, datamodule=fitted.datamodule)
    rows = list(fitted.module.prediction_rows(outputs, fitted.datamodule))
    test, names = fitted.datamodule.splits["test"], fitted.datamodule.class_names
    assert [row["index"] for row in rows] == test.index.tolist()
    assert [row["true"] for row in rows] == [names[label] for label in test.labels.tolist()]
    right = sum(row["true"] == row["predicted"] for row in rows) / len(rows)
    assert right == pytest.approx(fitted.test()["test/acc"])
    shares = {name: float(rows[0][f"p({name})"]) for name in names}
    assert sum(shares.values()) == pytest.approx(1.0, abs=1e-5)
    assert max(shares, key=shares.__getitem__) == rows[0]["predicted"]
    ((name, figure),) = fitted.module.prediction_figures(outputs, fitted.datamodule)
    assert name == "predictions"
    assert f"{round(40 * right)} of 40 test clouds" in text_of(figure)


def test_pictures_agree_with_the_test(fitted: Any) -> None:
    pictures = {name: text_of(figure) for name, figure in fitted.module.figures(fitted.datamodule, None)}
    assert list(pictures) == ["confusion", "clouds", "distances"]
    right = f"{round(fitted.test()['test/acc'] * 40)} of 40 test clouds are recognised"
    assert right in pictures["confusion"].replace("\n", " ")
    assert right in pictures["clouds"].replace("\n", " ")
    for heading in ("in space", "after layer 1", "after layer 2", "sphere", "cone"):
        assert heading in pictures["distances"]


def test_a_checkpoint_holds_plain_data_and_rebuilds_the_module(fitted: Any) -> None:
    path = fitted.folder / "checkpoints" / "best.ckpt"
    again = DGCNNClassifier.load_from_checkpoint(path, weights_only=True)
    assert again.hparams == fitted.module.hparams
    pos = random_batch()["pos"]
    assert torch.equal(again.eval()(pos), fitted.module.eval()(pos))
