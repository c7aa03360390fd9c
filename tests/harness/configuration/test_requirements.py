"""What a model requires: composed, keyed, and every mistake in it named."""

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.configuration.check import check
from harness.configuration.compose import compose, config_text
from harness.configuration.help import CONF
from harness.configuration.requirements import composition_key, inherited_words, literal
from harness.errors import UserError
from harness.run_state import fingerprint

STUDENT = ("model=distillation", "data=digits", "logger=csv", "hardware=cpu")


def required(*overrides: str, conf: Path = CONF) -> dict[str, Any]:
    node: dict[str, Any] = compose((*STUDENT, *overrides), conf).config["requires"]["teacher"]
    return node


@functools.cache
def default() -> dict[str, Any]:
    return required()


def teacher(*words: str) -> str:
    """The override that replaces the words of the teacher."""
    return f"model.requires.teacher={json.dumps(['model=classifier', 'data=${data}', *words])}"


def mistake(*overrides: str, conf: Path = CONF) -> str:
    try:
        composed = compose((*STUDENT, *overrides), conf)
        check(composed.config, composed.choices, conf)
    except UserError as error:
        return str(error)
    pytest.fail("no mistake was found")


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A copy of conf/, to which a test adds models."""
    shutil.copytree(CONF, tmp_path / "conf")
    return tmp_path / "conf"


def add_model(conf: Path, name: str, *words: str) -> None:
    text = (conf / "model" / "distillation.yaml").read_text(encoding="utf-8")
    before, _, after = text.partition("  teacher:")
    rest = after.split("\n", 1)[1]
    written = f"{before}  teacher: {json.dumps(list(words))}\n{rest}"
    (conf / "model" / f"{name}.yaml").write_text(written, encoding="utf-8")


def test_a_requirement_is_the_named_composition_on_the_run_s_data() -> None:
    composed = compose(STUDENT)
    assert "requires" not in composed.config["model"]
    node = composed.config["requires"]["teacher"]
    assert node["words"] == ["model=classifier", "data=digits"]
    alone = compose(("model=classifier", "data=digits", "logger=csv", "hardware=cpu"))
    assert node["run"] == f"classifier_digits_{composition_key(alone.config)}"


def test_the_printed_configuration_shows_the_requirement_as_it_is_written() -> None:
    assert "- data=${data}" in config_text(STUDENT)
    assert "run: classifier_digits_" in config_text(STUDENT, resolve=True)


def test_a_model_without_requirements_has_no_such_key() -> None:
    assert "requires" not in compose(("model=gat", "data=mini_citation")).config


@pytest.mark.parametrize(
    "words",
    [
        [
            "seed=3",
            "model.width=4",
            "data.batch_size=32",
            "trainer.max_epochs=2",
            "~callbacks.pictures",
        ],
        ["paths.runs=/elsewhere", "paths.data=/elsewhere", "logger=wandb"],
        ["hardware=ddp_cpu", "hardware.threads=2"],
    ],
)
def test_one_teacher_serves_runs_that_differ_in_this(words: list[str]) -> None:
    assert required(*words) == default()


@pytest.mark.parametrize(
    "word",
    [
        "hardware.precision=64-true",
        teacher("seed=1"),
        teacher("model.network.width=8"),
        teacher("data.batch_size=32"),
        teacher("data.batch_size=${data.num_val}"),
        teacher("trainer.max_epochs=2"),
        teacher("callbacks.best_weights.patience=3"),
        teacher("~experiment"),
    ],
)
def test_another_training_is_another_key(word: str) -> None:
    assert required(word)["run"] != default()["run"]


def test_the_key_does_not_depend_on_the_order_of_words() -> None:
    one, other = (
        required(teacher(*words))
        for words in (("seed=1", "model.network.width=8"), ("model.network.width=8", "seed=1"))
    )
    assert one["run"] == other["run"]
    assert one["words"] != other["words"]


def test_the_key_does_not_depend_on_the_folder_of_data_sets() -> None:
    one, other = (
        compose(("model=gat", "data=cora", f"paths.data={folder}")).config for folder in ("/a", "/b")
    )
    assert one["data"] != other["data"]
    assert composition_key(one) == composition_key(other)


def test_what_a_run_starts_from_is_part_of_its_configuration() -> None:
    prints = {fingerprint(compose((*STUDENT, *words)).config) for words in ((), (teacher("seed=1"),))}
    assert len(prints) == 2


def test_references_in_words_give_the_run_s_values() -> None:
    words = teacher(
        "seed=${seed}",
        "data.mean=${data.mean}",
        "model.network.dropout=${model.alpha}",
        "data.std=[${data.std.0}]",
    )
    assert required("seed=7", words)["words"][2:] == [
        "seed=7",
        "data.mean=[0.305]",
        "model.network.dropout=0.9",
        "data.std=[0.376]",
    ]


def test_own_words_go_before_what_is_inherited() -> None:
    node = required("hardware.precision=64-true", teacher("hardware.precision=32-true"))
    assert node["run"] == default()["run"]


def test_inherited_words_are_those_of_place_hardware_and_logging() -> None:
    words = (
        "model=distillation",
        "data=digits",
        "hardware=cpu",
        "hardware.threads=2",
        "+paths.runs=/r",
        "logger=wandb",
        "logger.wandb.project=p",
        "+logger.wandb.id=abc",
        "seed=1",
        "data.batch_size=32",
        "~callbacks.pictures",
    )
    assert inherited_words(compose(words[:2]).choices | {"hardware": "cpu", "logger": "wandb"}, words) == (
        "hardware=cpu",
        "logger=wandb",
        "hardware.threads=2",
        "+paths.runs=/r",
        "logger.wandb.project=p",
    )


def test_other_modes_do_not_look_at_what_training_required(tmp_path: Path) -> None:
    (tmp_path / "best.ckpt").touch()
    words = ("mode=test", f"ckpt={tmp_path / 'best.ckpt'}", "model.requires.teacher=/nowhere")
    config = compose((*STUDENT, *words)).config
    assert "requires" not in config
    assert "requires" not in config["model"]


def test_a_given_checkpoint_stands_in_place_of_the_words(tmp_path: Path) -> None:
    best = tmp_path / "run" / "checkpoints" / "best.ckpt"
    best.parent.mkdir(parents=True)
    best.touch()
    expected = {
        "ckpt": str(best),
        "model": "lightning_modules.image_classification.classifier.ImageClassifier",
    }
    for given_path in (best, tmp_path / "run"):
        assert required(f"model.requires.teacher={given_path}") == expected


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (
            [teacher("model.network.widht=3")],
            ["model.requires.teacher: ", "'model.network.widht'", "Did you mean 'model.network.width'"],
        ),
        (
            [teacher("model.network.width=0")],
            ["model.requires.teacher: ", "model.network.width must be", "got 0"],
        ),
        ([teacher("model=clasifier")], ["model.requires.teacher: ", "Did you mean 'classifier'"]),
        ([teacher("data=cora")], ["model.requires.teacher: "]),
        ([teacher("seed=${sed}")], ["model.requires.teacher", "${sed}", "no such key"]),
        ([teacher("mode=test")], ["model.requires.teacher: 'mode=test'", "always fitted"]),
        ([teacher("resume=auto")], ["model.requires.teacher: 'resume=auto'"]),
        ([teacher("seed=1,2")], ["model.requires.teacher: ", "seed=1,2"]),
        (["model.requires.teacher=3"], ["model.requires.teacher must be", "got 3"]),
        (["model.requires.teacher=[3]"], ["model.requires.teacher must be", "got [3]"]),
        (["model.requires.techer=/x"], ["'model.requires.techer'", "Did you mean 'model.requires.teacher'"]),
        (["model.requires.teacher=null"], ["model=distillation starts from a trained teacher"]),
        (["~model.requires"], ["model=distillation starts from a trained teacher"]),
        (["requires.teacher=/x"], ["'requires.teacher'", "Write model.requires.teacher="]),
        (["+model.requires.judge=/x"], ["model.requires.judge", "starts from teacher"]),
        (["model.requires.teacher.ckpt=/x"], ["has no keys", "Write model.requires.teacher=<run folder or"]),
        (["model.requires.teacher=/nowhere"], ["model.requires.teacher=/nowhere", "no such file"]),
        (["model.requires.teacher=https://a.b/c"], ["model.requires.teacher=https://a.b/c", "address"]),
        # the run's own mistakes come first
        (
            [teacher("model.network.width=0"), "model.width=a"],
            ["model.width must be", "got 'a'"],
        ),
    ],
)
def test_a_mistake_is_named_with_its_requirement(words: list[str], parts: list[str]) -> None:
    line = mistake(*words)
    assert [part for part in parts if part not in line] == [], line


def test_two_models_that_require_each_other_are_refused(conf: Path) -> None:
    add_model(conf, "hen", "model=egg", "data=${data}")
    add_model(conf, "egg", "model=hen", "data=${data}")
    line = mistake("model=hen", conf=conf)
    assert "hen_digits → egg_digits → hen_digits goes round in a circle" in line


def test_a_circle_that_grows_with_every_turn_is_refused(conf: Path) -> None:
    add_model(conf, "snail", "model=snail", "data=${data}", "data.mean=[1${data.mean.0}]")
    assert "goes round in a circle" in mistake("model=snail", conf=conf)


def test_a_chain_of_teachers_may_repeat_a_model(conf: Path) -> None:
    add_model(conf, "second", "model=distillation", "data=${data}")
    add_model(conf, "third", "model=second", "data=${data}")
    keys = {
        model: required(f"model={model}", conf=conf)["run"] for model in ("distillation", "second", "third")
    }
    assert [key.rpartition("_")[0] for key in keys.values()] == [
        "classifier_digits",
        "distillation_digits",
        "second_digits",
    ]
    # a change in the first teacher reaches the last key
    preset = conf / "experiment" / "classifier_digits.yaml"
    preset.write_text(preset.read_text(encoding="utf-8").replace("width: 16", "width: 24"), encoding="utf-8")
    changed = {model: required(f"model={model}", conf=conf)["run"] for model in keys}
    assert not set(changed.values()) & set(keys.values())


PLAIN = (
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False)
    | st.text("ab'\"\\,=[]{}: /é$~", max_size=6)
)


@given(PLAIN | st.lists(PLAIN, max_size=3) | st.dictionaries(st.sampled_from("xyz"), PLAIN, max_size=2))
def test_a_literal_is_read_back_as_the_value(value: Any) -> None:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    read = OverridesParser.create().parse_override(f"key={literal(value)}").value()
    assert read == value
    assert type(read) is type(value)
