"""What goes to ``run.log``, and what happens where nothing can."""

import logging
from pathlib import Path

import pytest

from harness.run_log import _LogFile, run_log
from tests.command_lines import Output

FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
def test_lines_that_a_full_disk_does_not_take_are_lost_without_a_word(
    tmp_path: Path, capsys: Output, as_before: None
) -> None:
    (tmp_path / "run.log").symlink_to(FULL)
    with run_log(tmp_path):
        logging.getLogger("tenfold").info("one")
        logging.getLogger("tenfold").info("two")
    assert capsys.readouterr().err == ""


def test_a_line_that_cannot_be_written_for_another_reason_is_told(tmp_path: Path, capsys: Output) -> None:
    record = logging.LogRecord("tenfold", logging.INFO, "", 0, "%d", ("no number",), None)
    file = _LogFile(tmp_path / "run.log")
    file.handle(record)
    file.close()
    assert "Logging error" in capsys.readouterr().err
