"""No file of a run holds a secret of its configuration."""

import re
import sys
from pathlib import Path

import pytest

import run
from harness.configuration import targets
from harness.run_folder import is_masked, masked, masked_command, secret_values
from harness.sweeps.plan import read_plan
from harness.sweeps.state import SweepState
from tests.command_lines import Output, command

pytestmark = pytest.mark.usefixtures("as_before")

TOY = """
import logging

from pytorch_lightning import Callback


class Watch(Callback):
    def __init__(self, api_key: str, url: str, more: dict, fails: bool) -> None:
        self.api_key, self.url, self.more, self.fails = api_key, url, more, fails

    def on_fit_start(self, trainer, pl_module) -> None:
        text = f"connecting to {self.url} with {self.api_key} and {self.more}"
        logging.getLogger("somebody.else").warning(text)
        if self.fails:
            raise RuntimeError(text)
"""

WATCH = (
    "+callbacks.watch={_target_: toy_secrets.Watch, api_key: hush-one, more: {password: hush-two},"
    " url: 'https://me:hush-three@x.y/z'}"
)


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toy_secrets.py").write_text(TOY)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(targets, "OWN_PACKAGES", (*targets.OWN_PACKAGES, "toy_secrets"))
    for name in ("WANDB_CACHE_DIR", "WANDB_CONFIG_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "cache" / "wandb"))
    monkeypatch.setenv("WANDB_MODE", "offline")


def run_with_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, list[Path]]:
    """The exit status, and every file that holds a part of a secret."""
    words = ("model=mlp", "data=mini_citation", "trainer.max_epochs=2", "~callbacks.pictures", WATCH, *words)
    monkeypatch.setattr(sys, "argv", ["run.py", *words])  # which dashboards keep as well
    status = command(tmp_path, *words)
    written = [path for path in (tmp_path / "runs").rglob("*") if path.is_file()]
    assert {"config.yaml", "run.log", "run.json"} <= {path.name for path in written}
    return status, [path for path in written if re.search(rb"hush-(one|two|three)", path.read_bytes())]


@pytest.mark.usefixtures("watch")
@pytest.mark.parametrize("logger", ["csv", "tensorboard", pytest.param("wandb", marks=pytest.mark.slow)])
def test_no_file_of_a_run_holds_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, logger: str, capsys: Output
) -> None:
    words = ("+callbacks.watch.fails=false", f"logger={logger}")
    assert run_with_secrets(tmp_path, monkeypatch, *words) == (0, [])
    (log,) = (tmp_path / "runs").rglob("run.log")
    assert "connecting to https://***@x.y/z with *** and {'password': '***'}" in log.read_text(
        encoding="utf-8"
    )


@pytest.mark.usefixtures("watch")
def test_no_file_of_a_crashed_run_holds_a_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    assert run_with_secrets(tmp_path, monkeypatch, "+callbacks.watch.fails=true", "logger=csv") == (1, [])
    # what it prints becomes a file in a sweep
    err = capsys.readouterr().err
    assert "crashed: RuntimeError: connecting to https://***@x.y/z with ***" in err
    assert "hush" not in err


def test_a_secret_of_the_wrong_type_is_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, watch: None, capsys: Output
) -> None:
    assert run.run([WATCH.replace("hush-one", "[hush-one]"), "+callbacks.watch.fails=false"]) == 2
    err = capsys.readouterr().err
    assert "callbacks.watch.api_key must be a text, got a secret" in err
    assert "hush" not in err


def test_users_in_addresses_are_masked_wherever_they_stand() -> None:
    config = {"url": "https://me:pass@x.y/a?b=c", "list": ["s3://token@bucket", "mail@x.y", "http://x.y/a@b"]}
    assert masked(config) == {
        "url": "https://***@x.y/a?b=c",
        "list": ["s3://***@bucket", "mail@x.y", "http://x.y/a@b"],
    }
    assert secret_values(config) == {"me:pass", "token"}


def test_a_word_with_a_secret_in_braces_is_masked() -> None:
    words = ["+a={b: 1, 'api_key': x}", "+a={b: {token: x}}", "+a={b: 1, tokenizer: x}", "+u=ftp://a:b@c/d"]
    assert masked_command(words) == ["+a=***", "+a=***", "+a={b: 1, tokenizer: x}", "+u=ftp://***@c/d"]


def test_a_masked_word_is_known_by_its_look() -> None:
    words = masked_command(["+a.token=x", "+u=ftp://a:b@c/d", "lr=0.1", "+u=ftp://c/d"])
    assert [is_masked(word) for word in words] == [True, True, False, False]


def test_a_sweep_with_a_masked_user_in_an_address_asks_for_its_words_again(
    tmp_path: Path, capsys: Output
) -> None:
    words = ["model=mlp,gat", "data=mini_citation", "+logger.x.url=https://me:pass@x.y"]
    plan = read_plan(words, run.CONF)
    SweepState.new(plan, "grid").write(tmp_path)
    assert run.run(["-m", f"resume={tmp_path}"]) == 2
    assert "+logger.x.url is a secret, which no file keeps" in capsys.readouterr().err


def test_secrets_are_found_at_any_depth() -> None:
    config = {"a": [{"api_keys": ["first", "second"]}], "password": {"of": {"what": "third"}}, "token": None}
    assert secret_values(config | {"secret": "abc"}) == {"first", "second", "third"}
