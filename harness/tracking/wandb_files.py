"""Reading what W&B has written into a run folder.

W&B's own process writes in blocks and is gone with the process that it serves: after a kill, only its file
tells which rows it has kept. The file is LevelDB's log format behind a short header; W&B's SDK has the
records, and no reader.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

_HEADER, _BLOCK, _RECORD_HEADER = 7, 32768, 7  # bytes
_FULL, _LAST = 1, 4  # kinds of a record's last piece


def session_files(folder: Path) -> list[Path]:
    """The file of each session of a run, in a folder that W&B was given; the oldest first."""
    return sorted((folder / "wandb").glob("*run-*/run-*.wandb"), key=lambda path: path.stat().st_mtime_ns)


def last_step(folder: Path) -> int:
    """The highest step that any session has kept, -1 where there is none."""
    files = session_files(folder)
    steps = [
        record.history.step.num for path in files for record in records(path) if record.HasField("history")
    ]
    return max(steps, default=-1)


def records(path: Path) -> Iterator[Any]:
    """The records of one file, ``wandb_internal_pb2.Record``, up to where it was cut short."""
    from google.protobuf.message import DecodeError
    from wandb.proto import wandb_internal_pb2

    messages: Any = wandb_internal_pb2
    data, position, pieces = path.read_bytes(), _HEADER, b""
    while position + _RECORD_HEADER <= len(data):
        left = _BLOCK - position % _BLOCK
        if left < _RECORD_HEADER:
            position += left
            continue
        start = position + _RECORD_HEADER
        length, kind = int.from_bytes(data[position + 4 : position + 6], "little"), data[position + 6]
        pieces += data[start : start + length]
        position = start + length
        if kind in (_FULL, _LAST):
            record = messages.Record()
            try:
                record.ParseFromString(pieces)
            except DecodeError:
                return
            yield record
            pieces = b""
