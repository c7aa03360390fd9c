"""The command line, the help, and the comments it is made of."""

import subprocess
import sys
from pathlib import Path

import pytest

from harness.configuration.command_line import Request, parse
from harness.configuration.help import CONF, groups, help_text
from harness.configuration.static_modules import PROJECT_ROOT
from harness.configuration.yaml_comments import Entry, description, entries
from harness.errors import UserError


def test_words_are_split_into_overrides_and_flags() -> None:
    assert parse(["model=gat", "seed=3"]) == Request(("model=gat", "seed=3"))
    assert parse(["model=gat", "--help"]) == Request(("model=gat",), "help")
    assert parse(["--cfg", "job", "--resolve", "seed=1"]) == Request(("seed=1",), "config", True)
    assert parse(["--cfg=job"]).action == "config"
    assert parse(["--version"]).action == "version"
    assert parse(["~experiment", "+trainer.max_steps=3"]).action == "run"


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--gpus", "2"], "hardware.devices=2"),
        (["--epochs=3"], "trainer.max_epochs"),
        (["--max_epochs", "3"], "trainer.max_epochs"),
        (["--model", "gat"], "write model=gat"),
        (["--seed=4"], "write seed=4"),
        (["--hlep"], "Did you mean '--help'?"),
        (["--cfg", "hydra"], "--cfg job"),
        (["--cfg"], "--cfg job"),
        (["--resolve"], "--cfg job"),
        (["-z"], "no flag -z"),
    ],
)
def test_unknown_flag_is_answered_with_the_key(words: list[str], part: str) -> None:
    with pytest.raises(UserError) as caught:
        parse(words)
    assert part in str(caught.value)


@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_a_flag_makes_several_runs_of_one_command(flag: str) -> None:
    assert parse([flag, "seed=1,2"]).multirun
    assert parse(["seed=1,2", flag, "--cfg", "job"]).multirun
    assert not parse(["seed=1"]).multirun


def test_comments_are_found_beside_above_and_below(tmp_path: Path) -> None:
    file = tmp_path / "x.yaml"
    file.write_text(
        "# @package _global_\n# What it is.\n\na: 1 # beside\nb: '#no'\n# above\nc:\n  d: 2  # first\n"
        "        # and second\n  e: 3\nf: {g: 1} # dict\n",
        encoding="utf-8",
    )
    assert description(file) == "What it is."
    assert entries(file) == [
        Entry("a", "1", "beside"),
        Entry("b", "'#no'", ""),
        Entry("c", "", "above"),
        Entry("c.d", "2", "first and second"),
        Entry("c.e", "3", ""),
        Entry("f", "{g: 1}", "dict"),
    ]


def test_help_names_every_choice_of_every_group() -> None:
    text = help_text(width=100)
    for group, choices in groups().items():
        assert f"{group}=" in text
        for choice in choices:
            assert choice in text
    for word in ("mode=predict", "TENFOLD_DATA", "--cfg job", "results.json", "default: spagan", "seed=0"):
        assert word in text
    assert "\x1b" not in text
    assert text.count("  python run.py") == 6


@pytest.mark.parametrize("width", [60, 80, 120])
def test_help_keeps_to_the_width_of_the_terminal(width: int) -> None:
    prose = [line for line in help_text(width=width).splitlines() if "=" not in line and "python" not in line]
    assert max(len(line) for line in prose[4:]) <= max(width, 66)


def test_help_on_a_choice_lists_its_keys_with_their_comments() -> None:
    text = help_text(["model=spagan"], width=100)
    assert "model.heads=8" in text
    assert "arXiv" in text
    assert "_target_" not in text
    assert "spagan_cora" in text


def test_help_on_a_choice_that_is_not_there_suggests_one() -> None:
    with pytest.raises(UserError, match="Did you mean 'spagan'"):
        help_text(["model=spagn"])


@pytest.mark.parametrize("group", groups())
def test_every_choice_says_in_its_first_line_what_it_is(group: str) -> None:
    for choice in groups()[group]:
        assert description(CONF / group / f"{choice}.yaml"), f"conf/{group}/{choice}.yaml"


@pytest.mark.parametrize("group", ["model", "data", "trainer", "hardware"])
def test_every_key_has_a_comment(group: str) -> None:
    for choice in groups()[group]:
        bare = [
            e.key for e in entries(CONF / group / f"{choice}.yaml") if not e.comment and e.key != "_target_"
        ]
        assert not bare, f"conf/{group}/{choice}.yaml"


def test_help_and_mistakes_import_nothing_heavy() -> None:
    code = (
        "import sys, run; run.run(['--help']); light = set(sys.modules);"
        "status = run.run(['model.hiden=8']), run.run(['model.heads=abc']);"
        "print('hydra' in light, 'pydantic' in light, *status, {'torch', 'wandb'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False False 2 2 set()"
    assert len(done.stderr.strip().splitlines()) == 2


def test_presets_are_shown_to_their_own_model_and_data() -> None:
    def presets(*words: str) -> set[str]:
        text = help_text(words)
        return set(
            text[text.index("Presets, ") :].partition(": ")[2].partition("\n\n")[0].replace(",", "").split()
        )

    assert "osgan_digits" in presets("model=osgan")
    assert "osgan_dfkd_digits" not in presets("model=osgan")
    assert presets("model=osgan_dfkd") == {"osgan_dfkd_digits", "osgan_dfkd_mnist"}
    assert {"osgan_digits", "osgan_dfkd_digits"} <= presets("data=digits")
