"""The scores of some images of the pool, the same on any number of processes and in any batch size."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, get_args

import numpy as np
import torch
import torch.distributed
from pytorch_lightning import Trainer
from torch import Tensor

from lightning_modules.deal.acquisition import random_scores
from lightning_modules.deal.coreset import k_centre_scores
from lightning_modules.deal.seeds import mixed

if TYPE_CHECKING:
    from datamodules.segmentation import SegmentationDataModule

Acquisition = Literal[
    "deal_ds", "deal_de", "random", "entropy", "margin", "least_confidence", "qbc", "coreset"
]
WITH_BRANCH = ("deal_ds", "deal_de")
"""Acquisitions that train the difficulty branch; all others train the segmentation alone."""

CANDIDATES = dict.fromkeys(get_args(Acquisition), 0.5) | {"qbc": 0.4, "coreset": 0.4}
"""Share of the unlabelled images that is looked at in a round, DEAL's code."""


class Look(Protocol):
    """What a network makes of images ``x`` and of their numbers on the CPU."""

    def __call__(self, x: Tensor, numbers: Tensor, as_centres: bool, /) -> tuple[Tensor, Tensor]:
        """Values ``[b]`` or ``[b, d]``; pixels of each class that it finds ``[C]``, ``[0]`` of centres."""
        ...


@dataclass
class Scored:
    """What was found of some images of the pool.

    Attributes:
        ids: ``[m]`` numbers of the images, rising.
        scores: ``[m]``, higher is queried first.
        shares: ``[C]``, share of each class in their pixels as the network sees them, summing to 1; empty
            where no network looked.
    """

    ids: np.ndarray
    scores: np.ndarray
    shares: np.ndarray


def score_images(
    acquisition: Acquisition,
    data: "SegmentationDataModule",
    ids: Tensor,
    acquiring: int,
    look: Look,
    trainer: Trainer,
    batch_size: int,
    wanted: int,
) -> Scored:
    """Scores images; every process must call it, and all get the same.

    Args:
        acquisition: by what.
        data: whose pool they are of, its labelled images set.
        ids: ``[m]`` long, the candidates, rising; m >= 1.
        acquiring: the round, >= 1, from which random scores follow.
        look: what the network makes of a batch; its values are scores, features for ``coreset``.
        trainer: of the run, on whose device the network lies.
        batch_size: over all processes.
        wanted: how many will be taken in order, 1 to m; ``coreset`` picks no more than these one by one.

    Raises:
        RuntimeError: the processes have not looked at each candidate once.
    """
    if acquisition == "random":
        scores = random_scores(ids.tolist(), _round_seed(data.seed, acquiring))
        return Scored(ids.numpy(), scores, np.empty(0))
    values, shares = _looked_at(data, ids, look, trainer, batch_size)
    if acquisition != "coreset":
        return Scored(ids.numpy(), values.double().numpy(), shares)
    centres, _ = _looked_at(data, data.labelled_ids, look, trainer, batch_size, as_centres=True)
    scores = k_centre_scores(values, centres, wanted).numpy()
    return Scored(ids.numpy(), trainer.strategy.broadcast(scores), shares)


def _round_seed(seed: int, acquiring: int) -> int:
    return mixed(seed, acquiring) & 0xFFFFFFFF


@torch.no_grad()
def _looked_at(
    data: "SegmentationDataModule",
    ids: Tensor,
    look: Look,
    trainer: Trainer,
    batch_size: int,
    as_centres: bool = False,
) -> tuple[Tensor, np.ndarray]:
    """Values of images in the order of ``ids``, on the CPU, and shares of the classes over all of them.

    Centres have no shares.
    """
    world, wanted = trainer.world_size, set(ids.tolist())
    asked = ids
    if len(ids) < world:
        # a process without an image would leave the others waiting; what is added is taken away again below
        others = [one for one in range(len(data.labelled)) if one not in wanted]
        asked = torch.cat([ids, torch.tensor(others[: world - len(ids)], dtype=torch.long)])
    expected: list[Tensor] = []
    numbers: list[Tensor] = []
    found: list[Tensor] = []
    pixels: list[Tensor] = []
    device = trainer.strategy.root_device
    loader = data.pool_loader(asked, max(batch_size, world))
    for rows, batch in zip(loader.sampler, loader, strict=True):
        # the batch's own numbers lie where its images do: to read them there would have the CPU wait
        expected.append(asked[rows])
        x = trainer.precision_plugin.convert_input(batch["x"].to(device))
        with trainer.precision_plugin.forward_context():
            values, counts = look(x, expected[-1], as_centres)
        numbers.append(batch["id"])
        found.append(values.float())
        pixels.append(counts)
    # copied once at the end, so that no batch waits for the one before
    mine = tuple(
        part.cpu().numpy() for part in (torch.cat(numbers), torch.cat(found), torch.stack(pixels).sum(dim=0))
    )
    if mine[0].tolist() != torch.cat(expected).tolist():
        raise RuntimeError("the images of the pool did not come in the order that was asked for")
    parts: list[tuple[np.ndarray, ...]] = [mine]
    if world > 1:
        parts = [mine] * world
        torch.distributed.all_gather_object(parts, mine)
    looked_at, by_place = (np.concatenate([part[kind] for part in parts]) for kind in (0, 1))
    kept = np.isin(looked_at, ids.numpy())
    looked_at, by_place = looked_at[kept], by_place[kept]
    if sorted(looked_at.tolist()) != sorted(wanted):
        raise RuntimeError(
            f"{len(looked_at)} images were scored for {len(wanted)} candidates, each of which must be once"
        )
    place_of = {number: place for place, number in enumerate(looked_at.tolist())}
    total = np.sum([part[2] for part in parts], axis=0)
    order = [place_of[number] for number in ids.tolist()]
    return torch.from_numpy(by_place[order]), total / max(total.sum(), 1)
