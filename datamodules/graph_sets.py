"""What all sets of many small graphs share: one flat store, batches as disjoint unions, folds, loaders.

The graphs of a split lie in a few long tensors on the training device. A batch of them is gathered by index
arithmetic, without a loop over graphs and without a sort: edges are stored by target already.

A batch is a dictionary with, for B graphs of together n nodes and m edges,

- ``x``: ``[n, F]`` float32, or ``[n]`` long where nodes have a type;
- ``edge_index``: ``[2, m]`` long, row 0 the source j, row 1 the target i of an edge j -> i; both directions,
  sorted by target;
- ``edge_ptr``: ``[n + 1]`` long, edges into node i are ``edge_ptr[i]:edge_ptr[i + 1]``;
- ``reverse``: ``[m]`` long, the edge of the opposite direction; a self-loop is its own;
- ``batch``: ``[n]`` long, graph of each node, ascending; ``ptr``: ``[B + 1]`` long, first node of each graph;
- ``y``: the target, ``[B, ...]`` for graphs or ``[n, ...]`` for nodes;
- ``index``: ``[B]`` long, number of each graph in the data set; ``fold``: ``[B]`` long, see below;
- ``edge_factors``: ``[m, P]`` bool, which true relations each edge belongs to, where that is known.

The nodes of graph b are ``ptr[b]:ptr[b + 1]``, its edges ``edge_ptr[ptr[b]]:edge_ptr[ptr[b + 1]]``, in one
order whatever batch it is in: what was computed once for an edge can be kept by ``index`` and place.
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from torch import Tensor

from datamodules.facts import check_facts
from datamodules.loaders import Batch, EpochBatchSampler, ResumableLoader
from harness.errors import UserError

Split = Literal["train", "val", "test"]
Target = Literal["multi_label", "class", "value", "node_class", "node_multi_label"]
"""What is to be predicted: labels of a graph, its class, a number; the class or the labels of each node."""


@dataclass(frozen=True, eq=False)
class GraphSet:
    """Many graphs as flat tensors, one graph after the other.

    Attributes:
        x: ``[N, F]`` float32 features or ``[N]`` long types of all nodes.
        ptr: ``[G + 1]`` long, first node of each graph.
        edge_index: ``[2, M]`` int32, source and target, numbered within their graph; within a graph sorted by
            target, then source; both directions of every edge.
        edge_ptr: ``[G + 1]`` long, first edge of each graph.
        in_degree: ``[N]`` int32, edges into each node.
        reverse: ``[M]`` int32, place within the graph's edges of the opposite edge.
        y: ``[G]`` or ``[G, C]`` for graphs, ``[N]`` or ``[N, C]`` for nodes.
        index: ``[G]`` long, number of each graph in the data set.
        fold: ``[G]`` long, the part of a cross-validation that each graph is tested in; zeros without one.
        edge_factors: ``[M, P]`` bool or None.
    """

    x: Tensor
    ptr: Tensor
    edge_index: Tensor
    edge_ptr: Tensor
    in_degree: Tensor
    reverse: Tensor
    y: Tensor
    index: Tensor
    fold: Tensor
    edge_factors: Tensor | None = None

    def __len__(self) -> int:
        return len(self.ptr) - 1

    @property
    def of_nodes(self) -> bool:
        """Whether ``y`` belongs to nodes and not to graphs."""
        return len(self.y) == len(self.x) and len(self.x) != len(self)

    def to(self, device: torch.device) -> "GraphSet":
        """All tensors on ``device``."""
        tensors = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{name: t.to(device) for name, t in tensors.items() if t is not None})

    def take(self, graphs: Tensor) -> "GraphSet":
        """The graphs of some numbers ``[g]`` long, in that order."""
        nodes, ptr = _ranges(self.ptr, graphs)
        edges, edge_ptr = _ranges(self.edge_ptr, graphs)
        return GraphSet(
            x=self.x[nodes],
            ptr=ptr,
            edge_index=self.edge_index[:, edges],
            edge_ptr=edge_ptr,
            in_degree=self.in_degree[nodes],
            reverse=self.reverse[edges],
            y=self.y[nodes] if self.of_nodes else self.y[graphs],
            index=self.index[graphs],
            fold=self.fold[graphs],
            edge_factors=None if self.edge_factors is None else self.edge_factors[edges],
        )

    def batch(self, graphs: Tensor) -> Batch:
        """The disjoint union of some graphs ``[B]`` long, as this file's head describes it."""
        part = self.take(graphs)
        sizes, num_edges = part.ptr.diff(), part.edge_ptr.diff()
        first_node = part.ptr[:-1].repeat_interleave(num_edges)  # of each edge's graph
        first_edge = part.edge_ptr[:-1].repeat_interleave(num_edges)
        edge_ptr = part.ptr.new_zeros(len(part.x) + 1)
        torch.cumsum(part.in_degree, 0, out=edge_ptr[1:])
        made = {
            "x": part.x,
            "edge_index": part.edge_index + first_node,
            "edge_ptr": edge_ptr,
            "reverse": part.reverse + first_edge,
            "batch": torch.arange(len(graphs), device=sizes.device).repeat_interleave(sizes),
            "ptr": part.ptr,
            "y": part.y,
            "index": part.index,
            "fold": part.fold,
        }
        return made if part.edge_factors is None else made | {"edge_factors": part.edge_factors}


def _ranges(ptr: Tensor, groups: Tensor) -> tuple[Tensor, Tensor]:
    """Members of some groups one after the other, and where each of these groups begins then."""
    starts = ptr[groups]
    sizes = ptr[groups + 1] - starts
    ends = torch.zeros(len(groups) + 1, dtype=torch.long, device=ptr.device)
    torch.cumsum(sizes, 0, out=ends[1:])
    shift = (starts - ends[:-1]).repeat_interleave(sizes)
    return torch.arange(len(shift), device=ptr.device) + shift, ends


def make_graph_set(
    x: Tensor,
    sizes: NDArray[np.int64],
    source: NDArray[np.int64],
    target: NDArray[np.int64],
    y: Tensor,
    edge_factors: NDArray[np.bool_] | None = None,
    *,
    self_loops: bool,
) -> GraphSet:
    """A :class:`GraphSet` from edges in any order.

    Args:
        x: ``[N, F]`` or ``[N]``, nodes of the first graph first.
        sizes: ``[G]``, nodes of each graph, all above 0.
        source: ``[M]``, one end of each edge, numbered over all graphs; both directions are given, no
            self-loop and no edge twice.
        target: ``[M]``, the other end.
        y: ``[G, ...]`` or ``[N, ...]``.
        edge_factors: ``[M, P]``, equal for both directions of an edge.
        self_loops: adds one to each node; it belongs to no factor.

    Raises:
        ValueError: an edge joins two graphs, lacks its opposite, or is there twice.
    """
    num_nodes = int(sizes.sum())
    if self_loops:
        loops = np.arange(num_nodes)
        source, target = np.concatenate([source, loops]), np.concatenate([target, loops])
        if edge_factors is not None:
            none = np.zeros((num_nodes, edge_factors.shape[1]), dtype=bool)
            edge_factors = np.concatenate([edge_factors, none])
    key = target * num_nodes + source
    order = np.argsort(key, kind="stable")
    source, target, key = source[order], target[order], key[order]
    if len(key) > 1 and not (key[1:] > key[:-1]).all():
        raise ValueError("an edge is there twice")
    opposite = np.searchsorted(key, source * num_nodes + target)
    if (opposite >= len(key)).any() or (key[opposite] != source * num_nodes + target).any():
        raise ValueError("an edge lacks its opposite direction")
    ptr = np.concatenate([[0], np.cumsum(sizes)])
    graph = np.repeat(np.arange(len(sizes)), sizes)[target] if len(target) else target
    if len(source) and (source < ptr[graph]).any() | (source >= ptr[graph + 1]).any():
        raise ValueError("an edge joins two graphs")
    edge_ptr = np.concatenate([[0], np.cumsum(np.bincount(graph, minlength=len(sizes)))])
    ends = np.stack([source - ptr[graph], target - ptr[graph]]).astype(np.int32)
    return GraphSet(
        x=x,
        ptr=torch.from_numpy(ptr),
        edge_index=torch.from_numpy(ends),
        edge_ptr=torch.from_numpy(edge_ptr),
        in_degree=torch.from_numpy(np.bincount(target, minlength=num_nodes).astype(np.int32)),
        reverse=torch.from_numpy((opposite - edge_ptr[graph]).astype(np.int32)),
        y=y,
        index=torch.arange(len(sizes)),
        fold=torch.zeros(len(sizes), dtype=torch.long),
        edge_factors=None if edge_factors is None else torch.from_numpy(edge_factors[order]),
    )


class GraphLoader(ResumableLoader):
    """Batches of a :class:`GraphSet`, gathered where it lies.

    Args:
        graphs: the set.
        sampler: over its graphs.
        one_hot: width F of ``x`` where types are given to the network as one-hot vectors; 0 leaves ``x``.
    """

    def __init__(self, graphs: GraphSet, sampler: EpochBatchSampler, one_hot: int = 0) -> None:
        super().__init__(sampler)
        self.graphs = graphs
        self.one_hot = one_hot

    def _batches_from(self, start: int) -> Iterator[Batch]:
        shares = list(self.sampler.batches_from(start))
        # one transfer for the whole epoch: one for each batch would make a GPU wait for the CPU
        order = torch.cat(shares).to(self.graphs.ptr.device)
        for share in order.split([len(share) for share in shares]):
            yield self.batch(share)

    def batch(self, graphs: Tensor) -> Batch:
        """The batch of some graphs, ``[B]`` long, on the device of the set."""
        batch = self.graphs.batch(graphs)
        if self.one_hot:
            batch["x"] = torch.nn.functional.one_hot(batch["x"].long(), self.one_hot).float()
        return batch


class GraphSetDataModule(LightningDataModule):
    """Many graphs in memory, in a fixed split or in folds.

    A subclass says how its graphs are made in :meth:`build`, and fetches files in ``prepare_data`` if it has
    any. With ``folds`` above 1 the module asks for one fold after the other by :meth:`use_fold`; testing and
    prediction then go through all graphs, each of which names its fold.

    Args:
        choice: the ``data=`` choice, for messages.
        in_channels: width F of the features, or number of node types, as stated in the data set's YAML.
        num_classes: classes or labels C, as stated there; 1 for a number.
        target: what is to be predicted.
        batch_size: graphs of one optimiser step, over all processes; evaluation takes as many at a time.
        seed: of the order, >= 0.
        folds: parts of a cross-validation; 1 for one fixed split.
        protocol: of the cross-validation. ``gin``: the fold is validation and test at once, as Xu et al.
            (arXiv 1810.00826) and those after them report; ``holdout``: the next fold is held out for
            validation, so that no choice sees the test.
        class_names: names of the classes or labels in order, or None.
        factor_names: names of the true relations in order, or None where they are not known.
        one_hot: node types reach the network as one-hot vectors of width ``in_channels``.
    """

    tasks: tuple[str, ...] = ("graph_prediction",)
    training_only: tuple[str, ...] = ("batch_size", "seed")
    """Arguments that change neither the splits nor what a network sees of a graph."""

    def __init__(
        self,
        choice: str,
        in_channels: int,
        num_classes: int,
        target: Target,
        batch_size: int,
        seed: int,
        *,
        folds: int = 1,
        protocol: Literal["gin", "holdout"] = "gin",
        class_names: Sequence[str] | None = None,
        factor_names: Sequence[str] | None = None,
        one_hot: bool = False,
    ) -> None:
        super().__init__()
        if protocol == "holdout" and folds == 2:
            raise UserError("data.folds=2 leaves no graph for training with data.protocol=holdout. Use 3.")
        self.choice = choice
        self.in_channels = in_channels
        self.num_classes = num_classes
        self.target = target
        self.batch_size = batch_size
        self.seed = seed
        self.folds = folds
        self.protocol = protocol
        self.class_names = tuple(class_names or map(str, range(num_classes)))
        self.factor_names = None if factor_names is None else tuple(factor_names)
        self.one_hot = one_hot
        self.splits: dict[Split, GraphSet] = {}
        self._all: GraphSet | None = None
        self._resident: dict[Split, GraphSet] = {}

    @abstractmethod
    def build(self) -> Mapping[Split, GraphSet]:
        """The three splits; of a cross-validation ``test`` alone, all graphs, each with its fold."""

    def setup(self, stage: str | None = None) -> None:
        """Builds the graphs unless they are there already and checks them against the YAML.

        Raises:
            UserError: ``in_channels`` or ``num_classes`` is not what the data holds.
        """
        if self.splits:
            return
        splits = dict(self.build())
        self._check_facts(splits)
        self.splits = splits
        if self.folds > 1:
            self._all = splits["test"]
            self.use_fold(0)

    def _check_facts(self, splits: Mapping[Split, GraphSet]) -> None:
        found: dict[str, int] = {}
        parts = list(splits.values())
        if parts[0].x.dim() == 2:
            found["in_channels"] = parts[0].x.size(1)
        else:
            types = 1 + max(int(part.x.max()) for part in parts)
            if types > self.in_channels:
                raise UserError(
                    f"data.in_channels={self.in_channels} is too narrow: {self.choice} has {types} node types"
                    f" or degrees. Set data.in_channels={types}."
                )
        if self.target in ("multi_label", "node_multi_label"):
            found["num_classes"] = parts[0].y.size(1)
        elif self.target in ("class", "node_class"):
            found["num_classes"] = 1 + max(int(part.y.max()) for part in parts)
        else:
            found["num_classes"] = 1
        check_facts(self.choice, {key: getattr(self, key) for key in found}, found)

    def use_fold(self, fold: int) -> None:
        """Makes ``fold`` the one that is validated, the others those that are trained on.

        Args:
            fold: in ``[0, folds)``.
        """
        assert self._all is not None, "this set has one fixed split"
        folds = self._all.fold
        held_out = {fold}
        if self.protocol == "holdout":
            held_out.add(val := (fold + 1) % self.folds)
        else:
            val = fold
        train = torch.stack([folds != one for one in held_out]).all(dim=0)
        self.splits = {
            "train": self._all.take(train.nonzero().squeeze(1)),
            "val": self._all.take((folds == val).nonzero().squeeze(1)),
            "test": self._all,
        }
        self._resident = {}

    def loader(self, split: Split, *, training: bool = False, shared: bool = True) -> GraphLoader:
        """A loader of one split.

        Args:
            split: which.
            training: a new order each epoch.
            shared: the processes of a run share each batch; False gives all of it to each.
        """
        if not self.splits:
            raise RuntimeError(f"{type(self).__name__}: call setup() before asking for a loader")
        device = torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device
        if split not in self._resident or self._resident[split].ptr.device != device:
            with torch.inference_mode(False):
                self._resident[split] = self.splits[split].to(device)
        module = None if self.trainer is None else self.trainer.lightning_module
        sampler = EpochBatchSampler(
            len(self.splits[split]),
            self.batch_size,
            training=training,
            seed=self.seed,
            # epochs of earlier phases: no fold repeats the orders of the one before
            first_epoch=int(getattr(module, "epochs_before", 0)) if training else 0,
            rank=None if shared else 0,
            world=None if shared else 1,
        )
        return GraphLoader(self._resident[split], sampler, self.in_channels if self.one_hot else 0)

    def train_dataloader(self) -> GraphLoader:
        return self.loader("train", training=True)

    def val_dataloader(self) -> GraphLoader:
        return self.loader("val")

    def test_dataloader(self) -> GraphLoader:
        return self.loader("test")

    def predict_dataloader(self) -> GraphLoader:
        # the whole set in every process, in its own order: the first one writes all rows of the table
        return self.loader("test", shared=False)


def split_in_order(graphs: GraphSet, shares: Mapping[Split, float]) -> dict[Split, GraphSet]:
    """The first graphs for the first split, and so on.

    Args:
        graphs: all of them.
        shares: of each split, in order, adding up to 1; each gets its share rounded down, the last the rest.
    """
    splits: dict[Split, GraphSet] = {}
    start = 0
    for number, (split, share) in enumerate(shares.items(), start=1):
        end = len(graphs) if number == len(shares) else start + int(round(share * len(graphs), 6))
        splits[split] = graphs.take(torch.arange(start, end))
        start = end
    return splits


def with_folds(graphs: GraphSet, fold: NDArray[np.int64]) -> GraphSet:
    """``graphs`` with the fold that each is tested in, ``[G]``."""
    return replace(graphs, fold=torch.from_numpy(fold))
