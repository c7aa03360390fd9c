"""Amazon Photo, Amazon Computers and Coauthor CS, with seeded random splits.

Source: Shchur et al., "Pitfalls of graph neural network evaluation", 2018 (github.com/shchur/gnn-benchmark);
Amazon data from McAuley et al., SIGIR 2015, Coauthor data from the Microsoft Academic Graph.

There is no published split: 20 nodes per class for training, 30 for validation, the rest for testing, drawn
anew for each ``split_seed``, as in that paper. Unlike it we keep all nodes, not only the largest connected
component, which is what ``torch_geometric.datasets.Amazon`` and ``Coauthor`` do.

Two files are accepted for each set: the published one, and a smaller copy with the same adjacency,
attributes and labels under the same keys, without the names of nodes and words.
"""

import io
from typing import Literal

import numpy as np
import scipy.sparse
from torch_geometric.data import Data

from datamodules.download import RemoteFile, fetch, read_verified
from datamodules.graph import (
    GraphDataModule,
    make_graph,
    pick_per_class,
    row_normalised,
    undirected_edge_index,
)
from harness.annotations import NonNegativeInt, PositiveInt

_URL = "https://raw.githubusercontent.com/shchur/gnn-benchmark/master/data/npz"

_FILES = {
    "photo": RemoteFile(
        "Amazon/Photo/raw/amazon_electronics_photo.npz",
        f"{_URL}/amazon_electronics_photo.npz",
        (
            "bdb1feb8e6ff42ee44024b04479145029c563fd42fc31bff80af20887ba0439a",
            "616582b757950a34e573543c4d3c02e1087c11d5ad3b324aa1b0ddb95db1c99d",
        ),
    ),
    "computers": RemoteFile(
        "Amazon/Computers/raw/amazon_electronics_computers.npz",
        f"{_URL}/amazon_electronics_computers.npz",
        (
            "736ba1d9fd85eac2da83a5ad25c463f04b0031a6ca01563f90a7099d9e8ffb2c",
            "be58a1ec75405bfb2f9917b85cc34eb29c606df5a988da355468dda97d19b753",
        ),
    ),
    "coauthor_cs": RemoteFile(
        "Coauthor/CS/raw/ms_academic_cs.npz",
        f"{_URL}/ms_academic_cs.npz",
        (
            "933c745734e78908c7eb77172a673fee0503f30e26e5a99b36814d88534c42e3",
            "7bbda0ec297bb44efc712cc59f9e9a6c9ac959e5c4848e311bc7e011b0be5753",
        ),
    ),
}


class CopurchaseDataModule(GraphDataModule):
    """Goods bought together, or authors who wrote together; words of reviews or papers as features.

    Equals ``torch_geometric.datasets.Amazon`` or ``Coauthor`` (words made binary, graph made undirected) with
    row-normalised features. Amazon's features are a third non-zeros and come dense, Coauthor's sparse.

    Args:
        name: which set.
        root: folder of data sets, laid out as PyG's ``Amazon`` and ``Coauthor`` folders.
        cache: where downloads go when ``root`` is read-only.
        in_channels: words in the vocabulary.
        num_classes: kinds of goods or fields of study.
        train_per_class: training nodes drawn from each class.
        val_per_class: validation nodes drawn from each class.
        split_seed: seed of the draw, and of nothing else.
    """

    tasks = ("node_classification",)

    def __init__(
        self,
        name: Literal["photo", "computers", "coauthor_cs"],
        root: str,
        cache: str,
        in_channels: PositiveInt,
        num_classes: PositiveInt,
        train_per_class: PositiveInt,
        val_per_class: PositiveInt,
        split_seed: NonNegativeInt,
    ) -> None:
        super().__init__(name, in_channels, num_classes)
        self.root = root
        self.cache = cache
        self.file = _FILES[name]
        self.train_per_class = train_per_class
        self.val_per_class = val_per_class
        self.split_seed = split_seed

    def prepare_data(self) -> None:
        """Downloads the file if it is missing and verifies it.

        Raises:
            UserError: see :func:`datamodules.download.fetch`.
        """
        fetch(self.choice, [self.file], self.root, self.cache)

    def build(self) -> Data:
        content = read_verified(self.choice, self.file, self.root, self.cache)
        return parse_npz(content, self.train_per_class, self.val_per_class, self.split_seed)


def parse_npz(content: bytes, train_per_class: int, val_per_class: int, split_seed: int) -> Data:
    """The graph from the content of an ``.npz`` in the layout of gnn-benchmark.

    Only plain arrays are read; the published files also hold names as pickled objects, which stay closed.

    Args:
        content: bytes of the archive with ``adj_*``, ``attr_*`` (CSR) and ``labels``.
        train_per_class: see :class:`CopurchaseDataModule`.
        val_per_class: likewise.
        split_seed: likewise.

    Raises:
        UserError: a class has fewer nodes than the split asks for.
    """
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        links, words = (
            scipy.sparse.csr_matrix(
                tuple(archive[f"{kind}_{part}"] for part in ("data", "indices", "indptr")),
                shape=tuple(archive[f"{kind}_shape"]),
            )
            for kind in ("adj", "attr")
        )
        y = archive["labels"].astype(np.int64)
    words.data = (words.data > 0).astype(np.float32)
    links = links.tocoo()
    order = np.random.default_rng(split_seed).permutation(len(y))
    train, others = pick_per_class(y, order, train_per_class, "train_per_class")
    val, test = pick_per_class(y, others, val_per_class, "val_per_class")
    edge_index = undirected_edge_index(links.row, links.col, len(y))
    return make_graph(row_normalised(words), edge_index, y, train, val, test)
