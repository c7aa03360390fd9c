"""Handwritten digits as a graph that needs no network: scikit-learn's bundled images, joined to the nearest.

Source: the test part of the UCI "Optical recognition of handwritten digits" set (Alpaydin and Kaynak,
1998), 1,797 images of 8 x 8 pixels with values 0..16, as ``sklearn.datasets.load_digits`` gives them. The
graph and the split are ours, so no published number belongs to it.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import Data

from datamodules.graph import GraphDataModule, make_graph, pick_per_class, undirected_edge_index
from harness.annotations import NonNegativeInt, PositiveInt
from harness.errors import UserError


class DigitsGraphDataModule(GraphDataModule):
    """Images as nodes, each joined to the ``num_neighbors`` most alike; the digit is the class.

    Args:
        in_channels: pixels, 64.
        num_classes: digits, 10.
        num_neighbors: k of the nearest-neighbour graph; an edge stands if either end chose the other.
        train_per_class: training images of each digit.
        num_val: validation images in all; those that remain are for testing.
        split_seed: seed of the split, and of nothing else.
    """

    tasks = ("node_classification",)

    def __init__(
        self,
        in_channels: PositiveInt,
        num_classes: PositiveInt,
        num_neighbors: PositiveInt,
        train_per_class: PositiveInt,
        num_val: NonNegativeInt,
        split_seed: NonNegativeInt,
    ) -> None:
        super().__init__("digits_graph", in_channels, num_classes, tuple("0123456789"))
        self.num_neighbors = num_neighbors
        self.train_per_class = train_per_class
        self.num_val = num_val
        self.split_seed = split_seed

    def build(self) -> Data:
        from sklearn.datasets import load_digits  # a slow import that only this data set needs

        pixels, y = load_digits(return_X_y=True)
        y = y.astype(np.int64)
        num_left = len(y) - self.train_per_class * len(np.unique(y))
        if self.num_val >= num_left:
            raise UserError(
                f"data.num_val={self.num_val} leaves no image for testing: {max(num_left, 0)} remain besides "
                f"the training images. Set data.num_val below {max(num_left, 1)}."
            )
        order = np.random.default_rng(self.split_seed).permutation(len(y))
        train, others = pick_per_class(y, order, self.train_per_class, "train_per_class")
        x = torch.from_numpy((pixels / pixels.sum(axis=1, keepdims=True)).astype(np.float32))
        edge_index = nearest_neighbor_graph(pixels.astype(np.int64), self.num_neighbors)
        return make_graph(x, edge_index, y, train, others[: self.num_val], others[self.num_val :])


def nearest_neighbor_graph(points: NDArray[np.int64], num_neighbors: int) -> Tensor:
    """Symmetric k-nearest-neighbour graph by squared Euclidean distance.

    Distances are integers, exact in float64 whatever the order of summation, and equal ones go to the
    smaller node id: the graph is the same on every machine.

    Args:
        points: ``[N, D]`` integers with squared distances below 2^53 / N.
        num_neighbors: k, in ``[1, N)``.

    Returns:
        ``[2, E]``, as :func:`datamodules.graph.undirected_edge_index` gives it.

    Raises:
        UserError: ``num_neighbors`` is not below N.
    """
    num_nodes = len(points)
    if num_neighbors >= num_nodes:
        raise UserError(
            f"data.num_neighbors={num_neighbors} must be below the number of nodes, {num_nodes}. "
            "Try data.num_neighbors=5."
        )
    exact = points.astype(np.float64)
    squares = (exact**2).sum(axis=1)
    distances = squares[:, None] + squares[None, :] - 2.0 * exact @ exact.T  # [N, N]
    keys = distances * num_nodes + np.arange(num_nodes)  # the id breaks ties
    np.fill_diagonal(keys, np.inf)
    nearest = np.argpartition(keys, num_neighbors - 1, axis=1)[:, :num_neighbors]  # [N, k]
    return undirected_edge_index(np.repeat(np.arange(num_nodes), num_neighbors), nearest.ravel(), num_nodes)
