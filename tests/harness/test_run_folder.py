"""One run, one folder."""

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from harness import run_folder
from harness.errors import UserError
from harness.run_folder import (
    check_writable,
    create_run_folder,
    leave_run_folder,
    masked,
    masked_command,
    write_config,
)

SHARED = "TENFOLD_RUN_FOLDER"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in (SHARED, "RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    yield
    os.environ.pop(SHARED, None)


class OneSecond(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz=None):
        return datetime(2026, 1, 2, 3, 4, 5, tzinfo=tz)


def test_the_folder_lies_below_its_name_and_holds_places_for_checkpoints_and_figures(tmp_path: Path) -> None:
    folder = create_run_folder(tmp_path / "runs", "gat_cora")
    assert folder.parent == tmp_path / "runs" / "gat_cora"
    assert sorted(path.name for path in folder.iterdir()) == ["checkpoints", "figures"]


def test_runs_of_one_second_get_folders_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_folder, "datetime", OneSecond)
    folders = set()
    for _ in range(50):
        folder = create_run_folder(tmp_path, "gat_cora")
        folders.add(folder)
        leave_run_folder(folder, keep=True)
    assert len(folders) == 50
    assert all(folder.is_dir() for folder in folders)


def test_an_id_drawn_twice_is_drawn_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = iter(["aaaa", "aaaa", "aaaa", "bbbb"])
    monkeypatch.setattr(run_folder, "datetime", OneSecond)
    monkeypatch.setattr(run_folder.secrets, "token_hex", lambda _: next(ids))
    first = create_run_folder(tmp_path, "gat_cora")
    leave_run_folder(first, keep=True)
    assert create_run_folder(tmp_path, "gat_cora").name == "2026-01-02_03-04-05_bbbb"
    assert first.name == "2026-01-02_03-04-05_aaaa"


def test_processes_started_together_never_share_a_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from harness.run_folder import create_run_folder, leave_run_folder\n"
        "for _ in range(12):\n"
        "    folder = create_run_folder(Path(sys.argv[1]), 'gat_cora')\n"
        "    print(folder)\n"
        "    leave_run_folder(folder, keep=True)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    root = Path(__file__).parents[2]
    started = [subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(8)]
    folders = [line for process in started for line in process.communicate()[0].splitlines()]
    assert len(folders) == 96
    assert len(set(folders)) == 96
    assert {str(path) for path in (tmp_path / "gat_cora").iterdir()} == set(folders)


def test_processes_that_end_empty_never_disturb_those_that_begin(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\n"
        "from harness.run_folder import create_run_folder, leave_run_folder\n"
        "for _ in range(100):\n"
        "    leave_run_folder(create_run_folder(Path(sys.argv[1]) / 'runs', 'gat_cora'), keep=False)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    root = Path(__file__).parents[2]
    started = [subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    assert [process.communicate()[1] for process in started] == ["", "", ""]
    assert list(tmp_path.rglob("*_*_*")) == []


def test_a_started_process_finds_the_folder_of_the_first(tmp_path: Path) -> None:
    folder = create_run_folder(tmp_path, "gat_cora")
    code = (
        "import sys; from pathlib import Path\n"
        "from harness.run_folder import create_run_folder, leave_run_folder\n"
        "folder = create_run_folder(Path(sys.argv[1]), 'gat_cora')\n"
        "print(folder)\n"
        "leave_run_folder(folder, keep=False)\n"
    )
    child = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"LOCAL_RANK": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert child.stdout.strip() == str(folder)
    assert (folder / "checkpoints").is_dir(), "a child's mistake must not remove the folder of rank 0"


def test_the_next_run_of_a_process_gets_its_own_folder(tmp_path: Path) -> None:
    first = create_run_folder(tmp_path, "gat_cora")
    leave_run_folder(first, keep=True)
    assert create_run_folder(tmp_path, "gat_cora") != first


def test_ranks_started_from_outside_use_the_folder_they_are_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SHARED, str(tmp_path / "mine"))
    monkeypatch.setenv("RANK", "1")
    folder = create_run_folder(tmp_path / "runs", "gat_cora")
    assert folder == tmp_path / "mine"
    assert (folder / "checkpoints").is_dir()
    assert (folder / "figures").is_dir()
    assert not (tmp_path / "runs").exists()


def test_a_rank_that_knows_no_folder_says_how_to_name_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "3")
    with pytest.raises(UserError, match=rf"rank 3 .* Set {SHARED} to one folder"):
        create_run_folder(tmp_path, "gat_cora")
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = create_run_folder(tmp_path / "new" / "runs", "gat_cora")
    (folder / "config.yaml").write_text("seed: 0")
    leave_run_folder(folder, keep=False)
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_leaves_the_runs_before_it_alone(tmp_path: Path) -> None:
    before = create_run_folder(tmp_path, "gat_cora")
    leave_run_folder(before, keep=True)
    leave_run_folder(create_run_folder(tmp_path, "gat_cora"), keep=False)
    assert list((tmp_path / "gat_cora").iterdir()) == [before]


def test_an_empty_folder_that_was_there_before_the_mistake_stays(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    leave_run_folder(create_run_folder(tmp_path / "runs", "gat_cora"), keep=False)
    assert list(tmp_path.iterdir()) == [tmp_path / "runs"]
    assert list((tmp_path / "runs").iterdir()) == []


def test_a_mistake_never_removes_a_folder_that_the_user_has_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SHARED, str(tmp_path))
    (tmp_path / "thesis.tex").write_text("years of work")
    leave_run_folder(create_run_folder(tmp_path / "runs", "gat_cora"), keep=False)
    assert (tmp_path / "thesis.tex").exists()


def test_a_run_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"file is no folder, .*Give another place"):
        check_writable(tmp_path / "file" / "runs")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="a superuser may write everywhere")
def test_a_folder_without_write_permission_is_refused_before_any_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UserError, match="not writable"):
            check_writable(tmp_path / "runs")
    finally:
        tmp_path.chmod(0o700)


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"File name too long.*Give another place"):
        check_writable(tmp_path / ("x" * 300))


def test_a_file_in_the_place_of_the_method_s_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "gat_cora").write_text("")
    with pytest.raises(UserError, match=r"paths\.runs=.*cannot make .*gat_cora.*Give another place"):
        create_run_folder(tmp_path, "gat_cora")


def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").symlink_to(tmp_path / "unmounted")
    with pytest.raises(UserError, match="cannot make"):
        create_run_folder(tmp_path / "runs", "gat_cora")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system that makes no folders")
def test_a_file_system_that_makes_no_folders_is_refused() -> None:
    with pytest.raises(UserError, match=r"paths\.runs=/proc/runs: cannot make"):
        create_run_folder(Path("/proc/runs"), "gat_cora")


@pytest.mark.parametrize(
    "key",
    ["api_key", "wandb_api_key", "WANDB_API_KEY", "hf.token", "password", "client-secret", "aws_access_key"],
)
def test_secrets_are_masked_wherever_they_stand(key: str) -> None:
    config = {"seed": 0, "logger": {"wandb": {key: "hush"}}, "more": [{key: 1234}]}
    assert masked(config) == {"seed": 0, "logger": {"wandb": {key: "***"}}, "more": [{key: "***"}]}
    assert config["logger"]["wandb"][key] == "hush", "the run itself still needs it"


@pytest.mark.parametrize("key", ["monitor", "tokenizer", "keep", "secretary", "monkey", "heads"])
def test_words_that_only_contain_a_secret_s_name_are_not_masked(key: str) -> None:
    assert masked({key: "value"}) == {key: "value"}


def test_a_secret_that_is_not_set_stays_visibly_unset() -> None:
    assert masked({"api_key": None}) == {"api_key": None}


def test_secrets_on_the_command_line_are_masked() -> None:
    command = ["python", "run.py", "model=gat", "+logger.wandb.api_key=hush=hush", "seed=1"]
    assert masked_command(command) == ["python", "run.py", "model=gat", "+logger.wandb.api_key=***", "seed=1"]


def test_the_written_configuration_reads_back_with_secrets_masked(tmp_path: Path) -> None:
    write_config(
        tmp_path, {"seed": 0, "model": {"lr": 5e-4, "sizes": [1, 2]}, "api_key": "hush", "ckpt": None}
    )
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == {
        "seed": 0,
        "model": {"lr": 5e-4, "sizes": [1, 2]},
        "api_key": "***",
        "ckpt": None,
    }
