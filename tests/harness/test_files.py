"""Files that are either whole or not there."""

import json
import stat
import threading
from pathlib import Path

import pytest

from harness.files import write_atomically, write_json, write_text


def test_text_is_written_as_utf8(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "83.6 ± 0.5\n")
    assert (tmp_path / "a.txt").read_bytes() == "83.6 ± 0.5\n".encode()


def test_an_existing_file_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("a much longer text than the new one")
    write_text(path, "new")
    assert path.read_text() == "new"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(temporary: Path) -> None:
        temporary.write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    def interrupted(temporary: Path) -> None:
        temporary.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a.txt", interrupted)
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_not_visible_before_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    seen = []

    def write(temporary: Path) -> None:
        temporary.write_text("half")
        seen.append(path.exists())
        temporary.write_text("whole")

    write_atomically(path, write)
    assert seen == [False]
    assert path.read_text() == "whole"


def test_colleagues_can_read_the_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "text")
    assert stat.S_IMODE((tmp_path / "a.txt").stat().st_mode) == 0o644


def test_the_temporary_file_keeps_the_suffix_which_decides_a_picture_s_format(tmp_path: Path) -> None:
    names = []
    write_atomically(tmp_path / "a.png", lambda temporary: names.append(temporary.name))
    assert names[0].endswith(".png")


def test_writers_at_the_same_time_never_mix_their_texts(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    texts = [str(number) * 20_000 for number in range(8)]
    threads = [threading.Thread(target=write_text, args=(path, text)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]


def test_json_reads_back_equal(tmp_path: Path) -> None:
    value = {"metrics": {"test/acc": 0.1 + 0.2}, "published": None, "command": ["python", "run.py", "ä"]}
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == value
    assert "ä" in text
    assert text.endswith("}\n")
