"""What a frozen teacher says of graphs that do not change: computed once, looked up in every step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lightning_modules.graph_prediction.batch import Graphs, edge_places, node_places
from lightning_modules.lsp.losses import mean_attention, unit_attention
from lightning_modules.lsp.network import InductiveAttentionNetwork
from lightning_modules.lsp.structure import EdgeNeighbours, Kernel, log_structure

if TYPE_CHECKING:
    from datamodules.graph_sets import GraphLoader

Batch = Mapping[str, Tensor]


@dataclass(frozen=True)
class Answers:
    """Of a batch, or of all graphs of a split.

    Attributes:
        structures: ``[m, L * S]`` log LS of each edge, for L layers and S kernels, kernels running fastest.
        logits: ``[n, C]``, or None where nobody asks.
        hidden: ``[n, D]`` of each of the L layers; empty where nobody asks.
        maps: ``[n, L]``, attention map of each layer; None where nobody asks.
    """

    structures: Tensor
    logits: Tensor | None
    hidden: tuple[Tensor, ...]
    maps: Tensor | None

    def take(self, edges: Tensor, nodes: Tensor) -> "Answers":
        """Those of some edges ``[m]`` and nodes ``[n]``, by row."""
        return Answers(
            structures=self.structures.index_select(0, edges),
            logits=None if self.logits is None else self.logits.index_select(0, nodes),
            hidden=tuple(one.index_select(0, nodes) for one in self.hidden),
            maps=None if self.maps is None else self.maps.index_select(0, nodes),
        )


@dataclass(frozen=True)
class Teacher:
    """A frozen network and what is asked of it.

    Attributes:
        network: in evaluation mode, its parameters without gradient.
        layers: numbers of its hidden layers, from 1 on, that are compared.
        kernels: of the local structures.
        logits: whether predictions are asked for.
        hidden: whether hidden layers are.
        maps: ``mean`` or ``unit``, which attention maps are; None for none.
    """

    network: InductiveAttentionNetwork
    layers: Sequence[int]
    kernels: Sequence[Kernel]
    logits: bool = False
    hidden: bool = False
    maps: str | None = None

    @torch.no_grad()
    def answer(self, graphs: Graphs) -> Answers:
        """By a pass through the network, in its own precision whatever surrounds the call."""
        with torch.autocast(graphs.x.device.type, enabled=False):
            logits, found = self.network(graphs)
            neighbours = EdgeNeighbours(graphs.edges)
            hidden = tuple(found[layer - 1].out for layer in self.layers)
            structures = [log_structure(z, neighbours, kernel) for z in hidden for kernel in self.kernels]
            maps = None
            if self.maps is not None:
                each = [
                    mean_attention(z) if self.maps == "mean" else unit_attention(z, graphs) for z in hidden
                ]
                maps = torch.stack(each, dim=1)
        return Answers(
            structures=torch.stack(structures, dim=1),
            logits=logits if self.logits else None,
            hidden=hidden if self.hidden else (),
            maps=maps,
        )


class AnswerTable:
    """A teacher's answers for all graphs of a split, by number of the graph and place within it.

    Args:
        teacher: the network and what is asked.
        loader: over each graph of the split once, as they are in evaluation.
        dtype: of the features.
    """

    def __init__(self, teacher: Teacher, loader: "GraphLoader", dtype: torch.dtype) -> None:
        self.teacher, self.graphs, self.dtype = teacher, loader.graphs, dtype
        graphs = loader.graphs
        starts = graphs.ptr.new_zeros(int(graphs.index.max()) + 1)
        self.first_edge, self.first_node = starts, starts.clone()
        self.first_edge[graphs.index] = graphs.edge_ptr[:-1]
        self.first_node[graphs.index] = graphs.ptr[:-1]
        pieces, edges, nodes = [], [], []
        for batch in loader:
            pieces.append(teacher.answer(Graphs.of(batch, dtype)))
            edges.append(edge_places(batch, self.first_edge))
            nodes.append(node_places(batch, self.first_node))
        # back to the order of the split
        self.kept = _joined(pieces).take(torch.cat(edges).argsort(), torch.cat(nodes).argsort())

    def look_up(self, batch: Batch) -> Answers:
        """What the teacher says of the graphs of a batch; no pass through it, no value read back."""
        return self.kept.take(edge_places(batch, self.first_edge), node_places(batch, self.first_node))

    def verify(self) -> None:
        """Compares what was kept with passes through the teacher over one graph at a time.

        Raises:
            RuntimeError: they differ by more than rounding.
        """
        for number in range(len(self.graphs)):
            batch = self.graphs.batch(torch.tensor([number], device=self.graphs.ptr.device))
            kept, live = self.look_up(batch), self.teacher.answer(Graphs.of(batch, self.dtype))
            pairs = list(zip(kept.hidden, live.hidden, strict=True))
            pairs += [
                (one, other)
                for one, other in ((kept.logits, live.logits), (kept.maps, live.maps))
                if one is not None and other is not None
            ]
            same = all(torch.allclose(one, other, rtol=1e-3, atol=1e-3) for one, other in pairs)
            if not same or _divergence(kept.structures, live.structures) > ROUNDING:
                raise RuntimeError(
                    "the teacher's kept answers are not those that it gives: is it being trained?"
                )


ROUNDING = 1e-8
"""Divergence of two structures, a share's mean over edges, that passes for rounding."""


def _divergence(kept: Tensor, live: Tensor) -> float:
    """How far structures are apart, about twice their divergence, relative to how far shares reach.

    Squared differences of logarithms, weighted by the shares: a change of the teacher by a thousandth shows.

    Args:
        kept: ``[m, S]`` log LS.
        live: the same.
    """
    weights = live.double().exp()
    away = (weights * (kept.double() - live.double()).square()).sum(dim=0) / weights.sum(dim=0)
    reach = (weights * live.double().square()).sum(dim=0) / weights.sum(dim=0)
    return float((away / reach.clamp(min=1)).max())


def _joined(pieces: Sequence[Answers]) -> Answers:
    first = pieces[0]
    return Answers(
        structures=torch.cat([one.structures for one in pieces]),
        logits=None
        if first.logits is None
        else torch.cat([o.logits for o in pieces if o.logits is not None]),
        hidden=tuple(torch.cat(list(layer)) for layer in zip(*(one.hidden for one in pieces), strict=True)),
        maps=None if first.maps is None else torch.cat([one.maps for one in pieces if one.maps is not None]),
    )
