"""The networks by name: their sizes, their cuts, and what is said of one that is not there."""

import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import matplotlib.font_manager  # noqa: F401 - makes its list of fonts before a folder is watched
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision import models

from harness.annotations import NetworkSpec
from harness.configuration.check import check
from harness.configuration.compose import compose
from harness.errors import UserError
from lightning_modules.image_classification.architectures import NAMED, network_problems
from lightning_modules.image_classification.block_network import BlockNetwork, cut_shapes, embed
from lightning_modules.image_classification.build import (
    TorchvisionNetwork,
    build_block_network,
    build_network,
)
from tests.command_lines import ROOT, Output, command, refusal, run_folder

SMALL = "torchvision/mobilenet_v3_small"
VGG = "{name: vgg, widths: [[8], [8]], head: 8, head_norm: false, linear_std: 0.05}"


def cut(spec: NetworkSpec, num_classes: int = 10, image_size: int = 32) -> BlockNetwork:
    torch.manual_seed(0)
    return build_block_network(spec, 3, image_size, num_classes)


def count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def checked(*words: str) -> dict[str, Any]:
    composed = compose(words)
    check(composed.config, composed.choices)
    return composed.config


def millions_of_products(modules: list[nn.Module], x: torch.Tensor) -> list[float]:
    found = []
    with torch.no_grad():
        for module in modules:
            with FlopCounterMode(display=False) as counter:
                x = module.eval()(x)
            found.append(counter.get_total_flops() / 2 / 1e6)
    return found


@pytest.mark.parametrize("name", NAMED)
def test_every_name_gives_logits(name: str) -> None:
    size = 64 if NAMED[name].get("stem") == "imagenet" else 32
    network = cut(name, num_classes=7, image_size=size)
    logits = network(torch.randn(2, 3, size, size))
    assert logits.shape == (2, 7)
    assert logits.isfinite().all()
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("training", [False, True])
def test_the_blocks_one_after_the_other_are_the_network(name: str, training: bool) -> None:
    network, x = cut(name).train(training), torch.randn(4, 3, 32, 32)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    whole = network(x)
    after = {key: value.clone() for key, value in network.state_dict().items()}
    network.load_state_dict(before)
    found = x
    for block in network.blocks():
        found = block(found)
    assert torch.equal(found, whole)
    assert all(torch.equal(value, after[key]) for key, value in network.state_dict().items())
    assert count(network) == sum(count(block) for block in network.blocks()), "each parameter in one block"


@pytest.mark.parametrize("name", NAMED)
def test_shapes_at_the_cuts_are_those_that_pass_them(name: str) -> None:
    network = cut(name)
    shapes = cut_shapes(network.blocks(), 3, 32)
    assert network.training, "the modes are put back"
    x = torch.randn(2, 3, 32, 32)
    for block, before, after in zip(network.blocks(), shapes[:-1], shapes[1:], strict=True):
        assert x.shape[1:] == before
        x = block(x)
        assert x.shape[1:] == after


@pytest.mark.parametrize(
    ("name", "ten", "hundred"), [("vgg16", 14_983_498, 15_029_668), ("vgg16_half", 5_412_682, 5_458_852)]
)
def test_netgraft_s_networks_have_as_many_parameters_as_the_authors_code(
    name: str, ten: int, hundred: int
) -> None:
    assert count(cut(name)) == ten
    assert count(cut(name, num_classes=100)) == hundred


def test_netgraft_s_networks_take_as_many_products_as_its_specification_counts() -> None:
    teacher, student = (
        millions_of_products(cut(name).blocks(), torch.zeros(1, 3, 32, 32))
        for name in ("vgg16", "vgg16_half")
    )
    assert [round(one, 1) for one in teacher[:5]] == [39.5, 56.6, 94.4, 94.4, 28.3]
    assert (round(sum(teacher), 1), round(sum(student), 1)) == (313.5, 226.0)
    # the specification's own sums leave the two linear layers out
    assert (round(sum(teacher[:5]), 1), round(sum(student[:5]), 1)) == (313.2, 225.9)


@pytest.mark.parametrize("name", ["resnet18", "resnet34"])
def test_resnets_are_torchvision_s_to_the_bit(name: str) -> None:
    ours = cut(name, image_size=64)
    theirs: Any = models.get_model(name, weights=None, num_classes=10)
    ours.load_state_dict(theirs.state_dict())  # strict: the names are the same
    x = torch.randn(2, 3, 64, 64)
    for mode in (True, False):  # after a step of training the statistics agree as well
        assert torch.equal(ours.train(mode)(x), theirs.train(mode)(x))
    assert ours.state_dict().keys() == theirs.state_dict().keys()


def test_the_third_stage_is_what_netgraft_saves_parameters_on() -> None:
    assert count(cut("resnet34").blocks()[3]) == 6_822_400
    assert count(cut("resnet18").blocks()[3]) == 2_099_712


def test_a_stem_for_small_images_keeps_their_size() -> None:
    assert cut_shapes(cut("resnet18_cifar").blocks(), 3, 32)[1:3] == [(64, 32, 32), (64, 32, 32)]
    assert cut_shapes(cut("resnet18").blocks(), 3, 32)[1:3] == [(64, 8, 8), (64, 8, 8)]


@pytest.mark.parametrize("name", ["plain_cnn", "vgg_small", "resnet_small"])
def test_embed_is_what_the_last_linear_layer_sees_and_leaves_no_hook(name: str) -> None:
    network, x = cut(name).eval(), torch.randn(3, 3, 32, 32)
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    features = embed(network, x)
    assert torch.equal(last(features), network(x))
    with pytest.raises(RuntimeError):
        embed(network, x[:, :2])
    assert not any(module._forward_pre_hooks for module in network.modules())


def test_torchvision_s_networks_are_built_without_a_warning_and_give_one_output() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for name in ("googlenet", "inception_v3"):
            network = build_network(f"torchvision/{name}", 3, 96, 5)
            assert network.training
            assert network(torch.randn(2, 3, 96, 96)).shape == (2, 5)


def test_the_trial_of_torchvision_s_network_draws_nothing_and_moves_no_statistics() -> None:
    torch.manual_seed(0)
    expected = models.get_model("mobilenet_v3_small", weights=None, num_classes=5)
    torch.manual_seed(0)
    network = TorchvisionNetwork("mobilenet_v3_small", 3, 32, 5)
    after = torch.rand(1)
    torch.manual_seed(0)
    models.get_model("mobilenet_v3_small", weights=None, num_classes=5)
    assert torch.equal(after, torch.rand(1))
    for one, other in zip(network.network.state_dict().values(), expected.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_a_network_that_ends_with_a_convolution_is_refused_where_its_features_are_asked_for() -> None:
    network, x = build_network("torchvision/squeezenet1_1", 3, 64, 5).eval(), torch.randn(2, 3, 64, 64)
    assert network(x).shape == (2, 5)
    with pytest.raises(UserError, match="squeezenet1_1 does not end with a linear layer"):
        embed(network, x)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["model.network=vgg17"], r"^model\.network must be one of .*Did you mean 'vgg16'\?"),
        (
            ["model.network={name: vgg, widths: 3}"],
            r"^model\.network\.widths must be a list of lists .* got 3",
        ),
        (
            ["model.network.name=vgg"],
            r"^unknown key 'model\.network\.width' of vgg.*Write it whole: 'model\.",
        ),
        (["model.network.name=vgg17"], r"^model\.network\.name must be one of plain_cnn, vgg, resnet, got"),
        (["model.network=vgg"], r"^missing model\.network\.widths, .*linear_std: \.\.\.}'\."),
        (
            ["model.network={name: resnet18}"],
            r"resnet18 has its settings already. Write model\.network=resnet18",
        ),
        (["model.network=torchvision/"], "lacks a name"),
        (["model.network={name: torchvision/resnet18, width: 3}"], r"takes no settings, got width\."),
        (
            ["model.network=vgg_small", "model.network.head=8"],
            r"has no keys\. To change .*'model\.network={name",
        ),
    ],
)
def test_a_mistake_in_the_network_is_told_by_the_check(words: list[str], says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        checked("model=classifier", "data=digits", *words)
    assert "\n" not in str(caught.value)


def test_a_group_without_a_name_is_told_so() -> None:
    (problem,) = network_problems("model.network", {"width": 3})
    assert problem.message.startswith("model.network.name is missing")


@pytest.mark.parametrize(
    "advice",
    [
        f"model.network={VGG}",
        "model.network=resnet_small",
        "model.network={name: plain_cnn, width: 4, depth: 2, norm: batch, dropout: 0.0}",
        "model.network={name: resnet, layers: [1, 1], widths: [4, 8], stem: cifar}",
    ],
)
@pytest.mark.parametrize("data", ["digits", "shapes"])  # settings in the preset, and a name
def test_what_the_messages_say_to_write_is_taken(advice: str, data: str) -> None:
    spec = checked("model=classifier", f"data={data}", advice)["model"]["network"]
    network = build_network(spec, 3, 32, 10)
    assert network(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_the_settings_of_a_name_written_out_are_that_network() -> None:
    with pytest.raises(UserError) as caught:
        compose(["model=classifier", "data=shapes", "model.network.head=32"])
    word = str(caught.value).partition("write '")[2].rpartition("'")[0]
    config = compose(["model=classifier", "data=shapes", word.replace("head: 64", "head: 32")]).config
    assert config["model"]["network"] == NAMED["vgg_small"] | {"head": 32}


def test_the_check_needs_no_torch() -> None:
    code = (
        "import sys, run\n"
        "status = run.run(['model=classifier', 'data=digits', 'model.network=vgg17'])\n"
        "sys.exit(status + 10 * any(name in sys.modules for name in ('torch', 'torchvision')))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("error: model.network must be one of plain_cnn, vgg16")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (
            ("data=digits", "model.network=vgg16"),
            r"model\.network\.widths has 5 blocks.* 8 pixels.* 3 blocks fit",
        ),
        (("data=digits", "model.network.depth=9"), r"Set model\.network\.depth to at most 3"),
        (("data=digits", "model.network=torchvision/resnet18"), "takes images in 3 colours; these have 1"),
        (
            ("data=shapes", "model.network=torchvision/resnet999"),
            r"no such classifier\. Did you mean 'resnet18'",
        ),
        (("data=shapes", "model.network=torchvision/vgg-16"), r"no such classifier\. Did you mean 'vgg16'"),
        (("data=shapes", "model.network=torchvision/nothing_like_it"), "It has alexnet, convnext_base"),
        (("data=shapes", "model.network=torchvision/alexnet"), "cannot take images of 32 pixels"),
        (
            ("data=shapes", "model.network=torchvision/vit_b_32"),
            r"32 pixels \(Wrong image height! Expected 224",
        ),
        (
            ("data=shapes", "model.network={name: resnet, layers: [1], widths: [8, 8], stem: cifar}"),
            "must hold one number for each stage",
        ),
        (("data=shapes", "model.fine_tune=false"), r"model\.weights is null"),
    ],
)
@pytest.mark.usefixtures("as_before")
def test_what_only_the_network_itself_can_tell_leaves_nothing_behind(
    tmp_path: Path, capsys: Output, words: tuple[str, ...], says: str
) -> None:

    err = refusal(tmp_path, capsys, "model=classifier", *words)
    assert re.search(says, err), err


def test_a_network_of_torchvision_cannot_be_cut() -> None:
    with pytest.raises(UserError, match=r"model\.student=torchvision/resnet18 cannot be cut into blocks"):
        build_block_network("torchvision/resnet18", 3, 32, 10, key="model.student")


@pytest.mark.usefixtures("as_before")
def test_a_network_of_torchvision_trains_is_tested_and_predicts(tmp_path: Path, capsys: Output) -> None:
    words = ("model=classifier", "data=shapes", f"model.network={SMALL}", "~callbacks.pictures")
    short = ("trainer.max_epochs=1", "+trainer.max_steps=2", "data.num_train=300", "data.num_val=50")
    assert command(tmp_path, *words, *short, "data.num_test=50") == 0
    folder = run_folder(capsys.readouterr().out)
    content = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert content["global_step"] == 2
    assert command(tmp_path, *words, "mode=predict", f"ckpt={folder}", "data.num_test=50") == 0
