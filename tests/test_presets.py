"""The settings of the published comparisons, typed from the specification."""

import functools
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.configuration.check import check
from harness.configuration.compose import compose
from harness.configuration.targets import KINDS, resolve_class

CONF = Path(__file__).parents[1] / "conf"
CITATIONS = ("cora", "citeseer", "pubmed")
METHODS = ("mlp", "gcn", "gat", "spagan")
PAIRS = [(model, data) for model in METHODS for data in CITATIONS]

# Section 4; pubmed's decay and output heads are GAT's.
RATE = {"cora": 0.005, "citeseer": 0.0085, "pubmed": 0.01}
DECAY = {"cora": 5e-4, "citeseer": 2e-3, "pubmed": 1e-3}
OUT_HEADS = {"cora": 1, "citeseer": 1, "pubmed": 8}
ATTENTION = {"heads": 8, "hidden_channels": 8, "dropout": 0.6, "negative_slope": 0.2}
# Section 8, the decisions.
ATTENTION |= {"init": "zero_bias", "elu_before_softmax": True}
PATHS = {
    "max_path_nodes": 3,
    "path_ratio": 0.5,
    "iterations": 1,
    "path_pool": "max",
    "path_choice": "cheapest",
    "edge_cost": "attention",
    "length_attention": True,
    "output_layer": "attention",
}
# The baselines of section 6 follow Kipf and Welling 2017, section 5.2.
BASELINE = {"hidden_channels": 16, "dropout": 0.5}
# Section 6: test accuracy and its spread, %.
PUBLISHED = {
    "mlp": {"cora": (55.1, None), "citeseer": (46.5, None), "pubmed": (71.4, None)},
    "gcn": {"cora": (81.5, None), "citeseer": (70.3, None), "pubmed": (79.0, None)},
    "gat": {"cora": (83.0, 0.7), "citeseer": (72.5, 0.7), "pubmed": (79.0, 0.3)},
    "spagan": {"cora": (83.6, 0.5), "citeseer": (73.0, 0.4), "pubmed": (79.6, 0.4)},
}
SOURCES = {"mlp": "1609.02907", "gcn": "1609.02907", "gat": "1710.10903", "spagan": "2101.03464"}

# Section 3.5 and 4, the minimum being that of zero biases.
RULE = {"min_epochs": 200, "max_epochs": 1000, "patience": 50, "monitor": "val/loss", "mode": "min"}
# What a preset changes in it.
EXCEPTIONS = {
    ("gat", "digits_graph"): {"max_epochs": 300},
    ("spagan", "digits_graph"): {"max_epochs": 300},
    # No validation nodes: 200 steps whatever happens.
    ("spagan", "relay_graph"): {"max_epochs": 200, "monitor": None},
}


@functools.cache
def composed(model: str, data: str) -> dict[str, Any]:
    return compose([f"model={model}", f"data={data}"]).config


def node_data_sets() -> list[str]:
    """Every choice of ``data=`` whose task is the classification of nodes."""
    names = []
    for file in sorted((CONF / "data").glob("*.yaml")):
        target = yaml.safe_load(file.read_text(encoding="utf-8"))["_target_"]
        if "node_classification" in resolve_class(target, KINDS["data"], "data").tasks:
            names.append(file.stem)
    return names


def stopping(config: dict[str, Any]) -> dict[str, Any]:
    trainer, best = config["trainer"], config["callbacks"]["best_weights"]
    return {key: trainer[key] if key in trainer else best[key] for key in RULE}


def assert_holds(settings: dict[str, Any], expected: dict[str, Any]) -> None:
    assert {key: settings[key] for key in expected} == expected


@pytest.mark.parametrize(("model", "data"), PAIRS)
def test_every_published_pair_has_a_preset_that_states_its_result(model: str, data: str) -> None:
    assert (CONF / "experiment" / f"{model}_{data}.yaml").is_file()
    published, (value, spread) = composed(model, data)["published"], PUBLISHED[model][data]
    assert published["metric"] == "test/acc"
    assert published["value"] == pytest.approx(value / 100)
    assert published["spread"] == (None if spread is None else pytest.approx(spread / 100))
    assert SOURCES[model] in published["source"]


@pytest.mark.parametrize("data", CITATIONS)
@pytest.mark.parametrize("model", ["gat", "spagan"])
def test_attention_networks_train_as_the_specification_lists(model: str, data: str) -> None:
    settings = composed(model, data)["model"]
    assert settings["optimizer"] == {"name": "Adam", "lr": RATE[data], "weight_decay": DECAY[data]}
    assert settings["scheduler"] is None
    assert_holds(settings, ATTENTION | {"out_heads": OUT_HEADS[data]})
    if model == "spagan":
        assert_holds(settings, PATHS)
        assert settings["path_search"] in ("exact", "scipy")


@pytest.mark.parametrize("data", CITATIONS)
@pytest.mark.parametrize("model", ["mlp", "gcn"])
def test_baselines_train_as_kipf_and_welling_did(model: str, data: str) -> None:
    config = composed(model, data)
    assert_holds(config["model"], BASELINE)
    assert config["model"]["optimizer"] == {"name": "Adam", "lr": 0.01, "weight_decay": 5e-4}
    assert config["model"]["scheduler"] is None
    rule = stopping(config)
    assert_holds(rule, {"max_epochs": 200, "patience": 10, "monitor": "val/loss", "mode": "min"})
    assert rule["min_epochs"] <= rule["patience"], "their patience waits for no minimum"


@pytest.mark.parametrize("data", node_data_sets())
@pytest.mark.parametrize("model", ["gat", "spagan"])
def test_phases_end_by_the_same_rule_on_every_graph_whose_preset_says_nothing_else(
    model: str, data: str
) -> None:
    assert stopping(composed(model, data)) == RULE | EXCEPTIONS.get((model, data), {})


def test_the_rule_is_tested_on_every_graph_that_it_was_written_for() -> None:
    named = {data for _, data in EXCEPTIONS} | {*CITATIONS, "mini_citation", "photo", "computers"}
    assert named | {"coauthor_cs"} <= set(node_data_sets())


def test_the_relay_graph_s_preset_is_one_path_layer_over_all_paths_of_unit_cost() -> None:
    config = composed("spagan", "relay_graph")
    expected = {
        "heads": 4,
        "hidden_channels": 8,
        "dropout": 0.0,
        "max_path_nodes": 3,
        "path_ratio": None,
        "edge_cost": "unit",
        "output_layer": "linear",
        "elu_before_softmax": False,
    }
    assert_holds(config["model"], expected)
    assert config["model"]["optimizer"] == {"name": "Adam", "lr": 0.01, "weight_decay": 5e-4}
    assert config["published"] is None


# FactorGCN's specification, section 4.
FACTORISED = {
    "factor_graphs": {"factors": [4, 2], "hidden_channels": 32, "discriminator_weight": 1.0, "dropout": 0.0},
    "zinc": {
        "factors": [8, 8, 4, 2],
        "hidden_channels": 144,
        "discriminator_weight": 0.2,
        "measured_layer": 2,
    },
    "pattern": {"factors": [4, 2, 2], "hidden_channels": 144, "discriminator_weight": 0.2},
} | {
    data: {
        "factors": [4, 4, 2, 2, 1],
        "hidden_channels": 64,
        "discriminator_weight": 0.5,
        "dropout": 0.4,
        "readout": "jumping",
        "batch_norm": True,
    }
    for data in ("mutag", "imdb_binary", "collab")
}
STEPS = {
    "factor_graphs": (0.005, 5e-5, 80, 1000),
    "zinc": (0.002, 0.0, 500, 1000),
    "pattern": (0.001, 0.0, 15, 64),
    "mutag": (0.01, 5e-4, 500, 64),
    "imdb_binary": (0.01, 5e-4, 500, 64),
    "collab": (0.01, 5e-4, 500, 64),
}
# Section 6, in the unit of the metric.
REPORTED = {
    "factor_graphs": ("test/f1", 0.995),
    "zinc": ("test/mae", 0.366),
    "pattern": ("test/acc", 0.8657),
    "mutag": ("test/acc", 0.899),
    "imdb_binary": ("test/acc", 0.753),
    "collab": ("test/acc", 0.812),
}


@pytest.mark.parametrize("data", FACTORISED)
def test_factorgcn_trains_as_the_specification_lists(data: str) -> None:
    config = composed("factorgcn", data)
    settings = config["model"]
    assert_holds(settings, FACTORISED[data] | {"temperature": 6.0, "norm": "source", "balance_weight": 0.0})
    lr, decay, epochs, batch_size = STEPS[data]
    assert settings["optimizer"] == {"name": "Adam", "lr": lr, "weight_decay": decay}
    assert (config["trainer"]["max_epochs"], config["data"]["batch_size"]) == (epochs, batch_size)
    assert config["data"]["self_loops"] is (data not in ("zinc", "pattern"))
    assert config["callbacks"]["best_weights"]["patience"] is None, "epochs are counted, nothing stops early"
    metric, value = REPORTED[data]
    assert (config["published"]["metric"], config["published"]["value"]) == (metric, value)


@pytest.mark.parametrize("data", ["zinc", "pattern"])
def test_its_learning_rate_falls_on_a_plateau_until_training_ends(data: str) -> None:
    settings = composed("factorgcn", data)["model"]
    assert settings["scheduler"] == {"name": "ReduceLROnPlateau", "factor": 0.5, "patience": 50}
    assert settings["stop_below_lr"] == 1e-5


# NetGraft's specification, sections 4 and 6.
GRAFTED = {
    "cifar10": {
        "sample_seed": 6,
        "stage1_epochs": [100, 60, 60],
        "stage2_epochs": 100,
        "lr_blocks": 2.5e-4,
        "lr_adaption": 2.5e-3,
    },
    "cifar100": {
        "sample_seed": 10,
        "stage1_epochs": [1000, 200, 200],
        "stage2_epochs": 150,
        "lr_blocks": [2.5e-4, 1e-3, 1e-3],
        "lr_adaption": 1e-3,
    },
}
NORMALISED = {
    "cifar10": ([0.4914, 0.4822, 0.4465], [0.2023, 0.1994, 0.2010]),
    "cifar100": ([0.5071, 0.4867, 0.4408], [0.2675, 0.2565, 0.2761]),
}
TEN_SHOTS = {"cifar10": (0.9289, 0.0006), "cifar100": (0.6886, 0.0003), "imagenet": (0.6815, None)}


@pytest.mark.parametrize("data", GRAFTED)
def test_netgraft_trains_as_the_specification_lists(data: str) -> None:
    config = composed("netgraft", data)
    everywhere = {"student": "vgg16_half", "grafted": [3, 4, 5], "shots": 10, "batch_size": 64}
    everywhere |= {"lr_stage2": 1e-4, "scale_lr": True, "scheduler": None, "optimizer": {"name": "Adam"}}
    everywhere |= {"loss": "normalised", "stage1": True, "stage2": "front", "adaption_bias": True}
    assert_holds(config["model"], GRAFTED[data] | everywhere)
    assert (config["data"]["mean"], config["data"]["std"]) == NORMALISED[data]
    assert (config["data"]["num_val"], config["data"]["augment"]) == (0, "crop_flip")
    longest = max(*GRAFTED[data]["stage1_epochs"], GRAFTED[data]["stage2_epochs"])
    assert config["trainer"]["max_epochs"] >= longest, "no phase is cut short"
    words = config["requires"]["teacher"]["words"]
    teacher = compose(words).config
    assert teacher["model"]["network"] == "vgg16"
    sgd = {"name": "SGD", "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
    assert teacher["model"]["optimizer"] == sgd
    assert teacher["model"]["scheduler"] == {"name": "CosineAnnealingLR"}
    assert (teacher["trainer"]["max_epochs"], teacher["data"]["batch_size"]) == (200, 128)
    assert (teacher["data"]["mean"], teacher["data"]["std"]) == NORMALISED[data]


@pytest.mark.parametrize("data", TEN_SHOTS)
def test_netgraft_s_presets_state_what_ten_images_of_each_class_gave(data: str) -> None:
    published = composed("netgraft", data)["published"]
    assert (published["metric"], published["value"], published["spread"]) == ("test/acc", *TEN_SHOTS[data])
    assert "2012.04915" in published["source"]


@pytest.mark.parametrize("data", TEN_SHOTS)
def test_a_value_published_for_ten_images_stands_beside_no_other_number(data: str) -> None:
    words = ["model=netgraft", f"data={data}"]
    assert compose([*words, "model.shots=1"]).config["published"] is None
    assert compose([*words, "model.shots=10"]).config["published"]["value"] == TEN_SHOTS[data][0]


def test_the_full_size_that_a_preset_speaks_of_is_a_good_command() -> None:
    text = (CONF / "experiment" / "netgraft_cifar10_jpeg.yaml").read_text(encoding="utf-8")
    lines = [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#   ")]
    joined = "".join(line.removesuffix("\\") for line in lines)
    words = shlex.split(joined)
    assert words[:2] == ["python", "run.py"]
    composed = compose(words[2:])
    check(composed.config, composed.choices)
    own, published = composed.config["model"], compose(["model=netgraft", "data=cifar10"]).config["model"]
    differing = {key for key in published if own[key] != published[key]}
    assert differing <= {"seed"}, "everything else is as published"


# DEAL's specification, sections 3, 4 and 6.
LABELLED = {"camvid": (40, 20, 6, 4, 360, 480), "cityscapes": (300, 150, 8, 8, 688, 688)}
MIOU = {"camvid": (0.614, [52.1, 55.9, 57.8, 58.9, 60.1, 61.3, 61.6]), "cityscapes": (0.62, None)}
FULL_MIOU = {"camvid": 0.649, "cityscapes": 0.66}
DEAL_SGD = {"name": "SGD", "lr": 0.01, "momentum": 0.9, "weight_decay": 5e-4, "nesterov": True}


@pytest.mark.parametrize("model", ["deal", "deeplab"])
@pytest.mark.parametrize("data", LABELLED)
def test_deal_and_full_supervision_train_as_the_specification_lists(model: str, data: str) -> None:
    config = composed(model, data)
    *_, batch_size, height, width = LABELLED[data]
    assert_holds(
        config["data"], {"batch_size": batch_size, "height": height, "width": width, "augment": "deal"}
    )
    expected = {"network": "deeplab_mobilenet", "weights": "IMAGENET1K_V1", "head_lr_factor": 10.0}
    expected |= {"optimizer": DEAL_SGD, "scheduler": {"name": "PolynomialLR", "power": 0.9}}
    assert_holds(config["model"], expected | {"scheduler_interval": "step"})
    assert_holds(config["trainer"], {"max_epochs": 100, "check_val_every_n_epoch": 5})
    assert config["callbacks"]["best_weights"]["patience"] is None, "epochs are counted, nothing stops early"


@pytest.mark.parametrize("data", LABELLED)
def test_deal_s_rounds_are_those_of_the_specification(data: str) -> None:
    initial, step, stride, *_ = LABELLED[data]
    expected = {
        "initial": initial,
        "step": step,
        "rounds": 7,
        "att_stride": stride,
        "alpha": 1.0,
        "levels": 8,
    }
    expected |= {"difficulty_loss": "wce", "void_in_difficulty": False, "detach_difficulty": False}
    expected |= {"attention": True, "difficulty_from": "auto", "levels_range": "image", "passes": 10}
    expected |= {"ds_uncertainty": None, "candidates": "auto", "acquisition": "deal_ds"}
    settings = composed("deal", data)["model"]
    assert_holds(settings, expected)
    curves = settings["published_curves"]
    assert curves["labelled"] == [initial + number * step for number in range(7)]
    assert {len(curve) for curve in curves.values()} == {7}


@pytest.mark.parametrize("data", MIOU)
def test_deal_s_published_values_stand_beside_the_settings_they_were_found_with(data: str) -> None:
    published, (value, entropy) = composed("deal", data)["published"], MIOU[data]
    assert (published["metric"], published["value"]) == ("test/miou", value)
    assert "2010.08705" in published["source"]
    curves = composed("deal", data)["model"]["published_curves"]
    assert curves["deal_ds"][-1] == pytest.approx(100 * value)
    assert entropy is None or curves["deal_de"] == entropy
    for word in ("model.acquisition=random", "model.rounds=3"):
        assert compose(["model=deal", f"data={data}", word]).config["published"] is None
    assert composed("deeplab", data)["published"]["value"] == FULL_MIOU[data]


def test_the_street_scenes_are_those_of_the_specification_s_stand_in() -> None:
    config = composed("deal", "street_scenes")
    stand_in = {"initial": 15, "step": 10, "rounds": 4, "network": "small_unet", "difficulty_loss": "bce"}
    assert_holds(config["model"], stand_in | {"acquisition": "deal_ds", "weights": None})
    assert_holds(config["data"], {"num_train": 120, "num_test": 60, "batch_size": 4})
    assert config["trainer"]["max_epochs"] == 50


def test_on_a_user_s_folder_one_round_trains_on_all_masks() -> None:
    config = composed("deal", "image_mask_folder")
    assert_holds(config["model"], {"initial": None, "rounds": 1})


@pytest.mark.parametrize("model", ["deal", "deeplab"])
def test_the_lossy_copy_of_camvid_is_reduced_for_a_cpu_and_claims_no_published_number(model: str) -> None:
    config = composed(model, "camvid_jpeg")
    assert_holds(config["data"], {"height": 90, "width": 120})
    assert_holds(config["model"], {"network": "deeplab_mobilenet", "weights": "IMAGENET1K_V1"})
    assert (config["trainer"]["max_epochs"], config["published"]) == (20, None)


# LSP's specification, sections 3.4, 4 and 6: the teacher.
TEACHER = {"widths": [64, 64, 128, 256], "embedding": 1024, "classifier": [512, 256], "k": 20, "dropout": 0.5}
STUDENT = {"widths": [32, 32, 64], "embedding": 128, "classifier": [256], "k": 10}
HALF_STUDENT = {"widths": [16, 16, 32], "embedding": 64, "classifier": [128], "k": 8}


@pytest.mark.parametrize("data", ["modelnet40", "modelnet10"])
def test_dgcnn_trains_as_the_specification_lists(data: str) -> None:
    config = composed("dgcnn", data)
    assert_holds(config["model"], TEACHER | {"label_smoothing": 0.2})
    assert config["model"]["optimizer"] == {"name": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
    assert config["model"]["scheduler"] == {"name": "CosineAnnealingLR", "eta_min": 0.001}
    assert_holds(config["data"], {"num_points": 1024, "batch_size": 32, "drop_last": True})
    assert config["data"]["augment"] == "scale_shift_shuffle"
    assert config["trainer"]["max_epochs"] == 250
    best = {"monitor": "val/acc", "mode": "max", "patience": None}
    assert_holds(config["callbacks"]["best_weights"], best)


def test_the_stand_in_has_the_teacher_at_half_its_widths_and_the_specified_clouds() -> None:
    config = composed("dgcnn", "mini_modelnet")
    half = {key: [width // 2 for width in TEACHER[key]] for key in ("widths", "classifier")}
    assert_holds(config["model"], half | {"embedding": 512, "k": 16})
    clouds = {"num_points": 256, "train_per_class": 40, "test_per_class": 20}
    assert_holds(config["data"], clouds)
    assert config["published"] is None


def test_the_published_accuracy_of_dgcnn_is_the_teacher_s_and_no_student_s() -> None:
    published = composed("dgcnn", "modelnet40")["published"]
    assert (published["metric"], published["value"], published["spread"]) == ("test/acc", 0.924, None)
    assert "2003.10477" in published["source"]
    assert "not checked" in published["source"]
    words = ["model=dgcnn", "data=modelnet40", "model.widths=[32,32,64]"]
    assert compose(words).config["published"] is None


@pytest.mark.parametrize(("data", "student"), [("modelnet40", STUDENT), ("mini_modelnet", HALF_STUDENT)])
def test_the_student_that_a_preset_of_dgcnn_names_is_a_good_command(
    data: str, student: dict[str, Any]
) -> None:
    text = (CONF / "experiment" / f"dgcnn_{data}.yaml").read_text(encoding="utf-8")
    lines = [line.removeprefix("#").strip() for line in text.splitlines() if line.startswith("#   ")]
    words = shlex.split("".join(line.removesuffix("\\") for line in lines))
    assert words[:2] == ["python", "run.py"]
    made = compose(words[2:])
    check(made.config, made.choices)
    assert_holds(made.config["model"], student)


# LSP's specification, sections 3.3, 3.4, 4 and 5.
def test_lsp_s_teacher_and_student_on_ppi_are_the_authors() -> None:
    teacher, student = composed("inductive_gat", "ppi"), composed("lsp", "ppi")
    assert_holds(teacher["model"], {"hidden_layers": 2, "heads": 4, "channels": 256, "out_heads": 6})
    assert_holds(student["model"], {"hidden_layers": 4, "heads": 2, "channels": 68, "out_heads": 2})
    assert student["model"]["layer_pairs"] == [[2, 3]]
    assert_holds(student["model"], {"distill": "lsp", "kernel": "rbf", "sigma": 100.0, "lsp_until": None})
    assert_holds(student["model"], {"kd_alpha": 0.1, "kd_temperature": 3.0, "kl": "teacher_student"})
    assert (teacher["trainer"]["max_epochs"], student["trainer"]["max_epochs"]) == (60, 500)
    for config in (teacher, student):
        assert config["model"]["optimizer"] == {"name": "Adam", "lr": 0.005}
        assert_holds(config["data"], {"batch_size": 2, "self_loops": True})
        best = {"monitor": "val/f1", "mode": "max", "patience": None}
        assert_holds(config["callbacks"]["best_weights"], best)


def test_lsp_s_stand_in_is_the_specified_one() -> None:
    teacher, student = composed("inductive_gat", "mini_ppi"), composed("lsp", "mini_ppi")
    assert_holds(teacher["model"], {"hidden_layers": 2, "heads": 4, "channels": 32, "out_heads": 4})
    assert_holds(student["model"], {"hidden_layers": 2, "heads": 2, "channels": 8, "out_heads": 2})
    assert_holds(student["model"], {"layer_pairs": [[2, 2]], "kernel": "rbf", "lsp_weight": 10.0})
    assert teacher["trainer"]["max_epochs"] == student["trainer"]["max_epochs"] == 60
    assert student["published"] is None


@pytest.mark.parametrize(("data", "sizes"), [("modelnet40", STUDENT), ("modelnet10", STUDENT)])
def test_lsp_on_point_clouds_trains_as_dgcnn_does(data: str, sizes: dict[str, Any]) -> None:
    config, plain = composed("lsp_dgcnn", data), composed("dgcnn", data)
    assert_holds(config["model"], sizes | {"layer_pairs": [[4, 3]], "lsp_weight": 100.0, "edges": "union"})
    for key in ("optimizer", "scheduler", "label_smoothing", "dropout"):
        assert config["model"][key] == plain["model"][key]
    assert config["trainer"]["max_epochs"] == plain["trainer"]["max_epochs"] == 250
    assert config["data"] == plain["data"]


def test_lsp_s_stand_in_of_point_clouds_has_the_student_at_half_its_widths() -> None:
    config = composed("lsp_dgcnn", "mini_modelnet")
    assert_holds(config["model"], HALF_STUDENT)
    assert config["trainer"]["max_epochs"] == composed("dgcnn", "mini_modelnet")["trainer"]["max_epochs"]


def test_what_lsp_published_stands_beside_lsp_alone() -> None:
    assert composed("lsp", "ppi")["published"]["value"] == 0.961
    assert composed("inductive_gat", "ppi")["published"]["value"] == 0.976
    assert composed("lsp_dgcnn", "modelnet40")["published"]["value"] == 0.919
    for model, data in (("lsp", "ppi"), ("lsp_dgcnn", "modelnet40")):
        assert compose([f"model={model}", f"data={data}", "model.distill=full"]).config["published"] is None
