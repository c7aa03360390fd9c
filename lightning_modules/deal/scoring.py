"""The scores of some images of the pool, the same on any number of processes and in any batch size."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast, get_args

import numpy as np
import torch
import torch.distributed
from pytorch_lightning import Trainer
from torch import Tensor

from lightning_modules.deal.acquisition import random_scores
from lightning_modules.deal.coreset import k_centre_greedy

if TYPE_CHECKING:
    from datamodules.segmentation import SegmentationDataModule

Acquisition = Literal[
    "deal_ds", "deal_de", "random", "entropy", "margin", "least_confidence", "qbc", "coreset"
]
WITH_BRANCH = ("deal_ds", "deal_de")
"""Acquisitions that train the difficulty branch; all others train the segmentation alone."""

CANDIDATES = dict.fromkeys(get_args(Acquisition), 0.5) | {"qbc": 0.4, "coreset": 0.4}
"""Share of the unlabelled images that is looked at in a round, DEAL's code."""

Look = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""What a network makes of images ``x`` and their ``id``: values ``[b]`` or ``[b, d]``, pixels of each class
that it finds ``[C]``."""


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

    Raises:
        RuntimeError: the processes have not looked at each candidate once.
    """
    if acquisition == "random":
        scores = random_scores(ids.tolist(), _round_seed(data.seed, acquiring))
        return Scored(ids.numpy(), scores, np.empty(0))
    values, shares = _looked_at(data, ids, look, trainer, batch_size)
    if acquisition != "coreset":
        return Scored(ids.numpy(), values.double().numpy(), shares)
    centres, _ = _looked_at(data, data.labelled_ids, look, trainer, batch_size)
    picked = k_centre_greedy(values, centres, len(values))
    scores = np.empty(len(values))
    # the order of picking as a number, the first one 1: a distance would mean something else for each pick
    scores[picked.numpy()] = 1 - np.arange(len(values)) / len(values)
    return Scored(ids.numpy(), cast(np.ndarray, trainer.strategy.broadcast(scores)), shares)


def _round_seed(seed: int, acquiring: int) -> int:
    return int(np.random.SeedSequence([2, seed, acquiring]).generate_state(1)[0])


@torch.no_grad()
def _looked_at(
    data: "SegmentationDataModule", ids: Tensor, look: Look, trainer: Trainer, batch_size: int
) -> tuple[Tensor, np.ndarray]:
    """Values of images in the order of ``ids``, on the CPU, and shares of the classes over all of them."""
    world, wanted = trainer.world_size, set(ids.tolist())
    asked = ids
    if len(ids) < world:
        # a process without an image would leave the others waiting; what is added is taken away again below
        others = [one for one in range(len(data.labelled)) if one not in wanted]
        asked = torch.cat([ids, torch.tensor(others[: world - len(ids)], dtype=torch.long)])
    found: dict[int, Tensor] = {}
    pixels: list[Tensor] = []
    device = trainer.strategy.root_device
    for batch in data.pool_loader(asked, max(batch_size, world)):
        numbers = [int(one) for one in batch["id"]]
        x = trainer.precision_plugin.convert_input(batch["x"].to(device))
        with trainer.precision_plugin.forward_context():
            values, counts = look(x, batch["id"].to(device))
        found |= zip(numbers, values.float().cpu(), strict=True)
        pixels.append(counts.cpu())
    parts = [(found, torch.stack(pixels).sum(dim=0))]
    if world > 1:
        mine = ({number: value.numpy() for number, value in found.items()}, parts[0][1].numpy())
        gathered: list[tuple[dict[int, np.ndarray], np.ndarray]] = [mine] * world
        torch.distributed.all_gather_object(gathered, mine)
        parts = [
            (
                {number: torch.from_numpy(np.asarray(value)) for number, value in one.items()},
                torch.tensor(sums),
            )
            for one, sums in gathered
        ]
    everything = [(number, value) for one, _ in parts for number, value in one.items() if number in wanted]
    if sorted(number for number, _ in everything) != sorted(wanted):
        raise RuntimeError(
            f"{len(everything)} images were scored for {len(wanted)} candidates, each of which must be once"
        )
    by_number = dict(everything)
    total = torch.stack([sums for _, sums in parts]).sum(dim=0).double()
    shares = (total / total.sum().clamp(min=1)).numpy()
    return torch.stack([by_number[number] for number in ids.tolist()]), shares
