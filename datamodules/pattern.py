"""PATTERN: 14,000 random graphs in communities, each with one and the same subgraph hidden in it.

Source: Dwivedi et al., "Benchmarking graph neural networks", arXiv 2003.00982
(github.com/graphdeeplearning/benchmarking-gnns, MIT licence), in the file of ``torch_geometric``.

That file is a checkpoint of plain tensors and is opened with ``weights_only=True``. Its SHA-256 is published
nowhere: the first one used is recorded, and any later one must equal it.
"""

import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from datamodules.download import RemoteFile, fetch, read_verified
from datamodules.graph_sets import GraphSet, GraphSetDataModule, Split, make_graph_set
from datamodules.zip_members import zip_members
from harness.annotations import NonNegativeInt, PositiveInt
from harness.errors import UserError

_ARCHIVE = RemoteFile(
    "PATTERN/PATTERN_v2.zip", "https://data.pyg.org/datasets/benchmarking-gnns/PATTERN_v2.zip"
)
_MEMBER = "PATTERN_v2.pt"
_LARGEST = 8 << 30  # bytes; the edges alone take 1.3 GiB
_SIZES: dict[Split, int] = {"train": 10_000, "val": 2_000, "test": 2_000}
_TYPES = 3
_CHUNK = 1000  # graphs whose edges are put in order at a time: 6 million edges, some 0.5 GB


class PATTERNDataModule(GraphSetDataModule):
    """Graphs in the published split; the class of a node tells whether it belongs to the hidden subgraph.

    Graphs and classes equal those of ``torch_geometric.datasets.GNNBenchmarkDataset("PATTERN")``, whose
    one-hot features are given as types.

    Args:
        root: folder of data sets; the archive lies in ``PATTERN``.
        cache: where downloads go when ``root`` is read-only, and what hash was found.
        in_channels: types that a network has room for, at least the three that there are.
        num_classes: classes of nodes, 2.
        target: what is predicted, the class of each node.
        folds: 1, there is a fixed split.
        protocol: of a cross-validation, which there is none.
        self_loops: adds one to each node.
        batch_size: graphs of one optimiser step, over all processes.
        seed: of the order.
    """

    tasks = ("graph_prediction", "inductive_node_classification")

    def __init__(
        self,
        root: str,
        cache: str,
        in_channels: PositiveInt,
        num_classes: PositiveInt,
        target: Literal["node_class"],
        folds: Literal[1],
        protocol: Literal["gin"],
        self_loops: bool,
        batch_size: PositiveInt,
        seed: NonNegativeInt,
    ) -> None:
        super().__init__(
            "pattern",
            in_channels,
            num_classes,
            target,
            batch_size,
            seed,
            class_names=("community", "pattern"),
        )
        self.root = root
        self.cache = cache
        self.self_loops = self_loops

    def prepare_data(self) -> None:
        """Downloads the archive if it is missing and verifies it.

        Raises:
            UserError: see :func:`datamodules.download.fetch`.
        """
        fetch(self.choice, [_ARCHIVE], self.root, self.cache, stand_in="factor_graphs")

    def build(self) -> dict[Split, GraphSet]:
        archive = read_verified(self.choice, _ARCHIVE, self.root, self.cache)
        label = f"data=pattern: {_ARCHIVE.path}"
        content = zip_members(archive, [_MEMBER], _LARGEST, label)[_MEMBER]
        del archive
        return parse_pattern(content, f"{label}: {_MEMBER}", self_loops=self.self_loops)


def parse_pattern(content: bytes, label: str, *, self_loops: bool) -> dict[Split, GraphSet]:
    """The three splits.

    Args:
        content: a checkpoint of three lists of dictionaries with ``x`` ``[n, 3]``, one-hot, ``edge_index``
            ``[2, m]`` and ``y`` ``[n]``.
        label: which file, for messages.
        self_loops: adds one to each node.

    Raises:
        UserError: it asks for more than plain tensors, or holds something else.
    """
    again = "Delete it and run again to download it."
    try:
        lists = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # a broken checkpoint can raise nearly anything
        raise UserError(
            f"{label} was refused: it may hold lists and tensors only, and this one failed with "
            f"{type(error).__name__}: {error}. {again}"
        ) from error
    del content
    splits: dict[Split, GraphSet] = {}
    try:
        if not isinstance(lists, list | tuple) or [len(part) for part in lists] != [*_SIZES.values()]:
            raise ValueError(f"it does not hold {' + '.join(map(str, _SIZES.values()))} graphs")
        first = 0
        for split, graphs in zip(_SIZES, lists, strict=True):
            made = joined(list(_chunks(graphs, self_loops=self_loops)))
            splits[split] = replace(made, index=made.index + first)
            first += len(made)
    except (ValueError, TypeError, AttributeError, LookupError, RuntimeError) as error:
        raise UserError(f"{label} is broken: {type(error).__name__}: {error}. {again}") from error
    return splits


def _chunks(graphs: Sequence[Any], *, self_loops: bool) -> Iterator[GraphSet]:
    for start in range(0, len(graphs), _CHUNK):
        xs: list[Tensor] = []
        ends: list[Tensor] = []
        ys: list[Tensor] = []
        first = 0
        for graph in graphs[start : start + _CHUNK]:
            x, edge_index, y = graph["x"], graph["edge_index"], graph["y"]
            if not len(x) or x.shape != (len(y), _TYPES) or (x.sum(dim=1) != 1).any():
                raise ValueError(f"a graph of {len(y)} nodes has features of shape {tuple(x.shape)}")
            if edge_index.numel() and not 0 <= int(edge_index.min()) <= int(edge_index.max()) < len(x):
                raise ValueError(f"an edge leads out of a graph of {len(x)} nodes")
            xs.append(x.argmax(dim=1))
            ends.append(edge_index.long() + first)
            ys.append(y.long())
            first += len(x)
        source, target = torch.cat(ends, dim=1).numpy()
        sizes = np.array([len(x) for x in xs], np.int64)
        yield make_graph_set(torch.cat(xs), sizes, source, target, torch.cat(ys), self_loops=self_loops)


def joined(parts: Sequence[GraphSet]) -> GraphSet:
    """Several sets without factors as one, in that order.

    Args:
        parts: at least one.
    """
    nodes, edges = (
        torch.cat([getattr(part, key).diff() for part in parts]).cumsum(0) for key in ("ptr", "edge_ptr")
    )
    start = torch.zeros(1, dtype=torch.long)
    return GraphSet(
        x=torch.cat([part.x for part in parts]),
        ptr=torch.cat([start, nodes]),
        edge_index=torch.cat([part.edge_index for part in parts], dim=1),
        edge_ptr=torch.cat([start, edges]),
        in_degree=torch.cat([part.in_degree for part in parts]),
        reverse=torch.cat([part.reverse for part in parts]),
        y=torch.cat([part.y for part in parts]),
        index=torch.arange(len(nodes)),
        fold=torch.cat([part.fold for part in parts]),
    )
