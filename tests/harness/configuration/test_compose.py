"""Composition with Hydra, on a generated folder and on the real one."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from harness.configuration.compose import compose, config_text, files_composed_once, parse_word
from harness.errors import UserError

FILES = {
    "config.yaml": """
defaults:
  - _self_
  - model: small
  - data: ring
  - trainer: default
  - optional experiment: ${model}_${data}
seed: 0 # of everything
ckpt: null
paths: {data: "${oc.env:TENFOLD_DATA,data}"}
""",
    "model/small.yaml": """
_target_: lightning_modules.small.Small
in_channels: ${data.in_channels}
hidden_channels: 8
heads: 2
dropout: 0.5
optimizer: {name: Adam, lr: 1e-3, weight_decay: 5e-4}
scheduler: null
""",
    "model/large.yaml": "_target_: lightning_modules.large.Large\nhidden_channels: ???\n",
    "data/ring.yaml": "_target_: datamodules.ring.Ring\nin_channels: 3\n",
    "data/star.yaml": "_target_: datamodules.star.Star\nin_channels: 5\n",
    "trainer/default.yaml": "max_epochs: 1000\nmin_epochs: 200\n",
    "experiment/small_star.yaml": "# @package _global_\nmodel: {heads: 7, dropout: 0.1}\n",
}


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        file = tmp_path / "conf" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return tmp_path / "conf"


def mistake(conf: Path, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        compose(overrides, conf)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_defaults_compose_to_resolved_plain_values(conf: Path) -> None:
    composed = compose((), conf)
    assert composed.config["model"]["in_channels"] == 3
    assert composed.config["model"]["optimizer"]["weight_decay"] == 5e-4
    assert type(composed.config["model"]["optimizer"]) is dict
    assert "hydra" not in composed.config
    assert composed.choices == {"model": "small", "data": "ring", "trainer": "default"}


def test_preset_of_the_pair_is_applied_after_groups_and_before_the_command_line(conf: Path) -> None:
    composed = compose(("data=star", "model.dropout=0.2"), conf)
    assert composed.config["model"]["heads"] == 7
    assert composed.config["model"]["dropout"] == 0.2
    assert composed.choices["experiment"] == "small_star"
    assert composed.overrides == ("data=star", "model.dropout=0.2")


def test_preset_can_be_left_out_or_chosen(conf: Path) -> None:
    without = compose(("data=star", "~experiment"), conf)
    assert without.config["model"]["heads"] == 2
    assert "experiment" not in without.choices
    assert compose(("experiment=small_star", "data=star"), conf).config["model"]["heads"] == 7


def test_a_preset_belongs_to_its_pair(conf: Path) -> None:
    message = mistake(conf, "experiment=small_star")
    assert message.startswith("experiment=small_star is not the preset of model=small data=ring.")
    assert "Write model=small data=star, or leave experiment= out" in message
    (conf / "experiment" / "big_sun.yaml").write_text("# @package _global_\nseed: 1\n")
    assert "It belongs to no pair: rename the file" in mistake(conf, "experiment=big_sun")


def test_environment_names_the_data_folder(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TENFOLD_DATA", "/somewhere")
    assert compose((), conf).config["paths"]["data"] == "/somewhere"
    monkeypatch.delenv("TENFOLD_DATA")
    assert compose((), conf).config["paths"]["data"] == str(Path("data").absolute())


def test_folders_and_checkpoint_are_written_in_full(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(conf.parent)
    monkeypatch.setenv("HOME", "/home/somebody")
    (conf / "data" / "ring.yaml").write_text(
        "_target_: x\nin_channels: 3\nroot: ${paths.data}\n", encoding="utf-8"
    )
    config = compose(("paths.data='~/sets'", "ckpt=runs/best.ckpt"), conf).config
    assert config["paths"]["data"] == config["data"]["root"] == "/home/somebody/sets"
    assert config["ckpt"] == str(conf.parent / "runs" / "best.ckpt")
    assert compose(("ckpt=https://x.y/best.ckpt",), conf).config["ckpt"] == "https://x.y/best.ckpt"
    assert compose((), conf).config["ckpt"] is None


def test_optional_keys_that_are_taken_away_are_null(conf: Path) -> None:
    config = compose(("~ckpt",), conf).config
    assert (config["ckpt"], config["published"], config["resume"]) == (None, None, None)


def test_class_can_be_given_where_the_file_has_null(conf: Path) -> None:
    composed = compose(("model.scheduler={name: StepLR, step_size: 10}",), conf)
    assert composed.config["model"]["scheduler"] == {"name": "StepLR", "step_size": 10}


def test_null_can_be_given_where_the_file_has_a_class_and_the_method_takes_none() -> None:
    words = ("model=osgan_dfkd", "data=digits")
    assert compose(words).config["model"]["scheduler"]["name"] == "LinearLR"
    assert compose((*words, "model.scheduler=null")).config["model"]["scheduler"] is None
    with pytest.raises(UserError, match=r"model\.optimizer is a group of keys"):
        compose((*words, "model.optimizer=null"))
    with pytest.raises(UserError, match=r"model\.scheduler is null here and has no keys"):
        compose((*words, "model.scheduler=null", "model.scheduler.total_iters=3"))


def test_shorter_training_lowers_the_minimum_of_epochs(conf: Path) -> None:
    assert compose(("trainer.max_epochs=50",), conf).config["trainer"]["min_epochs"] == 50
    both = compose(("trainer.max_epochs=50", "trainer.min_epochs=60"), conf)
    assert both.config["trainer"]["min_epochs"] == 60


def test_composing_makes_no_folder(conf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(conf.parent)
    compose((), conf)
    assert [path.name for path in conf.parent.iterdir()] == ["conf"]


@pytest.mark.parametrize(
    ("override", "parts"),
    [
        ("modle=small", ["'modle'", "Did you mean 'model'?", "Groups: model, data"]),
        ("modle.heads=1", ["unknown key 'modle.heads'", "Did you mean 'model'?"]),
        ("model=smal", ["model=smal", "Did you mean 'small'?", "large, small"]),
        ("model=null", ["model=null", "large, small"]),
        ("model=7", ["model=7"]),
        ("data=../data/ring", ["data=../data/ring", "ring, star"]),
        ("experiment=foo", ["experiment=foo", "small_star"]),
        ("model.hiden=8", ["'model.hiden'", "Did you mean 'model.hidden_channels'?", "heads"]),
        ("~model.hiden", ["'model.hiden'", "hidden_channels"]),
        ("model={hiden: 8}", ["'model.hiden'", "hidden_channels"]),
        ("model.heads.x=1", ["model.heads is 2"]),
        ("model.optimizer.lrr=1", ["Did you mean 'model.optimizer.lr'?"]),
        ("model.optimizer.betas=[0.5,0.9]", ["+model.optimizer.betas"]),
        ("model.optimizer={name: SGD, mometum: 0.9}", ["unknown key 'model.optimizer.mometum'"]),
        ("model.optimizer=null", ["model.optimizer is a group of keys"]),
        ("model.optimizer=[1]", ["model.optimizer is a group of keys"]),
        ("trainer.gradient_clip_val=1", ["+trainer.gradient_clip_val"]),
        ("trainer.devices=2", ["hardware.devices"]),
        ("model=large", ["model.hidden_channels has no value yet", "model.hidden_channels=..."]),
        ("model.heads=${nope.x}", ["model.heads is ${nope.x}", "no such key"]),
        ("model.heads=${oc.env:TENFOLD_NO_SUCH}", ["TENFOLD_NO_SUCH is not set"]),
        ("model.heads=${model.heads}", ["refers to itself"]),
        ("model.heads=[1,", ["cannot read 'model.heads=[1,'", "left open"]),
        ("model.heads=a(b", ["cannot read 'model.heads=a(b'", "left open"]),
        ("model.heads=a(b)", ["cannot read 'model.heads=a(b)'", "Quote", "\"model.heads='a(b)'\""]),
        ("model..heads=1", ["'model..heads' is no key"]),
        ("model.heads=" + "9" * 5000, ["a number in it is too long"]),
        ("data.in_channels=${model.nothing}", ["data.in_channels is ${model.nothing}", "no such key"]),
        ("data.in_channels=${model.head}", ["Did you mean 'model.heads'?"]),
        ("data.in_channels=${twice:2}", ["data.in_channels is ${twice:2}", "Unsupported interpolation type"]),
        ("model", ["cannot read 'model'", "key=value"]),
        (
            "model.requires.teacher=[model=classifier,data=shapes]",
            ['Quote each word of the list: \'model.requires.teacher=["model=classifier","data=shapes"]\''],
        ),
        (
            'model.requires.teacher=[model=classifier,"data=shapes"]',
            ['Quote each word of the list: \'model.requires.teacher=["model=classifier","data=shapes"]\''],
        ),
        ("=3", ["cannot read '=3'"]),
        ("model=small,large", ["add -m to run one job for each", "python run.py -m model=small,large"]),
        ("seed=range(0,3)", ["add -m", "write seed=[...]"]),
        ("+model=large", ["model=<choice> without the plus"]),
        ("~model", ["model needs a choice"]),
        ("model@other=large", ["model=<choice>"]),
        ("modle/x=large", ["no group 'modle/x'", "model"]),
        ("hydra.run.dir=x", ["paths.runs"]),
        ("hydra/launcher=joblib", ["paths.runs"]),
    ],
)
def test_mistake_on_the_command_line_is_one_line_with_the_fix(
    conf: Path, override: str, parts: list[str]
) -> None:
    message = mistake(conf, override)
    for part in parts:
        assert part in message


def test_yaml_mistake_names_file_and_line(conf: Path) -> None:
    file = conf / "model" / "small.yaml"
    file.write_text("heads: 2\nhidden: [1, 2\ndropout: 0.1\n", encoding="utf-8")
    message = mistake(conf)
    assert "small.yaml, line 3" in message


def test_key_written_twice_in_a_file_is_refused(conf: Path) -> None:
    (conf / "data" / "ring.yaml").write_text("in_channels: 3\nin_channels: 4\n", encoding="utf-8")
    message = mistake(conf)
    assert "ring.yaml, line 2" in message
    assert "in_channels" in message


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("model.requires.teacher=[model=gin,data=ppi]", ["model=gin", "data=ppi"]),
        ('model.requires.teacher=[model=gin,"data=ppi"]', ["model=gin", "data=ppi"]),
        ("model.requires.teacher=['model=gin', data=${data}]", ["model=gin", "data=${data}"]),
        (
            "model.requires.teacher=[model=gin,model.layers=[1,2],'model.name=\"a\"']",
            ["model=gin", "model.layers=[1,2]", 'model.name="a"'],
        ),
        ('model.requires.teacher=[model=gin,model.name="a,b"]', ["model=gin", 'model.name="a,b"']),
        ('model.heads=a("b")', 'a("b")'),
        ("model.heads=a('b')", "a('b')"),
        ("model.heads=a(${b})", "a(${b})"),
    ],
)
def test_the_fix_of_a_word_that_cannot_be_read_can_be_pasted_into_a_shell(word: str, meant: Any) -> None:
    with pytest.raises(UserError) as caught:
        parse_word(word)
    shown = re.search(r"(?:spaces|list): (.+?)(?:; a list is .*)?\.$", str(caught.value))
    assert shown is not None
    [pasted] = shlex.split(shown[1])
    assert parse_word(pasted).value() == meant


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"3\n", "holds no keys with values"),
        (b"\xff\xfe", "byte 0 is no UTF-8"),
        (b"heads: '\n", "no valid YAML"),
    ],
)
def test_a_file_that_holds_no_keys_is_named(conf: Path, content: bytes, says: str) -> None:
    (conf / "experiment" / "small_ring.yaml").write_bytes(content)
    message = mistake(conf)
    assert says in message
    assert "small_ring.yaml" in message


def test_settings_of_hydra_in_a_file_are_refused(conf: Path) -> None:
    with (conf / "config.yaml").open("a", encoding="utf-8") as file:
        file.write("hydra: {run: {dir: elsewhere}}\n")
    assert "config.yaml: Hydra's own settings have no effect here" in mistake(conf)


def test_letters_of_any_language_need_no_quotes(conf: Path) -> None:
    assert compose(("paths.data=/home/jörg/Läufe",), conf).config["paths"]["data"] == "/home/jörg/Läufe"


def test_default_that_names_no_file_lists_the_choices(conf: Path) -> None:
    (conf / "data" / "ring.yaml").unlink()
    assert "there is no data=ring" in mistake(conf)


def test_configuration_is_printed_with_references_or_with_values(conf: Path) -> None:
    assert "in_channels: ${data.in_channels}" in config_text((), conf)
    assert "in_channels: ${data.in_channels}" not in config_text((), conf, resolve=True)


def test_default_of_the_project_is_spagan_on_the_embedded_graph() -> None:
    composed = compose()
    assert (composed.choices["model"], composed.choices["data"]) == ("spagan", "digits_graph")


def test_many_commands_in_a_row_compose_as_each_alone_does(conf: Path) -> None:
    commands = [("model.heads=3",), (), ("data=star",), ("model.heads=3", "seed=4"), ("~model.dropout",), ()]
    alone = [compose(words, conf) for words in commands]
    with files_composed_once():
        together = [compose(words, conf) for words in commands]
    assert together == alone


def test_files_are_read_once_for_many_commands_and_anew_afterwards(conf: Path) -> None:
    with files_composed_once():
        assert compose((), conf).config["data"]["in_channels"] == 3
        (conf / "data" / "ring.yaml").write_text("_target_: datamodules.ring.Ring\nin_channels: 9\n")
        assert compose(("seed=1",), conf).config["data"]["in_channels"] == 3
    assert compose((), conf).config["data"]["in_channels"] == 9


def test_settings_of_a_sweep_are_no_part_of_the_configuration_of_a_run() -> None:
    composed = compose(("sweep.workers=3",))
    assert composed.sweep["workers"] == 3
    assert "sweep" not in composed.config
    assert "sweep" not in composed.choices
    assert "workers" not in config_text(("sweep.workers=3",))
