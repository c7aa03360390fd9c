"""How much an image is worth annotating: one number each, higher first, reduced where the maps lie.

Nothing but B numbers leaves the device: the authors copy all class probabilities to the host, 61 MB for eight
images of CamVid. Each function scores every image by itself, so that neither the size of a batch nor the
number of processes changes a score.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from harness.errors import UserError
from lightning_modules.deal.seeds import mixed
from lightning_modules.segmentation.networks import Segmenter, resize

Uncertainty = Literal["entropy", "margin", "least_confidence"]
LevelsRange = Literal["image", "unit"]

# What a generator is for, so that scores and dropout passes share no draws.
_RANDOM, _DROPOUT = 11, 12


def uncertainty_map(logits: Tensor, kind: Uncertainty) -> Tensor:
    """How unsure the class of each pixel is, ``[B, H, W]``.

    ``entropy`` in nats, of the class probabilities; ``margin``, 1 minus the difference of the two largest;
    ``least_confidence``, 1 minus the largest.

    Args:
        logits: ``[B, C, H, W]``, C >= 2.
        kind: which.
    """
    logits = logits.float()
    if kind == "entropy":
        log_p = logits.log_softmax(dim=1)
        return -(log_p.exp() * log_p).sum(dim=1)
    p = logits.softmax(dim=1)
    if kind == "least_confidence":
        return 1 - p.amax(dim=1)
    first, second = p.topk(2, dim=1).values.unbind(dim=1)
    return 1 - (first - second)


def mean_uncertainty(logits: Tensor, kind: Uncertainty) -> Tensor:
    """Mean of :func:`uncertainty_map` over each image, ``[B]``: the baselines that look at the softmax."""
    return uncertainty_map(logits, kind).flatten(1).mean(dim=1)


def deal_ds(difficulty: Tensor, uncertainty: Tensor | None = None) -> Tensor:
    """Difficulty score, ``[B]``: mean of the map, in (0, 1).

    Args:
        difficulty: ``[B, 1, H, W]`` or ``[B, H, W]`` in [0, 1].
        uncertainty: ``[B, H, W]``, multiplied pixel by pixel first; None, as in the authors' code, for none.
    """
    pixels = difficulty.float().flatten(1)
    return (pixels if uncertainty is None else pixels * uncertainty.flatten(1)).mean(dim=1)


def deal_de(difficulty: Tensor, levels: int, levels_range: LevelsRange = "image") -> Tensor:
    """Difficulty entropy, ``[B]``: entropy in nats, at most ``ln levels``, of a histogram of the map.

    Args:
        difficulty: ``[B, 1, H, W]`` or ``[B, H, W]`` in [0, 1].
        levels: equal bins of the histogram, 1 to 255; the last includes its upper end.
        levels_range: what they span: each ``image``'s own least to largest value, the authors' form, in which
            a constant map scores 0; or ``unit``, 0 to 1.

    Raises:
        UserError: there is no such number of bins.
    """
    if not 1 <= levels <= 255:
        raise UserError(f"model.levels={levels} must be an integer in [1, 255]. DEAL takes 8.")
    pixels = difficulty.float().flatten(1)
    if levels_range == "image":
        low, high = pixels.aminmax(dim=1, keepdim=True)
        span = high - low
        pixels = (pixels - low) / torch.where(span > 0, span, 1.0)
    bins = (pixels * levels).clamp(0, levels - 1).byte()
    return torch.special.entr(level_counts(bins, levels) / pixels.shape[1]).sum(dim=1)


def level_counts(bins: Tensor, levels: int) -> Tensor:
    """How often each level stands in each row of ``[B, N]`` integers below ``levels``: ``[B, levels]``."""
    return _counts_in_passes(bins, levels) if bins.is_cuda else _counts_by_row(bins, levels)


def _counts_in_passes(bins: Tensor, levels: int) -> Tensor:
    """A pass for each of the few levels.

    For a GPU, where torch's histogram has the host wait to learn the largest value.
    """
    return torch.stack([(bins == level).sum(dim=1) for level in range(levels)], dim=1)


def _counts_by_row(bins: Tensor, levels: int) -> Tensor:
    """The same by torch's histogram, which reads each row once: for a CPU, which waits for nobody."""
    return torch.stack([row.bincount(minlength=levels) for row in bins])


def vote_entropy(votes: Tensor) -> Tensor:
    """Entropy in nats of the members' votes, mean over each image, ``[B]``.

    Args:
        votes: ``[B, C, H, W]``, votes for each class; the same number of members everywhere.
    """
    shares = votes.float() / votes.sum(dim=1, keepdim=True)
    return torch.special.entr(shares).sum(dim=1).flatten(1).mean(dim=1)


@torch.no_grad()
def committee_score(network: Segmenter, x: Tensor, ids: Tensor, passes: int, seed: int) -> Tensor:
    """Vote entropy of dropout passes, ``[B]``: query by committee as MC dropout (Gal et al., 2017).

    Each pass gives every pixel one hard vote. Batch normalisation has its running statistics, dropout is on.
    What is without dropout runs once. The dropout of an image is drawn from (seed, its id) alone; the global
    random state, and the modes of all layers, are left as they were.

    Args:
        network: a segmentation network.
        x: ``[B, 3, H, W]``.
        ids: ``[B]`` long, global numbers of the images, >= 0; on the CPU, as a GPU would be waited for.
        passes: members of the committee, >= 1; DEAL's baseline has 10.
        seed: >= 0.

    Raises:
        UserError: there are no passes.
    """
    if passes < 1:
        raise UserError(f"model.passes={passes} must be an integer > 0. DEAL's baseline takes 10.")
    size = (x.shape[-2], x.shape[-1])
    scores = []
    devices = [x.device] if x.device.type == "cuda" else []
    with _dropout_alone(network), torch.random.fork_rng(devices=devices):
        encoded = network.encode(x)
        for row, number in enumerate(ids.tolist()):
            torch.manual_seed(mixed(_DROPOUT, seed, number) >> 1)  # below 2**63, the most that torch takes
            votes: Tensor | None = None
            for _ in range(passes):
                found, _ = network.decode(*(part[row : row + 1] for part in encoded))
                logits = resize(found, size)
                vote = torch.zeros_like(logits, dtype=torch.float32)
                vote.scatter_(1, logits.argmax(dim=1, keepdim=True), 1.0)
                votes = vote if votes is None else votes.add_(vote)
            assert votes is not None
            scores.append(vote_entropy(votes))
    return torch.cat(scores)


@contextlib.contextmanager
def _dropout_alone(network: nn.Module) -> Iterator[None]:
    """Evaluation mode but for dropout; afterwards each layer is in the mode that it was in."""
    modes = [(module, module.training) for module in network.modules()]
    try:
        network.eval()
        for module, _ in modes:
            if isinstance(module, nn.Dropout):
                module.train()
        yield
    finally:
        for module, training in modes:
            module.training = training


def random_scores(ids: Sequence[int], seed: int) -> np.ndarray:
    """Scores ``[n]`` in [0, 1) that follow from (seed, id) alone: the baseline that looks at nothing.

    Args:
        ids: global numbers of the images, >= 0.
        seed: >= 0, one for each round.
    """
    return np.array(
        [np.random.default_rng(mixed(_RANDOM, seed, int(number)) >> 1).random() for number in ids]
    )


def select(scores: Sequence[float] | np.ndarray, ids: Sequence[int] | np.ndarray, number: int) -> list[int]:
    """The images to annotate next: ids of the highest scores, equal ones by the lower id.

    Args:
        scores: ``[n]``; higher is queried first.
        ids: ``[n]``, global numbers of the images, in any order.
        number: how many, at most n.

    Returns:
        ``number`` ids, best first.

    Raises:
        ValueError: lengths differ, an id stands twice, a score is no number, or there are too few images.
    """
    scored, numbers = np.asarray(scores, dtype=np.float64), np.asarray(ids, dtype=np.int64)
    if scored.shape != numbers.shape or scored.ndim != 1:
        raise ValueError(f"scores {scored.shape} and ids {numbers.shape} must be two lists of one length")
    if len(np.unique(numbers)) != len(numbers):
        raise ValueError("an image was scored twice")
    if np.isnan(scored).any():
        raise ValueError(f"image {numbers[np.isnan(scored)][0]} has no score: it is NaN")
    if not 0 <= number <= len(numbers):
        raise ValueError(f"{number} images are wanted of {len(numbers)}")
    order = np.lexsort((numbers, -scored))  # the last key is the first to decide
    return [int(one) for one in numbers[order[:number]]]
