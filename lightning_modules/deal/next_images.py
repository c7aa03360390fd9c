"""Tables that a person can open: the images to annotate next, and what each round has asked for."""

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning import Trainer
from torch import Tensor

from harness.files import write_atomically
from harness.run_log import tell
from harness.words import counted
from lightning_modules.deal.acquisition import select
from lightning_modules.deal.rounds import Rounds
from lightning_modules.deal.scoring import Scored

if TYPE_CHECKING:
    from datamodules.segmentation import SegmentationDataModule
    from lightning_modules.deal.module import Deal

NEXT_IMAGES = "next_images.csv"
"""The list's name in a run folder."""

QUERIES = "queries.csv"
"""The name there of what all rounds have asked for."""


def images_to_annotate(data: "SegmentationDataModule") -> Tensor:
    """The images that are listed, ``[m]`` long, rising: those without a mask, where there are any.

    Where all have one, as when a choice is measured, they are those that count as unlabelled.

    Args:
        data: its labelled images set.
    """
    has_mask = data.splits["train"].has_mask
    return data.unlabelled_ids if bool(has_mask.all()) else (~has_mask).nonzero()[:, 0]


@torch.no_grad()
def list_by_these_weights(module: "Deal", trainer: Trainer, data: "SegmentationDataModule") -> None:
    """Scores what there is to annotate and writes ``next_images.csv``; every process must call it.

    Args:
        module: trained; of its own pool it knows what is labelled.
        trainer: of the run.
        data: set up.
    """
    if bool(data.splits["train"].has_mask.all()) and module.rounds.is_of(data):
        data.set_labelled(module.rounds.labelled)
    ids = images_to_annotate(data)
    if len(ids):
        module.to(trainer.strategy.root_device)
        scored = module.score(trainer, data, ids)
        list_next_images(trainer, data, scored, select(scored.scores, scored.ids, len(ids)))


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

    def row(rank: int, number: int) -> list[Any]:
        place = "" if folder is None else folder.resolve() / names[number]
        return [rank, names[number], f"{scores[number]:.6f}", number, place]

    rows = [row(rank, number) for rank, number in enumerate(order, 1)]
    _write_table(path, ["rank", "file", "score", "id", "path"], rows)
    tell(f"{counted(len(order), 'unlabelled image')}, those to annotate next first: {path}")
    return path


def write_queries(trainer: Trainer, data: "SegmentationDataModule", rounds: Rounds) -> Path | None:
    """Writes ``queries.csv``, what each round has asked for, best first.

    Its columns are ``round``, ``rank`` from 1, ``id``, ``file`` and ``score``, which is empty in rounds that
    took over the images of another run. It follows from ``rounds`` alone and is written anew after each of
    them, so that a run that was killed ends with the same.

    Args:
        trainer: in whose folder the file goes; its first process alone writes.
        data: whose images they are.
        rounds: those of the run so far.

    Returns:
        The file; None where no round has asked for anything, and in other processes.
    """
    if not trainer.is_global_zero or not any(rounds.queries.values()):
        return None
    path = Path(trainer.default_root_dir) / QUERIES
    names = data.splits["train"].names
    rows: list[list[Any]] = []
    for number, queries in sorted(rounds.queries.items()):
        scores: dict[int, float] = {}
        if number in rounds.scores:
            ids = rounds.candidates[number].tolist()
            scores = dict(zip(ids, rounds.scores[number].tolist(), strict=True))
        for rank, one in enumerate(queries, 1):
            score = f"{scores[one]:.6f}" if scores else ""
            rows.append([number, rank, one, names[one], score])
    _write_table(path, ["round", "rank", "id", "file", "score"], rows)
    return path


def _write_table(path: Path, head: list[str], rows: Iterable[list[Any]]) -> None:
    def write(temporary: Path) -> None:
        with temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(head)
            writer.writerows(rows)

    write_atomically(path, write)
