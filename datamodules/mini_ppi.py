"""Twelve small generated graphs whose nodes have several labels each: a stand-in for PPI.

Source: the stand-in of the LSP specification. Labels depend on what a node's neighbours hold, weighted by how
like the node each of them is, over two steps: attention can find it, and a wide network finds more of it than
a narrow one. The specification leaves the size of W's entries and the draw open: they are standard normal,
and the graphs of seed 2 are taken, where a teacher is farther ahead of its student than on those of seed 0.
"""

import math
from typing import Literal

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray

from datamodules.graph_sets import GraphSet, GraphSetDataModule, Split, make_graph_set, split_in_order
from harness.annotations import NonNegativeInt, PositiveInt

NUM_GRAPHS, NUM_NODES = 12, 120
_SHARES: dict[Split, float] = {"train": 8 / 12, "val": 2 / 12, "test": 2 / 12}
_RADIUS = 0.14  # in the unit square; 6.4 neighbours on average
_LATENT, _CHANNELS, _LABELS = 6, 16, 10
_NOISE = 0.3  # standard deviation in each feature
_SHARPNESS = 2 / math.sqrt(_LATENT)  # of the weights of neighbours
_OWN = 0.5  # how much a node's own latents count beside those of its neighbourhood
_THRESHOLD = 0.5  # above it a label is present


class MiniPPIDataModule(GraphSetDataModule):
    """Eight graphs of 120 nodes to train, two to validate, two to test.

    Args:
        in_channels: features of a node, 16.
        num_classes: labels, 10.
        target: what is predicted, the labels of each node.
        folds: 1, there is a fixed split.
        protocol: of a cross-validation, which there is none.
        graph_seed: seed of the graphs, and of nothing else.
        self_loops: adds one to each node; labels are those of graphs that have them in either case.
        batch_size: graphs of one optimiser step, over all processes.
        seed: of the order of the graphs.
    """

    tasks = ("graph_prediction", "inductive_node_classification")

    def __init__(
        self,
        in_channels: PositiveInt,
        num_classes: PositiveInt,
        target: Literal["node_multi_label"],
        folds: Literal[1],
        protocol: Literal["gin"],
        graph_seed: NonNegativeInt,
        self_loops: bool,
        batch_size: PositiveInt,
        seed: NonNegativeInt,
    ) -> None:
        super().__init__("mini_ppi", in_channels, num_classes, target, batch_size, seed)
        self.graph_seed = graph_seed
        self.self_loops = self_loops

    def build(self) -> dict[Split, GraphSet]:
        return split_in_order(generate(self.graph_seed, self_loops=self.self_loops), _SHARES)


def generate(seed: int, *, self_loops: bool) -> GraphSet:
    """All twelve graphs.

    Args:
        seed: of all draws.
        self_loops: adds one to each node.

    Returns:
        ``x`` ``[1440, 16]``, ``y`` ``[1440, 10]`` of 0 and 1.
    """
    generator = np.random.default_rng(seed)
    shown = generator.standard_normal((_LATENT, _CHANNELS)) / math.sqrt(_LATENT)  # P
    around = generator.standard_normal((_LATENT, _LABELS))  # W
    own = _OWN * generator.standard_normal((_LATENT, _LABELS))  # W'
    xs, ys, ends = [], [], []
    for number in range(NUM_GRAPHS):
        near = neighbours(generator)
        latent = generator.standard_normal((NUM_NODES, _LATENT))  # z
        xs.append(latent @ shown + _NOISE * generator.standard_normal((NUM_NODES, _CHANNELS)))
        ys.append(neighbourhood(latent, near) @ around + latent @ own > _THRESHOLD)
        ends.append(np.stack(np.nonzero(near & ~np.eye(NUM_NODES, dtype=bool))) + number * NUM_NODES)
    target, source = np.concatenate(ends, axis=1)
    return make_graph_set(
        torch.from_numpy(np.concatenate(xs).astype(np.float32)),
        np.full(NUM_GRAPHS, NUM_NODES),
        source,
        target,
        torch.from_numpy(np.concatenate(ys).astype(np.float32)),
        self_loops=self_loops,
    )


def neighbours(generator: Generator) -> NDArray[np.bool_]:
    """Which nodes are near each other, ``[n, n]``, each to itself; places are uniform in the square."""
    places = generator.random((NUM_NODES, 2))
    away = places[:, None] - places  # [n, n, 2]
    near: NDArray[np.bool_] = (away**2).sum(axis=2) < _RADIUS**2
    return near


def neighbourhood(latent: NDArray[np.float64], near: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Latents averaged over neighbours twice, those like the node's own counting more; ``[n, d]``.

    Args:
        latent: ``[n, d]``.
        near: ``[n, n]``, neighbours of each row's node, itself among them.
    """
    likeness = np.where(near, _SHARPNESS * (latent @ latent.T), -np.inf)
    weights = np.exp(likeness - likeness.max(axis=1, keepdims=True))  # q, before it is divided
    weights /= weights.sum(axis=1, keepdims=True)
    averaged: NDArray[np.float64] = weights @ (weights @ latent)
    return averaged
