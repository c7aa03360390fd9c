"""The comments in a configuration file: its first line, and what stands beside each key.

A plain scan of the lines rather than a YAML parser, which would drop the comments and cost the start-up
time that `run.py --help` is not allowed.
"""

import re
from pathlib import Path
from typing import NamedTuple

_KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z_][\w.-]*):(?:\s+(?P<rest>.*))?$")


class Entry(NamedTuple):
    """One key of a file: its full key inside the file, the value as written, and its comment."""

    key: str
    value: str
    comment: str


def description(file: Path) -> str:
    """The first line of the file if it is a comment (a ``# @package`` line apart), else ``""``."""
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        text = line.strip()
        if text.startswith("# @package") or not text:
            continue
        return text.lstrip("# ").strip() if text.startswith("#") else ""
    return ""


def entries(file: Path) -> list[Entry]:
    """Every key of the file in order.

    A comment stands behind its value, goes on in the lines below at the same column, or fills the lines
    above the key.
    """
    found: list[Entry] = []
    parents: list[tuple[int, str]] = []
    above: list[str] = []
    column = -1  # where the comment of the last key began, for continuation lines
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        text = line.strip()
        if text.startswith("#"):
            if found and column > 0 and line.index("#") == column:
                last = found[-1]
                found[-1] = last._replace(comment=f"{last.comment} {text.lstrip('# ')}".strip())
            elif not text.startswith("# @package"):
                above.append(text.lstrip("# ").strip())
            continue
        match = _KEY.match(line)
        if match is None:
            above, column = [], -1
            continue
        indent = len(match["indent"])
        while parents and parents[-1][0] >= indent:
            parents.pop()
        value, comment, at = _split_comment(match["rest"] or "")
        column = line.index(match["rest"]) + at if comment else -1
        full = ".".join([*(name for _, name in parents), match["key"]])
        # The block above the very first key describes the file, not the key.
        over = " ".join(above) if found else ""
        found.append(Entry(full, value, comment or over))
        parents.append((indent, match["key"]))
        above = []
    return found


def _split_comment(rest: str) -> tuple[str, str, int]:
    """Value, comment and the comment's column within ``rest``; a ``#`` inside quotes is part of the value."""
    quote = ""
    for index, character in enumerate(rest):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character == "#" and (index == 0 or rest[index - 1] == " "):
            return rest[:index].strip(), rest[index + 1 :].strip(), index
    return rest.strip(), "", -1
