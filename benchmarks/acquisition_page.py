"""The part of RESULTS.md about which images to label next, from the finished runs."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lightning_modules.deal.pictures import WORDS

FILE = "acquisition.json"
SCENES = "street_scenes"
FULL = "full"
TITLES = WORDS | {FULL: "all images labelled"}
"""Strategies as a reader knows them."""


def acquisition_table(rows: Sequence[dict[str, Any]]) -> str:
    """Mean IoU by round and strategy; a note where nothing has been run."""
    return "Not run." if not rows else ""


def draw_pictures(rows: Sequence[dict[str, Any]], folder: Path) -> list[Path]:
    """A picture of the street scenes, once there are rounds; the files."""
    return []
