"""Six sets of the TU collection: molecules, proteins and circles of collaborators, a class for each graph.

Sources: MUTAG (Debnath et al., 1991), PROTEINS (Borgwardt et al., 2005), NCI1 (Wale et al., 2008),
IMDB-BINARY, IMDB-MULTI and COLLAB (Yanardag and Vishwanathan, "Deep graph kernels", KDD 2015), in the form of
Morris et al., "TUDataset", arXiv 2007.08663. No explicit licence: research use with citation.

The archives hold text, which is read in memory; nothing is unpacked to disk. Smaller copies of five of them,
with the same graphs and labels, are known by their SHA-256. That of the archives offered for download is
published nowhere: the first one used is recorded, and any later one must equal it.
"""

import io
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.model_selection import StratifiedKFold

from datamodules.download import RemoteFile, fetch, read_verified
from datamodules.facts import check_facts
from datamodules.graph_sets import GraphSet, GraphSetDataModule, Split, make_graph_set, with_folds
from datamodules.zip_members import zip_members
from harness.annotations import NonNegativeInt, PositiveInt, TwoOrMore
from harness.errors import UserError

Name = Literal["mutag", "imdb_binary", "imdb_multi", "proteins", "nci1", "collab"]

_URL = "https://www.chrsmrrs.com/graphkerneldatasets"
_LARGEST = 256 << 20  # bytes of a text file; COLLAB's edges take some 70 MiB


@dataclass(frozen=True)
class TUSet:
    """What is known of a set.

    Attributes:
        stem: its name in the collection.
        num_graphs: graphs G.
        labelled: whether nodes have labels; else their degree is their type.
        sha256: of known copies of the archive.
        class_names: in order of the labels in the file, or None.
    """

    stem: str
    num_graphs: int
    labelled: bool
    sha256: tuple[str, ...] = ()
    class_names: tuple[str, ...] | None = None

    @property
    def file(self) -> RemoteFile:
        """The archive."""
        name = f"{self.stem}.zip"
        return RemoteFile(f"TU/{name}", f"{_URL}/{name}", self.sha256, on_first_use=True)

    @property
    def parts(self) -> tuple[str, ...]:
        """The files inside that are read."""
        parts = ("A", "graph_indicator", "graph_labels")
        return (*parts, "node_labels") if self.labelled else parts


# Class names follow from the sizes where those tell: 125 of MUTAG's compounds are mutagenic, 63 are not.
_SETS: dict[str, TUSet] = {
    "mutag": TUSet(
        "MUTAG",
        188,
        labelled=True,
        sha256=("f2344436c2557ceff04abeb480ca8322d8c0da1128ae04ce86bdafb230ee6190",),
        class_names=("not mutagenic", "mutagenic"),
    ),
    "imdb_binary": TUSet(
        "IMDB-BINARY",
        1000,
        labelled=False,
        sha256=("229ac5ae242f0ef0de7c18e5aacfee57d9e26ac8076975d1639662fceb6e3e99",),
    ),
    "imdb_multi": TUSet(
        "IMDB-MULTI",
        1500,
        labelled=False,
        sha256=("a751b42466abcee466d2d6ca093a086bb2970dd4e1d5a66411b6946a45364f7b",),
    ),
    "proteins": TUSet(
        "PROTEINS",
        1113,
        labelled=True,
        sha256=("03fa1c0bbbb7fa39f95f1d8d3df0ae0d29eb6081550676c81b0ff5824d95ef99",),
    ),
    "nci1": TUSet(
        "NCI1",
        4110,
        labelled=True,
        sha256=("8004641979df13e1ca916e1f5f2c64327e2e5ba8e49641c0a2a79aaf3d7f911a",),
    ),
    "collab": TUSet("COLLAB", 5000, labelled=False),
}


class TUDataModule(GraphSetDataModule):
    """Graphs in stratified folds; a node's input is its label, or its degree where nodes have none.

    Edges and labels equal those of ``torch_geometric.datasets.TUDataset(stem)``, which drops self-loops and
    repeated edges; node attributes are left alone, as there. Labels and degrees are types that reach a
    network as one-hot vectors. A degree counts the self-loop if there is one, as in FactorGCN's code
    (arXiv 2010.05421).

    Args:
        name: which set.
        root: folder of data sets; the archive lies in ``TU``.
        cache: where downloads go when ``root`` is read-only, and what hash was found.
        in_channels: node labels, or a bound on the degrees.
        num_classes: classes of graphs.
        target: what is predicted, the class.
        folds: parts of the cross-validation, drawn by scikit-learn's ``StratifiedKFold`` with shuffling.
        protocol: which fold is validated, see :class:`datamodules.graph_sets.GraphSetDataModule`.
        split_seed: seed of the folds, and of nothing else.
        self_loops: adds one to each node.
        batch_size: graphs of one optimiser step, over all processes.
        seed: of the order.
    """

    def __init__(
        self,
        name: Name,
        root: str,
        cache: str,
        in_channels: PositiveInt,
        num_classes: PositiveInt,
        target: Literal["class"],
        folds: TwoOrMore,
        protocol: Literal["gin", "holdout"],
        split_seed: NonNegativeInt,
        self_loops: bool,
        batch_size: PositiveInt,
        seed: NonNegativeInt,
    ) -> None:
        super().__init__(
            name,
            in_channels,
            num_classes,
            target,
            batch_size,
            seed,
            folds=folds,
            protocol=protocol,
            class_names=_SETS[name].class_names,
            one_hot=True,
        )
        self.root = root
        self.cache = cache
        self.split_seed = split_seed
        self.self_loops = self_loops

    def prepare_data(self) -> None:
        """Downloads the archive if it is missing and verifies it.

        Raises:
            UserError: see :func:`datamodules.download.fetch`.
        """
        fetch(self.choice, [_SETS[self.choice].file], self.root, self.cache, stand_in="factor_graphs")

    def build(self) -> dict[Split, GraphSet]:
        known = _SETS[self.choice]
        content = read_verified(self.choice, known.file, self.root, self.cache)
        label = f"data={self.choice}: {known.file.path}"
        names = {part: f"{known.stem}/{known.stem}_{part}.txt" for part in known.parts}
        members = zip_members(content, list(names.values()), _LARGEST, label)
        graphs = parse_tu(
            {part: members[name] for part, name in names.items()}, label, self_loops=self.self_loops
        )
        if len(graphs) != known.num_graphs:
            raise UserError(f"{label} holds {len(graphs)} graphs instead of {known.num_graphs}.")
        if known.labelled:
            # of a degree there may be less than is allowed for, but each label is seen
            found = {"in_channels": int(graphs.x.max()) + 1}
            check_facts(self.choice, {"in_channels": self.in_channels}, found)
        return {"test": with_folds(graphs, stratified_folds(graphs.y.numpy(), self.folds, self.split_seed))}


def parse_tu(parts: Mapping[str, bytes], label: str, *, self_loops: bool) -> GraphSet:
    """The graphs in the text files of a TU set.

    Args:
        parts: ``A``: ``i, j`` on each line, nodes being counted from 1 over all graphs; ``graph_indicator``:
            the graph of each node, from 1, ascending; ``graph_labels``; and ``node_labels``, or else degrees
            are the types. Labels are shifted to begin at 0, classes are put in order.
        label: which archive, for messages.
        self_loops: adds one to each node.

    Raises:
        UserError: the files are no such text or do not fit together.
    """
    try:
        return _parsed({part: _integers(content) for part, content in parts.items()}, self_loops=self_loops)
    except ValueError as error:
        raise UserError(f"{label} is broken: {error}. Delete it and run again to download it.") from error


def _parsed(parts: Mapping[str, NDArray[np.int64]], *, self_loops: bool) -> GraphSet:
    indicator = parts["graph_indicator"][:, 0] - 1
    _, y = np.unique(parts["graph_labels"][:, 0], return_inverse=True)
    num_nodes = len(indicator)
    if indicator[0] < 0 or indicator[-1] >= len(y) or (np.diff(indicator) < 0).any():
        raise ValueError(f"graph_indicator does not count up to {len(y)} graphs")
    sizes = np.bincount(indicator, minlength=len(y))
    if not sizes.all():
        raise ValueError("a graph has no nodes")
    edges = parts["A"] - 1
    if edges.shape[1] != 2 or edges.min() < 0 or edges.max() >= num_nodes:
        raise ValueError(f"A is no list of pairs of {num_nodes} nodes")
    source, target = edges[edges[:, 0] != edges[:, 1]].T
    source, target = np.divmod(np.unique(source * num_nodes + target), num_nodes)
    types = torch.zeros(num_nodes, dtype=torch.long)
    if "node_labels" in parts:
        labels = parts["node_labels"][:, 0]
        if len(labels) != num_nodes:
            raise ValueError(f"node_labels has {len(labels)} lines for {num_nodes} nodes")
        types = torch.from_numpy(labels - labels.min())
    graphs = make_graph_set(types, sizes, source, target, torch.from_numpy(y), self_loops=self_loops)
    return graphs if "node_labels" in parts else replace(graphs, x=graphs.in_degree.long())


def _integers(content: bytes) -> NDArray[np.int64]:
    """Numbers of a text, ``[lines, columns]``."""
    if not content.strip():
        raise ValueError("a file is empty")
    return np.loadtxt(io.BytesIO(content), np.int64, delimiter=",", ndmin=2)


def stratified_folds(y: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """The fold that each graph is tested in, ``[G]``: every fold holds its share of each class.

    Args:
        y: ``[G]``, classes.
        folds: how many, at least 2.
        seed: of the draw.

    Raises:
        UserError: a class has fewer graphs than there are folds.
    """
    smallest = int(np.bincount(y).min())
    if folds > smallest:
        raise UserError(
            f"data.folds={folds} asks for more parts than the smallest class has graphs. "
            f"Set data.folds to at most {smallest}."
        )
    fold = np.empty(len(y), np.int64)
    splitter = StratifiedKFold(n_splits=folds, shuffle=True, random_state=seed)
    for number, (_, tested) in enumerate(splitter.split(np.zeros(len(y)), y)):
        fold[tested] = number
    return fold
