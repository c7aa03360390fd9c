"""Few images of each class, drawn as the authors of NetGraft (Shen et al., arXiv 2012.04915) draw theirs."""

import random

import torch
from torch import Tensor

from harness.errors import UserError


def few_shot_rows(labels: Tensor, shots: int, sample_seed: int, choice: str) -> Tensor:
    """Rows of ``shots`` images of each class.

    As in the authors' code: one generator of Python's ``random``; for each class in order the ranks of its
    images, by their order in the split, are shuffled and the first ones taken. The generator is seeded anew
    for every number of shots, so that fewer shots are part of more. The global random state is not touched.

    Args:
        labels: ``[N]`` long, the class of each image.
        shots: images of each class, K >= 1.
        sample_seed: of the draw, >= 0; the authors take 6 for CIFAR-10 and 10 for CIFAR-100.
        choice: the ``data=`` choice, for the message.

    Returns:
        ``[C K]`` long, class by class, each in the order of its draw.

    Raises:
        UserError: a class has fewer images than ``shots``.
    """
    sizes = torch.bincount(labels).tolist()
    least = min(sizes, default=0)
    if least == 0:
        raise UserError(
            f"data={choice}: class {sizes.index(0) if sizes else 0} has no training image, so that"
            f" model.shots={shots} cannot be drawn. Add images or lower data.num_val."
        )
    if not 1 <= shots <= least:
        raise UserError(
            f"model.shots={shots} must be 1 to {least}: class {sizes.index(least)} of data={choice} has"
            f" {least} training images, and none is taken twice. Try model.shots={least}."
        )
    generator = random.Random(sample_seed)
    picked = []
    for rows in labels.argsort(stable=True).split(sizes):  # the rows of a class, in file order
        ranks = list(range(len(rows)))
        generator.shuffle(ranks)
        picked.append(rows[ranks[:shots]])
    return torch.cat(picked)
