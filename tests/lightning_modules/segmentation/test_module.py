"""Training of the segmentation module: optimiser, schedule, scores, files, pictures, checkpoints."""

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.plugins.layer_sync import TorchSyncBatchNorm

from harness.configuration.check import check
from harness.configuration.compose import compose
from harness.errors import UserError
from harness.predictions import write_predictions
from lightning_modules.segmentation.metrics import pixel_loss
from lightning_modules.segmentation.module import DeepLab
from tests.figure_text import text_of
from tests.lightning_modules.segmentation.tiny_scenes import (
    NAMES,
    NUM_CLASSES,
    PALETTE,
    SIZE,
    TinyScenes,
    deeplab,
    fitted,
    metrics_of,
    trainer,
)
from tests.small_runs import assert_same_weights


def batch() -> dict[str, torch.Tensor]:
    return next(iter(TinyScenes().test_dataloader()))  # type: ignore[no-any-return]


@pytest.mark.parametrize("network", ["small_unet", "deeplab_mobilenet"])
def test_one_step_gives_every_parameter_a_gradient(network: str) -> None:
    module = deeplab(network=network).train()
    loss = module.training_step(batch(), 0)
    gradients = torch.autograd.grad(loss, list(module.parameters()))
    assert bool(loss.isfinite())
    assert all(gradient.isfinite().all() and gradient.any() for gradient in gradients)


def test_logits_have_the_size_of_the_image() -> None:
    assert deeplab().eval()(batch()["x"]).shape == (4, NUM_CLASSES, *SIZE)


class Rates(Callback):
    """The learning rates of every optimiser step."""

    def __init__(self) -> None:
        self.rates: list[list[float]] = []

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self.rates.append([group["lr"] for group in optimizer.param_groups])


def test_new_layers_learn_ten_times_as_fast_and_both_rates_fall_to_0_with_the_last_step(
    tmp_path: Path,
) -> None:
    seen = Rates()
    fitted(tmp_path, epochs=2, callbacks=[seen])
    steps = 6  # two epochs of nine scenes in batches of four
    expected = [0.01 * (1 - step / steps) ** 0.9 for step in range(steps)]
    assert [rates[0] for rates in seen.rates] == pytest.approx(expected)
    assert [rates[1] for rates in seen.rates] == pytest.approx([10 * rate for rate in expected])


def test_the_two_groups_are_the_backbone_and_all_the_rest() -> None:
    module = deeplab(scheduler=None)
    optimizer = module.configure_optimizers()
    backbone, new = (group["params"] for group in optimizer.param_groups)
    assert [id(p) for p in backbone] == [id(p) for p in module.network.backbone().parameters()]
    assert len(backbone) + len(new) == len(list(module.parameters()))
    for group in optimizer.param_groups:
        assert (group["momentum"], group["weight_decay"], group["nesterov"]) == (0.9, 5e-4, True)


def test_an_optimiser_without_a_rate_is_told_in_one_line() -> None:
    with pytest.raises(UserError, match=r"^model\.optimizer has no lr\. Write model\.optimizer\.lr=0\.01"):
        deeplab(optimizer={"name": "SGD"}).configure_optimizers()


def test_an_epoch_reports_what_is_promised_and_validation_follows_the_trainer_s_key(tmp_path: Path) -> None:
    *_, run = fitted(tmp_path, epochs=1, check_val_every_n_epoch=2)
    assert set(metrics_of(run)) == {"train/loss", "train/acc", "train/miou"}
    *_, run = fitted(tmp_path, epochs=2, check_val_every_n_epoch=2)
    assert set(metrics_of(run)) == set(DeepLab.epoch_metrics)


def test_the_test_is_over_all_scenes_and_names_the_classes(tmp_path: Path) -> None:
    module, data = deeplab(), TinyScenes()
    run = trainer(tmp_path)
    run.test(module, datamodule=data, verbose=False)
    found = metrics_of(run)
    everything = next(iter(TinyScenes(batch_size=6).test_dataloader()))
    logits, y = module.eval()(everything["x"]).detach(), everything["y"]
    predicted, known = logits.argmax(dim=1), y != 255
    assert found["test/loss"] == pytest.approx(float(pixel_loss(logits, y)), rel=1e-5)
    assert found["test/acc"] == pytest.approx(float((predicted == y)[known].float().mean()))
    ious = []
    for index, name in enumerate(NAMES):
        union = ((predicted == index) | (y == index)) & known
        if union.any():
            ious.append(float(((predicted == index) & (y == index))[union].float().mean()))
            assert found[f"test/iou_{name.replace(' ', '_')}"] == pytest.approx(ious[-1])
    assert found["test/miou"] == pytest.approx(sum(ious) / len(ious))


def test_each_epoch_has_scores_of_its_own() -> None:
    module, one = deeplab(), batch()
    module.training_step({**one, "y": (one["y"] + 1).clamp(max=3)}, 0)
    module.on_train_epoch_start()
    loss = module.training_step(one, 0)
    torch.testing.assert_close(module.train_scores.compute()["loss"], loss.detach())


@pytest.mark.slow
def test_scenes_are_learnt(tmp_path: Path) -> None:
    module, data, _ = fitted(tmp_path, epochs=40)
    run = trainer(tmp_path)
    run.test(module, datamodule=data, verbose=False)
    assert metrics_of(run)["test/miou"] > 0.8


def predictions(folder: Path, module: DeepLab, data: TinyScenes) -> list[dict[str, str]]:
    outputs: Any = trainer(folder).predict(module, datamodule=data)
    write_predictions(folder / "predictions.csv", module, data, outputs)
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_predictions_are_coloured_masks_and_a_table_that_agrees_with_the_test(tmp_path: Path) -> None:
    module, data = deeplab(), TinyScenes()
    rows = predictions(tmp_path, module, data)
    assert [row["id"] for row in rows] == [str(number) for number in range(13, 19)]
    run = trainer(tmp_path)
    run.test(module, datamodule=data, verbose=False)
    right, pixels = (sum(int(row[key]) for row in rows) for key in ("right", "pixels"))
    assert right / pixels == pytest.approx(metrics_of(run)["test/acc"])
    everything = next(iter(TinyScenes(batch_size=6).test_dataloader()))
    masks = module.eval()(everything["x"]).argmax(dim=1).numpy()
    for row, mask in zip(rows, masks, strict=True):
        assert np.array_equal(np.asarray(Image.open(tmp_path / row["file"])), np.array(PALETTE)[mask])
        shares = [float(row[f"share({name})"]) for name in NAMES]
        assert shares == pytest.approx(np.bincount(mask.ravel(), minlength=4) / mask.size, abs=1e-6)


def test_a_row_names_the_image_where_the_data_do(tmp_path: Path) -> None:
    module, data = deeplab(), TinyScenes()
    assert "image" not in predictions(tmp_path, module, data)[0]

    class Named(list[Any]):
        names: tuple[str, ...] = ()

    for place, one in enumerate(data.splits["test"]):
        one["id"] = torch.tensor((place + 2) % 6)  # not in the order of the names
    test, train = Named(data.splits["test"]), Named(data.splits["train"])
    test.names, train.names = tuple(f"test/shot {number}.png" for number in range(6)), ("another",) * 9
    data.splits |= {"test": test, "train": train}
    rows = predictions(tmp_path, module, data)
    assert [row["image"] for row in rows] == [f"test/shot {number}.png" for number in (2, 3, 4, 5, 0, 1)]


def test_scenes_that_nobody_annotated_are_predicted_too(tmp_path: Path) -> None:
    data = TinyScenes()
    for one in data.splits["test"]:
        del one["y"]
    rows = predictions(tmp_path, deeplab(), data)
    assert list(rows[0])[:2] == ["file", "id"]
    assert "acc" not in rows[0]
    (figure,) = (figure for _, figure in deeplab().prediction_figures([], data))
    assert "not annotated" in text_of(figure)


def test_pictures_are_of_the_test(tmp_path: Path) -> None:
    module, data = deeplab(), TinyScenes()
    run = trainer(tmp_path)
    run.test(module, datamodule=data, verbose=False)
    random = torch.get_rng_state()
    figures = dict(module.figures(data, None))
    assert torch.equal(torch.get_rng_state(), random)
    assert list(figures) == ["scenes", "class_iou"]
    assert "no. 13" in text_of(figures["scenes"])
    assert f"Mean IoU {100 * metrics_of(run)['test/miou']:.1f} %" in text_of(figures["class_iou"])


def test_the_picture_of_training_is_of_loss_and_mean_iou() -> None:
    rows: list[dict[str, Any]] = [
        {"epoch": 0, "train/loss": 1.2, "train/miou": 0.2},
        {"epoch": 1, "train/loss": 1.0, "train/miou": 0.3, "val/loss": 1.1, "val/miou": 0.25},
    ]
    figure = deeplab().training_figure(rows)
    assert "Mean IoU (%)" in text_of(figure)
    assert "not logged" not in text_of(figure)


def test_a_checkpoint_holds_plain_data_and_gives_the_same_network(tmp_path: Path) -> None:
    module, _, run = fitted(tmp_path)
    run.save_checkpoint(tmp_path / "one.ckpt")
    content = torch.load(tmp_path / "one.ckpt", weights_only=True)
    again = DeepLab(**content["hyper_parameters"])
    again.load_state_dict(content["state_dict"])
    assert_same_weights(again.state_dict(), module.state_dict())


def test_starting_anew_forgets_the_training() -> None:
    module, other = deeplab(), deeplab()
    module.training_step(batch(), 0)  # changes running statistics
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(1)
    for one in (module, other):
        torch.manual_seed(5)
        one.start_anew()
    assert_same_weights(module.network.state_dict(), other.network.state_dict())


@pytest.mark.usefixtures("no_network")
def test_missing_weights_are_asked_for_when_training_starts_and_not_when_it_continues(
    tmp_path: Path,
) -> None:
    module = deeplab(network="deeplab_mobilenet", weights="IMAGENET1K_V1", root=str(tmp_path))
    with pytest.raises(UserError, match=r"model\.weights=null\.$"):
        module.on_phase_start(TinyScenes())
    module._continued = True
    module.on_phase_start(TinyScenes())


def test_more_classes_than_a_byte_has_are_refused() -> None:
    with pytest.raises(UserError, match=r"^model\.num_classes=255 must be at most 254.* 255 is void"):
        deeplab(num_classes=255)
    assert deeplab(num_classes=254).num_classes == 254


def test_a_network_that_pools_whole_images_is_not_trained_on_one_image_a_step(tmp_path: Path) -> None:
    module = deeplab(network="deeplab_mobilenet")
    with pytest.raises(UserError, match=r"^data\.batch_size=1 gives one image at a time.*batch_size=2\.$"):
        trainer(tmp_path, max_epochs=1).fit(module, datamodule=TinyScenes(batch_size=1))
    # nine scenes: the last batch of each epoch is one image
    trainer(tmp_path, max_epochs=1).fit(module, datamodule=TinyScenes(batch_size=2))
    trainer(tmp_path, max_epochs=1, limit_train_batches=2).fit(deeplab(), datamodule=TinyScenes(batch_size=1))


def started(module: DeepLab, batch_size: int, processes: int, labelled: int | None = None) -> None:
    """What Lightning calls before a fit of so many processes."""
    data: Any = TinyScenes(batch_size=batch_size)
    if labelled is not None:
        data.labelled_ids = torch.arange(labelled)
    run: Any = SimpleNamespace(world_size=processes, datamodule=data)
    with mock.patch.object(DeepLab, "trainer", run):
        module.on_fit_start()


def test_processes_that_get_one_image_each_need_synchronised_normalisation() -> None:
    module = deeplab(network="deeplab_mobilenet")
    started(module, 4, 2)
    with pytest.raises(UserError, match=r"^data\.batch_size=4 over 4 processes .*devices=2 at most"):
        started(module, 4, 4)
    started(deeplab(), 4, 4)
    # Lightning converts the layers before it calls this, and takes them back after the fit as another kind
    synchronised: Any = TorchSyncBatchNorm().apply(module)
    started(synchronised, 4, 4)
    with pytest.raises(UserError, match=r"^data\.batch_size=1 gives one image at a time"):
        started(synchronised, 1, 1)
    started(TorchSyncBatchNorm().revert(synchronised), 4, 4)  # type: ignore[arg-type]


def test_few_labelled_images_count_as_a_small_batch() -> None:
    module = deeplab(network="deeplab_mobilenet")
    started(module, 4, 1, labelled=2)
    started(module, 4, 2, labelled=4)
    started(deeplab(), 4, 1, labelled=1)
    with pytest.raises(UserError, match=r"^1 labelled image gives one image at a time"):
        started(module, 4, 1, labelled=1)
    with pytest.raises(UserError, match=r"^3 labelled images over 2 processes give"):
        started(module, 4, 2, labelled=3)
    synchronised: Any = TorchSyncBatchNorm().apply(module)
    started(synchronised, 4, 2, labelled=3)


def test_data_of_another_task_are_refused_and_a_wrong_value_is_told_with_the_right_ones() -> None:
    composed = compose(["model=deeplab", "data=digits", "model.network=small_unnet", "model.num_classes=3"])
    with pytest.raises(UserError) as caught:
        check(composed.config, composed.choices)
    message = str(caught.value)
    assert "model.network must be one of deeplab_mobilenet, small_unet, got 'small_unnet'" in message
    composed = compose(["model=deeplab", "data=digits"])
    with pytest.raises(UserError, match="semantic_segmentation"):
        check(composed.config, composed.choices)


def test_the_best_weights_are_those_of_the_highest_mean_iou() -> None:
    best = compose(["model=deeplab", "data=digits"]).config["callbacks"]["best_weights"]
    assert (best["monitor"], best["mode"]) == ("val/miou", "max")
    best = compose(["model=deeplab", "data=digits", "callbacks.best_weights.monitor=val/loss"]).config
    assert best["callbacks"]["best_weights"]["mode"] == "min"
    assert compose(["model=gcn", "data=mini_citation"]).config["callbacks"]["best_weights"]["mode"] == "min"


def test_a_checkpoint_s_own_network_and_weights_go_before_those_of_the_file() -> None:
    # the file's weights are for another network than a stand-in's: a test must not ask for them
    assert {"weights", "network"}.isdisjoint(DeepLab.training_only)
