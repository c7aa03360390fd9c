"""What all node-classification graphs share: building, checking, splitting, loading.

The batch is one ``torch_geometric.data.Data`` with

- ``x``: ``[N, F]``, ``torch.sparse_csr`` where mostly zeros, else dense, float32;
- ``edge_index``: ``[2, E]`` long, both directions, no self-loops, no duplicates, sorted by row 0 then row 1;
  row 0 is the centre i, row 1 its neighbour j;
- ``y``: ``[N]`` long;
- ``train_mask``, ``val_mask``, ``test_mask``: ``[N]`` bool.
"""

import copy
import warnings
from abc import abstractmethod
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import ArrayLike, NDArray
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader
from torch_geometric.data import Data

from datamodules.facts import check_facts
from harness.errors import UserError

SPARSE_BELOW = 0.4
"""Share of non-zeros under which features are stored as CSR.

A cautious bound: on one CPU thread the first layer's dropout and product with 64 columns, with gradients,
take a sixth of the dense form's time at 0.1 (PubMed's share), two thirds at 0.35 (Photo's) and still less
than all of it at 0.5 (``python -m benchmarks.operations``). GPUs are not measured.
"""


class GraphDataModule(LightningDataModule):
    """One graph, served whole once per epoch to every phase.

    A subclass says how its graph is made in :meth:`build`, and fetches files in ``prepare_data`` if it has
    any. The graph is kept in :attr:`graph`, None before ``setup``.

    Args:
        choice: the ``data=`` choice, for messages.
        in_channels: features per node, as stated in the data set's YAML.
        num_classes: classes, as stated there.
        class_names: names of the classes in order, or None where they are not known.
    """

    tasks: tuple[str, ...] = ("node_classification",)

    def __init__(
        self, choice: str, in_channels: int, num_classes: int, class_names: tuple[str, ...] | None = None
    ) -> None:
        super().__init__()
        self.choice = choice
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.class_names = class_names
        self.graph: Data | None = None
        self._copies: dict[torch.device, Data] = {}  # of the graph, on the devices that it was needed on

    @abstractmethod
    def build(self) -> Data:
        """The graph, from files that are already there or from a generator with its own seed."""

    def setup(self, stage: str | None = None) -> None:
        """Builds the graph unless it is there already and checks it against the YAML.

        Raises:
            UserError: ``in_channels`` or ``num_classes`` is not what the data holds.
        """
        if self.graph is None:
            graph = self.build()
            self._check_facts(graph)
            self.graph = graph

    def _check_facts(self, graph: Data) -> None:
        stated = {"in_channels": self.in_channels, "num_classes": self.num_classes}
        found = {"in_channels": int(graph.x.size(1)), "num_classes": int(graph.y.max()) + 1}
        check_facts(self.choice, stated, found)

    def _loader(self) -> DataLoader:
        if self.graph is None:
            raise RuntimeError(f"{type(self).__name__}: call setup() before asking for a loader")
        # A worker process would copy the graph each epoch; the own generator keeps the loader's draw of a
        # base seed away from the global random state, which an exact resume needs.
        graphs: Any = [self.graph]  # any sequence serves; the annotation asks for a Dataset
        return DataLoader(graphs, batch_size=None, num_workers=0, generator=torch.Generator())

    def transfer_batch_to_device(self, batch: Data, device: torch.device, dataloader_idx: int) -> Data:
        # A graph of PyG moves as a whole and in place: this one would stay on the GPU, where a phase trained,
        # when Lightning takes the module back to the CPU.
        if batch.y.device == device:
            return batch
        if device not in self._copies:
            self._copies[device] = copy.copy(batch).to(device)
        return self._copies[device]

    def train_dataloader(self) -> DataLoader:
        return self._loader()

    def val_dataloader(self) -> DataLoader:
        return self._loader()

    def test_dataloader(self) -> DataLoader:
        return self._loader()

    def predict_dataloader(self) -> DataLoader:
        return self._loader()


def undirected_edge_index(row: ArrayLike, col: ArrayLike, num_nodes: int) -> Tensor:
    """Edges in both directions without self-loops or duplicates, sorted by row 0, then row 1.

    Args:
        row: ``[M]`` integers in ``[0, num_nodes)``, one end of each edge.
        col: ``[M]``, the other end.
        num_nodes: number of nodes N.

    Returns:
        ``[2, E]`` long.

    Raises:
        ValueError: an index is outside ``[0, num_nodes)`` or the two differ in length.
    """
    row, col = np.asarray(row, dtype=np.int64), np.asarray(col, dtype=np.int64)
    if row.shape != col.shape or row.ndim != 1:
        raise ValueError(f"row and col must be vectors of one length, got shapes {row.shape} and {col.shape}")
    if row.size and not (min(row.min(), col.min()) >= 0 and max(row.max(), col.max()) < num_nodes):
        raise ValueError(f"edge ends must lie in [0, {num_nodes})")
    proper = row != col
    row, col = row[proper], col[proper]
    both = (np.concatenate([row, col]), np.concatenate([col, row]))  # [2M] each
    # As CSR, which is ordered by counting rows: two thirds of the time that sorting all edges at once takes
    # (to_undirected; python -m benchmarks.operations).
    links = scipy.sparse.coo_matrix((np.ones(len(both[0]), dtype=bool), both), (num_nodes, num_nodes)).tocsr()
    links.sum_duplicates()  # also sorts each row; [2M] -> [E]
    centres = np.repeat(np.arange(num_nodes), np.diff(links.indptr))
    return torch.from_numpy(np.stack([centres, links.indices.astype(np.int64)]))


def row_normalised(features: scipy.sparse.csr_matrix | NDArray[Any]) -> Tensor:
    """Features scaled so that each row sums to 1; rows of zeros stay zeros.

    PyG's ``NormalizeFeatures`` divides by ``max(sum, 1)`` instead. The two agree on counts and binary words;
    on PubMed's fractional tf-idf values this is what the GCN and GAT authors do.

    Args:
        features: ``[N, F]``, non-negative, sparse or dense.

    Returns:
        ``[N, F]`` float32, ``torch.sparse_csr`` if less than :data:`SPARSE_BELOW` of it is non-zero.
    """
    matrix = scipy.sparse.csr_matrix(features, dtype=np.float32, copy=True)
    matrix.eliminate_zeros()
    # Summed in float64: a float32 sum of hundreds of words would be off in the last digits.
    sums = np.asarray(matrix.sum(axis=1, dtype=np.float64)).ravel()
    scale = np.divide(1.0, sums, out=np.zeros_like(sums), where=sums > 0)
    matrix.data = (matrix.data * np.repeat(scale, np.diff(matrix.indptr))).astype(np.float32)
    if matrix.nnz >= SPARSE_BELOW * matrix.shape[0] * matrix.shape[1]:
        return torch.from_numpy(matrix.toarray())
    matrix.sum_duplicates()  # sorts each row too, which only CSR needs
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        return torch.sparse_csr_tensor(
            torch.from_numpy(matrix.indptr.astype(np.int64)),
            torch.from_numpy(matrix.indices.astype(np.int64)),
            torch.from_numpy(matrix.data),
            matrix.shape,
            check_invariants=True,
        )


def make_graph(
    x: Tensor, edge_index: Tensor, y: ArrayLike, train: ArrayLike, val: ArrayLike, test: ArrayLike
) -> Data:
    """A batch in the form this file's head describes.

    Args:
        x: ``[N, F]`` features.
        edge_index: ``[2, E]``, from :func:`undirected_edge_index`.
        y: ``[N]`` classes.
        train: node ids of the training set, val and test alike; disjoint.
        val: may be empty.
        test: node ids of the test set.
    """
    y = torch.from_numpy(np.asarray(y, dtype=np.int64))
    masks = {}
    for key, nodes in (("train_mask", train), ("val_mask", val), ("test_mask", test)):
        masks[key] = torch.zeros(len(y), dtype=torch.bool)
        masks[key][torch.from_numpy(np.asarray(nodes, dtype=np.int64))] = True
    return Data(x=x, edge_index=edge_index, y=y, **masks)


def pick_per_class(
    y: NDArray[np.int64], nodes: NDArray[np.int64], count: int, key: str
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The first ``count`` of ``nodes`` in each class, and the others in their order.

    Args:
        y: ``[N]`` classes of all nodes.
        nodes: node ids, usually a random permutation; its order decides who is taken.
        count: nodes to take per class.
        key: the configuration key behind ``count``, for the message.

    Raises:
        UserError: a class has too few nodes.
    """
    taken = np.zeros(len(nodes), dtype=bool)
    for label in np.unique(y):
        places = np.flatnonzero(y[nodes] == label)
        if len(places) < count:
            raise UserError(
                f"data.{key}={count} is too large: class {label} has only {len(places)} nodes left to draw "
                f"from. Set data.{key} to at most {len(places)}."
            )
        taken[places[:count]] = True
    return nodes[taken], nodes[~taken]
