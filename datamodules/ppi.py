"""PPI: how proteins interact in 24 human tissues, 121 functions of each protein to be predicted.

Source: Hamilton et al., "Inductive representation learning on large graphs", arXiv 1706.02216, from Zitnik
and Leskovec, arXiv 1707.04638; in the files of the Deep Graph Library, which ``torch_geometric`` uses too. No
licence of the data was found.

Features are standardised there by the training graphs. Nearly all proteins of the test graphs occur in
training graphs as well, with the same labels, in another tissue: a good score says little of new proteins.

Arrays are read without pickle, edges from JSON; nothing is unpacked to disk.
"""

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from datamodules.download import RemoteFile, fetch, read_verified
from datamodules.graph_sets import GraphSet, GraphSetDataModule, Split, make_graph_set
from datamodules.zip_members import zip_members
from harness.annotations import NonNegativeInt, PositiveInt
from harness.errors import UserError

_ARCHIVE = RemoteFile(
    "PPI/ppi.zip",
    "https://data.dgl.ai/dataset/ppi.zip",
    # named by others who check it, such as GeometricFlux.jl
    ("1f5b2b09ac0f897fa6aa1338c64ab75a5473674cbba89380120bede8cddb2a6a",),
)
_SIZES: dict[Split, int] = {"train": 20, "val": 2, "test": 2}
_PARTS = ("graph.json", "feats.npy", "labels.npy", "graph_id.npy")
_LARGEST = 256 << 20  # bytes of a file; the labels of training take 43 MiB as 64-bit numbers


class PPIDataModule(GraphSetDataModule):
    """Graphs in the published split; each node has any number of the labels.

    Graphs, features and labels equal those of ``torch_geometric.datasets.PPI``, which drops the self-loops of
    the files; ``self_loops`` puts them back.

    Args:
        root: folder of data sets; the archive lies in ``PPI``.
        cache: where the download goes when ``root`` is read-only.
        in_channels: features of a node, 50.
        num_classes: labels, 121.
        target: what is predicted, the labels of each node.
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
        target: Literal["node_multi_label"],
        folds: Literal[1],
        protocol: Literal["gin"],
        self_loops: bool,
        batch_size: PositiveInt,
        seed: NonNegativeInt,
    ) -> None:
        super().__init__("ppi", in_channels, num_classes, target, batch_size, seed)
        self.root = root
        self.cache = cache
        self.self_loops = self_loops

    def prepare_data(self) -> None:
        """Downloads the archive if it is missing and verifies it.

        Raises:
            UserError: see :func:`datamodules.download.fetch`.
        """
        fetch(self.choice, [_ARCHIVE], self.root, self.cache, stand_in="mini_ppi")

    def build(self) -> dict[Split, GraphSet]:
        archive = read_verified(self.choice, _ARCHIVE, self.root, self.cache)
        label = f"data=ppi: {_ARCHIVE.path}"
        splits: dict[Split, GraphSet] = {}
        first = 0
        for split, size in _SIZES.items():
            stem = "valid" if split == "val" else split  # as the files call it
            names = {part: f"{stem}_{part}" for part in _PARTS}
            members = zip_members(archive, list(names.values()), _LARGEST, label)
            graphs = parse_ppi(
                {part: members[name] for part, name in names.items()},
                f"{label}: {stem}",
                self_loops=self.self_loops,
            )
            if len(graphs) != size:
                raise UserError(f"{label} holds {len(graphs)} graphs for {split} instead of {size}.")
            splits[split] = replace(graphs, index=graphs.index + first)
            first += size
        return splits


def parse_ppi(parts: Mapping[str, bytes], label: str, *, self_loops: bool) -> GraphSet:
    """The graphs of one split.

    Args:
        parts: ``graph.json``: an object with ``links``, each with a ``source`` and a ``target``, nodes being
            counted from 0 over all graphs, and ``directed``: whether each link stands for one direction;
            ``feats.npy`` ``[N, F]``; ``labels.npy`` ``[N, C]`` of 0 and 1; ``graph_id.npy`` ``[N]``, rising
            without gaps.
        label: which files, for messages.
        self_loops: adds one to each node; those of the file count for nothing.

    Raises:
        UserError: the files are something else or do not fit together.
    """
    try:
        return _parsed(parts, self_loops=self_loops)
    except (ValueError, TypeError, LookupError, EOFError, RecursionError) as error:
        raise UserError(
            f"{label} is broken: {type(error).__name__}: {error}. Delete it and run again to download it."
        ) from error


def _parsed(parts: Mapping[str, bytes], *, self_loops: bool) -> GraphSet:
    x, y, graph = (_array(parts[name], name) for name in ("feats.npy", "labels.npy", "graph_id.npy"))
    num_nodes = len(graph)
    if x.ndim != 2 or y.ndim != 2 or graph.ndim != 1 or len(x) != num_nodes or len(y) != num_nodes:
        raise ValueError(f"{num_nodes} nodes have features {x.shape} and labels {y.shape}")
    if not np.isfinite(x).all() or not np.isin(y, (0, 1)).all():
        raise ValueError("features are not finite, or labels not 0 and 1")
    graph = graph.astype(np.int64)
    if not num_nodes or not np.isin(np.diff(graph), (0, 1)).all():
        raise ValueError("graph_id does not count up")
    described = json.loads(parts["graph.json"])
    links = described["links"]
    ends = np.array([[link["source"], link["target"]] for link in links]).reshape(-1, 2)
    if ends.size and (ends.dtype.kind != "i" or ends.min() < 0 or ends.max() >= num_nodes):
        raise ValueError(f"a link does not join two of {num_nodes} nodes")
    if not described["directed"]:
        ends = np.concatenate([ends, ends[:, ::-1]])
    source, target = ends[ends[:, 0] != ends[:, 1]].astype(np.int64).T
    source, target = np.divmod(np.unique(source * num_nodes + target), num_nodes)
    return make_graph_set(
        torch.from_numpy(x.astype(np.float32)),
        np.bincount(graph - graph[0]),
        source,
        target,
        torch.from_numpy(y.astype(np.float32)),  # [N, C]
        self_loops=self_loops,
    )


def _array(content: bytes, name: str) -> NDArray[Any]:
    array = np.load(io.BytesIO(content), allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "iufb":
        raise ValueError(f"{name} is no array of numbers")
    return array
