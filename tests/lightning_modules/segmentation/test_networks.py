"""The segmentation networks: sizes, shapes, what is dilated, and what they start from."""

from pathlib import Path
from typing import get_args

import pytest
import torch
from pytorch_lightning.plugins.layer_sync import TorchSyncBatchNorm
from torch import nn
from torchvision.models import mobilenet_v2

from harness.errors import UserError
from lightning_modules.segmentation.build import SegmenterName, build_segmenter, check_weights, load_backbone
from lightning_modules.segmentation.networks import (
    DeepLabV3Plus,
    OneValueBatchNorm,
    Segmenter,
    check_batch,
    resize,
)
from tests.small_runs import assert_same_weights

ALL: tuple[SegmenterName, ...] = get_args(SegmenterName)


def made(name: SegmenterName, num_classes: int = 5) -> Segmenter:
    torch.manual_seed(0)
    return build_segmenter(name, num_classes)


def count(part: nn.Module) -> int:
    return sum(parameter.numel() for parameter in part.parameters())


def test_deeplab_is_as_large_as_the_authors_network() -> None:
    network = made("deeplab_mobilenet", 11)
    assert count(network) == 5_813_496 - 13
    assert count(network.backbone()) == 1_811_712


def test_the_small_network_has_five_convolutions_of_8_to_24_channels_and_a_classifier() -> None:
    convolutions = [module for module in made("small_unet").modules() if isinstance(module, nn.Conv2d)]
    assert [one.out_channels for one in convolutions] == [8, 16, 24, 16, 16, 5]
    assert [one.kernel_size[0] for one in convolutions] == [3, 3, 3, 3, 3, 1]


@pytest.mark.parametrize(
    ("name", "size", "stride"),
    [
        ("deeplab_mobilenet", (90, 120), 4),
        ("deeplab_mobilenet", (33, 50), 4),
        ("small_unet", (32, 48), 1),
        ("small_unet", (15, 22), 1),
    ],
)
def test_scores_and_features_have_the_promised_shapes(
    name: SegmenterName, size: tuple[int, int], stride: int
) -> None:
    network = made(name).eval()
    scores, features = network(torch.randn(2, 3, *size))
    small = tuple(-(-side // stride) for side in size)
    assert scores.shape == (2, 5, *small)
    assert features.shape == (2, network.feature_channels, *small)


def test_deeplab_sees_an_image_at_stride_4_and_at_stride_16_with_the_last_block_dilated() -> None:
    network = made("deeplab_mobilenet").eval()
    assert isinstance(network, DeepLabV3Plus)
    x = torch.randn(1, 3, 64, 96)
    low, high = network.encode(x)
    assert low.shape == (1, 48, 16, 24)
    assert high.shape == (1, 256, 4, 6)
    strides = [m.stride[0] for m in network.features.modules() if isinstance(m, nn.Conv2d)]
    assert strides.count(2) == 4
    dilations = [m.dilation[0] for m in network.features.modules() if isinstance(m, nn.Conv2d)]
    assert [d for d in dilations if d != 1] == [2]


def test_the_backbone_up_to_stride_16_is_torchvision_s() -> None:
    network, theirs = made("deeplab_mobilenet").eval(), mobilenet_v2(weights=None).eval()
    theirs.features[:18].load_state_dict(network.backbone().state_dict())
    x = torch.randn(1, 3, 64, 64)
    # the first layer whose stride was changed is the 15th
    torch.testing.assert_close(network.features[:14](x), theirs.features[:14](x))  # type: ignore[index, operator]


@pytest.mark.parametrize("name", ALL)
def test_one_step_gives_every_parameter_a_gradient(name: SegmenterName) -> None:
    network = made(name).train()
    scores, _ = network(torch.randn(2, 3, 64, 64))
    resize(scores, (64, 64)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    assert sum(bool(p.grad.any()) for p in network.parameters() if p.grad is not None) == len(
        list(network.parameters())
    )


@pytest.mark.parametrize("name", ALL)
def test_a_last_batch_of_one_image_can_be_trained_on(name: SegmenterName) -> None:
    network = made(name).train()
    scores, _ = network(torch.randn(1, 3, 64, 64))
    scores.sum().backward()
    assert bool(scores.isfinite().all())


def test_one_value_is_normalised_by_the_running_statistics_and_leaves_them_alone() -> None:
    layer, plain = OneValueBatchNorm(3), nn.BatchNorm2d(3)
    x = torch.randn(5, 3, 1, 1)
    torch.testing.assert_close(layer(x), plain(x))
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    torch.testing.assert_close(layer(x[:1]), plain.eval()(x[:1]))
    assert_same_weights(layer.state_dict(), state)


@pytest.mark.parametrize(
    ("batch_size", "parts", "ways"),
    [
        (1, 1, "data.batch_size=2."),
        (3, 2, "data.batch_size=4, or hardware.devices=1 at most, or on GPUs hardware.sync_batchnorm=true."),
        (4, 4, "data.batch_size=8, or hardware.devices=2 at most, or on GPUs hardware.sync_batchnorm=true."),
    ],
)
def test_batches_of_single_images_are_told_with_the_ways_out(batch_size: int, parts: int, ways: str) -> None:
    with pytest.raises(UserError) as caught:
        check_batch(batch_size, parts)
    over = f" over {parts} processes" if parts > 1 else ""
    assert str(caught.value).startswith(f"data.batch_size={batch_size}{over} gives one image at a time")
    assert str(caught.value).endswith(f" Set {ways}")
    check_batch(2, 1)
    check_batch(2 * parts, parts)


@pytest.mark.parametrize(
    ("labelled", "parts", "start", "way"),
    [
        (1, 1, "1 labelled image gives one image at a time", "Annotate 1 more image, or where they have a"),
        (3, 2, "3 labelled images over 2 processes give one", "or hardware.devices=1 at most, or on GPUs"),
        (2, 2, "2 labelled images over 2 processes give one", "Annotate 2 more images, or where they have a"),
    ],
)
def test_fewer_labelled_images_than_the_processes_can_pool_are_told_with_the_ways_out(
    labelled: int, parts: int, start: str, way: str
) -> None:
    with pytest.raises(UserError) as caught:
        check_batch(8, parts, labelled)
    assert str(caught.value).startswith(start)
    assert way in str(caught.value)
    assert f"(model.initial={2 * parts})" in str(caught.value)
    check_batch(8, parts, 2 * parts)
    # a batch that is too small by itself is the cause, however many are labelled
    with pytest.raises(UserError, match=r"^data\.batch_size=1"):
        check_batch(1, 1, labelled)


@pytest.mark.parametrize("name", ALL)
def test_normalisations_are_drawn_anew_after_they_were_synchronised_over_processes(
    name: SegmenterName,
) -> None:
    network = TorchSyncBatchNorm().revert(nn.SyncBatchNorm.convert_sync_batchnorm(made(name)))
    assert isinstance(network, Segmenter)
    norms = [part for part in network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    assert norms
    assert not any(isinstance(norm, nn.BatchNorm2d) for norm in norms), "as Lightning leaves them"
    for norm in norms:
        for value in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            assert value is not None
            nn.init.constant_(value, 3.0)
    network.reset_parameters()
    for norm in norms:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        assert not norm.bias.any()
        assert not norm.running_mean.any()
        assert bool((norm.weight == 1).all())
        assert bool((norm.running_var == 1).all())


@pytest.mark.parametrize("name", ALL)
def test_encoding_has_no_dropout_in_it(name: SegmenterName) -> None:
    network, x = made(name).eval(), torch.randn(2, 3, 64, 64)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.train()
    for one, other in zip(network.encode(x), network.encode(x), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(network(x)[0], network(x)[0])


@pytest.mark.parametrize("name", ALL)
def test_the_features_are_the_same_without_the_head_which_does_not_run(
    name: SegmenterName, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, x = made(name).eval(), torch.randn(2, 3, 64, 64)
    scores, features = network(x)
    assert torch.equal(network.head(features), scores)
    monkeypatch.setattr(network.head, "forward", None)
    assert torch.equal(network.before_head(x), features)


@pytest.mark.parametrize("name", ALL)
def test_weights_drawn_anew_are_others_of_the_same_scale(name: SegmenterName) -> None:
    network = made(name)
    before = {name: value.clone() for name, value in network.named_parameters()}
    network.reset_parameters()
    after = dict(network.named_parameters())
    drawn = [key for key, value in before.items() if value.ndim == 4]
    assert all(not torch.equal(before[key], after[key]) for key in drawn)
    for key in drawn:
        if before[key].numel() > 500:
            assert float((after[key].std() / before[key].std()).detach()) == pytest.approx(1, abs=0.2)


def test_the_backbone_takes_the_weights_of_a_file_and_nothing_is_drawn_for_it(tmp_path: Path) -> None:
    torch.manual_seed(1)
    trained = mobilenet_v2(weights=None)
    torch.save(trained.state_dict(), tmp_path / "mobile.pth")
    network = made("deeplab_mobilenet")
    state, head = torch.get_rng_state(), [p.clone() for p in network.head.parameters()]
    load_backbone(network, str(tmp_path / "mobile.pth"), str(tmp_path), str(tmp_path))
    assert torch.equal(torch.get_rng_state(), state)
    assert_same_weights(network.backbone().state_dict(), trained.features[:18].state_dict())
    assert all(torch.equal(one, other) for one, other in zip(head, network.head.parameters(), strict=True))


@pytest.mark.usefixtures("no_network")
def test_weights_that_are_nowhere_are_told_in_one_line_with_both_ways_out(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        load_backbone(made("deeplab_mobilenet"), "IMAGENET1K_V1", str(tmp_path / "data"), str(tmp_path))
    message = str(caught.value)
    assert message.startswith("model.weights: weights/mobilenet_v2-b0353104.pth is neither under paths.data=")
    assert "Set paths.data=<folder>" in message
    assert message.endswith("Or start from random weights: model.weights=null.")
    assert "\n" not in message


def test_a_file_that_is_not_the_published_one_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "mobilenet_v2-b0353104.pth").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"is not the published file .* It was not opened\."):
        load_backbone(made("deeplab_mobilenet"), "IMAGENET1K_V1", str(tmp_path), str(tmp_path))


def test_weights_of_another_name_are_told_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"model\.weights must be one of IMAGENET1K_V1, .*IMAGENET1K_V1'?\?"):
        load_backbone(made("deeplab_mobilenet"), "IMAGENET_V1", str(tmp_path), str(tmp_path))


def test_weights_for_a_network_that_has_none_are_refused() -> None:
    check_weights("small_unet", None)
    check_weights("deeplab_mobilenet", "IMAGENET1K_V1")
    with pytest.raises(UserError, match=r"small_unet has none\. Set model\.weights=null\."):
        check_weights("small_unet", "IMAGENET1K_V1")
