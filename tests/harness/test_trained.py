"""A command that tests or predicts takes over the settings of its checkpoint, and contradicts it in vain."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from harness.build import build_module
from harness.checkpoint_settings import data_facts, model_choices
from harness.checkpoints import load_checkpoint, read_checkpoint
from harness.configuration.check import check
from harness.configuration.compose import compose
from harness.errors import UserError
from harness.files import write_json
from harness.trained import Trained, read_trained
from tests.small_runs import FittedRun, assert_same_weights, fit

GAT = ("model=gat", "data=mini_citation")
OWN = (*GAT, "trainer.max_epochs=2", "model.heads=4", "model.negative_slope=0.3")


@pytest.fixture(scope="module")
def gat(tmp_path_factory: pytest.TempPathFactory) -> FittedRun:
    """A trained GAT with settings of its own, in a run folder as a session leaves it."""
    run = fit(tmp_path_factory.mktemp("gat"), *OWN)
    (run.folder / "config.yaml").write_text(yaml.safe_dump(run.config), encoding="utf-8")
    state = {"words": [*OWN], "choices": {"model": "gat", "data": "mini_citation"}, "configuration": "0"}
    write_json(run.folder / "run.json", state | {"tracker_id": "0", "sessions": []})
    return run


def configured(*words: str) -> dict[str, Any]:
    composed = compose([*words, "hardware=cpu", "logger=csv"])
    check(composed.config, composed.choices)
    return composed.config


def read(run: FittedRun, *words: str) -> tuple[dict[str, Any], Trained]:
    words = (*words, "mode=test", f"ckpt={run.folder}")
    return read_trained(configured(*words), words)


def refusal(run: FittedRun, *words: str) -> str:
    with pytest.raises(UserError) as caught:
        read(run, *words)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"ckpt={run.folder / 'checkpoints' / 'best.ckpt'} ")
    return str(caught.value)


def test_settings_need_not_be_repeated(gat: FittedRun) -> None:
    config, trained = read(gat, *GAT)
    assert (config["model"]["heads"], config["model"]["negative_slope"]) == (4, 0.3)
    assert config["model"] == gat.config["model"]
    assert config["ckpt"] == str(gat.folder / "checkpoints" / "best.ckpt")
    assert trained.notes == ["as in the checkpoint: model.heads=4, model.negative_slope=0.3"]
    module = build_module(config)
    trained.put_into(module)
    assert_same_weights(module.state_dict(), gat.weights)


def test_weights_that_are_no_numbers_are_refused(gat: FittedRun) -> None:
    config, trained = read(gat, *GAT)
    module = build_module(config)
    name, weight = next(iter(module.named_parameters()))
    weights = {**trained.content["state_dict"], name: torch.full_like(weight, torch.nan)}
    spoilt = Trained(trained.path, {**trained.content, "state_dict": weights}, [])
    with pytest.raises(UserError, match=rf"^ckpt={trained.path}: {re.escape(name)} holds NaN or infinity"):
        spoilt.put_into(module)


def test_settings_may_be_repeated(gat: FittedRun) -> None:
    config, trained = read(gat, *OWN)
    assert config["model"] == gat.config["model"]
    assert trained.notes == []


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("model.heads=2",), "model.heads is 4 in the checkpoint and 2 here. Write model.heads=4."),
        (("model.heads=8",), "model.heads is 4 in the checkpoint and 8 here. Write model.heads=4."),
        (
            ("model.heads=2", "model.negative_slope=0.1"),
            "model.heads is 4 in the checkpoint and 2 here (and 1 more)."
            " Write model.heads=4 model.negative_slope=0.3.",
        ),
        (
            ("model.heads=4", "model.elu_before_softmax=false"),
            "model.elu_before_softmax is true in the checkpoint and false here."
            " Write model.elu_before_softmax=true.",
        ),
        (
            ("model={heads: 2}",),
            "model.heads is 4 in the checkpoint and 2 here. Write model.heads=4.",
        ),
    ],
)
def test_a_word_that_contradicts_the_checkpoint_is_refused(
    gat: FittedRun, words: tuple[str, ...], says: str
) -> None:
    assert refusal(gat, *GAT, *words).endswith(f"does not fit: {says}")


def test_what_training_alone_reads_stays_as_configured(gat: FittedRun) -> None:
    words = ("model.optimizer.lr=0.3", "model.dropout=0.1", "model.init=authors", "model.epochs_per_call=3")
    config, trained = read(gat, *OWN, *words)
    assert config["model"]["optimizer"]["lr"] == 0.3
    assert config["model"]["dropout"] == 0.1
    assert trained.notes == []


def test_another_method_is_named_with_the_word_that_mends_it(gat: FittedRun) -> None:
    assert refusal(gat, "model=spagan", "data=mini_citation").endswith(
        " is of GATClassifier, but model=spagan is a SPAGAN: write model=gat."
    )


def test_other_data_are_named(gat: FittedRun) -> None:
    message = refusal(gat, "model=gat", "data=digits_graph")
    assert "model.in_channels is 120 in the checkpoint and 64 here" in message
    assert message.endswith("It was trained on other data: write data=mini_citation.")


def test_other_data_are_pointed_out_where_the_run_folder_says_nothing(gat: FittedRun, tmp_path: Path) -> None:
    alone = tmp_path / "alone.ckpt"
    alone.write_bytes((gat.folder / "checkpoints" / "best.ckpt").read_bytes())
    words = ("model=gat", "data=digits_graph", "mode=test", f"ckpt={alone}")
    with pytest.raises(UserError, match=r"give those \(config\.yaml of its run folder\)"):
        read_trained(configured(*words), words)


def test_data_that_are_split_otherwise_are_pointed_out(gat: FittedRun) -> None:
    (note,) = read(gat, *OWN, "data.graph_seed=3")[1].notes
    assert note.startswith("WARNING: data.graph_seed was 0 when the checkpoint was trained and is 3 here")
    assert "data.graph_seed=0 gives the same" in note


def test_the_place_of_the_data_is_no_difference(gat: FittedRun) -> None:
    assert read(gat, *OWN, "paths.data=/elsewhere", "paths.cache=/tmp/elsewhere")[1].notes == []


def test_settings_of_another_version_are_named(gat: FittedRun, tmp_path: Path) -> None:
    content = read_checkpoint(gat.folder)
    for changes in ({"attention_kind": "dot"}, {"heads": ...}):
        settings = content["hyper_parameters"] | changes
        kept = {key: value for key, value in settings.items() if value is not ...}
        path = tmp_path / "version.ckpt"
        torch.save(content | {"hyper_parameters": kept}, path)
        words = (*OWN, "mode=test", f"ckpt={path}")
        with pytest.raises(UserError, match=r"gave the method other arguments\. Train it again"):
            read_trained(configured(*words), words)


def test_a_module_of_other_settings_takes_no_checkpoint(gat: FittedRun) -> None:
    module = build_module(configured(*GAT, "model.heads=2", "model.negative_slope=0.3"))
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(UserError, match=r"^requires\.x=.* model\.heads is 4 in the checkpoint and 2 here"):
        load_checkpoint(module, gat.folder, key="requires.x")
    assert_same_weights(module.state_dict(), before)


def test_choices_and_facts_are_read_from_the_files() -> None:
    path = "lightning_modules.node_classification.module.GATClassifier"
    assert model_choices(path) == ["gat"]
    assert data_facts(path) == {"in_channels", "num_classes"}
    assert model_choices("lightning_modules.node_classification.module.GAT") == []
