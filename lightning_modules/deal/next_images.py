"""The list of the images to annotate next: a table that a person can open."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from pytorch_lightning import Trainer

from harness.files import write_atomically
from harness.run_log import tell
from harness.words import counted
from lightning_modules.deal.scoring import Scored

if TYPE_CHECKING:
    from datamodules.segmentation import SegmentationDataModule

NEXT_IMAGES = "next_images.csv"
"""The file's name in a run folder."""


def list_next_images(
    trainer: Trainer, data: "SegmentationDataModule", scored: Scored, order: list[int]
) -> Path:
    """Writes ``next_images.csv``, best first: ``rank`` from 1, ``file``, ``score``, ``id``, ``path``.

    Args:
        trainer: in whose folder the file goes; its first process alone writes.
        data: whose images they are; ``path`` is empty where they are not files of a folder.
        scored: their scores.
        order: their numbers, best first.

    Returns:
        The file.
    """
    path = Path(trainer.default_root_dir) / NEXT_IMAGES
    if not trainer.is_global_zero:
        return path
    names = data.splits["train"].names
    folder: Path | None = getattr(data, "folder", None)
    scores = dict(zip(scored.ids.tolist(), scored.scores.tolist(), strict=True))

    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["rank", "file", "score", "id", "path"])
            for rank, number in enumerate(order, 1):
                place = "" if folder is None else folder.resolve() / names[number]
                writer.writerow([rank, names[number], f"{scores[number]:.6f}", number, place])

    write_atomically(path, write)
    tell(f"{counted(len(order), 'unlabelled image')}, those to annotate next first: {path}")
    return path
